"""The normal range of one metric, from its quiet values, with River's rolling quantiles.

Everything is turned so that larger is worse. Quantiles, not mean and deviation: one spike does not move them.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from river.stats import RollingQuantile

from controller.diagnosis.watched import floor
from streamswarm.contract import Metric

#: Quiet values that the range is made of, and the fewest with which it is known.
WINDOW = 150
LEAST = 30
#: How far a value may lie from the middle, in deviations as the quartiles give them.
_DEVIATIONS = 6.0
#: How far beyond the larger usual values, as a share of them.
_SHARE = 0.1
#: Quartiles of a normal distribution lie so many deviations apart.
_QUARTILES_APART = 1.349
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, kw_only=True)
class Range:
    """Where a metric usually lies, in its own sense and unit."""

    low: float
    normal: float
    high: float


class Normal:
    """What is normal for one metric."""

    def __init__(self, metric: Metric, values: Iterable[float] = ()) -> None:
        self._metric = metric
        self._sign = -1.0 if metric.better == "higher" else 1.0
        self._values: deque[float] = deque(values, maxlen=WINDOW)
        self._quantiles = {share: RollingQuantile(share, WINDOW) for share in _QUANTILES}
        # One quantile after the other: this is done for every job that has a new run.
        turned = [value * self._sign for value in self._values]
        for quantile in self._quantiles.values():
            update = quantile.update
            for value in turned:
                update(value)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def values(self) -> list[float]:
        """The quiet values, oldest first."""
        return list(self._values)

    def learn(self, value: float) -> None:
        """Take a quiet value in; the oldest goes when there are enough."""
        self._values.append(value)
        for quantile in self._quantiles.values():
            quantile.update(value * self._sign)

    def limit(self) -> float:
        """Return the value beyond which the metric is worse than usual, turned so that larger is worse."""
        middle, top = self._at(0.5), self._at(0.9)
        deviation = (self._at(0.75) - self._at(0.25)) / _QUARTILES_APART
        limit = max(middle + _DEVIATIONS * deviation, top + _SHARE * abs(top), top + floor(self._metric))
        if self._metric.unit == "%" and self._sign > 0:
            # A share that is usually high can still be worse: there must be room below 100.
            limit = min(limit, (max(top, 0.0) + 100.0) / 2)
        return limit

    def beyond(self, value: float, *, raised_to: float | None = None) -> bool:
        """Return whether a value is worse than usual; a season's own limit may raise it, never lower it."""
        limit = self.limit()
        return value * self._sign > (limit if raised_to is None else max(limit, raised_to * self._sign))

    def spread(self) -> tuple[float, float, float]:
        """Return middle, mean and standard deviation of the quiet values, turned so that larger is worse."""
        values = [value * self._sign for value in self._values]
        return self._at(0.5), statistics.fmean(values), statistics.pstdev(values)

    def turned(self, value: float) -> float:
        """Return a value turned so that larger is worse."""
        return value * self._sign

    def range(self, *, raised_to: float | None = None) -> Range:
        """Return the normal range as people read it."""
        limit = self.limit() * self._sign
        if raised_to is not None:
            limit = max(limit * self._sign, raised_to * self._sign) * self._sign
        other = self._at(0.05) * self._sign
        return Range(low=min(limit, other), normal=self._at(0.5) * self._sign, high=max(limit, other))

    def _at(self, share: float) -> float:
        value = self._quantiles[share].get()
        if value is None:
            raise ValueError("nothing was learnt yet")
        return float(value)
