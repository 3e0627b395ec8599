"""Figures of a TCP transfer from samples of its connection: pure.

A figure that the kernel does not know for this side of the connection, or for a kernel as old as this one, stays unset.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from streamswarm.v1.probes.tcp_window_pb2 import TcpWindowResult
from worker.evaluation import statistics
from worker.evaluation.bottleneck import Figures
from worker.wire.tcp_info import TcpInfo
from worker.wire.tcp_sampling import Sample

#: Fewer samples or bytes say nothing about what limits a transfer.
_ENOUGH_SAMPLES = 10
_ENOUGH_BYTES = 100_000
#: A fall of the congestion window to this share of what it was is an event.
_FALL = 0.9
#: Shorter silences are no pauses, also where the round-trip time is tiny.
_SHORTEST_PAUSE_MS = 20.0

Reading = Callable[[TcpInfo], "int | None"]


def fill_connection(metrics: TcpWindowResult, info: TcpInfo) -> None:
    """Set what one look at the connection tells."""
    _set(metrics, "window_scaling", info.window_scaling)
    _set(metrics, "peer_window_scale", info.snd_wscale)
    _set(metrics, "own_window_scale", info.rcv_wscale)
    _set(metrics, "timestamps", info.timestamps)
    _set(metrics, "selective_acks", info.selective_acks)
    _set(metrics, "ecn", info.ecn)
    _set(metrics, "path_mtu_bytes", info.pmtu)
    _set(metrics, "bytes_sent", info.bytes_sent)
    _set(metrics, "bytes_received", info.bytes_received)
    _set(metrics, "rtt_min_ms", _ms(info.min_rtt_us))


def fill(metrics: TcpWindowResult, samples: Sequence[Sample], *, sending: bool, out_of_time: bool) -> None:
    """Set what the samples of a transfer tell; there is at least one.

    When nothing moved while they were taken, the goodput is zero if the transfer waited until its time was out;
    otherwise it was over before the first sample, and its goodput is not known.
    """
    first, last = samples[0], samples[-1]
    elapsed_ms = (last.at_ns - first.at_ns) / 1e6
    metrics.samples = len(samples)
    metrics.transfer_ms = elapsed_ms
    moved = _grown(samples, (lambda i: i.bytes_acked) if sending else (lambda i: i.bytes_received))
    if elapsed_ms and (moved or (moved == 0 and out_of_time)):
        metrics.goodput_bytes_per_s = 1000 * moved / elapsed_ms
    _fill_rtt(metrics, samples, sending=sending)
    _set(metrics, "mss_bytes", last.info.snd_mss if sending else last.info.rcv_mss)
    windows = _read(samples, (lambda i: i.snd_wnd) if sending else (lambda i: i.rcv_wnd))
    _set(metrics, "receiver_window_min_bytes", min(windows, default=None))
    _set(metrics, "receiver_window_max_bytes", max(windows, default=None))
    if metrics.goodput_bytes_per_s and metrics.rtt_avg_ms and metrics.receiver_window_max_bytes:
        under_way = metrics.goodput_bytes_per_s * metrics.rtt_avg_ms / 1000
        metrics.window_use_pct = 100 * under_way / metrics.receiver_window_max_bytes
    if sending:
        _fill_sender(metrics, samples, elapsed_ms)
    else:
        _fill_receiver(metrics, samples, elapsed_ms)


def is_enough(metrics: TcpWindowResult, samples: Sequence[Sample]) -> bool:
    """Whether there is enough to say what limited the transfer."""
    moved = metrics.goodput_bytes_per_s * metrics.transfer_ms / 1000
    return len(samples) >= _ENOUGH_SAMPLES and moved >= _ENOUGH_BYTES


def figures(metrics: TcpWindowResult, *, sending: bool) -> Figures:
    """Return what the attribution goes by."""
    names = [name for name in Figures.__dataclass_fields__ if name in metrics.DESCRIPTOR.fields_by_name]
    values: dict[str, Any] = {name: getattr(metrics, name) for name in names if metrics.HasField(name)}
    if metrics.retransmits and metrics.HasField("spurious_retransmits"):
        values["spurious_pct"] = metrics.retransmitted_pct * min(
            1.0, metrics.spurious_retransmits / metrics.retransmits
        )
    return Figures(sending=sending, **values)


def timeline(samples: Sequence[Sample], most: int, *, sending: bool) -> dict[str, list[float | None]]:
    """Return columns of equal length for a chart: at most so many samples, evenly spread, the last one included."""
    step = max(1, -(-len(samples) // most))
    chosen = list(samples[(len(samples) - 1) % step :: step])
    columns: dict[str, list[float | None]] = {
        "t_ms": [round((sample.at_ns - samples[0].at_ns) / 1e6, 1) for sample in chosen]
    }
    readings: dict[str, Reading]
    if sending:
        readings = {
            "bytes": lambda i: i.bytes_acked,
            "cwnd": lambda i: i.snd_cwnd,
            "ssthresh": lambda i: i.snd_ssthresh,
            "unacked": lambda i: i.unacked,
            "retransmits": lambda i: i.total_retrans,
            "window_bytes": lambda i: i.snd_wnd,
        }
    else:
        readings = {
            "bytes": lambda i: i.bytes_received,
            "out_of_order": lambda i: i.rcv_ooopack,
            "window_bytes": lambda i: i.rcv_wnd,
        }
    rtt = _rtt_reading(sending=sending)
    columns["rtt_ms"] = [_ms(rtt(sample.info)) for sample in chosen]
    for name, reading in readings.items():
        columns[name] = [reading(sample.info) for sample in chosen]
    return columns


def congestion_events(windows: Sequence[int]) -> int:
    """Return how often a window fell by a tenth or more; falls without a rise between them count once."""
    events = 0
    fallen = False
    peak = windows[0] if windows else 0
    for before, after in itertools.pairwise(windows):
        if after > before:
            peak = after if fallen else max(peak, after)
            fallen = False
        elif not fallen and after <= _FALL * peak:
            events += 1
            fallen = True
    return events


def _fill_rtt(metrics: TcpWindowResult, samples: Sequence[Sample], *, sending: bool) -> None:
    last = samples[-1].info
    rtts = [value / 1000 for value in _read(samples, _rtt_reading(sending=sending))]
    least = _ms(last.min_rtt_us)
    if not sending and least is not None and rtts:
        least = min(least, *rtts)
    _set(metrics, "rtt_min_ms", least)
    _set(metrics, "rtt_avg_ms", statistics.mean(rtts))
    _set(metrics, "rtt_max_ms", max(rtts, default=None))
    _set(metrics, "rtt_stddev_ms", statistics.standard_deviation(rtts))
    if sending:
        _set(metrics, "rttvar_avg_ms", _ms(statistics.mean(_read(samples, lambda i: i.rttvar_us))))
    if metrics.rtt_min_ms and metrics.rtt_avg_ms:
        metrics.buffer_delay_pct = max(0.0, 100 * (metrics.rtt_avg_ms / metrics.rtt_min_ms - 1))


def _fill_sender(metrics: TcpWindowResult, samples: Sequence[Sample], elapsed_ms: float) -> None:
    last = samples[-1].info
    windows = _read(samples, lambda i: i.snd_cwnd)
    _set(metrics, "cwnd_min", min(windows, default=None))
    _set(metrics, "cwnd_avg", statistics.mean(windows))
    _set(metrics, "cwnd_max", max(windows, default=None))
    _set(metrics, "ssthresh", last.snd_ssthresh)
    if windows:
        metrics.congestion_events = congestion_events(windows)
    retransmits = _grown(samples, lambda i: i.total_retrans)
    segments = _grown(samples, lambda i: i.data_segs_out)
    _set(metrics, "retransmits", retransmits)
    _set(metrics, "retransmitted_pct", _share(retransmits, segments))
    _set(metrics, "spurious_retransmits", _grown(samples, lambda i: i.dsack_dups))
    _set(metrics, "reordering_events", _grown(samples, lambda i: i.reord_seen))
    sent, again = _grown(samples, lambda i: i.bytes_sent), _grown(samples, lambda i: i.bytes_retrans)
    if sent and again is not None:
        metrics.tcp_efficiency_pct = 100 * (sent - again) / sent
    busy = _grown(samples, lambda i: i.busy_time_us)
    if busy is not None and elapsed_ms:
        metrics.busy_pct = min(100.0, busy / 10 / elapsed_ms)
    _set(metrics, "window_limited_pct", _share(_grown(samples, lambda i: i.rwnd_limited_us), busy))
    _set(metrics, "buffer_limited_pct", _share(_grown(samples, lambda i: i.sndbuf_limited_us), busy))
    if last.ecn:
        _set(metrics, "ecn_marked", _grown(samples, lambda i: i.delivered_ce))
    rates = _read([sample for sample in samples if not sample.info.app_limited], lambda i: i.delivery_rate)
    _set(metrics, "delivery_rate_max_bytes_per_s", max(rates, default=None))
    paces = _read(samples, lambda i: i.pacing_rate)
    _set(metrics, "pacing_rate_avg_bytes_per_s", statistics.mean(paces))


def _fill_receiver(metrics: TcpWindowResult, samples: Sequence[Sample], elapsed_ms: float) -> None:
    late = _grown(samples, lambda i: i.rcv_ooopack)
    _set(metrics, "out_of_order_segments", late)
    _set(metrics, "out_of_order_pct", _share(late, _grown(samples, lambda i: i.data_segs_in)))
    if metrics.rtt_min_ms and elapsed_ms and samples[0].info.data_segs_in is not None:
        longest_ms = max(2 * metrics.rtt_min_ms, _SHORTEST_PAUSE_MS)
        pauses_ms = [pause for pause in _silences_ms(samples) if pause > longest_ms]
        metrics.pause_pct = min(100.0, 100 * sum(pauses_ms) / elapsed_ms)


def _silences_ms(samples: Sequence[Sample]) -> list[float]:
    """Return how long each stretch of samples lasted in which no segment with data came, in or out of order."""
    stretches = itertools.groupby(samples, lambda sample: sample.info.data_segs_in)
    spans = [[sample.at_ns for sample in stretch] for _, stretch in stretches]
    return [(span[-1] - span[0]) / 1e6 for span in spans]


def _rtt_reading(*, sending: bool) -> Reading:
    return (lambda info: info.rtt_us) if sending else (lambda info: info.rcv_rtt_us)


def _read(samples: Sequence[Sample], reading: Reading) -> list[int]:
    """Return the known values of a reading, in order."""
    return [value for sample in samples if (value := reading(sample.info)) is not None]


def _grown(samples: Sequence[Sample], reading: Reading) -> int | None:
    """Return by how much a counter has grown."""
    first, last = reading(samples[0].info), reading(samples[-1].info)
    return None if first is None or last is None else last - first


def _share(part: int | None, whole: int | None) -> float | None:
    return min(100.0, 100 * part / whole) if part is not None and whole else None


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1000


def _set(metrics: TcpWindowResult, name: str, value: float | None) -> None:
    if value is not None:
        setattr(metrics, name, value)
