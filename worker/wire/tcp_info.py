"""The kernel's view of a TCP socket: `struct tcp_info` of linux/tcp.h, read field by field.

The struct has grown with the kernel and is only ever appended to. The kernel says how many bytes it filled in; a
field beyond that was not reported and is None, never zero.
"""

from __future__ import annotations

import socket
import struct
import sys

_TCP_INFO = 11
#: More than any kernel fills in so far; the answer is cut to what it has.
_LONGEST = 512
_LITTLE_ENDIAN = sys.byteorder == "little"
#: Whether this system shows connections.
SUPPORTED = sys.platform.startswith("linux")

# Flags of the byte at _OPTIONS.
_TIMESTAMPS, _SELECTIVE_ACKS, _WINDOW_SCALING, _ECN = 1, 2, 4, 8
_OPTIONS, _SCALES, _FLAGS = 5, 6, 7

#: Connection states in which the far end has said that nothing more comes: TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING.
_FIN_CAME = frozenset({6, 8, 9, 11})

#: Values that stand for "there is none".
_ZERO = frozenset({0})
_NO_MINIMUM = frozenset({0, 0xFFFFFFFF})
_NO_THRESHOLD = frozenset({0x7FFFFFFF, 0xFFFFFFFF})


class _Field:
    """One number of the struct; None where the kernel did not fill it in, or says that it has none."""

    def __init__(self, offset: int, code: str, *, none: frozenset[int] = frozenset()) -> None:
        self._offset = offset
        self._layout = struct.Struct(f"={code}")
        self._end = offset + self._layout.size
        self._none = none

    def __get__(self, info: TcpInfo, owner: type[TcpInfo]) -> int | None:
        if len(info.data) < self._end:
            return None
        value: int = self._layout.unpack_from(info.data, self._offset)[0]
        return None if value in self._none else value


class TcpInfo:
    """What the kernel reported of a connection; None where it reported nothing. Numbers are read when asked for."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        #: The struct as far as the kernel filled it in.
        self.data = data

    #: Segment size for sending and as seen in what came, bytes.
    snd_mss = _Field(16, "I")
    rcv_mss = _Field(20, "I", none=_ZERO)
    #: Segments sent and not acknowledged.
    unacked = _Field(24, "I")
    #: Milliseconds since data were last sent.
    last_data_sent_ms = _Field(44, "I")
    #: Path MTU, bytes.
    pmtu = _Field(60, "I")
    #: Smoothed round-trip time, microseconds; None before the first sample.
    rtt_us = _Field(68, "I", none=_ZERO)
    #: Slow start threshold, segments; None while there is none.
    snd_ssthresh = _Field(76, "I", none=_NO_THRESHOLD)
    #: Congestion window, segments.
    snd_cwnd = _Field(80, "I")
    #: The receiver's own estimate of the round-trip time, microseconds; None before the first sample.
    rcv_rtt_us = _Field(92, "I", none=_ZERO)
    #: Segments sent again since the connection began, SYNs included.
    total_retrans = _Field(100, "I")
    #: Rate at which the kernel is about to send, bytes per second; None where it does not pace.
    pacing_rate = _Field(104, "Q", none=frozenset({0, 0xFFFFFFFFFFFFFFFF}))
    #: Bytes of payload acknowledged by the far end; the kernel counts the SYN as one.
    bytes_acked = _Field(120, "Q")
    #: Bytes in the send buffer that were not sent yet.
    notsent_bytes = _Field(144, "I")
    #: Smallest round-trip time seen, microseconds.
    min_rtt_us = _Field(148, "I", none=_NO_MINIMUM)
    #: Segments with data, received and sent, repetitions included.
    data_segs_in = _Field(152, "I")
    data_segs_out = _Field(156, "I")
    #: Latest delivery rate, bytes per second.
    delivery_rate = _Field(160, "Q", none=_ZERO)
    #: Microseconds in which data were under way, and of these: held back by the far end's window, by the send buffer.
    busy_time_us = _Field(168, "Q")
    rwnd_limited_us = _Field(176, "Q")
    sndbuf_limited_us = _Field(184, "Q")
    #: Segments that were acknowledged with a congestion mark.
    delivered_ce = _Field(196, "I")
    #: Bytes of payload sent, those sent again included, and those sent again.
    bytes_sent = _Field(200, "Q")
    bytes_retrans = _Field(208, "Q")
    #: Segments that the far end reported as received twice.
    dsack_dups = _Field(216, "I")
    #: How often reordering was noticed.
    reord_seen = _Field(220, "I")
    #: Segments received out of order.
    rcv_ooopack = _Field(224, "I")
    #: The far end's window and the one offered to it, bytes.
    snd_wnd = _Field(228, "I")
    rcv_wnd = _Field(232, "I")

    _rttvar_us = _Field(72, "I")
    _bytes_received = _Field(128, "Q")

    @property
    def state(self) -> int:
        """Connection state: 1 is established."""
        return self.data[0]

    @property
    def bytes_received(self) -> int | None:
        """Bytes of payload received in order; the kernel counts the far end's FIN as one, and it is taken off."""
        received = self._bytes_received
        return received - 1 if received and self.state in _FIN_CAME else received

    @property
    def rttvar_us(self) -> int | None:
        """Mean deviation of the round-trip time, microseconds; None before the first sample."""
        # It starts as a default that was not measured.
        return self._rttvar_us if self.rtt_us else None

    @property
    def timestamps(self) -> bool | None:
        """Both ends send time stamps (RFC 7323)."""
        return self._option(_TIMESTAMPS)

    @property
    def selective_acks(self) -> bool | None:
        """Both ends acknowledge selectively (RFC 2018)."""
        return self._option(_SELECTIVE_ACKS)

    @property
    def window_scaling(self) -> bool | None:
        """Both ends scale their windows (RFC 7323)."""
        return self._option(_WINDOW_SCALING)

    @property
    def ecn(self) -> bool | None:
        """Both ends agreed to use ECN (RFC 3168)."""
        return self._option(_ECN)

    @property
    def snd_wscale(self) -> int | None:
        """Bits by which the far end's window is shifted; None without window scaling."""
        return self._scale(low=_LITTLE_ENDIAN)

    @property
    def rcv_wscale(self) -> int | None:
        """Bits by which this host's window is shifted; None without window scaling."""
        return self._scale(low=not _LITTLE_ENDIAN)

    @property
    def app_limited(self) -> bool | None:
        """The latest delivery rate was held back by the application."""
        if len(self.data) <= _FLAGS:
            return None
        return bool(self.data[_FLAGS] & (0x01 if _LITTLE_ENDIAN else 0x80))

    def _option(self, flag: int) -> bool | None:
        return bool(self.data[_OPTIONS] & flag) if len(self.data) > _OPTIONS else None

    def _scale(self, *, low: bool) -> int | None:
        if not self.window_scaling or len(self.data) <= _SCALES:
            return None
        return self.data[_SCALES] & 0x0F if low else self.data[_SCALES] >> 4


def read(sock: socket.socket) -> TcpInfo | None:
    """Return the kernel's view of a socket, or None where the system has none (not Linux)."""
    if not SUPPORTED:
        return None
    return parse(sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _LONGEST))


def parse(data: bytes) -> TcpInfo | None:
    """Return the view that the kernel gave; None when there is not even the state."""
    return TcpInfo(data) if data else None
