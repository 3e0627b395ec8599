"""What the connections of a run say together: nothing is told that was not measured, classes keep to their limits."""

from __future__ import annotations

import pytest

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.tcp_pb2 import TcpResult
from worker.evaluation import handshakes
from worker.evaluation.handshakes import Handshake


def filled(*made: Handshake, failures: tuple[probe_pb2.FailureReason, ...] = ()) -> TcpResult:
    metrics = TcpResult()
    handshakes.fill(metrics, len(made) + len(failures), made, failures)
    return metrics


def handshake(connect_ms: float, rtt_ms: float | None = None, retransmits: int = 0) -> Handshake:
    return Handshake(connect_ms=connect_ms, rtt_ms=rtt_ms, min_rtt_ms=rtt_ms, retransmits=retransmits)


def test_one_connection_has_its_own_time_and_no_variation() -> None:
    """Minimum, mean and maximum are the same; a deviation needs two."""
    metrics = filled(handshake(12.5, 12.0))
    assert (
        metrics.connect_ms,
        metrics.connect_min_ms,
        metrics.connect_median_ms,
        metrics.connect_max_ms,
    ) == (12.5,) * 4
    assert not metrics.HasField("connect_stddev_ms")
    assert not metrics.HasField("connect_p90_ms")
    assert (metrics.attempts, metrics.connected, metrics.failed_pct) == (1, 1, 0)


def test_several_connections_have_percentiles_once_there_are_enough() -> None:
    """20 for the 95th, 10 for the 90th."""
    metrics = filled(*(handshake(float(number)) for number in range(20)))
    assert metrics.connect_ms == pytest.approx(9.5)
    assert metrics.connect_median_ms == pytest.approx(9.5)
    assert metrics.connect_p95_ms == pytest.approx(18.05)
    assert metrics.connect_p90_ms == pytest.approx(17.1)
    assert metrics.connect_stddev_ms == pytest.approx(5.766, abs=0.001)
    assert not filled(*(handshake(1.0) for _ in range(9))).HasField("connect_p90_ms")


def test_server_processing_is_told_with_its_error() -> None:
    """12 ms at the mean over a smallest round trip of 10: 2 ms, of which this host has 1."""
    metrics = filled(handshake(11.0, 10.0), handshake(13.0, 12.0))
    assert metrics.network_delay_ms == 5.0
    assert metrics.kernel_rtt_ms == 11.0
    assert metrics.server_processing_ms == pytest.approx(2.0)
    assert metrics.server_processing_error_ms == pytest.approx(1.0)


def test_server_processing_is_never_negative() -> None:
    """The kernel's round trip may be longer than the time by our clock, by the resolution of both."""
    metrics = filled(handshake(9.99, 10.0))
    assert metrics.server_processing_ms == 0
    assert metrics.server_processing_error_ms == 0


def test_what_the_system_does_not_tell_stays_unset() -> None:
    """Without TCP_INFO there are times by the clock and no more."""
    metrics = filled(Handshake(connect_ms=5.0))
    told = {field.name for field, _value in metrics.ListFields()}
    for name in ("kernel_rtt_ms", "network_delay_ms", "server_processing_ms", "syn_retransmits", "mss_bytes"):
        assert name not in told
    assert metrics.connect_class == handshakes.EXCELLENT
    assert handshakes.diagnosis(metrics) == "excellent: connected in 5.0 ms"


def test_failures_are_counted_by_reason() -> None:
    """And by no other: their sum is what failed."""
    metrics = filled(
        handshake(1.0),
        failures=(
            probe_pb2.FAILURE_REASON_REFUSED,
            probe_pb2.FAILURE_REASON_TIMED_OUT,
            probe_pb2.FAILURE_REASON_TIMED_OUT,
            probe_pb2.FAILURE_REASON_UNREACHABLE,
            probe_pb2.FAILURE_REASON_NO_ROOM,
        ),
    )
    assert (metrics.refused, metrics.timed_out, metrics.unreachable, metrics.other_failures) == (1, 2, 1, 1)
    assert (metrics.attempts, metrics.connected) == (6, 1)
    assert metrics.failed_pct == pytest.approx(500 / 6)


def test_a_run_without_connection_has_counts_and_no_class() -> None:
    """Nothing was measured that could be excellent or slow."""
    metrics = filled(failures=(probe_pb2.FAILURE_REASON_REFUSED,))
    assert metrics.failed_pct == 100
    assert not metrics.HasField("connect_class")
    assert not metrics.HasField("connect_ms")


@pytest.mark.parametrize(
    ("connect_ms", "expected"),
    [(49.9, 1), (50.0, 2), (99.9, 2), (100.0, 3), (299.9, 3), (300.0, 4), (5000.0, 4)],
)
def test_classes_begin_at_their_limits(connect_ms: float, expected: int) -> None:
    """As the contract states them."""
    assert filled(handshake(connect_ms, 1.0)).connect_class == expected


def test_repeated_packets_and_failures_spoil_the_class() -> None:
    """Moderate at best; half of the attempts failed is slow."""
    assert filled(handshake(1.0, 0.5, retransmits=1)).connect_class == handshakes.MODERATE
    refused = probe_pb2.FAILURE_REASON_REFUSED
    assert filled(handshake(1.0), handshake(1.0), failures=(refused,)).connect_class == handshakes.MODERATE
    assert filled(handshake(1.0), failures=(refused,)).connect_class == handshakes.SLOW


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ([handshake(50.4, 50.0)], "most of it is the round trip of 50.0 ms to the server and back"),
        ([handshake(2.0, 1.9), handshake(90.0, 89.0)], "the server or a queue on the way was busy"),
        ([handshake(80.0, 2.0)], "most of it, 78.0 ms, is this worker's own host"),
        ([handshake(1010.0, 9.0, retransmits=1)], "1 handshake packets had to be repeated"),
    ],
)
def test_the_sentence_names_the_largest_part(made: list[Handshake], words: str) -> None:
    """Network, server, this host, or a packet that was lost."""
    assert words in handshakes.diagnosis(filled(*made))


def test_the_sentence_counts_failures() -> None:
    """Beside the connections that were made."""
    text = handshakes.diagnosis(
        filled(handshake(1.0, 1.0), handshake(1.0, 1.0), failures=(probe_pb2.FAILURE_REASON_TIMED_OUT,))
    )
    assert "1 of 3 attempts failed" in text
