"""Kernel time stamps of packets, and the clock that stands in where one is missing.

The kernel stamps a packet when it hands it to the device and when the device hands one over, so that a busy host
adds nothing to a round-trip time. Transmit stamps come back through the socket's error queue, numbered per socket
(SOF_TIMESTAMPING_OPT_ID) and without a copy of the packet (OPT_TSONLY); ICMP errors come through the same queue
(IP_RECVERR), with the quoted packet.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from worker.wire.turns import Turn

SO_TIMESTAMPING = 37
_TX_SOFTWARE = 1 << 1
_RX_SOFTWARE = 1 << 3
_SOFTWARE = 1 << 4
_OPT_ID = 1 << 7
_OPT_TSONLY = 1 << 11
_MSG_ERRQUEUE = 0x2000
_IP_RECVERR = 11
_IPV6_RECVERR = 25
ORIGIN_TIMESTAMPING = 4
#: Three `struct timespec`; the first is the software stamp.
_STAMPS = struct.Struct("@6l")
#: sock_extended_err: errno, origin, type, code, pad, info, data; the offender's address follows.
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_ANCILLARY_BYTES = 512
#: Room for the start of a quoted packet, which is all that attribution needs.
_QUOTED_BYTES = 2048
#: Wall clock and monotonic clock may drift this far apart while a packet is under way before a step is assumed.
STEP_NS = 200_000
#: The wall clock may be slewed by one part in so many.
_MOST_SLEWED = 2_000

#: Whether this system has the error queue and its stamps.
SUPPORTED = sys.platform.startswith("linux")

Ancillary = Sequence[tuple[int, int, bytes]]


@dataclass(frozen=True)
class Instant:
    """One moment on both clocks: kernel stamps are wall clock, and the wall clock may be set at any time."""

    wall_ns: int
    monotonic_ns: int


@dataclass(frozen=True, kw_only=True)
class TransmitStamp:
    """A packet left: which, counted from 0 since stamps were switched on, and when."""

    key: int
    wall_ns: int


@dataclass(frozen=True, kw_only=True)
class QueuedError:
    """An ICMP error, or an error of this host, for a packet that was sent earlier."""

    #: 1 this host, 2 ICMP, 3 ICMPv6.
    origin: int
    errno: int
    #: ICMP type and code.
    type: int
    code: int
    #: Who sent the ICMP error, where known.
    offender: str | None
    #: What it quotes of our packet, from the header of the socket's own protocol on.
    quoted: bytes
    #: What the kernel says beside: of a packet that was too big the MTU that the router reported.
    info: int = 0
    #: The kernel's receive stamp of the ICMP error.
    stamped_ns: int | None = None


def now() -> Instant:
    """Read both clocks as one moment: read again when something came between the two readings."""
    for _ in range(3):
        before = time.monotonic_ns()
        wall = time.time_ns()
        if time.monotonic_ns() - before < 20_000:
            break
    return Instant(wall, before)


def elapsed(
    sent: Instant, transmitted_ns: int | None, received: Instant, stamped_ns: int | None
) -> tuple[int, bool]:
    """Return the nanoseconds between sending and receiving, and whether both ends are the kernel's stamps.

    `sent` was read just before sending and `received` just after receiving, so the true time lies within; a pair of
    stamps that does not, or a wall clock that was set meanwhile, is not believed.
    """
    outer_ns = received.monotonic_ns - sent.monotonic_ns
    if abs(received.wall_ns - sent.wall_ns - outer_ns) > STEP_NS:
        return outer_ns, False
    start_ns = sent.wall_ns if transmitted_ns is None else transmitted_ns
    end_ns = received.wall_ns if stamped_ns is None else stamped_ns
    if 0 <= end_ns - start_ns <= outer_ns + STEP_NS:
        return end_ns - start_ns, transmitted_ns is not None and stamped_ns is not None
    return outer_ns, False


def enable(sock: socket.socket) -> bool:
    """Switch on stamps, numbered from 0, in both directions; False where the system has none."""
    flags = _TX_SOFTWARE | _RX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
    try:
        # Switching the numbers off first makes them start at 0 again. The stamps themselves stay on: the kernel switches
        # those of received packets on from a work queue, and what comes before that has none.
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags & ~_OPT_ID)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, flags)
    except OSError:
        return False
    return True


def enable_receiving(sock: socket.socket) -> None:
    """Switch on stamps of what is received, and of nothing else; raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, _RX_SOFTWARE | _SOFTWARE)


def enable_errors(sock: socket.socket, *, on: bool = True) -> None:
    """Have ICMP errors queued for reading instead of being folded into one error code, or not any more."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, on)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, on)


class Arrivals:
    """When the kernel had what a socket received, by time.perf_counter_ns: its stamps are of the wall clock.

    A stamp that comes with several packets is that of the last. What has no stamp, or one that is not believed since the
    wall clock was set, came when it was read. Nothing came before `since_ns`; without it before now.
    """

    __slots__ = ("_latest_ns", "_offset_ns", "_read_ns")

    def __init__(self, since_ns: int | None = None) -> None:
        self._read_ns = time.perf_counter_ns()
        self._offset_ns = time.time_ns() - self._read_ns
        self._latest_ns = self._read_ns if since_ns is None else since_ns

    def begin(self) -> None:
        """Take what comes from now on for an answer to what is sent now: it did not come before."""
        self._latest_ns = time.perf_counter_ns()

    def take(self, stamp_ns: int | None, read_ns: int) -> int:
        """Return when something came that bears a stamp and was there at `read_ns`, and not before what came earlier."""
        offset_ns = time.time_ns() - time.perf_counter_ns()
        drift_ns = abs(offset_ns - self._offset_ns)
        believed = drift_ns <= STEP_NS + (read_ns - self._read_ns) // _MOST_SLEWED
        self._offset_ns, self._read_ns = offset_ns, read_ns
        came_ns = min(read_ns, stamp_ns - offset_ns) if believed and stamp_ns is not None else read_ns
        self._latest_ns = max(self._latest_ns, came_ns)
        return self._latest_ns


@contextlib.contextmanager
def kept_on() -> Iterator[None]:
    """Have the kernel stamp what is received from the beginning: it is slow to begin, and ends with the last who asks."""
    if not SUPPORTED:
        yield
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        with contextlib.suppress(OSError):  # there are no stamps, as every socket finds out for itself
            enable_receiving(asking)
        yield


def stamp_in(ancillary: Ancillary) -> int | None:
    """Return the software stamp among ancillary data, in wall-clock nanoseconds."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPING and len(data) >= _STAMPS.size:
            seconds, nanoseconds = _STAMPS.unpack_from(data)[:2]
            if seconds:
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return None


def read_error_queue(sock: socket.socket) -> Iterator[TransmitStamp | QueuedError]:
    """Read a non-blocking socket's error queue, for a turn."""
    turn = Turn()
    while SUPPORTED and turn.goes_on():
        try:
            data, ancillary, _flags, _address = sock.recvmsg(_QUOTED_BYTES, _ANCILLARY_BYTES, _MSG_ERRQUEUE)
        except BlockingIOError:
            return
        entry = parse_queued(data, ancillary)
        if entry is not None:
            yield entry


def parse_queued(data: bytes, ancillary: Ancillary) -> TransmitStamp | QueuedError | None:
    """Read one message of the error queue; None when it is neither a stamp nor an error."""
    for level, kind, content in ancillary:
        if (level, kind) not in (
            (socket.IPPROTO_IP, _IP_RECVERR),
            (socket.IPPROTO_IPV6, _IPV6_RECVERR),
        ) or len(content) < _EXTENDED_ERROR.size:
            continue
        number, origin, icmp_type, code, _pad, info, key = _EXTENDED_ERROR.unpack_from(content)
        if origin == ORIGIN_TIMESTAMPING:
            stamp_ns = stamp_in(ancillary)
            return None if stamp_ns is None else TransmitStamp(key=key, wall_ns=stamp_ns)
        return QueuedError(
            origin=origin,
            errno=number,
            type=icmp_type,
            code=code,
            offender=_offender(content[_EXTENDED_ERROR.size :]),
            quoted=data,
            info=info,
            stamped_ns=stamp_in(ancillary),
        )
    return None


def _offender(data: bytes) -> str | None:
    if len(data) < 8:
        return None
    family = struct.unpack_from("=H", data)[0]
    with contextlib.suppress(ValueError):  # too short for its family
        if family == socket.AF_INET:
            return socket.inet_ntop(socket.AF_INET, data[4:8])
        if family == socket.AF_INET6:
            return socket.inet_ntop(socket.AF_INET6, data[8:24])
    return None
