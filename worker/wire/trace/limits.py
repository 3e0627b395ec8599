"""Whether a hop that answers only some of its probes limits its answers. Pure.

Routers send only so many ICMP messages, so silence of a router is no loss. Two sorts of evidence tell them apart:

- Hops behind it. What a later hop answers has passed this one, so that real loss on the way to this hop shows at every
  later hop as well. When a later hop answers significantly more, this one holds answers back.
- The pattern. A limit is a bucket that fills at a steady pace (Linux: `icmp_ratelimit`, one message a second to each
  host after six at once): answers come first all, then at that pace, however fast one asks. When such a bucket tells
  which probes were answered, in fewer words than chance would need, it is a limit. This also holds for the last hop,
  behind which there is nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

#: Probability below which a difference between two hops is not put down to chance.
_SIGNIFICANT = 0.01
#: Bits that a bucket must save against chance: one pattern of chance in 128 saves as many.
_BITS = 7.0
#: Seconds for one more message, as systems commonly have it, and messages at once.
_INTERVALS_S = (1.0, 0.5, 0.25, 0.1)
_BURSTS = (1, 6, 10)
#: Longest history that is looked at; a longer one would cost more and tell no more.
_MOST_SAMPLES = 200


def answers_less(silent: int, asked: int, later: Sequence[tuple[int, int]]) -> bool:
    """Return whether a hop is significantly more often silent than hops behind it.

    `later` has (silent, asked) of each hop behind it that answers at all. Both the best of them, its choice accounted
    for, and all together are compared (Fisher's exact test, one-sided).
    """
    if not silent or not later:
        return False
    best = min(later, key=lambda each: each[0] / each[1])
    together = sum(each[0] for each in later), sum(each[1] for each in later)
    return (
        _chance(silent, asked, *best) * len(later) < _SIGNIFICANT
        or _chance(silent, asked, *together) < _SIGNIFICANT
    )


def _chance(silent: int, asked: int, other_silent: int, other_asked: int) -> float:
    """Return the probability that so much of the silence, or more, falls to the first by chance."""
    total, drawn = asked + other_asked, silent + other_silent
    ways = math.comb(total, drawn)
    return sum(
        math.comb(asked, count) * math.comb(other_asked, drawn - count) / ways
        for count in range(silent, min(asked, drawn) + 1)
    )


def fits_bucket(samples: Sequence[tuple[float, bool]]) -> bool:
    """Return whether a limit tells which probes were answered; `samples` are (seconds, answered) in order."""
    samples = samples[-_MOST_SAMPLES:]
    asked = len(samples)
    answered = sum(each[1] for each in samples)
    if not 0 < answered < asked:
        return False
    buckets = list(_buckets(samples))
    budget = math.log2(math.comb(asked, answered)) - math.log2(len(buckets)) - _BITS
    if budget < 0:
        return False
    for interval_s, burst, level in buckets:
        wrong = _contradictions(samples, interval_s, burst, level)
        # Each exception must be named: that there are so many, and which.
        if math.log2(math.comb(asked, wrong) * (wrong + 1)) <= budget:
            return True
    return False


def _buckets(samples: Sequence[tuple[float, bool]]) -> Iterator[tuple[float, int, float]]:
    """Yield pace, size and first level of the buckets that come into question."""
    for interval_s in (*_INTERVALS_S, *_observed_interval(samples)):
        for burst in _BURSTS:
            for half in range(2 * burst + 1):
                yield interval_s, burst, half / 2


def _observed_interval(samples: Sequence[tuple[float, bool]]) -> tuple[float, ...]:
    """Return the usual time between two answers with silence between them, which is the pace of a limit."""
    answers = [number for number, each in enumerate(samples) if each[1]]
    gaps = sorted(
        samples[later][0] - samples[earlier][0] for earlier, later in pairwise(answers) if later > earlier + 1
    )
    return (gaps[len(gaps) // 2],) if gaps and gaps[len(gaps) // 2] > 0 else ()


def _contradictions(
    samples: Sequence[tuple[float, bool]], interval_s: float, burst: int, level: float
) -> int:
    """Return how many probes a bucket would have treated otherwise than was seen."""
    wrong = 0
    before_s = samples[0][0]
    for at_s, answered in samples:
        level = min(float(burst), level + (at_s - before_s) / interval_s)
        before_s = at_s
        # The times are those of sending: packets move a little on their way.
        allowed = level >= 0.98
        if allowed != answered:
            wrong += 1
        if answered:
            level = max(0.0, level - 1.0)
    return wrong
