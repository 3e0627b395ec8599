"""What does not work at all since the upgrade though it did before: no scatter excuses that.

A job that failed seldom and fails always, one that delivers nothing any more, and one whose runs end well but bring no value
for a metric that they brought: each is a breakage, unless half of the hosts without the release that measure the same have it
too. Where nobody else measures it, its own past decides.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from controller.fleet.upgrades.samples import Line, Run
from streamswarm import contract

#: Runs before the upgrade from which on it is known how a job does, and runs since from which on it is known that it does not.
FEWEST_BEFORE = 10
FEWEST_AFTER = 5
#: So much of what was due comes where all is well, and so little where it does not.
_USUAL, _SILENT = 0.95, 0.5


@dataclass(frozen=True, kw_only=True)
class Breakage:
    """One job on one host that does not work since the upgrade."""

    host: str
    #: `ping to office`.
    job: str
    #: What it does not do: `fails`, `delivers nothing`, `brings no RTT average`.
    fault: str
    #: In numbers: what it did before, what since.
    before: str
    after: str
    #: Hosts without the release that measure the same and do not have the fault.
    well: tuple[str, ...]


#: What a fault is, and the numbers before and after of a line that has it; None for one that has not.
_Check = Callable[[Line], tuple[str, str] | None]


def breakages(upgraded: Sequence[Line], control: Sequence[Line]) -> tuple[Breakage, ...]:
    """Return what does not work any more."""
    found = []
    for line in upgraded:
        others = [other for other in control if other.destination == line.destination]
        for fault, check in _faults(line):
            numbers = check(line)
            if numbers is None:
                continue
            well = [other for other in others if check(other) is None and _tells(other, check)]
            judges = [other for other in others if _tells(other, check)]
            if 2 * len(well) >= len(judges):
                before, after = numbers
                names = tuple(dict.fromkeys(other.host for other in well))
                found.append(
                    Breakage(
                        host=line.host, job=line.name, fault=fault, before=before, after=after, well=names
                    )
                )
                break
    return tuple(found)


def overdue(line: Line) -> bool:
    """Whether a line had runs often enough before, and brings fewer than half of those due since the upgrade."""
    return _silent(line) is not None


def _faults(line: Line) -> Iterator[tuple[str, _Check]]:
    yield "delivers nothing" if not line.after else "delivers too little", _silent
    yield "fails", _failing
    metrics = [
        metric
        for metric in contract.kind(line.kind).metrics
        if (metric.better != "neither" or metric.headline) and _lacking(metric.name)(line)
    ]
    if metrics:
        yield f"brings no {', '.join(metric.label for metric in metrics)}", _lacking(metrics[0].name)


def _tells(line: Line, check: _Check) -> bool:
    """Whether a control host's line has been there to show the fault or not."""
    return check is _silent or len(line.after) >= FEWEST_AFTER


def _silent(line: Line) -> tuple[str, str] | None:
    if line.interval_s is None or len(line.before) < FEWEST_BEFORE:
        return None
    gaps = [
        abs((late.scheduled_at - early.scheduled_at).total_seconds())
        for late, early in zip(line.before, line.before[1:], strict=False)
    ]
    due = int(line.watched_s / line.interval_s)
    if statistics.median(gaps) > 1.5 * line.interval_s or due < FEWEST_BEFORE:
        return None
    if len(line.after) >= _SILENT * due:
        return None
    return f"a run every {line.interval_s:g} s", f"{len(line.after)} of {due} runs that were due"


def _failing(line: Line) -> tuple[str, str] | None:
    return _always(line.before, line.after, lambda run: not run.ok)


def _lacking(metric: str) -> _Check:
    def check(line: Line) -> tuple[str, str] | None:
        before, after = ([run for run in runs if run.ok] for runs in (line.before, line.after))
        return _always(before, after, lambda run: metric not in run.metrics)

    return check


def _always(
    before: Sequence[Run], after: Sequence[Run], is_bad: Callable[[Run], bool]
) -> tuple[str, str] | None:
    """Return how many runs were bad before and since, when hardly one was and all are."""
    if len(before) < FEWEST_BEFORE or len(after) < FEWEST_AFTER:
        return None
    was, now = sum(map(is_bad, before)), sum(map(is_bad, after))
    newest_was_well = not any(map(is_bad, before[:FEWEST_AFTER]))
    if now < len(after) or was > (1 - _USUAL) * len(before) or not newest_was_well:
        return None
    return f"{was} of {len(before)} runs", f"all {len(after)} runs"
