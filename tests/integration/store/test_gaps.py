"""Gaps of lines in the database: judged by what was due then, whatever the schedule is now and whatever layer serves."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from controller.store import partitions, results, rollups
from controller.store.entities import Destination, Job, JobVersion, Test, Worker
from controller.store.queries import accounts
from controller.store.queries.results import Line, Series, lines, read_plans, series
from controller.store.rollups import DAY, rolling
from streamswarm.schedules import Schedule
from streamswarm.zones import from_microseconds, to_microseconds

MIDNIGHT = rollups.floor(dt.datetime.now(dt.UTC), DAY.width)
MINUTE = dt.timedelta(minutes=1)
TEN_S, TEN_MIN = {"interval_us": 10_000_000}, {"interval_us": 600_000_000}
OFFICE = {"cron": "*/5 8-17 * * *"}


def day(number: int, hour: float = 0) -> dt.datetime:
    """Return an hour of a day, UTC: day 0 is eight days ago."""
    return MIDNIGHT + dt.timedelta(days=number - 8, hours=hour)


@dataclass
class Course:
    """One job's versions and runs."""

    engine: Engine
    job: int

    def version(self, number: int, since: dt.datetime, until: dt.datetime | None, **schedule: Any) -> None:
        """Add a version; the last is that of the job."""
        values = {"interval_us": 0, "anchor_us": 0, **schedule}
        with Session(self.engine) as session, session.begin():
            session.add(
                JobVersion(job_id=self.job, version=number, valid_from=since, valid_until=until, **values)
            )
            job = session.get_one(Job, self.job)
            job.version = number
            for name, value in values.items():
                setattr(job, name, value)

    def runs(
        self, schedule: dict[str, Any], first: dt.datetime, last: dt.datetime, *, version: int = 1
    ) -> None:
        """Add a run at each of a schedule's instants in [first, last)."""
        due = Schedule(anchor_us=0, **schedule).instants(to_microseconds(first), to_microseconds(last) - 1)
        rows = [
            {
                "job_id": self.job,
                "scheduled_at": at,
                "started_at": at,
                "duration_ms": 1.0,
                "job_version": version,
                "status": 1,
                "failure_source": 0,
                "rtt_avg_ms": 1.0,
            }
            for at in map(from_microseconds, due)
        ]
        with self.engine.begin() as connection:
            connection.execute(insert(results.table("ping")), rows)

    @property
    def line(self) -> Line:
        """The line of the job."""
        with Session(self.engine) as session:
            (line,) = lines(session)
            return line

    def series(self, start: dt.datetime, end: dt.datetime) -> Series:
        """Read its round-trip times."""
        line = self.line
        with Session(self.engine) as session:
            plan = read_plans(session, [line], start=start, end=end)[line]
            return series(session, "ping", "rtt_avg_ms", line.job_ids, start=start, end=end, plan=plan)

    def empty(self, start: dt.datetime, end: dt.datetime) -> list[tuple[str | None, dt.datetime]]:
        """Return the empty points, each with its reason."""
        return [(point.gap, point.at) for point in self.series(start, end).points if not point.count]


@pytest.fixture
def course(engine: Engine) -> Course:
    """A job of which nothing is known yet."""
    with Session(engine) as session, session.begin():
        worker, place = Worker(name="berlin", host_name="berlin"), Destination(name="d", address="192.0.2.1")
        test = Test(name="t", kind="ping", spec={}, interval_s=10)
        session.add_all([worker, place, test])
        session.flush()
        job = Job(
            test_id=test.id,
            worker_id=worker.id,
            destination_id=place.id,
            kind="ping",
            spec={},
            target="192.0.2.1",
            created_at=day(0),
            interval_us=10_000_000,
            anchor_us=0,
        )
        session.add(job)
        session.flush()
        number = job.id
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [day(each).date() for each in range(9)])
    return Course(engine=engine, job=number)


def reasons(found: Iterable[tuple[str | None, dt.datetime]]) -> set[str | None]:
    """Return which reasons there are."""
    return {reason for reason, _ in found}


@pytest.fixture(params=[False, True], ids=["results", "roll-ups"])
def served(request: pytest.FixtureRequest, engine: Engine) -> Callable[[], None]:
    """What the layer that serves needs before it is asked."""
    return (lambda: rolling.roll_up(engine, "ping") and None) if request.param else lambda: None


def test_a_week_of_working_hours_is_not_drawn_by_days(course: Course, served: Callable[[], None]) -> None:
    """Its buckets are those that a week has room for; nights are rests, and a morning without runs is missing."""
    course.version(1, day(0), None, **OFFICE)
    course.runs(OFFICE, day(0), day(4))
    course.runs(OFFICE, day(4, 11), day(7))
    served()
    week = course.series(day(0), day(7))
    assert week.bucket_s == 1800
    by_reason: dict[str | None, list[dt.datetime]] = {}
    for point in week.points:
        by_reason.setdefault(point.gap, []).append(point.at)
    assert by_reason["missing"] == [day(4, 8 + half / 2) for half in range(6)]
    assert len(by_reason[None]) == 7 * 20 - 6
    assert all(not 8 <= at.hour < 18 for at in by_reason["rest"])
    assert len(by_reason["rest"]) == 7 * 28
    two_days = course.series(day(4), day(5, 12))
    assert two_days.bucket_s is None
    assert [(point.gap, point.at) for point in two_days.points if point.gap] == [
        ("rest", day(4)),
        ("missing", day(4, 8)),
        ("rest", day(4, 18)),
    ]


@pytest.mark.parametrize(("before", "after"), [(TEN_S, TEN_MIN), (TEN_MIN, TEN_S)], ids=["slower", "faster"])
def test_an_edit_leaves_the_past_as_it_was(
    course: Course, served: Callable[[], None], before: dict[str, int], after: dict[str, int]
) -> None:
    """Minutes without runs lack while they were due every ten seconds, and are none while every ten minutes."""
    changed = day(5)
    course.version(1, day(0), changed, **before)
    course.version(2, changed, None, **after)
    for schedule, first, number in ((before, day(4, 22), 1), (after, changed, 2)):
        course.runs(schedule, first, first + 65 * MINUTE, version=number)
        course.runs(schedule, first + 75 * MINUTE, first + 120 * MINUTE, version=number)
    served()
    for schedule, begin in ((before, day(4, 22)), (after, changed)):
        hole = [
            ("missing", begin + 65 * MINUTE + (dt.timedelta(0) if schedule is TEN_S else 5 * MINUTE)),
        ]
        # Single runs around the hole, and buckets of both hours.
        assert course.empty(begin + 50 * MINUTE, begin + 100 * MINUTE) == hole
        wide = course.series(begin, begin + 120 * MINUTE)
        lacking = [point.at for point in wide.points if point.gap == "missing"]
        assert reasons((point.gap, point.at) for point in wide.points) == {None, "missing"}
        if schedule is TEN_S:
            assert wide.bucket_s == 15
            assert lacking == [begin + 65 * MINUTE + number * MINUTE / 4 for number in range(40)]
        else:
            assert (wide.bucket_s, lacking) == (None, [hole[0][1]])


def test_a_worker_that_has_not_heard_lacks_nothing_in_buckets(
    course: Course, served: Callable[[], None]
) -> None:
    """It went on by the old version for a day, over the beginning of the range too; what fell to nobody then lacks."""
    course.version(1, day(0), day(1), **TEN_MIN)
    course.version(2, day(1), None, **TEN_S)
    course.runs(TEN_MIN, day(0), day(2), version=1)
    course.runs(TEN_S, day(2), day(2, 6), version=2)
    served()
    for start, end in ((day(0, 16), day(2, 1)), (day(1, 12), day(2, 6))):
        found = course.series(start, end)
        assert found.bucket_s == 300
        assert [(point.gap, point.at) for point in found.points if point.gap] == [
            ("missing", day(2) - 5 * MINUTE)
        ]
    after = course.empty(day(1, 20), day(2, 7))
    assert reasons(after) == {"missing"}
    assert [at for _, at in after if at < day(2, 6)] == [
        day(2) - minutes * MINUTE for minutes in (8, 6, 4, 2)
    ]


def test_missing_runs_are_those_that_accounts_call_undelivered(course: Course) -> None:
    """Of single runs over an edit that the worker heard of late, and an outage."""
    course.version(1, day(3), day(3, 1), **TEN_MIN)
    course.version(2, day(3, 1), None, interval_us=60_000_000)
    course.runs(TEN_MIN, day(3), day(3, 2), version=1)
    course.runs({"interval_us": 60_000_000}, day(3, 2.5), day(3, 5), version=2)
    span = {"start": day(3), "end": day(3, 6)}
    with Session(course.engine) as session:
        found = accounts.read_accounts(session, "ping", [course.job], **span).by_job[course.job]
    # Between the two: half an hour by the new version and the nine minutes behind its last run by the old one.
    assert found.undelivered == 9 + 30 + 60
    assert course.empty(**span) == [("missing", day(3, 1) + 51 * MINUTE), ("missing", day(3, 5))]


def test_pauses_and_retirement_are_rests(course: Course) -> None:
    """A pause of a day, and the time after the job has gone."""
    course.version(1, day(0), day(1), **TEN_MIN)
    course.version(2, day(1), day(2), **TEN_MIN, paused=True)
    course.version(3, day(2), day(3), **TEN_MIN)
    course.runs(TEN_MIN, day(0), day(1))
    course.runs(TEN_MIN, day(2), day(3), version=3)
    assert course.empty(day(0), day(3, 12)) == [("rest", day(1)), ("rest", day(3))]


def test_beyond_the_versions_nothing_is_claimed(course: Course) -> None:
    """Where versions have gone with their results, buckets without runs are neither missing nor a rest."""
    course.version(1, day(0), day(3), **TEN_S)
    course.version(2, day(3), None, **TEN_MIN)
    course.runs(TEN_MIN, day(0, 6), day(1))
    course.runs(TEN_MIN, day(2), day(5), version=2)
    rolling.roll_up(course.engine, "ping")
    with course.engine.begin() as connection:
        connection.execute(text("DELETE FROM result_ping WHERE scheduled_at < :at"), {"at": day(3)})
        connection.execute(text("DELETE FROM job_versions WHERE version = 1"))
        connection.execute(
            text("INSERT INTO expiries (kind, layer, gone_before) VALUES ('ping', 'raw', :at)"),
            {"at": day(3)},
        )
    found = course.empty(day(-1), day(6))
    assert [at for reason, at in found if reason == "rest"] == [day(-1, hour) for hour in range(24)]
    unknown = [day(0, hour) for hour in range(6)] + [day(1, hour) for hour in range(24)]
    assert [at for reason, at in found if reason == "unknown"] == unknown
    assert [at for reason, at in found if reason == "missing"] == [day(5, hour) for hour in range(24)]


def test_what_is_due_now_does_not_lack_yet(course: Course) -> None:
    """The last minute's runs may be under way; what was due before a run that came lacks for good."""
    now = dt.datetime.now(dt.UTC)
    course.version(1, day(0), None, **TEN_S)
    begin = rollups.floor(now, dt.timedelta(seconds=10)) - 10 * MINUTE
    course.runs(TEN_S, begin, begin + 9 * MINUTE + dt.timedelta(seconds=30))
    assert course.empty(begin, now + MINUTE) == []
    course.runs(TEN_S, now - dt.timedelta(seconds=10), now)
    (gap,) = course.empty(begin, now + MINUTE)
    assert gap == ("missing", begin + 9 * MINUTE + dt.timedelta(seconds=30))
