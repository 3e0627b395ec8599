"""From what a run saw to its metrics."""

import pytest

from streamswarm import contract
from worker.probes import ping
from worker.wire.echo import EchoError, EchoRecord, EchoReply

MS = 1_000_000


def record(*replies: EchoReply, sent: int, errors: tuple[EchoError, ...] = ()) -> EchoRecord:
    return EchoRecord(sent=sent, refused={}, replies=replies, errors=errors, bytes_sent=0, bytes_received=0)


def reply(index: int, rtt_ms: float, *, kernel: bool = True, ttl: int | None = 64) -> EchoReply:
    return EchoReply(index=index, rtt_ns=round(rtt_ms * MS), kernel=kernel, ttl=ttl)


def test_total_loss_leaves_every_time_unset() -> None:
    """Not measured is not zero; what was counted is there."""
    result = ping.summarise(record(sent=3), timeout_ms=1000)
    assert {field.name: value for field, value in result.ListFields()} == {
        "packets_sent": 3,
        "packets_received": 0,
        "loss_pct": 100.0,
        "duplicates": 0,
        "reordered": 0,
        "late": 0,
        "icmp_errors": 0,
        "bytes_sent": 0,
        "bytes_received": 0,
    }


def test_few_replies_leave_percentiles_and_variation_unset() -> None:
    """One reply has a time and no jitter."""
    result = ping.summarise(record(reply(0, 5), sent=1), timeout_ms=1000)
    assert result.rtt_min_ms == result.rtt_avg_ms == result.rtt_median_ms == result.rtt_max_ms == 5
    for name in ("rtt_stddev_ms", "rtt_p95_ms", "ipdv_avg_ms", "pdv_p95_ms", "rfc3550_jitter_ms"):
        assert not result.HasField(name), name


def test_twenty_replies_fill_every_metric_of_the_contract() -> None:
    """Nothing of the contract is forgotten."""
    result = ping.summarise(record(*(reply(n, 5 + n) for n in range(20)), sent=20), timeout_ms=1000)
    for metric in contract.kind("ping").metrics:
        assert result.HasField(metric.name), metric.name
    assert result.rtt_p95_ms == pytest.approx(23.05)
    assert result.pdv_p95_ms == pytest.approx(18.05)


def test_late_replies_are_lost_and_counted() -> None:
    """A reply exactly at the time-out is in time, one after it is late, not lost without a word (RFC 7680)."""
    result = ping.summarise(record(reply(0, 100), reply(1, 100.001), sent=2), timeout_ms=100)
    assert (result.packets_received, result.late, result.loss_pct) == (1, 1, 50.0)
    assert result.rtt_max_ms == 100


def test_duplicates_count_once_and_do_not_change_times() -> None:
    """Two further copies of one reply."""
    result = ping.summarise(
        record(reply(0, 5), reply(0, 7), reply(1, 6), reply(0, 9), sent=2), timeout_ms=100
    )
    assert (result.packets_received, result.duplicates, result.loss_pct) == (2, 2, 0.0)
    assert result.rtt_max_ms == 6


def test_reordering_counts_the_replies_that_were_overtaken() -> None:
    """Arrival 0, 2, 1, 4, 3: two came after a later one (RFC 4737)."""
    arrived = [reply(index, 5) for index in (0, 2, 1, 4, 3)]
    result = ping.summarise(record(*arrived, sent=5), timeout_ms=100)
    assert result.reordered == 2


def test_jitter_follows_the_order_of_sending() -> None:
    """Times 10, 11, 12 in the order sent vary by 1, however they arrived."""
    result = ping.summarise(record(reply(0, 10), reply(2, 12), reply(1, 11), sent=3), timeout_ms=100)
    assert result.ipdv_avg_ms == pytest.approx(1.0)


def test_kernel_time_stamps_are_claimed_only_when_all_are() -> None:
    """One reply without them takes the claim away."""
    both = record(reply(0, 5), reply(1, 5, kernel=False), sent=2)
    assert ping.summarise(both, timeout_ms=100).kernel_timestamps is False
    assert ping.summarise(record(reply(0, 5), sent=1), timeout_ms=100).kernel_timestamps is True


def test_errors_count_requests_not_messages() -> None:
    """Two errors for one request are one; a request that was answered after all is none."""
    errors = tuple(EchoError(index=index, type=3, code=1, offender=None) for index in (0, 0, 1, 2))
    result = ping.summarise(record(reply(2, 5), sent=3, errors=errors), timeout_ms=100)
    assert result.icmp_errors == 2


def test_a_reply_without_ttl_leaves_it_unset() -> None:
    """Some systems do not tell."""
    assert not ping.summarise(record(reply(0, 5, ttl=None), sent=1), timeout_ms=100).HasField("reply_ttl")
