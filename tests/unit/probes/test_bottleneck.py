"""What limited a transfer, from figures at the rules' thresholds; each rule with what it must give way to."""

from __future__ import annotations

import dataclasses

import pytest

from streamswarm import contract
from worker.evaluation import bottleneck
from worker.evaluation.bottleneck import Figures

QUIET = Figures(
    sending=True,
    rtt_min_ms=20.0,
    rtt_avg_ms=22.0,
    rtt_stddev_ms=1.0,
    rttvar_avg_ms=1.0,
    retransmitted_pct=0.0,
    spurious_pct=0.0,
    window_limited_pct=0.0,
    buffer_limited_pct=0.0,
    window_use_pct=40.0,
)
QUIET_DOWNLOAD = Figures(
    sending=False,
    rtt_min_ms=20.0,
    rtt_avg_ms=22.0,
    rtt_stddev_ms=1.0,
    out_of_order_pct=0.0,
    pause_pct=0.0,
    window_use_pct=40.0,
)


def named(base: Figures, **changes: float) -> str:
    return bottleneck.NAMES[bottleneck.attribute(dataclasses.replace(base, **changes))[0]]


@pytest.mark.parametrize("base", [QUIET, QUIET_DOWNLOAD], ids=["upload", "download"])
def test_nothing_is_blamed_without_a_reason(base: Figures) -> None:
    """Figures just below the thresholds are optimal."""
    assert named(base) == "optimal"
    assert named(base, rtt_avg_ms=39.9) == "optimal"
    assert named(base, rtt_min_ms=0.1, rtt_avg_ms=5.0) == "optimal", "a queue of 5 ms is none"


def test_losses_without_a_queue_are_packet_loss() -> None:
    """With a queue they are the queue's: congestion, and the sentence still names them."""
    assert named(QUIET, retransmitted_pct=1.0) == "packet_loss"
    assert named(QUIET, retransmitted_pct=0.9) == "optimal"
    assert named(QUIET, retransmitted_pct=3.0, rtt_avg_ms=60.0) == "network_congestion"
    _code, why = bottleneck.attribute(dataclasses.replace(QUIET, retransmitted_pct=3.0, rtt_avg_ms=60.0))
    assert "rose from 20.0 ms to 60.0 ms" in why
    assert "3.0 % of the segments were lost" in why
    assert named(QUIET_DOWNLOAD, out_of_order_pct=2.0) == "packet_loss"


def test_needless_retransmissions_are_no_losses() -> None:
    """The far end had got them: the path is unstable, not lossy."""
    assert named(QUIET, retransmitted_pct=2.5, spurious_pct=2.4) == "network_instability"
    assert named(QUIET, retransmitted_pct=4.5, spurious_pct=1.5) == "packet_loss"


def test_limits_of_both_ends_are_told_apart() -> None:
    """The far end's window and pauses, this host's buffer and window."""
    assert named(QUIET, window_limited_pct=20.0) == "server_limited"
    assert named(QUIET, buffer_limited_pct=20.0) == "worker_limited"
    assert named(QUIET_DOWNLOAD, pause_pct=20.0, rtt_avg_ms=500.0) == "server_limited"
    assert named(QUIET_DOWNLOAD, window_use_pct=80.0) == "worker_limited"
    assert named(QUIET, window_use_pct=95.0) == "optimal", "a sender knows better by its own counters"


def test_a_round_trip_time_that_varies_is_instability() -> None:
    """By the kernel's mean deviation where this host sends, by the samples' where it receives."""
    assert named(QUIET, rttvar_avg_ms=4.5, rtt_avg_ms=45.0) == "network_instability"
    assert named(QUIET, rttvar_avg_ms=4.4, rtt_avg_ms=45.0) == "network_congestion"
    assert named(QUIET, rtt_min_ms=1.0, rttvar_avg_ms=1.9, rtt_avg_ms=3.0) == "optimal"
    assert named(QUIET_DOWNLOAD, rtt_stddev_ms=9.0, rtt_avg_ms=30.0) == "network_instability"
    assert named(QUIET_DOWNLOAD, rtt_stddev_ms=30.0, rtt_avg_ms=60.0) == "network_congestion"


def test_what_is_not_known_blames_nobody() -> None:
    """Figures without anything measured."""
    assert named(Figures(sending=True)) == "optimal"
    assert bottleneck.score(Figures(sending=False)) == 100.0


def test_the_score_follows_its_formula() -> None:
    """As the metric's description says, each part up to its limit."""
    assert bottleneck.score(QUIET) == pytest.approx(99.0)
    worse = dataclasses.replace(QUIET, retransmitted_pct=2.0, rtt_avg_ms=40.0, window_limited_pct=50.0)
    assert bottleneck.score(worse) == pytest.approx(100 - 16 - 10 - 15)
    worst = dataclasses.replace(QUIET, retransmitted_pct=50.0, rtt_avg_ms=900.0, window_limited_pct=100.0)
    assert bottleneck.score(worst) == 0.0
    download = dataclasses.replace(QUIET_DOWNLOAD, out_of_order_pct=5.0, pause_pct=10.0)
    assert bottleneck.score(download) == pytest.approx(100 - 10 - 1 - 3)


def test_the_codes_are_those_of_the_manual() -> None:
    """The metric's description names each class with its number."""
    description = contract.kind("tcp_window").metric("bottleneck").description
    for code, name in bottleneck.NAMES.items():
        assert f"{code} {name.replace('_', ' ')}" in description
