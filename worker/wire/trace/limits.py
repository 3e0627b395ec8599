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
from collections.abc import Sequence
from itertools import pairwise

#: Probability below which a difference between two hops is not put down to chance.
_SIGNIFICANT = 0.01
#: Bits that a bucket must save against chance: one pattern of chance in 128 saves as many.
_BITS = 7.0
#: Seconds for one more message, as systems commonly have it, and messages at once.
_INTERVALS_S = (1.0, 0.5, 0.25, 0.1)
_BURSTS = (1, 6, 10)
#: Share of a message that a bucket may seem to be off, as packets move a little on their way.
_MARGIN = 0.05
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
    pause_s = (samples[-1][0] - samples[0][0]) / (asked - 1)
    buckets = [
        (interval_s, burst)
        for interval_s in (*_INTERVALS_S, *_observed_interval(samples))
        # One that fills as fast as it is asked is never empty, and explains nothing.
        if interval_s > 1.5 * pause_s
        for burst in _BURSTS
    ]
    if not buckets:
        return False
    # To name the bucket, and how full it was at first to about as many steps as there are probes.
    budget = math.log2(math.comb(asked, answered)) - math.log2(len(buckets) * asked) - _BITS
    for interval_s, burst in buckets:
        wrong = _contradictions(samples, interval_s, burst)
        # Each exception must be named: that there are so many, and which.
        if math.log2(math.comb(asked, wrong) * (wrong + 1)) <= budget:
            return True
    return False


def _observed_interval(samples: Sequence[tuple[float, bool]]) -> tuple[float, ...]:
    """Return the usual time between two answers with silence between them, which is the pace of a limit."""
    answers = [number for number, each in enumerate(samples) if each[1]]
    gaps = sorted(
        samples[later][0] - samples[earlier][0] for earlier, later in pairwise(answers) if later > earlier + 1
    )
    return (gaps[len(gaps) // 2],) if gaps and gaps[len(gaps) // 2] > 0 else ()


def _contradictions(samples: Sequence[tuple[float, bool]], interval_s: float, burst: int) -> int:
    """Return how many probes a bucket must have treated otherwise than was seen, however full it was at first."""
    wrong = 0
    before_s = samples[0][0]
    # What the bucket may hold; a full one is told from one that seems to be by the margin.
    full = burst + 2 * _MARGIN
    least, most = 0.0, full
    for at_s, answered in samples:
        filled = (at_s - before_s) / interval_s
        before_s = at_s
        least, most = min(full, least + filled), min(full, most + filled)
        if answered:
            if most < 1.0 - _MARGIN:
                wrong += 1
            least, most = max(0.0, least - 1.0), max(0.0, most - 1.0)
        elif least > 1.0 + _MARGIN:
            wrong += 1
        else:
            most = min(most, 1.0)
    return wrong
