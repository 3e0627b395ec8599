"""From what a run saw to its metrics."""

from dataclasses import replace

import pytest

from streamswarm import contract
from streamswarm.v1.probes.ping_pb2 import PingResult
from worker.evaluation.replies import Replies
from worker.probes import ping
from worker.wire.echo import EchoError, EchoRecord, EchoReplies, EchoReply

MS = 1_000_000


def record(*replies: EchoReply, sent: int, errors: tuple[EchoError, ...] = ()) -> EchoRecord:
    return EchoRecord(
        sent=sent, refused={}, replies=EchoReplies.of(replies), errors=errors, bytes_sent=0, bytes_received=0
    )


def summarise(seen: EchoRecord, timeout_ms: int) -> PingResult:
    return ping.summarise(Replies.of(seen, timeout_ms))


def reply(index: int, rtt_ms: float, *, kernel: bool = True, ttl: int | None = 64) -> EchoReply:
    return EchoReply(request=index, rtt_ns=round(rtt_ms * MS), kernel=kernel, ttl=ttl)


def test_total_loss_leaves_every_time_unset() -> None:
    """Not measured is not zero; what was counted is there."""
    result = summarise(record(sent=3), timeout_ms=1000)
    assert {field.name: value for field, value in result.ListFields()} == {
        "packets_sent": 3,
        "packets_received": 0,
        "loss_pct": 100.0,
        "loss_periods": 1,
        "longest_loss_period": 3,
        "duplicates": 0,
        "reordered": 0,
        "late": 0,
        "icmp_errors": 0,
        "bytes_sent": 0,
        "bytes_received": 0,
        "dropped_here": 0,
    }


def test_few_replies_leave_percentiles_and_variation_unset() -> None:
    """One reply has a time and no jitter."""
    result = summarise(record(reply(0, 5), sent=1), timeout_ms=1000)
    assert result.rtt_min_ms == result.rtt_avg_ms == result.rtt_median_ms == result.rtt_max_ms == 5
    for name in (
        "rtt_stddev_ms",
        "rtt_p90_ms",
        "rtt_p95_ms",
        "rtt_p99_ms",
        "ipdv_avg_ms",
        "ipdv_max_ms",
        "pdv_p95_ms",
        "rfc3550_jitter_ms",
        "p95_p50_ms",
    ):
        assert not result.HasField(name), name


def test_a_hundred_replies_fill_every_metric_of_the_contract() -> None:
    """Nothing of the contract is forgotten; percentiles of 5, 6, …, 104 interpolate between the closest ranks."""
    result = summarise(record(*(reply(n, 5 + n) for n in range(100)), sent=100), timeout_ms=1000)
    for metric in contract.kind("ping").metrics:
        if metric.group == "Addresses":
            continue  # those are of networks
        assert result.HasField(metric.name), metric.name
    assert result.rtt_p90_ms == pytest.approx(94.1)
    assert result.rtt_p95_ms == pytest.approx(99.05)
    assert result.rtt_p99_ms == pytest.approx(103.01)
    assert result.pdv_p95_ms == pytest.approx(94.05)
    assert result.p95_p50_ms == pytest.approx(99.05 - 54.5)
    assert result.ipdv_max_ms == pytest.approx(1)


def test_losses_are_counted_by_their_periods() -> None:
    """Lost: 1, then 3 and 4, then 7: three periods, the longest of two (RFC 3357); none where nothing is lost."""
    arrived = [reply(index, 5) for index in (0, 2, 5, 6)]
    result = summarise(record(*arrived, sent=8), timeout_ms=100)
    assert (result.loss_periods, result.longest_loss_period) == (3, 2)
    whole = summarise(record(reply(0, 5), sent=1), timeout_ms=100)
    assert (whole.loss_periods, whole.longest_loss_period) == (0, 0)
    assert whole.HasField("loss_periods")


def test_without_knowing_what_was_sent_periods_are_not_told() -> None:
    """The kernel refused some requests, so a gap in the replies may be no loss."""
    seen = EchoRecord(
        sent=2,
        refused={105: 1},
        replies=EchoReplies.of([reply(0, 5)]),
        errors=(),
        bytes_sent=0,
        bytes_received=0,
    )
    result = summarise(seen, timeout_ms=100)
    assert not result.HasField("loss_periods")
    assert not result.HasField("longest_loss_period")


def test_a_way_back_that_changes_shows_in_the_ttls() -> None:
    """Two different TTLs among three replies."""
    result = summarise(
        record(reply(0, 5, ttl=60), reply(1, 5, ttl=61), reply(2, 5, ttl=60), sent=3), timeout_ms=100
    )
    assert (result.reply_ttl, result.reply_ttls) == (60, 2)


def test_late_replies_are_lost_and_counted() -> None:
    """A reply exactly at the time-out is in time, one after it is late, not lost without a word (RFC 7680)."""
    result = summarise(record(reply(0, 100), reply(1, 100.001), sent=2), timeout_ms=100)
    assert (result.packets_received, result.late, result.loss_pct) == (1, 1, 50.0)
    assert result.rtt_max_ms == 100


def test_duplicates_count_once_and_do_not_change_times() -> None:
    """Two further copies of one reply, of which the engine tells the number alone."""
    seen = replace(record(reply(0, 5), reply(1, 6), sent=2), duplicates=2)
    result = summarise(seen, timeout_ms=100)
    assert (result.packets_received, result.duplicates, result.loss_pct) == (2, 2, 0.0)
    assert result.rtt_max_ms == 6


def test_reordering_counts_the_replies_that_were_overtaken() -> None:
    """Arrival 0, 2, 1, 4, 3: two came after a later one (RFC 4737)."""
    arrived = [reply(index, 5) for index in (0, 2, 1, 4, 3)]
    result = summarise(record(*arrived, sent=5), timeout_ms=100)
    assert result.reordered == 2


def test_jitter_follows_the_order_of_sending() -> None:
    """Times 10, 11, 12 in the order sent vary by 1, however they arrived."""
    result = summarise(record(reply(0, 10), reply(2, 12), reply(1, 11), sent=3), timeout_ms=100)
    assert result.ipdv_avg_ms == pytest.approx(1.0)


def test_kernel_time_stamps_are_claimed_only_when_all_are() -> None:
    """One reply without them takes the claim away."""
    both = record(reply(0, 5), reply(1, 5, kernel=False), sent=2)
    assert summarise(both, timeout_ms=100).kernel_timestamps is False
    assert summarise(record(reply(0, 5), sent=1), timeout_ms=100).kernel_timestamps is True


def test_errors_count_requests_not_messages() -> None:
    """Two errors for one request are one; a request that was answered after all is none."""
    errors = tuple(EchoError(index=index, type=3, code=1, offender=None) for index in (0, 0, 1, 2))
    result = summarise(record(reply(2, 5), sent=3, errors=errors), timeout_ms=100)
    assert result.icmp_errors == 2


def test_a_reply_without_ttl_leaves_it_unset() -> None:
    """Some systems do not tell."""
    assert not summarise(record(reply(0, 5, ttl=None), sent=1), timeout_ms=100).HasField("reply_ttl")


def test_the_histogram_has_steps_that_double() -> None:
    """A step holds its upper bound, the next begins behind it; what is empty is left out, and beyond the last is inf."""
    times = [0.05, 0.0501, 0.1, 3.2, *[3.3] * 15, 30_000]
    seen = Replies.of(record(*(reply(n, rtt) for n, rtt in enumerate(times)), sent=20), timeout_ms=60_000)
    assert seen.histogram() == {"0.05": 1, "0.1": 2, "3.2": 1, "6.4": 15, "inf": 1}
    assert sum(seen.histogram().values()) == 20


def test_nineteen_replies_make_no_histogram() -> None:
    """The result of a usual run stays as small as it is."""
    seen = Replies.of(record(*(reply(n, 5) for n in range(19)), sent=19), timeout_ms=100)
    assert seen.histogram() == {}
