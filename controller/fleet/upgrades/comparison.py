"""Whether what upgraded hosts measure has become worse than what the control group measures in the same time."""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from controller.fleet.upgrades.breakages import Breakage, breakages, overdue
from controller.fleet.upgrades.quantities import Quantity, quantities
from controller.fleet.upgrades.samples import Line
from controller.fleet.upgrades.statistics import (
    FEWEST_RUNS,
    Effect,
    Level,
    Series,
    adjusted,
    effects,
)

#: A good release is taken for a bad one in so many of all comparisons, over all that is looked at together.
FALSE_ALARMS = 0.01
#: What is worse by less than this is left alone, however certain it is: for latency and throughput a share of what it was,
#: for loss and runs that did not end well percentage points.
LEAST_SHARE = 0.05
LEAST_POINTS = 1.0


class Verdict(enum.StrEnum):
    """What a comparison says of the release."""

    NOT_WORSE = "not worse"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One group's middle before and after, in the metric's own unit; nan where it measured nothing."""

    hosts: tuple[str, ...]
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One quantity of one kind: over all its lines, those of one host, or one line."""

    kind: str
    level: Level
    #: The host's name, or the line's: `host1: ping to office`; empty over all.
    where: str
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
    #: Chance of so large a change for the worse when the release changes nothing, corrected for all that is looked at.
    probability: float
    #: Fewest and most runs of a line, before and after.
    runs: tuple[int, int]
    worse: bool


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What came of a comparison."""

    verdict: Verdict
    #: Every quantity of every kind over all its lines; of single hosts and lines, what is worse.
    findings: tuple[Finding, ...]
    #: Of every single line that was looked at, where there are several, the quantity that chance explains least.
    lines: tuple[Finding, ...] = ()
    #: What does not work at all any more.
    broken: tuple[Breakage, ...] = ()
    #: Why it is inconclusive, and what could not be judged.
    notes: tuple[str, ...] = ()
    #: Looks that were taken: quantities, over all lines, of each host, of each line.
    looks: int = 0


def needed_s(interval_s: float | None) -> float:
    """Return the seconds in which a job runs often enough to be judged; infinite where nothing says so."""
    return interval_s * (FEWEST_RUNS + 1) if interval_s else math.inf


def enough(lines: Iterable[Line], *, within_s: float) -> bool:
    """Whether every line that has a baseline, and that can run often enough within so many seconds, has, or never will.

    Runs that did not end well bring no values: where some did and some did not, twice as many may be waited for.
    """
    return all(
        _has_enough(line) or overdue(line)
        for line in lines
        if len(line.before) >= FEWEST_RUNS and needed_s(line.interval_s) <= within_s
    )


def _has_enough(line: Line) -> bool:
    well_before, well = (sum(run.ok for run in runs) for runs in (line.before, line.after))
    mixed = well_before >= FEWEST_RUNS and 0 < well < FEWEST_RUNS
    return len(line.after) >= (2 * FEWEST_RUNS if mixed else FEWEST_RUNS)


def compare(upgraded: Sequence[Line], control: Sequence[Line]) -> Judgement:
    """Hold the upgraded hosts' lines against their own past and against the control group's."""
    judged = [line for line in upgraded if _ready(line)]
    others = [line for line in control if _ready(line)]
    tried = [
        finding
        for kind in dict.fromkeys(line.kind for line in upgraded)
        for quantity in quantities(kind)
        for finding in _findings(
            quantity,
            [line for line in upgraded if line.kind == kind],
            [line for line in control if line.kind == kind],
        )
    ]
    findings = _corrected(tried)
    broken = breakages(upgraded, control)
    if broken or any(finding.worse for finding in findings):
        verdict = Verdict.WORSE
    elif 2 * len(judged) < len(upgraded) or not judged:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.NOT_WORSE
    return Judgement(
        verdict=verdict,
        findings=tuple(each for each in findings if each.worse or each.level is Level.ALL),
        lines=_of_lines(findings),
        broken=broken,
        notes=_notes(upgraded, judged, others),
        looks=len(tried),
    )


def _of_lines(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return one finding of each line."""
    found: dict[str, Finding] = {}
    for each in findings:
        if each.level is Level.LINE and (
            each.where not in found or each.probability < found[each.where].probability
        ):
            found[each.where] = each
    return tuple(found.values())


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
        notes.append(
            f"no host to compare with has enough runs of: {', '.join(sorted(alone))}; compared with the time before alone, "
            "which cannot tell the release from a network that changes at the same time"
        )
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """A line's values of one quantity, in the order of time."""

    line: Line
    before: Sequence[float]
    after: Sequence[float]

    def series(self, scale: Callable[[float], float]) -> Series:
        """Return them on a scale."""
        before, after = (np.array([scale(value) for value in side]) for side in (self.before, self.after))
        return Series(destination=self.line.destination, host=self.line.host, before=before, after=after)


def _measured(lines: Iterable[Line], quantity: Quantity) -> list[_Measured]:
    """Return the values of those lines that have enough of them."""
    found = []
    for line in lines:
        before, after = quantity.values(line)
        if min(len(before), len(after)) >= FEWEST_RUNS:
            found.append(_Measured(line=line, before=before, after=after))
    return found


def _findings(quantity: Quantity, upgraded: Sequence[Line], control: Sequence[Line]) -> Iterator[Finding]:
    ours, others = _measured(upgraded, quantity), _measured(control, quantity)
    if not ours:
        return
    first, *further = (
        effects(
            [each.series(scale) for each in ours],
            [each.series(scale) for each in others],
            middle=quantity.middle,
        )
        for scale in quantity.scales
    )
    for number, found in enumerate(first):
        lines = [ours[at] for at in found.lines]
        probability = max(found.probability, *(each[number].probability for each in further), 0.0)
        yield _finding(quantity, replace(found, probability=probability), lines, others)


def _finding(
    quantity: Quantity, found: Effect, measured: Sequence[_Measured], control: Sequence[_Measured]
) -> Finding:
    sign = -1.0 if quantity.falling else 1.0
    lines = [each.line for each in measured]
    destinations = {line.destination for line in lines}
    same = [each for each in control if each.line.destination in destinations]
    sizes = [len(side) for each in measured for side in (each.before, each.after)]

    def told(size: float) -> float:
        return size if quantity.is_share else math.expm1(sign * size)

    names = {
        Level.ALL: "",
        Level.HOST: lines[0].host,
        Level.LINE: f"{lines[0].host}: {lines[0].name}",
    }
    return Finding(
        kind=lines[0].kind,
        level=found.level,
        where=names[found.level],
        quantity=quantity.name,
        unit=quantity.unit,
        upgraded=_side(measured, quantity),
        control=_side(same or control, quantity),
        effect=told(found.size),
        common=told(found.common),
        relative=not quantity.is_share,
        probability=found.probability,
        runs=(min(sizes), max(sizes)),
        worse=found.size >= (LEAST_POINTS if quantity.is_share else math.log1p(LEAST_SHARE)),
    )


def _corrected(tried: Sequence[Finding]) -> list[Finding]:
    """Correct for there being several, on each level by itself: the few looks at all lines are not to pay for the many at one."""
    levels = Counter(finding.level for finding in tried)
    found = []
    for level in levels:
        here = [finding for finding in tried if finding.level is level]
        for finding, probability in zip(here, adjusted([each.probability for each in here]), strict=True):
            corrected = min(1.0, probability * len(levels))
            found.append(
                replace(
                    finding,
                    probability=corrected,
                    worse=finding.worse and corrected <= FALSE_ALARMS,
                )
            )
    return found


def _side(measured: Sequence[_Measured], quantity: Quantity) -> Side:
    # Of shares the mean over the lines: the middle of many that are well would hide those that are not.
    centre = np.mean if quantity.is_share else np.median
    hosts = tuple(dict.fromkeys(each.line.host for each in measured))
    if not measured:
        return Side(hosts=(), before=math.nan, after=math.nan)
    return Side(
        hosts=hosts,
        before=float(centre([centre(each.before) for each in measured])),
        after=float(centre([centre(each.after) for each in measured])),
    )
