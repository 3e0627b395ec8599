"""What does not work at all since the upgrade though it did before: no scatter excuses that.

A job that failed seldom and fails always, one that delivers nothing any more, and one whose runs end well but bring no value
for a metric that they brought: each is a breakage, unless more than half of the hosts without the release that measure the same
and can tell have it too. Where nobody else measures it, its own past decides.
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
#: So much of what was due comes where all is well, and so little where it does not; what lies between is compared.
_USUAL, _SILENT = 0.95, 0.3
#: Of runs that end well, more than so many bring no value where a release does not measure it any more.
_OFTEN = 1 / 3


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


@dataclass(frozen=True, kw_only=True)
class _Look:
    """One line, looked at for one fault."""

    #: Whether it has the fault since the upgrade, and whether it was certainly without it before.
    bad: bool
    was_well: bool
    #: In numbers.
    before: str
    after: str


#: Looks at a line for a fault; None where it has too few runs to tell.
_Check = Callable[[Line], _Look | None]


def breakages(upgraded: Sequence[Line], control: Sequence[Line]) -> tuple[Breakage, ...]:
    """Return what does not work any more."""
    found = []
    for line in upgraded:
        others = [other for other in control if other.destination == line.destination]
        for fault, check in _faults(line):
            look = check(line)
            if look is None or not (look.bad and look.was_well):
                continue
            looks = [(other.host, seen) for other in others if (seen := check(other)) is not None]
            # One that never worked says nothing of what happens now.
            judges = [(host, seen) for host, seen in looks if seen.was_well or not seen.bad]
            well = [host for host, seen in judges if not seen.bad]
            if 2 * len(well) >= len(judges):
                found.append(
                    Breakage(
                        host=line.host,
                        job=line.name,
                        fault=fault,
                        before=look.before,
                        after=look.after,
                        well=tuple(dict.fromkeys(well)),
                    )
                )
                break
    return tuple(found)


def overdue(line: Line) -> bool:
    """Whether a line had runs often enough before, and brings hardly any of those due since the upgrade."""
    return _has(_silent, line)


def _has(check: _Check, line: Line) -> bool:
    look = check(line)
    return look is not None and look.bad and look.was_well


def _faults(line: Line) -> Iterator[tuple[str, _Check]]:
    yield "delivers nothing" if not line.after else "delivers too little", _silent
    yield "fails", _failing
    metrics = [
        metric
        for metric in contract.kind(line.kind).metrics
        if (metric.better != "neither" or metric.headline) and _has(_lacking(metric.name), line)
    ]
    if metrics:
        check = _lacking(metrics[0].name)
        always = all(metrics[0].name not in run.metrics for run in line.after if run.ok)
        labels = ", ".join(metric.label for metric in metrics)
        yield f"{'brings' if always else 'often brings'} no {labels}", check


def _silent(line: Line) -> _Look | None:
    due = int(line.watched_s / line.interval_s) if line.interval_s else 0
    if not line.interval_s or due < FEWEST_BEFORE:
        return None
    gaps = [
        abs((late.scheduled_at - early.scheduled_at).total_seconds())
        for late, early in zip(line.before, line.before[1:], strict=False)
    ]
    return _Look(
        bad=len(line.after) < _SILENT * due,
        was_well=len(line.before) >= FEWEST_BEFORE and statistics.median(gaps) <= 1.5 * line.interval_s,
        before=f"a run every {line.interval_s:g} s",
        after=f"{len(line.after)} of {due} runs that were due",
    )


def _failing(line: Line) -> _Look | None:
    return _always(line.before, line.after, lambda run: not run.ok)


def _lacking(metric: str) -> _Check:
    def check(line: Line) -> _Look | None:
        before, after = ([run for run in runs if run.ok] for runs in (line.before, line.after))
        # What fails often is compared as a share; values that are not there are compared nowhere.
        return _always(before, after, lambda run: metric not in run.metrics, or_often=True)

    return check


def _always(
    before: Sequence[Run], after: Sequence[Run], is_bad: Callable[[Run], bool], *, or_often: bool = False
) -> _Look | None:
    """Look for runs that are all bad, of which hardly one was before; or, of enough, more than a third of them."""
    if len(after) < FEWEST_AFTER:
        return None
    was, now = sum(map(is_bad, before)), sum(map(is_bad, after))
    newest_was_well = not any(map(is_bad, before[:FEWEST_AFTER]))
    often = or_often and len(after) >= FEWEST_BEFORE and now > _OFTEN * len(after)
    return _Look(
        bad=often or now == len(after),
        was_well=len(before) >= FEWEST_BEFORE and was <= (1 - _USUAL) * len(before) and newest_was_well,
        before=f"{was} of {len(before)} runs",
        after=f"all {len(after)} runs" if now == len(after) else f"{now} of {len(after)} runs",
    )
