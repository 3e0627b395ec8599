"""Which metrics diagnosis watches, and which change of them is worth a word: all from the contract."""

from __future__ import annotations

from functools import cache

from streamswarm import contract
from streamswarm.contract import Metric

#: Changes smaller than this are of no interest to anybody, whatever statistics say; by unit, and for losses.
_FLOORS = {"ms": 2.0, "s": 1.0, "d": 1.0, "%": 15.0, "1": 1.0, "By": 1.0, "By/s": 12_500.0}
_LOSS_FLOORS = {"%": 2.0, "1": 0.5}


@cache
def watched(kind: str) -> tuple[Metric, ...]:
    """Return the metrics of a kind that are watched: those with a layer, and the headline; each has a bad side."""
    return tuple(
        metric
        for metric in contract.kind(kind).metrics
        if (metric.layer != "none" or metric.headline)
        and metric.better != "neither"
        and metric.type != "boolean"
    )


def floor(metric: Metric) -> float:
    """Return the smallest change of a metric that counts, in its unit."""
    floors = _LOSS_FLOORS if metric.role == "loss" else _FLOORS
    return floors.get(metric.unit, 0.0)
