"""Statistics of round-trip times: pure functions that return None where there are too few samples.

None becomes an unset metric: what was not measured is never shown as zero.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

#: Below this many samples a percentile is only another name for the maximum: the share of samples above it is
#: too small to hold one.
SAMPLES_FOR_P90 = 10
SAMPLES_FOR_P95 = 20
SAMPLES_FOR_P99 = 100


def mean(samples: Sequence[float]) -> float | None:
    """Return the arithmetic mean."""
    return math.fsum(samples) / len(samples) if samples else None


def percentile(samples: Sequence[float], share: float) -> float | None:
    """Return the percentile (share from 0 to 1) by linear interpolation between the closest ranks."""
    if not samples:
        return None
    ordered = sorted(samples)
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float | None:
    """Return the median."""
    return percentile(samples, 0.5)


def percentile_90(samples: Sequence[float]) -> float | None:
    """Return the 90th percentile, or None with fewer than 10 samples."""
    return percentile(samples, 0.90) if len(samples) >= SAMPLES_FOR_P90 else None


def percentile_99(samples: Sequence[float]) -> float | None:
    """Return the 99th percentile, or None with fewer than 100 samples."""
    return percentile(samples, 0.99) if len(samples) >= SAMPLES_FOR_P99 else None


def percentile_95(samples: Sequence[float]) -> float | None:
    """Return the 95th percentile, or None with fewer than 20 samples."""
    return percentile(samples, 0.95) if len(samples) >= SAMPLES_FOR_P95 else None


def standard_deviation(samples: Sequence[float]) -> float | None:
    """Return the population standard deviation, or None with fewer than two samples."""
    average = mean(samples)
    if average is None or len(samples) < 2:
        return None
    return math.dist(samples, [average] * len(samples)) / math.sqrt(len(samples))


def ipdv_mean(samples: Sequence[float]) -> float | None:
    """Return the mean absolute difference of consecutive samples (RFC 3393, RFC 5481)."""
    return mean([abs(later - earlier) for earlier, later in itertools.pairwise(samples)])


def ipdv_max(samples: Sequence[float]) -> float | None:
    """Return the largest absolute difference of consecutive samples (RFC 3393, RFC 5481)."""
    return max((abs(later - earlier) for earlier, later in itertools.pairwise(samples)), default=None)


def histogram(ordered: Sequence[float], bounds: Sequence[float]) -> dict[float, int]:
    """Return how many of ordered samples each step of ascending bounds holds, by its upper bound; empty ones are left out.

    A step holds what is greater than the bound before it and at most its own; beyond the last bound is infinity.
    """
    counts: dict[float, int] = {}
    below = 0
    for bound in (*bounds, math.inf):
        upto = bisect.bisect_right(ordered, bound, below)
        if upto > below:
            counts[bound] = upto - below
        below = upto
    return counts


def loss_periods(received: Sequence[bool]) -> tuple[int, int]:
    """Return how many runs of consecutive losses there are, and the length of the longest (RFC 3357)."""
    lengths = [sum(1 for _ in run) for arrived, run in itertools.groupby(received) if not arrived]
    return len(lengths), max(lengths, default=0)


def pdv_95(samples: Sequence[float]) -> float | None:
    """Return the 95th percentile of sample minus minimum (RFC 5481), or None with fewer than 20 samples."""
    if not samples:
        return None
    smallest = min(samples)
    return percentile_95([sample - smallest for sample in samples])


def rfc3550_jitter(samples: Sequence[float]) -> float | None:
    """Return the smoothed jitter J += (|D| - J) / 16 after the last sample (RFC 3550, section 6.4.1)."""
    if len(samples) < 2:
        return None
    jitter = 0.0
    for earlier, later in itertools.pairwise(samples):
        jitter += (abs(later - earlier) - jitter) / 16
    return jitter
