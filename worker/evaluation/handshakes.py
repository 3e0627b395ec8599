"""What the TCP connections of one run say together: times, failures by reason, a class and a sentence. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.tcp_pb2 import TcpResult
from worker.evaluation import statistics

#: Mean connect times in milliseconds below which a run is excellent, good and moderate.
EXCELLENT_MS, GOOD_MS, MODERATE_MS = 50.0, 100.0, 300.0
EXCELLENT, GOOD, MODERATE, SLOW = 1, 2, 3, 4
_WORDS = {EXCELLENT: "excellent", GOOD: "good", MODERATE: "moderate", SLOW: "slow"}

_COUNTED = {
    probe_pb2.FAILURE_REASON_REFUSED: "refused",
    probe_pb2.FAILURE_REASON_TIMED_OUT: "timed_out",
    probe_pb2.FAILURE_REASON_UNREACHABLE: "unreachable",
}


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """One connection that was established; None for what the system did not tell."""

    #: By our own clock.
    connect_ms: float
    #: tcpi_rtt and tcpi_min_rtt.
    rtt_ms: float | None = None
    min_rtt_ms: float | None = None
    #: tcpi_total_retrans.
    retransmits: int | None = None
    #: tcpi_snd_mss and tcpi_pmtu.
    mss_bytes: int | None = None
    path_mtu_bytes: int | None = None
    #: By the kernel's stamps of the three packets.
    syn_to_synack_ms: float | None = None
    synack_to_ack_ms: float | None = None
    #: From being ready to listen until the first data came.
    first_byte_ms: float | None = None


def fill(
    metrics: TcpResult,
    attempts: int,
    handshakes: Sequence[Handshake],
    failures: Sequence[probe_pb2.FailureReason],
) -> None:
    """Fill in what the attempts say: the connections that were established, and why attempts failed."""
    metrics.attempts = attempts
    metrics.connected = len(handshakes)
    metrics.failed_pct = 100.0 * len(failures) / attempts
    metrics.refused = metrics.timed_out = metrics.unreachable = metrics.other_failures = 0
    for reason in failures:
        name = _COUNTED.get(reason, "other_failures")
        setattr(metrics, name, getattr(metrics, name) + 1)
    if handshakes:
        _fill_times(metrics, handshakes)
        _fill_path(metrics, handshakes)
        metrics.connect_class = class_of(metrics)


def class_of(metrics: TcpResult) -> int:
    """Return the class of a run with at least one connection, as the contract describes it."""
    if metrics.failed_pct >= 50 or metrics.connect_ms >= MODERATE_MS:
        return SLOW
    if metrics.failed_pct or metrics.syn_retransmits or metrics.connect_ms >= GOOD_MS:
        return MODERATE
    return GOOD if metrics.connect_ms >= EXCELLENT_MS else EXCELLENT


def diagnosis(metrics: TcpResult) -> str:
    """Return the sentence that says why a run is of its class."""
    words = [f"{_WORDS[metrics.connect_class]}: connected in {_milliseconds(metrics.connect_ms)}"]
    failed = round(metrics.failed_pct * metrics.attempts / 100)
    if failed:
        words.append(f"{failed} of {metrics.attempts} attempts failed")
    if metrics.syn_retransmits:
        words.append(
            f"{metrics.syn_retransmits} handshake packets had to be repeated, the first time after a second, "
            "which points to loss on the way or a full queue at the server"
        )
    elif metrics.HasField("server_processing_ms"):
        words.append(_largest_part(metrics))
    return "; ".join(words)


def _largest_part(metrics: TcpResult) -> str:
    """Say where most of the connect time goes."""
    round_trip = metrics.kernel_min_rtt_ms
    host = metrics.server_processing_error_ms
    beyond = max(0.0, metrics.server_processing_ms - host)
    if round_trip >= max(beyond, host):
        return f"most of it is the round trip of {_milliseconds(round_trip)} to the server and back"
    if beyond >= host:
        return (
            f"most of it, {_milliseconds(beyond)}, comes on top of the shortest round trip of "
            f"{_milliseconds(round_trip)}: the server or a queue on the way was busy"
        )
    return f"most of it, {_milliseconds(host)}, is this worker's own host, not the network"


def _fill_times(metrics: TcpResult, handshakes: Sequence[Handshake]) -> None:
    if len(handshakes) == 1:  # as most runs are, and they cost the least
        time = handshakes[0].connect_ms
        metrics.connect_ms = metrics.connect_min_ms = metrics.connect_median_ms = metrics.connect_max_ms = (
            time
        )
    else:
        times = [each.connect_ms for each in handshakes]
        metrics.connect_ms = math.fsum(times) / len(times)
        metrics.connect_min_ms, metrics.connect_max_ms = min(times), max(times)
        _set(metrics, "connect_median_ms", statistics.median(times))
        _set(metrics, "connect_p90_ms", statistics.percentile_90(times))
        _set(metrics, "connect_p95_ms", statistics.percentile_95(times))
        _set(metrics, "connect_stddev_ms", statistics.standard_deviation(times))
    _set(metrics, "syn_to_synack_ms", _mean([each.syn_to_synack_ms for each in handshakes]))
    _set(metrics, "synack_to_ack_ms", _mean([each.synack_to_ack_ms for each in handshakes]))
    _set(metrics, "first_byte_ms", _mean([each.first_byte_ms for each in handshakes]))
    round_trips = [each.rtt_ms for each in handshakes]
    average = _mean(round_trips)
    _set(metrics, "kernel_rtt_ms", average)
    smallest = min((rtt for each in handshakes if (rtt := each.min_rtt_ms) is not None), default=None)
    if smallest is None:
        return
    metrics.kernel_min_rtt_ms = smallest
    metrics.network_delay_ms = smallest / 2
    if average is not None and None not in round_trips:
        metrics.server_processing_ms = max(0.0, metrics.connect_ms - smallest)
        metrics.server_processing_error_ms = max(0.0, metrics.connect_ms - average)


def _fill_path(metrics: TcpResult, handshakes: Sequence[Handshake]) -> None:
    repeated = [each.retransmits for each in handshakes if each.retransmits is not None]
    if repeated:
        metrics.syn_retransmits = sum(repeated)
    last = handshakes[-1]
    if last.mss_bytes is not None:
        metrics.mss_bytes = last.mss_bytes
    if last.path_mtu_bytes is not None:
        metrics.path_mtu_bytes = last.path_mtu_bytes


def _mean(values: Sequence[float | None]) -> float | None:
    measured = [value for value in values if value is not None]
    if len(measured) < 2:
        return measured[0] if measured else None
    return math.fsum(measured) / len(measured)


def _set(metrics: TcpResult, name: str, value: float | None) -> None:
    if value is not None:
        setattr(metrics, name, value)


def _milliseconds(value: float) -> str:
    return f"{value:.1f} ms" if value >= 1 else f"{value:.3f} ms"
