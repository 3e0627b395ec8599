"""What an upgrade says of its measurements, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from controller.fleet.upgrades.breakages import Breakage
from controller.fleet.upgrades.comparison import FALSE_ALARMS, Finding, Judgement, Verdict
from controller.fleet.upgrades.statistics import Level
from controller.store.operation_notes import MOST_FIGURES, Figure

#: Quantities that are named when nothing is worse.
_SHOWN = 4
#: Lines of one sort that are told one by one; hosts that are named.
_MOST_LINES, _MOST_HOSTS = 20, 4


def lines(judgement: Judgement) -> Iterator[str]:
    """Return the report of one comparison, a line each; what decided comes first."""
    yield from _few([f"broken: {breakage(each)}" for each in judgement.broken], "jobs that are broken")
    worse = [finding for finding in judgement.findings if finding.worse]
    if worse:
        for level in Level:
            found = sorted((each for each in worse if each.level is level), key=lambda each: each.probability)
            yield from _few([f"worse: {sentence(each)}" for each in found], "that are worse")
    elif not judgement.broken:
        largest = sorted(judgement.findings, key=lambda finding: finding.probability)[:_SHOWN]
        for finding in largest:
            yield f"not worse: {sentence(finding)}"
    changed = [finding for finding in judgement.findings if not finding.worse and _everywhere(finding)]
    for finding in changed:
        yield (
            f"the network, not the release: {finding.kind}, {finding.quantity} changed by "
            f"{_size(finding, finding.common)} on the hosts without it too"
        )
    yield from judgement.notes
    if judgement.verdict is Verdict.NOT_WORSE:
        yield (
            f"{judgement.looks} comparisons; a good release would be taken for a bad one in about {FALSE_ALARMS:.0%} of "
            "such upgrades, where the network does not change for these hosts alone"
        )


def figures(judgement: Judgement) -> tuple[Figure, ...]:
    """Return what was judged in numbers: what is worse, then all of a kind together, then each line."""
    every = dict.fromkeys((*judgement.findings, *judgement.lines))
    ordered = sorted(every, key=lambda each: (not each.worse, each.level is not Level.ALL, each.probability))
    return tuple(_figure(each) for each in ordered[:MOST_FIGURES])


def _figure(finding: Finding) -> Figure:
    ours, others = finding.upgraded, finding.control
    return Figure(
        kind=finding.kind,
        where=finding.where,
        quantity=finding.quantity,
        unit=finding.unit,
        before=ours.before,
        after=ours.after,
        others=len(others.hosts),
        others_before=others.before if others.hosts else None,
        others_after=others.after if others.hosts else None,
        worse=finding.worse,
    )


def sentence(finding: Finding) -> str:
    """Return what was found of one quantity."""
    ours, others = finding.upgraded, finding.control
    where = f" ({finding.where})" if finding.where else ""
    without = (
        f"{_value(finding, others.before)} and {_value(finding, others.after)} on {_hosts(others.hosts)} without"
        if others.hosts
        else "nobody without it measured that"
    )
    return (
        f"{finding.kind}{where}, {finding.quantity}: {_value(finding, ours.before)} before, "
        f"{_value(finding, ours.after)} after on {_hosts(ours.hosts)} with the release; {without}; "
        f"difference {_size(finding, finding.effect)}, "
        f"{_chance(finding.probability)} by chance, {finding.runs[0]} runs or more on each side"
    )


def breakage(found: Breakage) -> str:
    """Return what does not work any more."""
    others = (
        f"not so on {_hosts(found.well)} without the release"
        if found.well
        else "nobody without the release measures it"
    )
    return f"{found.host}: {found.job} {found.fault}: {found.before} before, {found.after} since; {others}"


def _few(told: Sequence[str], what: str) -> Iterator[str]:
    yield from told[:_MOST_LINES]
    if len(told) > _MOST_LINES:
        yield f"and {len(told) - _MOST_LINES} more {what}"


def _everywhere(finding: Finding) -> bool:
    return bool(finding.control.hosts) and abs(finding.common) >= (0.2 if finding.relative else 5.0)


def _value(finding: Finding, value: float) -> str:
    return "nothing" if math.isnan(value) else f"{value:.3g} {finding.unit}"


def _size(finding: Finding, size: float) -> str:
    return f"{100 * size:+.1f} %" if finding.relative else f"{size:+.1f} points"


def _hosts(names: Sequence[str]) -> str:
    count = "1 host" if len(names) == 1 else f"{len(names)} hosts"
    more = ", …" if len(names) > _MOST_HOSTS else ""
    return f"{count} ({', '.join(names[:_MOST_HOSTS])}{more})"


def _chance(probability: float) -> str:
    return f"{probability:.2g}" if probability >= 0.001 else "less than 0.001"
