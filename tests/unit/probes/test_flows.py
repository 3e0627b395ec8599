"""Figures of a transfer from structs made by hand: counters grow, gauges are averaged, the unknown stays unset."""

from __future__ import annotations

import struct

import pytest

from streamswarm.v1.probes.tcp_window_pb2 import TcpWindowResult
from worker.evaluation import flows
from worker.wire import tcp_info
from worker.wire.tcp_sampling import Sample

MS = 1_000_000


def sample(
    at_ms: float, length: int = 248, *, options: int = 0x07, scales: int = 0x97, **numbers: int
) -> Sample:
    """Return a look at a connection; numbers by the names of TcpInfo's fields."""
    data = bytearray(length)
    data[0], data[5], data[6] = 1, options, scales
    for name, value in numbers.items():
        fields = tcp_info.TcpInfo.__dict__
        field = fields.get(f"_{name}", fields[name])
        struct.pack_into(field._layout.format, data, field._offset, value)
    info = tcp_info.parse(bytes(data))
    assert info is not None
    return Sample(at_ns=round(at_ms * MS), info=info)


def test_a_senders_figures() -> None:
    """Growth between the first sample and the last; a share of what was sent, or of the busy time."""
    samples = [
        sample(
            1000 + 100 * number,
            rtt_us=20_000 + 2_000 * number,
            rttvar_us=1_000,
            min_rtt_us=18_000,
            snd_cwnd=[10, 20, 40, 20, 22][number],
            snd_ssthresh=20 if number > 2 else 0x7FFFFFFF,
            bytes_acked=5_000 + 250_000 * number,
            total_retrans=1 + number,
            data_segs_out=4 + 100 * number,
            dsack_dups=number // 4,
            bytes_sent=5_000 + 260_000 * number,
            bytes_retrans=10_000 * number,
            busy_time_us=95_000 * number,
            rwnd_limited_us=9_500 * number,
            sndbuf_limited_us=0,
            snd_wnd=50_000 + 1_000 * number,
            pacing_rate=3_000_000,
            delivery_rate=2_000_000 + number,
        )
        for number in range(5)
    ]
    metrics = TcpWindowResult()
    flows.fill(metrics, samples, sending=True, out_of_time=False)
    assert metrics.transfer_ms == 400
    assert metrics.goodput_bytes_per_s == 2_500_000
    assert (metrics.rtt_min_ms, metrics.rtt_avg_ms, metrics.rtt_max_ms) == (18, 24, 28)
    assert metrics.buffer_delay_pct == pytest.approx(100 / 3)
    assert (metrics.cwnd_min, metrics.cwnd_avg, metrics.cwnd_max) == (10, 22.4, 40)
    assert (metrics.ssthresh, metrics.congestion_events) == (20, 1)
    assert (metrics.retransmits, metrics.retransmitted_pct, metrics.spurious_retransmits) == (4, 1.0, 1)
    assert metrics.tcp_efficiency_pct == pytest.approx(100 * 25 / 26)
    assert (metrics.busy_pct, metrics.window_limited_pct, metrics.buffer_limited_pct) == (95, 10, 0)
    assert (metrics.receiver_window_min_bytes, metrics.receiver_window_max_bytes) == (50_000, 54_000)
    assert metrics.window_use_pct == pytest.approx(100 * 2_500_000 * 0.024 / 54_000)
    assert metrics.delivery_rate_max_bytes_per_s == 2_000_004
    assert not metrics.HasField("out_of_order_pct"), "that is for receivers"
    figures = flows.figures(metrics, sending=True)
    assert (figures.retransmitted_pct, figures.spurious_pct, figures.pause_pct) == (1.0, 0.25, None)


def test_a_receivers_figures() -> None:
    """The sender's windows and retransmissions are not known here, and stay unset."""
    samples = [
        sample(
            500 * number,
            rcv_rtt_us=30_000,
            min_rtt_us=29_000,
            bytes_received=1_000_000 * number,
            data_segs_in=700 * number,
            rcv_ooopack=7 * number,
            rcv_wnd=65_000,
            snd_cwnd=10,
            rcv_mss=1448,
        )
        for number in range(3)
    ]
    metrics = TcpWindowResult()
    flows.fill(metrics, samples, sending=False, out_of_time=False)
    assert metrics.goodput_bytes_per_s == 2_000_000
    assert (metrics.out_of_order_segments, metrics.out_of_order_pct) == (14, 1.0)
    assert metrics.pause_pct == 0
    assert metrics.mss_bytes == 1448
    for name in ("cwnd_avg", "ssthresh", "retransmits", "congestion_events", "busy_pct", "rttvar_avg_ms"):
        assert not metrics.HasField(name)


def test_pauses_are_stretches_in_which_no_segment_comes() -> None:
    """Longer than two round-trip times; segments that wait for a lost one before them are no pause."""
    came = [0, 9, 9, 9, 12, 12, 12, 12, 12, 20, 21]
    samples = [
        sample(25 * number, min_rtt_us=29_000, data_segs_in=segments, bytes_received=1000)
        for number, segments in enumerate(came)
    ]
    metrics = TcpWindowResult()
    flows.fill(metrics, samples, sending=False, out_of_time=False)
    assert metrics.pause_pct == pytest.approx(100 * 100 / 250), (
        "50 ms are less than twice the round-trip time"
    )


@pytest.mark.parametrize(("out_of_time", "known"), [(True, True), (False, False)])
def test_no_movement_is_a_goodput_of_zero_only_when_there_was_time(out_of_time: bool, known: bool) -> None:
    """A short body was there before the first sample: how fast it came is not known."""
    samples = [sample(25 * number, bytes_received=1000) for number in range(3)]
    metrics = TcpWindowResult()
    flows.fill(metrics, samples, sending=False, out_of_time=out_of_time)
    assert (metrics.HasField("goodput_bytes_per_s"), metrics.goodput_bytes_per_s) == (known, 0)


def test_an_old_kernel_leaves_unset_what_it_does_not_tell() -> None:
    """Linux 3.x ends after total_retrans: no byte counters, so no goodput and no efficiency."""
    samples = [sample(10 * number, 104, rtt_us=1000, snd_cwnd=10, total_retrans=0) for number in range(3)]
    metrics = TcpWindowResult()
    flows.fill_connection(metrics, samples[-1].info)
    flows.fill(metrics, samples, sending=True, out_of_time=False)
    assert metrics.rtt_avg_ms == 1
    assert metrics.cwnd_max == 10
    for name in ("goodput_bytes_per_s", "rtt_min_ms", "tcp_efficiency_pct", "busy_pct", "retransmitted_pct"):
        assert not metrics.HasField(name)
    assert not flows.is_enough(metrics, samples)


@pytest.mark.parametrize(
    ("windows", "events"),
    [
        ([], 0),
        ([10, 20, 40, 80], 0),
        ([100, 95, 91], 0),
        ([100, 70], 1),
        ([100, 95, 90, 80, 60], 1),
        ([100, 70, 71, 72, 50], 2),
        ([100, 50, 60, 100, 50, 40, 45], 2),
    ],
)
def test_falls_of_the_window_are_counted(windows: list[int], events: int) -> None:
    """A tenth at least; a fall in several steps is one."""
    assert flows.congestion_events(windows) == events


def test_options_and_scales() -> None:
    """From the bytes at the head of the struct, whose nibbles are the far end's scale and our own."""
    metrics = TcpWindowResult()
    flows.fill_connection(metrics, sample(0).info)
    assert (metrics.window_scaling, metrics.timestamps, metrics.selective_acks, metrics.ecn) == (
        True,
        True,
        True,
        False,
    )
    assert (metrics.peer_window_scale, metrics.own_window_scale) == (7, 9)
    metrics = TcpWindowResult()
    flows.fill_connection(metrics, sample(0, options=0x08).info)
    assert metrics.ecn
    assert not metrics.window_scaling
    assert not metrics.HasField("own_window_scale")


def test_the_timeline_is_bounded_and_ends_with_the_end() -> None:
    """A thousand samples become at most a hundred points, in columns of equal length."""
    samples = [sample(20 * number, bytes_acked=number, snd_cwnd=10) for number in range(1000)]
    columns = flows.timeline(samples, 100, sending=True)
    assert {len(column) for column in columns.values()} == {100}
    assert columns["t_ms"][-1] == 20 * 999
    assert columns["bytes"][-1] == 999
    assert columns["ssthresh"][0] == 0
    assert columns["rtt_ms"][0] is None
