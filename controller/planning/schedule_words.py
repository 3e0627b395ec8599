"""Schedules in plain words, for pages and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from controller.quantities import plural, span
from streamswarm import windows


class Scheduled(Protocol):
    """What has a schedule: a test, or how it was for a while."""

    @property
    def interval_s(self) -> float | None: ...
    @property
    def cron(self) -> str: ...
    @property
    def zone(self) -> str: ...
    @property
    def windows(self) -> Sequence[Mapping[str, Any]]: ...
    @property
    def max_runs(self) -> int | None: ...


def pace_words(test: Scheduled) -> str:
    """Return how often a test runs: `every 10 s`, `by cron 30 8 * * 1-5`, `once`."""
    if test.cron:
        return f"by cron {test.cron}"
    return "once" if test.interval_s is None else f"every {span(test.interval_s)}"


def schedule_words(test: Scheduled) -> str:
    """Return the whole schedule but its start and end."""
    words = pace_words(test)
    if test.windows:
        words += "; " + "; ".join(str(window) for window in windows.read(test.windows))
    if test.cron or test.windows:
        words += f" ({test.zone})"
    if test.max_runs is not None:
        words += f"; {plural(test.max_runs, 'run')}"
    return words
