"""What is compared of a kind of test, as the contract has it: which values of a run, and which direction is worse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from controller.fleet.upgrades.samples import Run
from streamswarm import contract
from streamswarm.contract import Metric

#: Latencies are compared as if each were longer by this, so that microseconds on the shortest ways do not count.
_FLOOR_S = 100e-6
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of a run."""

    #: For people: `RTT average`, `runs that did not end well`.
    name: str
    unit: str
    #: A run's value as people know it; None when it was not measured.
    read: Callable[[Run], float | None]
    #: Whether it is a share in percent: its middle is the mean, and differences are percentage points. Otherwise the middle is
    #: the median, and differences are shares of what it was.
    is_share: bool
    #: Whether smaller values are worse.
    falling: bool = False
    #: Added to values before they are compared as shares.
    floor: float = 1.0

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
    """Return what is compared of a kind: whether runs end well, loss, and its headline and layers by the contract's roles."""
    found = [
        Quantity(
            name="runs that did not end well",
            unit="%",
            read=lambda run: 0.0 if run.ok else 100.0,
            is_share=True,
        )
    ]
    for metric in contract.kind(kind).metrics:
        if metric.better == "neither" or metric.type == "boolean":
            continue
        if metric.role == "loss" and metric.unit == "%":
            found.append(_of(metric, is_share=True))
        elif metric.role in ("latency", "throughput") and (metric.headline or metric.layer != "none"):
            found.append(_of(metric, is_share=False))
    return found


def _of(metric: Metric, *, is_share: bool) -> Quantity:
    falling = metric.better == "higher"
    return Quantity(
        name=metric.label,
        unit=metric.unit,
        read=lambda run: run.metrics.get(metric.name),
        is_share=is_share,
        falling=falling,
        floor=1.0 if falling else _FLOOR_S / _SECONDS.get(metric.unit, 1.0),
    )
