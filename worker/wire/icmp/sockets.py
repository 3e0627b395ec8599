"""Opening ICMP sockets on Linux, with all that the engine needs of them switched on.

An ICMP datagram socket serves where `net.ipv4.ping_group_range` allows it, a raw socket otherwise (CAP_NET_RAW). The
sockets are not connected: one serves every destination.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import socket
import struct
from dataclasses import dataclass

from streamswarm.v1 import probe_pb2
from worker.probing import IPAddress
from worker.wire import batches, flow_labels, options, stamps
from worker.wire.addresses import set_dscp
from worker.wire.echo import EchoPlan, EchoUnavailableError
from worker.wire.icmp import filters
from worker.wire.source import Source

PING_GROUP_RANGE = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'

#: TTL of packets that carry no TTL of their own.
USUAL_TTL = 64
#: Asked for; without CAP_NET_ADMIN the kernel gives `net.core.rmem_max` at most.
_BUFFER_BYTES = 16 * 1024 * 1024

_IP_TOS, _IP_TTL, _IP_PKTINFO, _IP_RECVTTL = 1, 2, 8, 12
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT, _IPV6_TCLASS = 51, 52, 67
#: ICMPv6 datagram sockets heed control messages since this release of Linux.
_CONTROL_ON_PING6 = (5, 18)


@dataclass(frozen=True, kw_only=True)
class Sort:
    """What is set once for a socket, so that runs that differ in it cannot share one."""

    #: IP version, 4 or 6.
    version: int
    dont_fragment: bool
    #: Interface that the socket is bound to; empty for none.
    interface: str
    #: Its number: a device that is made anew under the same name is another one, to which no old socket leads.
    index: int
    #: TTL and DSCP where packets cannot carry them; None where they can.
    marks: tuple[int, int] | None
    #: Address that the socket is bound to where packets cannot carry it: ICMPv6 datagram sockets send from their own.
    source: IPAddress | None

    @classmethod
    def of(cls, plan: EchoPlan) -> Sort:
        """Return the sort of socket that a plan needs."""
        version = plan.address.version
        heeded = version == 4 or _release() >= _CONTROL_ON_PING6
        return cls(
            version=version,
            dont_fragment=plan.dont_fragment,
            interface=plan.interface,
            index=_index_of(plan.interface),
            marks=None if heeded else (plan.ttl, plan.dscp),
            source=plan.source if version == 6 else None,
        )


def _index_of(interface: str) -> int:
    """Return the number of an interface, 0 without one; who opens the socket tells that it is not there."""
    with contextlib.suppress(OSError):
        return socket.if_nametoindex(interface) if interface else 0
    return 0


def open_socket(version: int) -> socket.socket:
    """Return a non-blocking ICMP socket, or raise EchoUnavailableError."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                continue
            if error.errno == errno.EAFNOSUPPORT:
                raise EchoUnavailableError(
                    f"this host has no IPv{version}", "", probe_pb2.FAILURE_REASON_CANNOT_SEND
                ) from error
            raise
        sock.setblocking(False)
        return sock
    raise EchoUnavailableError(
        f"this process may open neither ICMP nor raw sockets (IPv{version}): its group is outside "
        "net.ipv4.ping_group_range and it lacks CAP_NET_RAW",
        PING_GROUP_RANGE,
    )


def open_prepared(sort: Sort) -> tuple[socket.socket, int]:
    """Return a socket with its options set, and the identifier of its requests; raises as `open_socket` and OSError."""
    sock = open_socket(sort.version)
    try:
        return sock, _prepare(sock, sort)
    except BaseException:
        sock.close()
        raise


def control_of(plan: EchoPlan, sort: Sort) -> bytes:
    """Return the control messages that each packet of a plan carries; empty when the socket's settings will do.

    Raises EchoUnavailableError for what they cannot carry here.
    """
    v4 = plan.address.version == 4
    level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
    data = b""
    if sort.marks is None and plan.ttl != USUAL_TTL:
        kind = _IP_TTL if v4 else _IPV6_HOPLIMIT
        data += batches.control_message(level, kind, struct.pack("=i", plan.ttl))
    if sort.marks is None and plan.dscp:
        kind = _IP_TOS if v4 else _IPV6_TCLASS
        data += batches.control_message(level, kind, struct.pack("=i", plan.dscp << 2))
    if plan.flow_label:
        if sort.marks is not None:
            raise EchoUnavailableError(
                "this system gives ICMPv6 packets no flow label; Linux does from 5.18 on",
                "",
                probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
            )
        data += batches.control_message(*flow_labels.control(plan.flow_label))
    if plan.source is not None and sort.source is None:
        data += batches.control_message(level, _IP_PKTINFO, struct.pack("=i4s4x", 0, plan.source.packed))
    return data


def path_mtu(target: tuple[str, int] | tuple[str, int, int, int]) -> int | None:
    """Return the MTU that the kernel knows towards an address, or None; nothing is sent."""
    family = socket.AF_INET if len(target) == 2 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((target[0], 9, *target[2:]))
            return options.kernel_mtu(sock)
    except OSError:
        return None


def _prepare(sock: socket.socket, sort: Sort) -> int:
    ttl, dscp = sort.marks or (USUAL_TTL, 0)
    if sort.version == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
    options.set_dont_fragment(sock, sort.dont_fragment)
    set_dscp(sock, dscp)
    source = Source(address=sort.source, interface=sort.interface)
    options.enlarge_receiving(sock, _BUFFER_BYTES)
    options.enlarge_sending(sock, _BUFFER_BYTES)
    if sock.type != socket.SOCK_RAW:
        stamps.enable_errors(sock)
        return _bind_random_ident(sock, source)
    source.bind(sock)
    ident = secrets.randbelow(0x10000)
    filters.take(sock, sort.version, ident, replies=True, errors=False)
    return ident


def _bind_random_ident(sock: socket.socket, source: Source) -> int:
    """Give a datagram socket a random identifier; left to itself the kernel counts upwards."""
    for _ in range(16):
        with contextlib.suppress(OSError):  # taken by another socket
            source.bind(sock, 1 + secrets.randbelow(0xFFFF))
            break
    else:
        source.bind(sock, 0)
    return int(sock.getsockname()[1])


def _release() -> tuple[int, int]:
    major, _, rest = os.uname().release.partition(".")
    minor = "".join(character for character in rest.partition(".")[0] if character.isdigit())
    return (int(major), int(minor)) if major.isdigit() and minor else (0, 0)
