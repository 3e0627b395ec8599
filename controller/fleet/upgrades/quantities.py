"""What is compared of a kind of test, as the contract has it: which values of a run, and which direction is worse."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from controller.fleet.upgrades.deliveries import deliveries
from controller.fleet.upgrades.samples import Line, Run
from controller.fleet.upgrades.statistics import Middle
from streamswarm import contract
from streamswarm.contract import Metric

#: Latencies are compared as if each were longer by this, so that microseconds on the shortest ways do not count.
_FLOOR_S = 100e-6
_ALL_LOST = 100.0
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


#: A line's values before the upgrade and since, in the order of time.
Values = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a run, or of one that was due."""

    #: For people: `RTT average`, `runs that did not end well`.
    name: str
    unit: str
    #: As people know them.
    values: Callable[[Line], Values]
    #: How the values of several runs are put into one. Differences of medians are shares of what it was, others percentage
    #: points.
    middle: Middle
    #: Whether smaller values are worse.
    falling: bool = False
    #: Added to values before they are compared as shares.
    floor: float = 1.0

    @property
    def is_share(self) -> bool:
        """Whether it is a share in percent: its middle is the mean then, and differences are percentage points."""
        return self.middle is not Middle.MEDIAN

    @property
    def scales(self) -> tuple[Callable[[float], float], ...]:
        """On which differences count, larger values being worse.

        Something is worse when it is so on each. A way that gets longer for all makes short ones change by a larger share, a
        way that gets slower by half makes long ones change by more time: neither is to be taken for the release.
        """
        sign = -1.0 if self.falling else 1.0
        if self.is_share:
            return (lambda value: value,)
        return (lambda value: sign * math.log(max(0.0, value) + self.floor), lambda value: sign * value)


def quantities(kind: str) -> list[Quantity]:
    """Return what is compared of a kind: whether runs come and end well, loss, and its headline and layers by the contract."""
    found = [
        Quantity(
            name="runs that were not delivered",
            unit="%",
            values=deliveries,
            middle=Middle.EVENT,
        ),
        Quantity(
            name="runs that did not end well",
            unit="%",
            values=_of_runs(lambda run: 0.0 if run.ok else 100.0),
            middle=Middle.EVENT,
        ),
    ]
    for metric in contract.kind(kind).metrics:
        if metric.better == "neither" or metric.type == "boolean":
            continue
        if metric.role == "loss" and metric.unit == "%":
            found.append(_of(metric, middle=Middle.SHARE))
        elif metric.role in ("latency", "throughput") and (metric.headline or metric.layer != "none"):
            found.append(_of(metric, middle=Middle.MEDIAN))
    return found


def _of(metric: Metric, *, middle: Middle) -> Quantity:
    falling = metric.better == "higher"

    def read(run: Run) -> float | None:
        value = run.metrics.get(metric.name)
        # A run that lost everything has failed, and is looked at as that: it comes in bursts, and is not to count twice.
        return None if middle is Middle.SHARE and not run.ok and value == _ALL_LOST else value

    return Quantity(
        name=metric.label,
        unit=metric.unit,
        values=_of_runs(read),
        middle=middle,
        falling=falling,
        floor=1.0 if falling else _FLOOR_S / _SECONDS.get(metric.unit, 1.0),
    )


def _of_runs(read: Callable[[Run], float | None]) -> Callable[[Line], Values]:
    """Return what reads a number of each run that has it."""

    def values(line: Line) -> Values:
        before, after = (
            [value for run in reversed(runs) if (value := read(run)) is not None]
            for runs in (line.before, line.after)
        )
        return before, after

    return values
