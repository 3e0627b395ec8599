"""What a trace says about each hop: the probes sorted by TTL, their times, and what their silence means. Pure."""

from __future__ import annotations

from itertools import pairwise

from worker.evaluation import statistics
from worker.wire.trace import limits
from worker.wire.trace.paths import Path
from worker.wire.trace.plan import Answer, Probe

#: Beyond every TTL.
_NO_END = 256


class Hop:
    """All probes with one TTL that count: none that was sent beyond the destination. Plain: a worker makes many."""

    __slots__ = ("addresses", "answers", "final", "loss_pct", "probes", "rate_limited", "ttl")

    def __init__(self, ttl: int) -> None:
        self.ttl = ttl
        #: In the order of sending.
        self.probes: list[Probe] = []
        #: Answers in that order.
        self.answers: list[Answer] = []
        #: Addresses that answered, in order of appearance.
        self.addresses: tuple[str, ...] = ()
        #: The destination is among them.
        self.final = False
        self.rate_limited = False
        #: Share of the probes that were lost on the way; None when it is not known.
        self.loss_pct: float | None = None

    @property
    def sent(self) -> int:
        """Probes sent."""
        return len(self.probes)

    @property
    def silent(self) -> int:
        """Probes without an answer."""
        return len(self.probes) - len(self.answers)

    def ipdv_ms(self) -> float | None:
        """Return the mean difference of consecutive round-trip times, flow by flow; None with no two of one flow."""
        if len(self.answers) < 2:
            return None
        by_flow: dict[int, list[float]] = {}
        for probe in self.probes:
            if probe.answer is not None:
                by_flow.setdefault(probe.flow, []).append(probe.answer.rtt_ns / 1e6)
        differences = [abs(later - earlier) for rtts in by_flow.values() for earlier, later in pairwise(rtts)]
        return statistics.mean(differences)


def sort(probes: list[Probe]) -> list[Hop]:
    """Return the hops from the first that was asked to the destination, or to the last that answered.

    Probes of a flow beyond its end, which is the destination or an error that ends the path before it, are left out.
    """
    by_ttl, ends = _gathered(probes)
    if len(ends) != 1 or ends.get(0) != max(by_ttl):  # unlike most traces, which ask nothing beyond their end
        last = max((ttl for ttl, hop in by_ttl.items() if hop.answers), default=0)
        within = [probe for probe in probes if probe.ttl <= min(last, ends.get(probe.flow, _NO_END))]
        if len(within) < len(probes):
            by_ttl, _ = _gathered(within)
    found = [by_ttl[ttl] for ttl in sorted(by_ttl)]
    _judge(found)
    return found


def _gathered(probes: list[Probe]) -> tuple[dict[int, Hop], dict[int, int]]:
    """Return the hops by TTL, and the TTL at which the path of each flow ends, where it does.

    That is where it reaches the destination; an error ends only a path that does not.
    """
    by_ttl: dict[int, Hop] = {}
    reached: dict[int, int] = {}
    ended: dict[int, int] = {}
    for probe in probes:
        ttl = probe.ttl
        hop = by_ttl.get(ttl)
        if hop is None:
            hop = by_ttl[ttl] = Hop(ttl)
        hop.probes.append(probe)
        answer = probe.answer
        if answer is None:
            continue
        hop.answers.append(answer)
        if answer.source not in hop.addresses:
            hop.addresses += (answer.source,)
        if answer.final:
            hop.final = True
            if ttl < reached.get(probe.flow, _NO_END):
                reached[probe.flow] = ttl
        elif answer.unreachable and ttl < ended.get(probe.flow, _NO_END):
            ended[probe.flow] = ttl
    return by_ttl, ended | reached


def _judge(hops: list[Hop]) -> None:
    """Fill in what the silence of each hop means, from the last hop to the first."""
    later: list[tuple[int, int]] = []
    least: float | None = None
    for hop in reversed(hops):
        sent = len(hop.probes)
        silent = sent - len(hop.answers)
        if not silent:
            least = 0.0
            later.append((0, sent))
        elif hop.answers:
            hop.rate_limited = limits.answers_less(silent, sent, later) or limits.fits_bucket(
                [(_sent_s(probe), probe.answer is not None) for probe in hop.probes]
            )
            share = 100.0 * silent / sent
            if not hop.rate_limited and (least is None or share < least):
                least = share
            later.append((silent, sent))
        hop.loss_pct = least


def _sent_s(probe: Probe) -> float:
    return probe.sent.monotonic_ns / 1e9 if probe.sent is not None else 0.0


def destination(hops: list[Hop]) -> Hop | None:
    """Return the destination as a hop of its own: what reached it, on each flow at the end of that flow's path."""
    first = None
    for hop in hops:
        if hop.final:
            first = hop
            break
    if first is None or (first is hops[-1] and len(first.addresses) == 1):
        return first
    ends: dict[int, int] = {}
    for hop in hops:
        for probe in hop.probes:
            if probe.answer is not None and probe.answer.final:
                ends.setdefault(probe.flow, hop.ttl)
    probes = [probe for hop in hops for probe in hop.probes if ends.get(probe.flow) == hop.ttl]
    answers = [probe.answer for probe in probes if probe.answer is not None and probe.answer.final]
    found = Hop(first.ttl)
    found.probes, found.answers, found.addresses, found.final = probes, answers, (answers[0].source,), True
    found.rate_limited = any(hop.rate_limited for hop in hops if hop.ttl in ends.values())
    if not found.rate_limited:
        found.loss_pct = 100.0 * found.silent / found.sent
    return found


def path(hops: list[Hop], flow: int = 0) -> Path:
    """Return the way of one flow.

    Its distance is known when smaller TTLs than the one that reached the destination were asked, or there are none.
    """
    found: dict[int, tuple[str, ...]] = {}
    distance: int | None = None
    for hop in hops:
        if len(hop.addresses) < 2 and not hop.probes[-1].flow:
            addresses = hop.addresses
            final = hop.final
        else:
            answers = [
                probe.answer for probe in hop.probes if probe.flow == flow and probe.answer is not None
            ]
            addresses = tuple(sorted({answer.source for answer in answers}))
            final = any(answer.final for answer in answers)
        if addresses:
            found[hop.ttl] = addresses
        if final and distance is None and (hop.ttl == 1 or hop is not hops[0]):
            distance = hop.ttl
    return Path(hops=found, distance=distance)
