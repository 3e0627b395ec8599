"""What is usual at one hour of the week: a job whose backup runs every Tuesday night is no anomaly on Tuesday night.

Each week is kept apart, and the limit is the middle one of the weeks: a fault in one of them does not become usual.
Before three weeks have been seen at an hour nothing is said about it.
"""

from __future__ import annotations

import datetime as dt
import math
import statistics
from dataclasses import dataclass, field
from typing import Any

from controller.diagnosis.watched import floor
from streamswarm.contract import Metric

#: Hours of a week; the first is Monday 00:00 UTC.
SLOTS = 168
_WEEKS_KEPT = 5
_WEEKS_NEEDED = 3
#: Runs in the same hour without which a week does not count.
_LEAST = 5
_DEVIATIONS = 6.0


def slot_of(at: dt.datetime) -> int:
    """Return the hour of the week of an instant."""
    at = at.astimezone(dt.UTC)
    return at.weekday() * 24 + at.hour


@dataclass(kw_only=True)
class Season:
    """One hour of the week of one job."""

    #: By metric: week number → [runs, mean, sum of squared deviations].
    weeks: dict[str, dict[int, list[float]]] = field(default_factory=dict)

    def learn(self, metric: Metric, value: float, at: dt.datetime) -> None:
        """Take a value in."""
        weeks = self.weeks.setdefault(metric.name, {})
        runs, mean, squares = weeks.get(_week(at), [0.0, 0.0, 0.0])
        runs += 1
        step = value - mean
        mean += step / runs
        weeks[_week(at)] = [runs, mean, squares + step * (value - mean)]
        for old in sorted(weeks)[:-_WEEKS_KEPT]:
            del weeks[old]

    def limit(self, metric: Metric, at: dt.datetime) -> float | None:
        """Return the value beyond which it would be unusual at this hour; None while data are short."""
        sign = -1.0 if metric.better == "higher" else 1.0
        limits = [
            mean + sign * (_DEVIATIONS * math.sqrt(squares / runs) + floor(metric))
            for week, (runs, mean, squares) in self.weeks.get(metric.name, {}).items()
            if week != _week(at) and runs >= _LEAST
        ]
        return statistics.median(limits) if len(limits) >= _WEEKS_NEEDED else None

    def dump(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            name: {str(week): numbers for week, numbers in weeks.items()}
            for name, weeks in self.weeks.items()
        }

    @classmethod
    def load(cls, data: dict[str, Any] | None) -> Season:
        """Return what a dump describes."""
        return cls(
            weeks={
                name: {int(week): list(numbers) for week, numbers in weeks.items()}
                for name, weeks in (data or {}).items()
            }
        )


def _week(at: dt.datetime) -> int:
    # Day 4 of the epoch was a Monday.
    return int((at.timestamp() - 4 * 86_400) // (7 * 86_400))
