"""Which clock is believed, and how the error queue is read."""

import socket
import struct

from worker.wire import stamps
from worker.wire.stamps import Instant, QueuedError, TransmitStamp

SECOND = 1_000_000_000
MS = 1_000_000


def test_two_kernel_stamps_give_the_time() -> None:
    """The process saw 3 ms, the kernel 1 ms: the difference is the process's own delay."""
    sent = Instant(10 * SECOND, 5 * SECOND)
    received = Instant(10 * SECOND + 3 * MS, 5 * SECOND + 3 * MS)
    assert stamps.elapsed(sent, 10 * SECOND + MS, received, 10 * SECOND + 2 * MS) == (MS, True)


def test_a_missing_stamp_is_replaced_and_admitted() -> None:
    """The process's reading stands in, and the result says that not both are the kernel's."""
    sent = Instant(10 * SECOND, 5 * SECOND)
    received = Instant(10 * SECOND + 3 * MS, 5 * SECOND + 3 * MS)
    assert stamps.elapsed(sent, None, received, 10 * SECOND + 2 * MS) == (2 * MS, False)
    assert stamps.elapsed(sent, 10 * SECOND + MS, received, None) == (2 * MS, False)
    assert stamps.elapsed(sent, None, received, None) == (3 * MS, False)


def test_a_wall_clock_that_was_set_meanwhile_is_not_believed() -> None:
    """An hour's step, forwards or back, leaves the monotonic clock's answer."""
    sent = Instant(10_000 * SECOND, 5 * SECOND)
    for step in (3600 * SECOND, -3600 * SECOND, -MS):
        received = Instant(10_000 * SECOND + step + 3 * MS, 5 * SECOND + 3 * MS)
        stamped = received.wall_ns - MS
        assert stamps.elapsed(sent, sent.wall_ns + MS, received, stamped) == (3 * MS, False)


def test_stamps_that_lie_outside_the_exchange_are_not_believed() -> None:
    """A reply cannot have come before its request left."""
    sent = Instant(10 * SECOND, 5 * SECOND)
    received = Instant(10 * SECOND + 3 * MS, 5 * SECOND + 3 * MS)
    assert stamps.elapsed(sent, 10 * SECOND + 2 * MS, received, 10 * SECOND + MS) == (3 * MS, False)
    assert stamps.elapsed(sent, 9 * SECOND, received, 10 * SECOND + MS) == (3 * MS, False)


def test_now_reads_both_clocks_as_one_moment() -> None:
    """Two moments are as far apart on one clock as on the other."""
    first, second = stamps.now(), stamps.now()
    assert abs((second.wall_ns - first.wall_ns) - (second.monotonic_ns - first.monotonic_ns)) < MS


def extended_error(origin: int, icmp_type: int, code: int, key: int, offender: bytes = b"") -> bytes:
    return struct.pack("=IBBBBII", 42, origin, icmp_type, code, 0, 0, key) + offender


def test_a_transmit_stamp_carries_its_packets_number() -> None:
    """The stamp and the number come in two pieces of ancillary data."""
    ancillary = [
        (socket.SOL_SOCKET, 37, struct.pack("@6l", 12, 345, 0, 0, 0, 0)),
        (socket.IPPROTO_IP, 11, extended_error(4, 0, 0, 7)),
    ]
    assert stamps.parse_queued(b"", ancillary) == TransmitStamp(key=7, wall_ns=12 * SECOND + 345)


def test_an_icmp_error_carries_its_sender_and_what_it_quotes() -> None:
    """IPv4 and IPv6 have the sender behind the error in their own form."""
    offender = struct.pack("=H", socket.AF_INET) + b"\0\0" + socket.inet_aton("192.0.2.9") + b"\0" * 8
    error = stamps.parse_queued(b"quoted", [(socket.IPPROTO_IP, 11, extended_error(2, 11, 0, 0, offender))])
    assert error == QueuedError(origin=2, errno=42, type=11, code=0, offender="192.0.2.9", quoted=b"quoted")
    v6 = struct.pack("=H", socket.AF_INET6) + b"\0" * 6 + socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    error = stamps.parse_queued(b"", [(socket.IPPROTO_IPV6, 25, extended_error(3, 1, 3, 0, v6 + b"\0" * 4))])
    assert isinstance(error, QueuedError)
    assert error.offender == "2001:db8::9"


def test_other_and_cut_messages_of_the_queue_are_passed_over() -> None:
    """A message without an error, one cut short, and a stamp without a time."""
    assert stamps.parse_queued(b"", []) is None
    assert stamps.parse_queued(b"", [(socket.IPPROTO_IP, 11, b"\0" * 15)]) is None
    assert stamps.parse_queued(b"", [(socket.IPPROTO_IP, 11, extended_error(4, 0, 0, 7))]) is None
    error = stamps.parse_queued(b"", [(socket.IPPROTO_IP, 11, extended_error(2, 3, 1, 0, b"\x02\0\0"))])
    assert isinstance(error, QueuedError)
    assert error.offender is None
