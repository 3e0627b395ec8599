"""What an upgrade says of its measurements, in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

from controller.fleet.upgrades.comparison import FALSE_ALARMS, Finding, Judgement, Verdict

#: Quantities that are named when nothing is worse.
_SHOWN = 4


def lines(judgement: Judgement) -> Iterator[str]:
    """Return the report of one comparison, a line each; what decided comes first."""
    worse = [finding for finding in judgement.findings if finding.worse]
    if worse:
        for finding in worse:
            yield f"worse: {sentence(finding)}"
    else:
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
            f"{len(judgement.findings)} quantities compared; a good release would be taken for a bad one in "
            f"{FALSE_ALARMS:.0%} of such comparisons"
        )


def sentence(finding: Finding) -> str:
    """Return what was found of one quantity."""
    ours, others = finding.upgraded, finding.control
    return (
        f"{finding.kind}, {finding.quantity}: {_value(finding, ours.before)} before, {_value(finding, ours.after)} after "
        f"on {_hosts(ours.hosts)} with the release; {_value(finding, others.before)} and "
        f"{_value(finding, others.after)} on {_hosts(others.hosts)} without; difference {_size(finding, finding.effect)}, "
        f"{_chance(finding.probability)} by chance, {finding.runs[0]} runs or more on each side"
    )


def _everywhere(finding: Finding) -> bool:
    return abs(finding.common) >= (0.2 if finding.relative else 5.0)


def _value(finding: Finding, value: float) -> str:
    return "nothing" if math.isnan(value) else f"{value:.3g} {finding.unit}"


def _size(finding: Finding, size: float) -> str:
    return f"{100 * size:+.1f} %" if finding.relative else f"{size:+.1f} points"


def _hosts(count: int) -> str:
    return f"{count} host" if count == 1 else f"{count} hosts"


def _chance(probability: float) -> str:
    return f"{probability:.2g}" if probability >= 0.001 else "less than 0.001"
