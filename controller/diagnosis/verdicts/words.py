"""The sentence of a verdict."""

from __future__ import annotations

from collections.abc import Sequence

from controller.diagnosis.verdicts.records import Domain, Evidence

_OPENINGS: dict[Domain, str] = {
    "target_fault": "The destination {place} itself is at fault",
    "path_fault": "The network between {workers} and {place} is at fault",
    "vantage_fault": "The host of {workers} is at fault, not what is measured from there",
    "resolver_fault": "Name resolution is at fault",
    "internal": "The worker's software, its policy or the test's definition is at fault",
    "unknown": "Something is wrong, and the evidence does not tell where",
}
#: Names that are spelt out in a sentence.
_MOST_NAMES = 3


def sentence_of(
    domain: Domain,
    strongest: Evidence,
    *,
    workers: Sequence[str],
    bad: int,
    judged: int,
) -> str:
    """Return one sentence: what is at fault, what shows it, and how many jobs of how many see it."""
    job = strongest.job
    place = job.destination_name or job.target or "the worker's host"
    opening = _OPENINGS[domain].format(place=place, workers=_names(workers))
    seen = f", seen by {bad} of {judged} jobs" if judged > 1 else ""
    return f"{opening}{seen}: {strongest.text}."


def _names(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES:
        return f"{len(names)} workers"
    return " and ".join(names) if len(names) < _MOST_NAMES else f"{names[0]}, {names[1]} and {names[2]}"
