"""The kernel's view of a TCP socket: `struct tcp_info` of linux/tcp.h, read field by field.

The struct has grown with the kernel and is only ever appended to. The kernel says how many bytes it filled in; a
field beyond that was not reported and is None, never zero.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass

_TCP_INFO = 11
#: More than any kernel fills in so far; the answer is cut to what it has.
_LONGEST = 512
_UNKNOWN_RTT = 0xFFFFFFFF

#: Offsets in bytes. Eight one-byte fields stand first, then 32-bit fields, then from 104 on 64-bit ones.
_STATE = 0
_SND_MSS = 16
_PMTU = 60
_RTT = 68
_RTTVAR = 72
_TOTAL_RETRANS = 100
_MIN_RTT = 148


@dataclass(frozen=True, kw_only=True)
class TcpInfo:
    """What the kernel reported; None where it reported nothing."""

    #: Connection state: 1 is established.
    state: int
    #: Segment size for sending, bytes.
    snd_mss: int | None
    #: Path MTU, bytes.
    pmtu: int | None
    #: Smoothed round-trip time, microseconds; None before the first sample.
    rtt_us: int | None
    #: Its mean deviation, microseconds; None before the first sample.
    rttvar_us: int | None
    #: Smallest round-trip time seen, microseconds.
    min_rtt_us: int | None
    #: Segments sent again since the connection began, SYNs included.
    total_retrans: int | None


def read(sock: socket.socket) -> TcpInfo | None:
    """Return the kernel's view of a socket, or None where the system has none (not Linux)."""
    if not sys.platform.startswith("linux"):
        return None
    return parse(sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LONGEST))


def parse(data: bytes) -> TcpInfo | None:
    """Read the fields that lie within `data`; None when there is not even the state."""
    if not data:
        return None
    rtt_us = _u32(data, _RTT)
    min_rtt_us = _u32(data, _MIN_RTT)
    return TcpInfo(
        state=data[_STATE],
        snd_mss=_u32(data, _SND_MSS),
        pmtu=_u32(data, _PMTU),
        rtt_us=rtt_us or None,
        # The deviation starts as a default that was not measured.
        rttvar_us=_u32(data, _RTTVAR) if rtt_us else None,
        min_rtt_us=None if min_rtt_us in (0, _UNKNOWN_RTT) else min_rtt_us,
        total_retrans=_u32(data, _TOTAL_RETRANS),
    )


def _u32(data: bytes, offset: int) -> int | None:
    if len(data) < offset + 4:
        return None
    value: int = struct.unpack_from("=I", data, offset)[0]
    return value
