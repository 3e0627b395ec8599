"""The raw sockets of the engine, and what the kernel lets through to them. Linux.

Everything else that the host receives is dropped by filters in the kernel (classic BPF) before it costs this process
anything: a worker beside a busy server would otherwise see each of its TCP segments.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket

from streamswarm.v1 import probe_pb2
from worker.wire import options, stamps
from worker.wire.addresses import SocketAddress
from worker.wire.source import Source
from worker.wire.trace.packets import FLOWS
from worker.wire.trace.plan import TraceUnavailableError

RAW_RIGHT = "give the worker CAP_NET_RAW, as its systemd unit does (`AmbientCapabilities=CAP_NET_RAW`)"

#: Source ports outside of those that systems hand out by themselves (Linux: 32768 to 60999; RFC 6335: from 49152).
_FIRST_PORT, _LAST_PORT = 61_008, 65_504
#: Nothing is sent there; connect() just wants one.
_ANY_PORT = 9
_IPV6_RECVHOPLIMIT = 51
_IPV6_HDRINCL = 36
RECEIVE_BYTES = 4 << 20
#: Types that are taken: echo reply, unreachable, too big, time exceeded, parameter problem.
_TAKEN = {4: (0, 3, 11, 12), 6: (129, 1, 2, 3, 4)}

# Classic BPF (linux/filter.h): load, compare, return.
_LOAD_BYTE, _LOAD_HALF = 0x30, 0x28
_LOAD_BYTE_X, _LOAD_HALF_X = 0x50, 0x48
_HEADER_LENGTH_TO_X = 0xB1
_AND, _EQUAL, _JUMP, _RETURN = 0x54, 0x15, 0x05, 0x06


def open_sender(version: int) -> socket.socket:
    """Return a socket that sends whole IP packets, or raise TraceUnavailableError."""
    sock = _raw(version, socket.IPPROTO_RAW)
    if version == 6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_HDRINCL, 1)
    # Probes are tried at their size, whatever the kernel has learnt of the path; the bit that forbids to fragment them is
    # their own.
    options.set_dont_fragment(sock, True)
    options.enlarge_receiving(sock, RECEIVE_BYTES)
    return sock


def open_icmp(version: int, block: int) -> socket.socket:
    """Return a socket that receives ICMP errors for, and replies to, the probes of a block of 16 numbers."""
    sock = _raw(version, socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6)
    options.take_icmp_types(sock, version, _TAKEN[version])
    options.attach_filter(sock, options.assembled(_icmp_filter(version, block)))
    return _receiving(sock)


def open_tcp(version: int, block: int) -> socket.socket:
    """Return a socket that receives TCP segments to a block of 16 ports."""
    sock = _raw(version, socket.IPPROTO_TCP)
    options.attach_filter(sock, options.assembled(_tcp_filter(version, block)))
    return _receiving(sock)


def reserve_block() -> tuple[int, list[socket.socket]]:
    """Return the first of 16 numbers for ports and ICMP identifiers, and the sockets that keep others off it.

    Two engines on a host would take each other's answers for their own. The first port of the block is bound, by UDP
    and TCP, as the sign that it is taken.
    """
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    blocks = (_LAST_PORT - _FIRST_PORT) // FLOWS + 1
    for _ in range(64):
        block = _FIRST_PORT + FLOWS * secrets.randbelow(blocks)
        holders: list[socket.socket] = []
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                holders.append(_bound(family, kind, block))
        except OSError as error:
            for holder in holders:
                holder.close()
            if error.errno == errno.EAFNOSUPPORT:  # a host without IPv6
                family = socket.AF_INET
            elif error.errno != errno.EADDRINUSE:
                raise
            continue
        return block, holders
    raise TraceUnavailableError("no source ports are free on this host", "", probe_pb2.FAILURE_REASON_NO_ROOM)


def source_towards(version: int, there: SocketAddress, source: Source) -> bytes:
    """Return the address that this host sends from to another; OSError when it has no way there. Nothing is sent."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        source.bind(sock)
        sock.connect((there[0], _ANY_PORT, *there[2:]))
        return socket.inet_pton(family, sock.getsockname()[0].partition("%")[0])


def _raw(version: int, protocol: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_RAW, protocol)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            raise TraceUnavailableError("this process may not send raw packets", RAW_RIGHT) from error
        if error.errno == errno.EAFNOSUPPORT:
            raise TraceUnavailableError(
                f"this host has no IPv{version}", "", probe_pb2.FAILURE_REASON_CANNOT_SEND
            ) from error
        raise
    sock.setblocking(False)
    return sock


def _receiving(sock: socket.socket) -> socket.socket:
    options.enlarge_receiving(sock, RECEIVE_BYTES)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
    stamps.enable(sock)
    # What came before the filter was attached is nobody's.
    with contextlib.suppress(BlockingIOError):
        while True:
            sock.recv(1)
    return sock


def _bound(family: int, kind: int, port: int) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Datagrams to the port are answers to probes without a slot: nobody reads them. To a TCP socket that does not
        # listen nothing is given, and only privileged processes may attach a filter to one.
        if kind == socket.SOCK_DGRAM:
            options.attach_filter(sock, options.assembled([(_RETURN, 0, 0, 0)]))
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock


def _icmp_filter(version: int, block: int) -> list[options.Instruction]:
    """Let echo replies with an identifier of the block pass, and errors that quote an identifier or a port of it.

    IPv4 sockets see the packet from its IP header on (X is made that header's length), IPv6 sockets from the ICMP
    header on. Our own probes carry no options, so quoted headers have 20 or 40 bytes.
    """
    byte, half = (_LOAD_BYTE_X, _LOAD_HALF_X) if version == 4 else (_LOAD_BYTE, _LOAD_HALF)
    reply, icmp = (0, 1) if version == 4 else (129, 58)
    protocol_at, quoted_at = (8 + 9, 8 + 20) if version == 4 else (8 + 6, 8 + 40)
    return [
        (_HEADER_LENGTH_TO_X, 0, 0, 0),
        (byte, 0, 0, 0),
        (_EQUAL, 6, 0, reply),  # to the last load
        (byte, 0, 0, protocol_at),
        (_EQUAL, 2, 0, icmp),  # to the load after the next
        (half, 0, 0, quoted_at),  # source port
        (_JUMP, 0, 0, 3),
        (half, 0, 0, quoted_at + 4),  # identifier of the quoted request
        (_JUMP, 0, 0, 1),
        (half, 0, 0, 4),  # identifier of the reply
        *_of_block(block),
    ]


def _tcp_filter(version: int, block: int) -> list[options.Instruction]:
    """Let segments to a port of the block pass."""
    load = (_LOAD_HALF_X if version == 4 else _LOAD_HALF, 0, 0, 2)
    return [(_HEADER_LENGTH_TO_X, 0, 0, 0), load, *_of_block(block)]


def _of_block(block: int) -> list[options.Instruction]:
    """Let the packet pass when the number that was loaded is one of the block."""
    mask = 0xFFFF & ~(FLOWS - 1)
    return [(_AND, 0, 0, mask), (_EQUAL, 0, 1, block), (_RETURN, 0, 0, 0xFFFF), (_RETURN, 0, 0, 0)]
