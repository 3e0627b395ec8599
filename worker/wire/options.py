"""Options of sockets that packet engines share. Linux, but for what says otherwise.

Filters (classic BPF, linux/filter.h) work in the kernel: what a socket is not meant to see costs this process nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

#: Code, jump when true, jump when false, operand.
Instruction: TypeAlias = "tuple[int, int, int, int]"
_INSTRUCTION = struct.Struct("=HBBI")
_SO_ATTACH_FILTER = 26
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_SO_MEMINFO = 55
#: Index of the dropped packets among the numbers of SO_MEMINFO.
_MEMINFO_DROPS = 8
_SOL_RAW, _ICMP_FILTER, _ICMP6_FILTER = 255, 1, 1
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_DONTFRAG = 23, 24, 62
_IP_RECVTOS, _IPV6_RECVTCLASS = 13, 66
#: Level and type of the control message with the octet of what came; not every system has both.
_OCTETS = {
    (socket.IPPROTO_IP, getattr(socket, "IP_TOS", 1)),
    (socket.IPPROTO_IPV6, getattr(socket, "IPV6_TCLASS", 67)),
}
_PMTUDISC_DONT, _PMTUDISC_WANT = 0, 1
#: Sets "don't fragment" and does not hold packets back that exceed a path MTU learnt earlier: each one is tried.
_PMTUDISC_PROBE = 3
_TCP_RMEM = Path("/proc/sys/net/ipv4/tcp_rmem")
#: Linux' own third number there.
_MOST_AHEAD = 6_291_456


def most_received_ahead() -> int:
    """Return the bytes that the kernel lets a TCP connection receive before they are read, at most. All systems."""
    try:
        return int(_TCP_RMEM.read_text().split()[2])
    except (OSError, ValueError, IndexError):  # another system
        return _MOST_AHEAD


def assembled(program: Iterable[Instruction]) -> bytes:
    """Return a filter as the kernel takes it."""
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


def attach_filter(sock: socket.socket, code: bytes) -> None:
    """Have a socket given only what an assembled filter lets pass; the kernel makes a copy of it."""
    steps = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog: the number of instructions, and where they stand.
    described = struct.pack("@HP", len(code) // _INSTRUCTION.size, ctypes.addressof(steps))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def take_icmp_types(sock: socket.socket, version: int, types: Iterable[int]) -> None:
    """Have a raw ICMP socket given messages of these types only."""
    blocked = (1 << 256) - 1
    for kind in types:
        blocked &= ~(1 << kind)
    # Bits that are set are dropped by the kernel: 32 for ICMP, 256 for ICMPv6, in words of this machine.
    if version == 4:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", blocked & 0xFFFFFFFF))
    else:
        words = [blocked >> 32 * word & 0xFFFFFFFF for word in range(8)]
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))


def enlarge_receiving(sock: socket.socket, size: int) -> None:
    """Ask for a large receive buffer; more than `net.core.rmem_max` only some processes may have."""
    _enlarge(sock, _SO_RCVBUFFORCE, socket.SO_RCVBUF, size)


def enlarge_sending(sock: socket.socket, size: int) -> None:
    """Ask for a large send buffer; more than `net.core.wmem_max` only some processes may have."""
    _enlarge(sock, _SO_SNDBUFFORCE, socket.SO_SNDBUF, size)


def dropped(sock: socket.socket) -> int:
    """Return how many packets the kernel had for a socket and had no room for, since it was opened."""
    with contextlib.suppress(OSError):
        data = sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
        if len(data) >= 4 * (_MEMINFO_DROPS + 1):  # not before Linux 4.13
            count: int = struct.unpack_from("=I", data, 4 * _MEMINFO_DROPS)[0]
            return count
    return 0


def receive_octets(sock: socket.socket) -> None:
    """Have the octet with DSCP and ECN told of each packet that comes."""
    if sock.family == socket.AF_INET:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTOS, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVTCLASS, 1)


def octet_in(ancillary: Iterable[tuple[int, int, bytes]]) -> int | None:
    """Return the octet that came with a packet; None where it was not told."""
    for level, kind, data in ancillary:
        if (level, kind) in _OCTETS and data:
            return data[0] if len(data) < 4 else int(struct.unpack_from("=i", data)[0])
    return None


def set_dont_fragment(sock: socket.socket, wanted: bool) -> None:
    """Forbid or allow that packets are fragmented on the way; those that are forbidden are tried at any size."""
    if sock.family == socket.AF_INET:
        discover = _PMTUDISC_PROBE if wanted else _PMTUDISC_DONT
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)
    else:
        discover = _PMTUDISC_PROBE if wanted else _PMTUDISC_WANT
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, discover)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, int(wanted))


def kernel_mtu(sock: socket.socket) -> int:
    """Return the path MTU that the kernel works with on a connected socket; OSError when it does not tell."""
    if sock.family == socket.AF_INET:
        return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)
    return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)


def _enlarge(sock: socket.socket, forced: int, asked: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, size)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, asked, size)
