"""What the kernel knows of the way to an address: route, link and neighbour, asked over rtnetlink (RFC 3549).

Three requests, each with one answer; nothing is sent to anybody but the kernel, and no permission is needed. Files
below /sys and /proc are no good here: they show the network of whoever mounted them.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from worker.probing import IPAddress
from worker.wire.addresses import interface_index

#: Whether this system has rtnetlink.
SUPPORTED = sys.platform.startswith("linux")

#: nlmsghdr: length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
#: ifinfomsg: family, type, index, flags, change mask.
_LINK = struct.Struct("=BxHiII")
#: rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=BBBBBBBBI")
#: ndmsg: family, interface, state, flags, type.
_NEIGHBOUR = struct.Struct("=B3xiHBB")
_ERROR = 2
_GET_LINK, _NEW_LINK = 18, 16
_GET_ROUTE, _NEW_ROUTE = 26, 24
_GET_NEIGHBOUR, _NEW_NEIGHBOUR = 30, 28
_REQUEST = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_STATS64 = 3, 4, 23
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA = 1, 2, 4, 5, 18
_NDA_DST = 1
_LOCAL = 2
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_INCOMPLETE, _FAILED = 0x01, 0x20
#: The kernel answers at once; this only keeps a lost message from holding the worker up.
_PATIENCE_S = 0.5
_LONGEST = 65_536


@dataclass(frozen=True, kw_only=True)
class Hop:
    """Where packets to an address go first."""

    #: Index of the interface.
    index: int
    #: The router that they are handed to; None when the destination is on the link.
    gateway: IPAddress | None


@dataclass(frozen=True, kw_only=True)
class Link:
    """An interface as it is now."""

    name: str
    mtu: int
    #: Switched on by whoever runs the host.
    up: bool
    #: Something is at the other end of the cable, or of what stands for it.
    carrier: bool
    #: Packets that could not be received or sent, since the interface is there.
    errors: int
    #: Packets for which this host had no room.
    drops: int


def first_hop(address: IPAddress, *, origin: IPAddress | None = None, index: int = 0) -> Hop | None:
    """Return where packets to an address go first, or None when it is an address of this host.

    `origin` and `index` are the source address and the interface when they are not left to the routes. Raises OSError
    with the kernel's number when there is no route.
    """
    kind, index, gateway = _route_to(address, origin, index or _scope(address))
    return None if kind == _LOCAL else Hop(index=index, gateway=gateway)


def outgoing_link(address: IPAddress, *, origin: IPAddress | None = None, index: int = 0) -> Link | None:
    """Return the interface that packets to an address leave by, or None when the kernel does not tell.

    `origin` and `index` are the source address, by which routes may differ, and the interface when they are not left
    to the routes. Raises OSError when there is no route.
    """
    out = index or _scope(address) or _route_to(address, origin, 0)[1]
    return link(out) if out else None


def _route_to(address: IPAddress, origin: IPAddress | None, index: int) -> tuple[int, int, IPAddress | None]:
    """Return the type of the route to an address, its interface (0 when it has none), and its gateway."""
    attributes = [(_RTA_DST, address.packed)]
    if origin is not None and origin.version == address.version:
        attributes.append((_RTA_SRC, origin.packed))
    if index:
        attributes.append((_RTA_OIF, struct.pack("=I", index)))
    bits = address.max_prefixlen
    source_bits = bits if len(attributes) > 1 and attributes[1][0] == _RTA_SRC else 0
    body = _ROUTE.pack(_family(address), bits, source_bits, 0, 0, 0, 0, 0, 0)
    answer = _ask(_GET_ROUTE, _NEW_ROUTE, body, attributes)
    found = dict(_attributes(answer[_ROUTE.size :]))
    out = struct.unpack("=I", found[_RTA_OIF])[0] if _RTA_OIF in found else 0
    # An IPv4 route may lead over an IPv6 router (RFC 5549).
    gateway = found.get(_RTA_GATEWAY) or found.get(_RTA_VIA, b"")[2:]
    return _ROUTE.unpack_from(answer)[7], out, _address(gateway, out) if gateway else None


def link(index: int) -> Link:
    """Return an interface as it is now; raises OSError when there is none of that index."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0)
    answer = _ask(_GET_LINK, _NEW_LINK, body, [])
    flags = _LINK.unpack_from(answer)[3]
    found = dict(_attributes(answer[_LINK.size :]))
    # rtnl_link_stats64: packets, bytes, errors and drops, each received and sent.
    counters = struct.unpack_from("=8Q", found[_IFLA_STATS64]) if _IFLA_STATS64 in found else (0,) * 8
    return Link(
        name=found[_IFLA_IFNAME].rstrip(b"\0").decode(),
        mtu=struct.unpack("=I", found[_IFLA_MTU])[0],
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        errors=counters[4] + counters[5],
        drops=counters[6] + counters[7],
    )


def is_lost(hop: Hop) -> bool:
    """Return whether the kernel asks for the gateway's link-layer address in vain.

    False when it has one, when it need not ask, and when this kernel (before 5.0) does not tell.
    """
    if hop.gateway is None:
        return False
    body = _NEIGHBOUR.pack(_family(hop.gateway), hop.index, 0, 0, 0)
    try:
        answer = _ask(_GET_NEIGHBOUR, _NEW_NEIGHBOUR, body, [(_NDA_DST, hop.gateway.packed)])
    except OSError:
        return False
    return bool(_NEIGHBOUR.unpack_from(answer)[2] & (_INCOMPLETE | _FAILED))


def _ask(request: int, reply: int, body: bytes, attributes: list[tuple[int, bytes]]) -> bytes:
    """Return the body of the one answer to a request; raises OSError with the kernel's number."""
    for kind, data in attributes:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    ) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.bind((0, 0))
        sock.send(_HEADER.pack(_HEADER.size + len(body), request, _REQUEST, 1, 0) + body)
        data = sock.recv(_LONGEST)
    length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
    content = data[_HEADER.size : length]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", content)[0]
        raise OSError(number, os.strerror(number))
    if kind != reply:
        raise OSError(f"the kernel answered a request of type {request} with a message of type {kind}")
    return content


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while offset + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3


def _family(address: IPAddress) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _scope(address: IPAddress) -> int:
    scope = address.scope_id if isinstance(address, ipaddress.IPv6Address) else None
    return 0 if scope is None else interface_index(scope)


def _address(packed: bytes, index: int) -> IPAddress:
    address = ipaddress.ip_address(packed)
    if address.version == 6 and address.is_link_local:
        return ipaddress.IPv6Address(f"{address}%{index}")
    return address
