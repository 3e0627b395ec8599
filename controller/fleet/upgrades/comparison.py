"""Whether what upgraded hosts measure has become worse than what the control group measures in the same time."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.fleet.upgrades.samples import Line, Run
from controller.fleet.upgrades.statistics import SHUFFLES, Series, adjusted, effect
from streamswarm import contract
from streamswarm.contract import Metric

#: Runs that a line must have on each side to be judged.
FEWEST_RUNS = 10
#: A good release is taken for a bad one in so many of all comparisons, over all its quantities together.
FALSE_ALARMS = 0.01
#: What is worse by less than this is left alone, however certain it is: for latency and throughput a share of what it was,
#: for loss and runs that did not end well percentage points.
LEAST_SHARE = 0.05
LEAST_POINTS = 1.0
#: Latencies are compared as if each were longer by this, so that microseconds on the shortest ways do not count.
_FLOOR_S = 100e-6
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_MOST_SHUFFLES = 20_000
#: The same runs give the same answer.
_SEED = 20_300_101


class Verdict(enum.StrEnum):
    """What a comparison says of the release."""

    NOT_WORSE = "not worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One group's middle before and after, in the metric's own unit."""

    hosts: int
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One quantity of one kind."""

    kind: str
    #: For people: `RTT average`, `runs that did not end well`.
    quantity: str
    unit: str
    upgraded: Side
    control: Side
    #: By how much more the upgraded hosts changed, and how the control group changed: a share, or percentage points.
    effect: float
    common: float
    #: Whether both are shares of the value before.
    relative: bool
    #: Chance of so large a change for the worse when the release changes nothing, corrected for all quantities.
    probability: float
    #: Fewest and most runs of a line, before and after.
    runs: tuple[int, int]
    worse: bool


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of a comparison."""

    verdict: Verdict
    findings: tuple[Finding, ...]
    #: Why it is inconclusive, and what could not be judged.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Quantity:
    name: str
    unit: str
    #: A run's value on a scale on which differences count and more is worse; None when it was not measured.
    read: Callable[[Run], float | None]
    #: A run's value as people know it.
    plain: Callable[[Run], float | None]
    middle: str
    #: Whether the scale is logarithmic, so that differences are shares.
    relative: bool
    #: Whether smaller values are worse.
    falling: bool = False


def needed_s(interval_s: float | None) -> float:
    """Return the seconds in which a job runs often enough to be judged; infinite where nothing says so."""
    return interval_s * (FEWEST_RUNS + 1) if interval_s else math.inf


def enough(lines: Iterable[Line], *, within_s: float) -> bool:
    """Whether every line that has a baseline, and that can run often enough within so many seconds, has."""
    return all(
        len(line.after) >= FEWEST_RUNS
        for line in lines
        if len(line.before) >= FEWEST_RUNS and needed_s(line.interval_s) <= within_s
    )


def compare(upgraded: Sequence[Line], control: Sequence[Line]) -> Judgement:
    """Hold the upgraded hosts' lines against their own past and against the control group's."""
    judged = [line for line in upgraded if _ready(line)]
    others = [line for line in control if _ready(line)]
    notes = _notes(upgraded, judged, others)
    rng = np.random.default_rng(_SEED)
    asked = [
        (kind, quantity)
        for kind in dict.fromkeys(line.kind for line in judged)
        for quantity in _quantities(kind)
    ]
    # The more is asked, the rarer must be what counts.
    shuffles = min(_MOST_SHUFFLES, SHUFFLES * max(1, math.ceil(len(asked) / 4)))
    tried = [
        found
        for kind, quantity in asked
        if (
            found := _find(
                quantity,
                [line for line in judged if line.kind == kind],
                [line for line in others if line.kind == kind],
                rng=rng,
                shuffles=shuffles,
            )
        )
    ]
    findings = [
        _corrected(finding, probability)
        for finding, probability in zip(tried, adjusted([each.probability for each in tried]), strict=True)
    ]
    kinds = {finding.kind for finding in findings}
    compared = [line for line in judged if line.kind in kinds]
    if any(finding.worse for finding in findings):
        verdict = Verdict.WORSE
    elif 2 * len(compared) < len(upgraded) or not compared:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.NOT_WORSE
    return Judgement(verdict=verdict, findings=tuple(findings), notes=notes)


def _ready(line: Line) -> bool:
    return min(len(line.before), len(line.after)) >= FEWEST_RUNS


def _notes(upgraded: Sequence[Line], judged: Sequence[Line], control: Sequence[Line]) -> tuple[str, ...]:
    if not upgraded:
        return ("the upgraded hosts measure nothing, so nothing can be compared",)
    notes = []
    if len(judged) < len(upgraded):
        fewest = min(min(len(line.before), len(line.after)) for line in upgraded if not _ready(line))
        notes.append(
            f"{len(upgraded) - len(judged)} of {len(upgraded)} jobs have fewer than {FEWEST_RUNS} runs before or after "
            f"(the fewest: {fewest})"
        )
    alone = {line.kind for line in judged} - {line.kind for line in control}
    if alone:
        notes.append(f"no host of the control group has enough runs of: {', '.join(sorted(alone))}")
    return tuple(notes)


def _find(
    quantity: _Quantity,
    upgraded: Sequence[Line],
    control: Sequence[Line],
    *,
    rng: np.random.Generator,
    shuffles: int,
) -> Finding | None:
    ours = [series for line in upgraded if (series := _series(line, quantity))]
    others = [series for line in control if (series := _series(line, quantity))]
    if not ours or not others:
        return None
    found = effect(ours, others, middle=quantity.middle, rng=rng, shuffles=shuffles)
    sizes = [len(side) for series in ours for side in (series.before, series.after)]
    sign = -1.0 if quantity.falling else 1.0

    def told(size: float) -> float:
        return math.expm1(sign * size) if quantity.relative else size

    return Finding(
        kind=upgraded[0].kind,
        quantity=quantity.name,
        unit=quantity.unit,
        upgraded=_side(upgraded, quantity),
        control=_side(control, quantity),
        effect=told(found.size),
        common=told(found.common),
        relative=quantity.relative,
        probability=found.probability,
        runs=(min(sizes), max(sizes)),
        worse=found.size >= (math.log1p(LEAST_SHARE) if quantity.relative else LEAST_POINTS),
    )


def _corrected(finding: Finding, probability: float) -> Finding:
    return replace(finding, probability=probability, worse=finding.worse and probability <= FALSE_ALARMS)


def _series(line: Line, quantity: _Quantity) -> Series | None:
    before, after = (
        np.array([value for run in runs if (value := quantity.read(run)) is not None])
        for runs in (line.before, line.after)
    )
    if min(before.size, after.size) < FEWEST_RUNS:
        return None
    return Series(destination=line.destination, host=line.host, before=before, after=after)


def _side(lines: Sequence[Line], quantity: _Quantity) -> Side:
    def centre(name: str) -> float:
        middles = []
        for line in lines:
            values = [value for run in getattr(line, name) if (value := quantity.plain(run)) is not None]
            if values:
                middles.append(float(np.median(values) if quantity.middle == "median" else np.mean(values)))
        return float(np.median(middles)) if middles else math.nan

    return Side(hosts=len({line.host for line in lines}), before=centre("before"), after=centre("after"))


def _quantities(kind: str) -> list[_Quantity]:
    """Return what is compared of a kind: whether runs end well, loss, and its headline and layers by the contract's roles."""
    found = [
        _Quantity(
            name="runs that did not end well",
            unit="%",
            read=lambda run: 0.0 if run.ok else 100.0,
            plain=lambda run: 0.0 if run.ok else 100.0,
            middle="mean",
            relative=False,
        )
    ]
    for metric in contract.kind(kind).metrics:
        if metric.better == "neither" or metric.type == "boolean":
            continue
        if metric.role == "loss" and metric.unit == "%":
            found.append(_share(metric))
        elif metric.role in ("latency", "throughput") and (metric.headline or metric.layer != "none"):
            found.append(_scaled(metric))
    return found


def _share(metric: Metric) -> _Quantity:
    def value(run: Run) -> float | None:
        return run.metrics.get(metric.name)

    return _Quantity(
        name=metric.label, unit=metric.unit, read=value, plain=value, middle="mean", relative=False
    )


def _scaled(metric: Metric) -> _Quantity:
    falling = metric.better == "higher"
    floor = 1.0 if falling else _FLOOR_S / _SECONDS.get(metric.unit, 1.0)

    def plain(run: Run) -> float | None:
        return run.metrics.get(metric.name)

    def read(run: Run) -> float | None:
        value = run.metrics.get(metric.name)
        if value is None:
            return None
        return math.log(max(0.0, value) + floor) * (-1.0 if falling else 1.0)

    return _Quantity(
        name=metric.label,
        unit=metric.unit,
        read=read,
        plain=plain,
        middle="median",
        relative=True,
        falling=falling,
    )
