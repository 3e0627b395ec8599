"""How a schedule was over a range, by the audit log; which runs are beside it; the account of runs."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace

from controller.planning.accounts import Account
from controller.planning.schedule_words import schedule_words
from controller.reports.accounting import is_aside, stretches
from controller.store.queries.schedules import ScheduleChange, ScheduledJob, ScheduledTest
from streamswarm.zones import to_microseconds

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


def test_a_run_now_is_beside_the_schedule() -> None:
    """A one-shot job of a test that repeats is, and of a test that runs once any but that of its own instant."""
    once = test_of(interval_s=None)
    shot = job_of(one_shot=True, interval_us=0, retired_at=at(0.1))
    assert not is_aside(once, shot)
    assert is_aside(once, replace(shot, anchor_us=shot.anchor_us + 1))
    assert is_aside(test_of(), shot)
    assert is_aside(test_of(interval_s=None, cron="0 9 * * *"), shot)
    assert not is_aside(test_of(), job_of())


def test_stretches_know_cron_and_windows() -> None:
    """Each field of the schedule is as it was before the change."""
    hours = [{"days": ["mon"], "from": "09:00", "to": "17:00"}]
    changes = [
        ScheduleChange(at=at(3), before={"cron": "0 9 * * *", "zone": "Europe/Berlin", "interval_s": None}),
        ScheduleChange(at=at(5), before={"windows": hours, "max_runs": 5}),
    ]
    first, second, third = stretches(test_of(), changes, start=DAY, end=at(24))
    assert schedule_words(first) == "by cron 0 9 * * *; mon 09:00-17:00 (Europe/Berlin); 5\u00a0runs"
    assert (second.interval_s, second.cron, second.windows, second.max_runs) == (60.0, "", hours, 5)
    assert (third.windows, third.max_runs) == ((), None)


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


def test_the_account_adds_up() -> None:
    """Expected less what was not delivered, and what came beyond the plan, is what was received."""
    found = Account(expected=10, ok=8, failed=2, error=1, missed=1, beyond=3, aside=4)
    assert (found.expected, found.received, found.undelivered, found.beyond) == (10, 12, 1, 3)
    assert found.expected - found.undelivered + found.beyond == found.received
    assert (found.measured, found.availability, found.aside) == (10, 0.8, 4)
    both = found + found
    assert (both.expected, both.ok, both.aside) == (20, 16, 8)
    assert Account().availability is None
    assert Account().coverage is None
