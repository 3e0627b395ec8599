"""How many runs were to be expected: from the schedule as it was, pauses and changes included. Pure.

A test's past definitions follow from the present one and the audit log, walked backwards. Within each stretch in
which the definition stood still, a job is due on its grid; the present stretch takes the grid from the job itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from controller.planning.schedule import grid_origin, phase_us, to_microseconds
from controller.store.queries.report_figures import Ending, Grid
from controller.store.queries.schedules import ScheduleChange, ScheduledJob, ScheduledTest


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A time in which a test's schedule did not change."""

    start: dt.datetime
    end: dt.datetime
    #: None for a test that runs once.
    interval_us: int | None
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    paused: bool
    #: Whether it is the newest, whose grid the jobs have.
    present: bool


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where every run is: `expected - undelivered + beyond == ok + failed + error + missed`."""

    #: Due by the known plan.
    expected: int = 0
    ok: int = 0
    failed: int = 0
    error: int = 0
    missed: int = 0
    #: Received although the known plan did not have them: at the seams of changes.
    beyond: int = 0
    #: "Run now" runs, which are in nothing else here.
    aside: int = 0

    @property
    def received(self) -> int:
        """Runs with a result, whatever it was."""
        return self.ok + self.failed + self.error + self.missed

    @property
    def undelivered(self) -> int:
        """Runs that were due and of which nothing came."""
        return self.expected - (self.received - self.beyond)

    @property
    def measured(self) -> int:
        """Runs that say something about the destination."""
        return self.ok + self.failed

    @property
    def availability(self) -> float | None:
        """Share of measured runs that were ok; None without any."""
        return self.ok / self.measured if self.measured else None

    @property
    def coverage(self) -> float | None:
        """Share of expected runs that were measured; None when none was expected."""
        return min(1.0, self.measured / self.expected) if self.expected else None

    def __add__(self, other: Account) -> Account:
        return Account(**{name: getattr(self, name) + getattr(other, name) for name in self.__dict__})


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
        starts_at=test.starts_at,
        ends_at=test.ends_at,
        paused=test.paused,
        present=True,
    )
    for change in sorted(changes, key=lambda change: change.at, reverse=True):
        if change.at < ends:
            found.append(replace(state, start=max(begins, change.at), end=ends))
            ends = change.at
        state = _before(state, change)
    found.append(replace(state, end=ends))
    return tuple(reversed([stretch for stretch in found if stretch.start < stretch.end]))


def plan_of(test: ScheduledTest, known: Sequence[Stretch], job: ScheduledJob) -> tuple[Grid, ...]:
    """Return the instants at which a job was due."""
    grids = []
    for stretch in known:
        start = max(stretch.start, job.created_at, stretch.starts_at or stretch.start)
        end = min(stretch.end, job.retired_at or stretch.end, stretch.ends_at or stretch.end)
        if job.one_shot:
            # It is due once, wherever its test stood then; its retirement follows from its result.
            start, end = stretch.start, stretch.end
        if start >= end or (stretch.paused and not job.one_shot):
            continue
        if job.one_shot != (stretch.interval_us is None):
            continue
        anchor, interval = _grid(test, stretch, job)
        grids.append(
            Grid(
                start_us=to_microseconds(start),
                end_us=to_microseconds(end),
                anchor_us=anchor,
                interval_us=interval,
            )
        )
    return tuple(grids)


def is_aside(test: ScheduledTest, job: ScheduledJob) -> bool:
    """Whether a job is a "run now", beside the schedule."""
    if not job.one_shot:
        return False
    return test.interval_s is not None or job.anchor_us != to_microseconds(
        grid_origin(test.starts_at, test.created_at)
    )


def count_due(grid: Grid) -> int:
    """Return how many instants of a grid lie in its span."""
    first = max(grid.start_us, grid.anchor_us)
    if not grid.interval_us:
        return int(grid.start_us <= grid.anchor_us < grid.end_us)
    # Whole steps from the anchor to the first instant not before an edge.
    before = -((grid.anchor_us - first) // grid.interval_us)
    until = -((grid.anchor_us - grid.end_us) // grid.interval_us)
    return max(0, until - before)


def account(plan: Iterable[Grid], endings: Iterable[Ending], *, aside: int = 0) -> Account:
    """Return the account of one job from its plan and from how its runs ended."""
    counts = dict.fromkeys(("ok", "failed", "error", "missed"), 0)
    beyond = 0
    for ending in endings:
        counts[ending.status] += ending.count
        beyond += 0 if ending.planned else ending.count
    return Account(expected=sum(count_due(grid) for grid in plan), beyond=beyond, aside=aside, **counts)


def _grid(test: ScheduledTest, stretch: Stretch, job: ScheduledJob) -> tuple[int, int]:
    """Return anchor and interval: the job's own where they still hold, else as planning made them then."""
    if stretch.interval_us is None:
        return job.anchor_us, 0
    same = _interval(test.interval_s) == stretch.interval_us and test.starts_at == stretch.starts_at
    if stretch.present or same:
        return job.anchor_us, job.interval_us
    origin = to_microseconds(grid_origin(stretch.starts_at, test.created_at))
    phase = phase_us(test.id, job.worker_id, job.destination_id, stretch.interval_us)
    return origin + phase, stretch.interval_us


def _before(state: Stretch, change: ScheduleChange) -> Stretch:
    before = change.before
    return replace(
        state,
        interval_us=_interval(before["interval_s"]) if "interval_s" in before else state.interval_us,
        starts_at=_instant(before["starts_at"]) if "starts_at" in before else state.starts_at,
        ends_at=_instant(before["ends_at"]) if "ends_at" in before else state.ends_at,
        paused=bool(before["paused"]) if "paused" in before else state.paused,
        present=False,
    )


def _interval(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000_000)


def _instant(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
