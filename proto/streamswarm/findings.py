"""What a doctor finds: on a worker's host and on the controller alike, for people and for machines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from streamswarm.targets import shown

#: Characters of a text that are shown.
_LONGEST = 1000


class Verdict(str, Enum):
    """How something is."""

    OK = "ok"
    WRONG = "wrong"
    #: It could not be looked at, or nobody can tell from here.
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found."""

    #: What was looked at, such as `gateway 192.0.2.1:7443`.
    check: str
    verdict: Verdict
    #: What is there, in a sentence.
    found: str
    #: How to mend it; empty where there is nothing to mend.
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """Return the finding that something is as it should be."""
    return Finding(check=check, verdict=Verdict.OK, found=found)


def wrong(check: str, found: str, mend: str) -> Finding:
    """Return the finding that something is not as it should be, and how to mend it."""
    return Finding(check=check, verdict=Verdict.WRONG, found=found, mend=mend)


def unknown(check: str, found: str, mend: str = "") -> Finding:
    """Return the finding that nobody can tell, why, and what would help."""
    return Finding(check=check, verdict=Verdict.UNKNOWN, found=found, mend=mend)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 when something is wrong, else 0: what is unknown is no fault."""
    return int(any(finding.verdict is Verdict.WRONG for finding in findings))


def as_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line for each finding and one for its remedy, and last how many of each sort there are."""
    width = max((len(shown(finding.check)) for finding in findings), default=0)
    for finding in findings:
        check = shown(finding.check).ljust(width)
        yield f"{finding.verdict.value:<7}  {check}  {shown(finding.found, _LONGEST)}"
        if finding.mend:
            yield f"{'':<7}  {'':<{width}}  → {shown(finding.mend, _LONGEST)}"
    counts = (
        f"{sum(finding.verdict is verdict for finding in findings)} {verdict.value}" for verdict in Verdict
    )
    yield ", ".join(counts)


def as_json(findings: Sequence[Finding]) -> str:
    """Return `{"wrong": 1, "findings": [{"check", "verdict", "found", "mend"}, …]}`."""
    return json.dumps(
        {
            "wrong": sum(finding.verdict is Verdict.WRONG for finding in findings),
            "findings": [
                {
                    "check": finding.check,
                    "verdict": finding.verdict.value,
                    "found": finding.found,
                    "mend": finding.mend,
                }
                for finding in findings
            ],
        },
        indent=1,
    )
