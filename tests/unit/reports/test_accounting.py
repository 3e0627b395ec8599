"""What was to be expected: grids, pauses, changes of the schedule, late starts, runs beside the plan."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace

from hypothesis import given, strategies

from controller.planning.schedule import phase_us, to_microseconds
from controller.reports.accounting import Account, account, count_due, is_aside, plan_of, stretches
from controller.store.queries.report_figures import Ending, Grid
from controller.store.queries.schedules import ScheduleChange, ScheduledJob, ScheduledTest

DAY = dt.datetime(2026, 5, 12, tzinfo=dt.UTC)
WORKER = uuid.UUID(int=7)


def at(hours: float) -> dt.datetime:
    """Return an instant of the day."""
    return DAY + dt.timedelta(hours=hours)


def test_of(**more: object) -> ScheduledTest:
    """A test, every minute, made at midnight."""
    values = {
        "id": 1, "name": "T", "description": "", "kind": "ping", "interval_s": 60.0, "starts_at": None,
        "ends_at": None, "paused": False, "created_at": DAY, "deleted_at": None,
    }  # fmt: skip
    return ScheduledTest(**(values | more))  # type: ignore[arg-type]


test_of.__test__ = False  # type: ignore[attr-defined]


def job_of(**more: object) -> ScheduledJob:
    """A job of it, due at every full minute."""
    values = {
        "id": 1, "worker_id": WORKER, "worker_name": "w", "destination_id": 2, "destination_name": "d",
        "target": "192.0.2.1", "interval_us": 60_000_000, "anchor_us": to_microseconds(DAY), "one_shot": False,
        "created_at": DAY, "retired_at": None,
    }  # fmt: skip
    return ScheduledJob(**(values | more))  # type: ignore[arg-type]


def expected(test: ScheduledTest, job: ScheduledJob, *changes: ScheduleChange, hours: float = 24) -> int:
    """Count what was due from midnight on."""
    known = stretches(test, changes, start=DAY, end=at(hours))
    return sum(count_due(grid) for grid in plan_of(test, known, job))


@given(
    anchor=strategies.integers(-50, 50),
    interval=strategies.integers(1, 30),
    start=strategies.integers(-60, 60),
    length=strategies.integers(0, 90),
)
def test_instants_are_counted_as_a_worker_would_meet_them(
    anchor: int, interval: int, start: int, length: int
) -> None:
    """The formula counts the same instants as walking over the grid: none before the anchor, the end left out."""
    end = start + length
    grid = Grid(start_us=start, end_us=end, anchor_us=anchor, interval_us=interval)
    assert count_due(grid) == sum(start <= anchor + n * interval < end for n in range(200))


def test_a_quiet_day() -> None:
    """A run a minute is 1,440 runs; a job that came late, went early or starts later has fewer."""
    assert expected(test_of(), job_of()) == 1440
    assert expected(test_of(), job_of(created_at=at(6))) == 18 * 60
    assert expected(test_of(), job_of(retired_at=at(6))) == 6 * 60
    assert expected(test_of(starts_at=at(20)), job_of(anchor_us=to_microseconds(at(20)))) == 4 * 60
    assert expected(test_of(ends_at=at(1)), job_of()) == 60
    assert expected(test_of(deleted_at=at(2)), job_of()) == 2 * 60
    assert expected(test_of(created_at=at(-48)), job_of()) == 1440


def test_nothing_is_due_in_a_pause() -> None:
    """Pause and resumption follow from the audit log, whatever the test is now."""
    pause = ScheduleChange(at=at(3), before={"paused": False})
    resume = ScheduleChange(at=at(5), before={"paused": True})
    assert expected(test_of(), job_of(), pause, resume) == 22 * 60
    assert expected(test_of(paused=True), job_of(), pause) == 3 * 60
    again = ScheduleChange(at=at(10), before={"paused": False})
    assert expected(test_of(paused=True), job_of(), again, resume, pause) == 8 * 60


def test_an_older_interval_is_counted_on_its_own_grid() -> None:
    """Before a change the job was due on the grid that planning made then, with its own phase."""
    change = ScheduleChange(at=at(12), before={"interval_s": 600.0})
    test, job = test_of(), job_of()
    first, second = plan_of(test, stretches(test, [change], start=DAY, end=at(24)), job)
    assert (second.anchor_us, second.interval_us) == (job.anchor_us, job.interval_us)
    assert first.interval_us == 600_000_000
    assert first.anchor_us == to_microseconds(DAY) + phase_us(1, WORKER, 2, 600_000_000)
    assert expected(test, job, change) == 12 * 6 + 12 * 60


def test_a_test_that_once_ran_once() -> None:
    """While a test had no interval a scheduled job was not due; a one-shot job is due at its instant alone."""
    change = ScheduleChange(at=at(12), before={"interval_s": None})
    assert expected(test_of(), job_of(), change) == 12 * 60
    once = test_of(interval_s=None)
    shot = job_of(one_shot=True, interval_us=0, retired_at=at(0.1))
    assert expected(once, shot) == 1
    assert not is_aside(once, shot)
    assert is_aside(once, replace(shot, anchor_us=shot.anchor_us + 1))
    assert is_aside(test_of(), shot)
    assert not is_aside(test_of(), job_of())


def test_stretches_cover_the_range_without_overlap() -> None:
    """Two changes in the range and one after it make three stretches that meet."""
    changes = [
        ScheduleChange(at=at(30), before={"interval_s": 60.0}),
        ScheduleChange(at=at(3), before={"paused": False}),
        ScheduleChange(at=at(5), before={"paused": True}),
    ]
    found = stretches(test_of(interval_s=5.0, created_at=at(-1)), changes, start=DAY, end=at(24))
    assert [(stretch.start, stretch.end) for stretch in found] == [
        (DAY, at(3)),
        (at(3), at(5)),
        (at(5), at(24)),
    ]
    assert [stretch.interval_us for stretch in found] == [60_000_000] * 3
    assert [stretch.paused for stretch in found] == [False, True, False]
    assert not any(stretch.present for stretch in found)


def test_the_account_adds_up() -> None:
    """Expected less what was not delivered, and what came beyond the plan, is what was received."""
    grid = Grid(start_us=0, end_us=100, anchor_us=0, interval_us=10)
    endings = [
        Ending(status="ok", source="none", planned=True, count=5),
        Ending(status="failed", source="network", planned=True, count=2),
        Ending(status="error", source="vantage", planned=True, count=1),
        Ending(status="missed", source="schedule", planned=True, count=1),
        Ending(status="ok", source="none", planned=False, count=3),
    ]
    found = account([grid], endings, aside=4)
    assert (found.expected, found.received, found.undelivered, found.beyond) == (10, 12, 1, 3)
    assert found.expected - found.undelivered + found.beyond == found.received
    assert (found.measured, found.availability, found.aside) == (10, 0.8, 4)
    both = found + found
    assert (both.expected, both.ok, both.aside) == (20, 16, 8)
    assert Account().availability is None
    assert Account().coverage is None
