"""What limited a TCP transfer, and how well it went: pure, from figures of the kernel.

Thresholds and formula stand in the comments of tcp_window.proto, which people read; they must agree.
"""

from __future__ import annotations

from dataclasses import dataclass

OPTIMAL = 0
NETWORK_CONGESTION = 1
PACKET_LOSS = 2
NETWORK_INSTABILITY = 4
SERVER_LIMITED = 5
WORKER_LIMITED = 6

NAMES = {
    OPTIMAL: "optimal",
    NETWORK_CONGESTION: "network_congestion",
    PACKET_LOSS: "packet_loss",
    NETWORK_INSTABILITY: "network_instability",
    SERVER_LIMITED: "server_limited",
    WORKER_LIMITED: "worker_limited",
}

#: Percent of segments lost from which on losses are the limit; out of order counts less, see `out_of_order_pct`.
_LOSS_PCT = 1.0
_OUT_OF_ORDER_PCT = 2.0
#: Percent of time from which on a window, a buffer or pauses are the limit.
_LIMITED_PCT = 20.0
#: Percent of the receiver's window in use from which on it is the limit.
_FULL_PCT = 80.0
#: The round-trip time is inflated from this multiple of its minimum on, and this much above it.
_INFLATION = 2.0
#: A queue of less than this does not matter, whatever the relation.
_QUEUE_MS = 5.0
#: Variation of the round-trip time, in milliseconds and as a share of it, from which on it is called unstable: of the
#: kernel's mean deviation, which a growing queue hardly moves, and of the samples of a smoothed estimate.
_DEVIATION_MS, _DEVIATION = 2.0, 0.10
_SPREAD_MS, _SPREAD = 5.0, 0.25
#: Percent of segments sent again without need that is called unstable.
_SPURIOUS_PCT = 1.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What is known of a transfer; None where it could not be measured."""

    #: This host was the sender.
    sending: bool
    rtt_min_ms: float | None = None
    rtt_avg_ms: float | None = None
    rtt_stddev_ms: float | None = None
    #: The kernel's mean deviation; sender only.
    rttvar_avg_ms: float | None = None
    #: Percent of segments sent again, and of these without need; sender only.
    retransmitted_pct: float | None = None
    spurious_pct: float | None = None
    #: Percent of segments that came out of order; receiver only.
    out_of_order_pct: float | None = None
    #: Percent of the busy time: held back by the far end's window, by this host's buffer; sender only.
    window_limited_pct: float | None = None
    buffer_limited_pct: float | None = None
    #: Percent of the time in which nothing came; receiver only.
    pause_pct: float | None = None
    #: Percent of the receiver's window that was in use.
    window_use_pct: float | None = None


def attribute(figures: Figures) -> tuple[int, str]:
    """Return the class of what limited a transfer, and the sentence that says why."""
    queue = _queue(figures)
    loss = _loss(figures)
    if loss and not queue:
        return PACKET_LOSS, f"{loss}, while no queue built up"
    if at_least(figures.window_limited_pct, _LIMITED_PCT):
        return (
            SERVER_LIMITED,
            f"for {figures.window_limited_pct:.0f} % of the time the far end's window was full",
        )
    if at_least(figures.pause_pct, _LIMITED_PCT):
        return SERVER_LIMITED, f"for {figures.pause_pct:.0f} % of the time the server sent nothing"
    if at_least(figures.buffer_limited_pct, _LIMITED_PCT):
        return (
            WORKER_LIMITED,
            f"for {figures.buffer_limited_pct:.0f} % of the time this host's send buffer was too small",
        )
    if not figures.sending and at_least(figures.window_use_pct, _FULL_PCT):
        return (
            WORKER_LIMITED,
            f"what was under way filled {figures.window_use_pct:.0f} % of the window that this host offers",
        )
    unstable = _instability(figures)
    if unstable:
        return NETWORK_INSTABILITY, unstable
    if queue:
        return NETWORK_CONGESTION, f"{queue}{f'; {loss}' if loss else ''}"
    if not figures.sending and _reaches(figures.rtt_stddev_ms, _SPREAD_MS, _SPREAD, figures.rtt_avg_ms):
        return (
            NETWORK_INSTABILITY,
            f"the round-trip time varied by {figures.rtt_stddev_ms:.1f} ms around {figures.rtt_avg_ms:.1f} ms",
        )
    return OPTIMAL, "nothing that could be measured held the transfer back"


def score(figures: Figures) -> float:
    """Return the efficiency score, 0 to 100."""
    lost = 8 * (figures.retransmitted_pct or 0) + 2 * (figures.out_of_order_pct or 0)
    queued = 0.0
    if figures.rtt_min_ms and figures.rtt_avg_ms:
        queued = max(0.0, 100 * (figures.rtt_avg_ms / figures.rtt_min_ms - 1)) / 10
    limited = 0.3 * max(
        (figures.window_limited_pct or 0) + (figures.buffer_limited_pct or 0), figures.pause_pct or 0
    )
    return max(0.0, 100.0 - min(40.0, lost) - min(30.0, queued) - min(30.0, limited))


def at_least(value: float | None, limit: float) -> bool:
    """Whether a figure is known and reaches a limit."""
    return value is not None and value >= limit


def _queue(figures: Figures) -> str:
    """Say that the round-trip time is inflated; empty when it is not."""
    least, average = figures.rtt_min_ms, figures.rtt_avg_ms
    if least is None or average is None:
        return ""
    if average < _INFLATION * least or average < least + _QUEUE_MS:
        return ""
    return f"the round-trip time rose from {least:.1f} ms to {average:.1f} ms on average: a queue before a full link"


def _loss(figures: Figures) -> str:
    if figures.retransmitted_pct is not None:
        lost = figures.retransmitted_pct - (figures.spurious_pct or 0)
        return f"{lost:.1f} % of the segments were lost" if lost >= _LOSS_PCT else ""
    if at_least(figures.out_of_order_pct, _OUT_OF_ORDER_PCT):
        return f"{figures.out_of_order_pct:.1f} % of the segments came out of order, as they do after losses"
    return ""


def _instability(figures: Figures) -> str:
    if at_least(figures.spurious_pct, _SPURIOUS_PCT):
        return (
            f"{figures.spurious_pct:.1f} % of the segments were sent again without need: they overtake each other "
            "or their acknowledgements are late"
        )
    if _reaches(figures.rttvar_avg_ms, _DEVIATION_MS, _DEVIATION, figures.rtt_avg_ms):
        return (
            f"the round-trip time varied by {figures.rttvar_avg_ms:.1f} ms from one to the next, "
            f"around {figures.rtt_avg_ms:.1f} ms"
        )
    return ""


def _reaches(variation_ms: float | None, least_ms: float, share: float, average_ms: float | None) -> bool:
    return (
        average_ms is not None
        and at_least(variation_ms, least_ms)
        and at_least(variation_ms, share * average_ms)
    )
