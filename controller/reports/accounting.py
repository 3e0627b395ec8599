"""How a test was scheduled over the range, for people. Pure.

Its past definitions follow from the present one and the audit log, walked backwards. What was due, and what came of it,
is another matter: `controller.planning.accounts` counts that from the versions of the jobs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from controller.planning.schedule import grid_origin
from controller.store.queries.schedules import ScheduleChange, ScheduledJob, ScheduledTest
from streamswarm.zones import to_microseconds


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A time in which a test's schedule did not change."""

    start: dt.datetime
    end: dt.datetime
    #: None for a test that runs once.
    interval_us: int | None
    paused: bool
    cron: str = ""
    zone: str = "UTC"
    windows: Sequence[Mapping[str, Any]] = ()
    max_runs: int | None = None

    @property
    def interval_s(self) -> float | None:
        """Seconds between runs."""
        return None if self.interval_us is None else self.interval_us / 1_000_000


def stretches(
    test: ScheduledTest, changes: Sequence[ScheduleChange], *, start: dt.datetime, end: dt.datetime
) -> tuple[Stretch, ...]:
    """Return the stretches of [start, end) in which the test was, oldest first."""
    begins, ends = max(start, test.created_at), min(end, test.deleted_at or end)
    found: list[Stretch] = []
    state = Stretch(
        start=begins,
        end=ends,
        interval_us=_interval(test.interval_s),
        paused=test.paused,
        cron=test.cron,
        zone=test.zone,
        windows=test.windows,
        max_runs=test.max_runs,
    )
    for change in sorted(changes, key=lambda change: change.at, reverse=True):
        if change.at < ends:
            found.append(replace(state, start=max(begins, change.at), end=ends))
            ends = change.at
        state = _before(state, change)
    found.append(replace(state, end=ends))
    return tuple(reversed([stretch for stretch in found if stretch.start < stretch.end]))


def is_aside(test: ScheduledTest, job: ScheduledJob) -> bool:
    """Whether a job is a "run now", beside the schedule."""
    if not job.one_shot:
        return False
    return (
        test.interval_s is not None
        or bool(test.cron)
        or job.anchor_us != to_microseconds(grid_origin(test.starts_at, test.created_at))
    )


def _before(state: Stretch, change: ScheduleChange) -> Stretch:
    before = dict(change.before)
    if "interval_s" in before:
        before["interval_us"] = _interval(before.pop("interval_s"))
    return replace(state, **before)


def _interval(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)
