"""Which interface packets to an address leave by, as the kernel's routing says (rtnetlink, Linux)."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from worker.probing import IPAddress
from worker.wire.addresses import family_of
from worker.wire.source import BY_ROUTES, Source

_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_RTA_DST, _RTA_OIF = 1, 4
_SIOCGIFMTU = 0x8921
#: nlmsghdr: length, type, flags, sequence, port.
_HEADER = struct.Struct("=IHHII")
#: rtmsg: family, lengths of destination and source, TOS, table, protocol, scope, type, flags.
_ROUTE = struct.Struct("=8BI")
_ATTRIBUTE = struct.Struct("=HH")
_LONGEST = 8192


@dataclass(frozen=True, kw_only=True)
class Interface:
    """A network interface."""

    name: str
    mtu: int


def outgoing_interface(address: IPAddress, source: Source = BY_ROUTES) -> Interface | None:
    """Return the interface that packets to an address leave by; None when it cannot be told.

    Raises OSError when there is no route.
    """
    if source.interface:
        return _interface(socket.if_nametoindex(source.interface))
    # A zone names the interface itself.
    scope = getattr(address, "scope_id", None)
    if scope is not None:
        index = int(scope) if scope.isdigit() else socket.if_nametoindex(scope)
        return _interface(index)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as sock:
        sock.settimeout(1.0)
        sock.send(_question(address))
        index_of_route = _answer(sock.recv(_LONGEST))
    return None if index_of_route is None else _interface(index_of_route)


def _question(address: IPAddress) -> bytes:
    body = _ROUTE.pack(family_of(address), len(address.packed) * 8, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(address.packed), _RTA_DST) + address.packed
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def _answer(data: bytes) -> int | None:
    """Return the index of the route's interface; raises OSError for the kernel's refusal."""
    length, kind, _flags, _sequence, _port = _HEADER.unpack_from(data)
    if kind == _NLMSG_ERROR:
        number = -int(struct.unpack_from("=i", data, _HEADER.size)[0])
        raise OSError(number, os.strerror(number))
    if kind != _RTM_NEWROUTE:
        return None
    offset = _HEADER.size + _ROUTE.size
    while offset + _ATTRIBUTE.size <= min(length, len(data)):
        size, name = _ATTRIBUTE.unpack_from(data, offset)
        if name == _RTA_OIF:
            index: int = struct.unpack_from("=I", data, offset + _ATTRIBUTE.size)[0]
            return index
        if size < _ATTRIBUTE.size:
            return None
        offset += (size + 3) & ~3
    return None


def _interface(index: int) -> Interface:
    name = socket.if_indextoname(index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, _SIOCGIFMTU, struct.pack("16si12x", name.encode(), 0))
    return Interface(name=name, mtu=struct.unpack_from("=i", answer, 16)[0])
