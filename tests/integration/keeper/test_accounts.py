"""Expected, received, missed and not delivered, against PostgreSQL, right after edits and for any past range."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update
from sqlalchemy.orm import Session
from support.keepers import World

from controller.keeper import plan
from controller.planning.accounts import Account
from controller.store import partitions, results
from controller.store.entities import Drain, Job, JobVersion
from controller.store.entities.upkeep import RAW, Expiry
from controller.store.queries import accounts
from controller.store.schedules import schedule_of
from streamswarm import windows
from streamswarm.v1 import probe_pb2
from streamswarm.zones import from_microseconds, to_microseconds

HOUR = dt.timedelta(hours=1)
START = (dt.datetime.now(dt.UTC) - 12 * HOUR).replace(minute=0, second=0, microsecond=0)


@pytest.fixture
def job(engine: Engine, world: World) -> int:
    """A job every two seconds whose first version began at START, and its second, every minute, an hour later."""
    world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")], created_at=START - HOUR)
    plan.plan_tests(engine, [test])
    world.change(test, interval_s=60.0)
    plan.plan_tests(engine, [test])
    [job] = world.jobs()
    with Session(engine) as session, session.begin():
        for version, edges in (
            (1, {"valid_from": START, "valid_until": START + HOUR}),
            (2, {"valid_from": START + HOUR}),
        ):
            session.execute(
                update(JobVersion)
                .where(JobVersion.job_id == job.id, JobVersion.version == version)
                .values(edges)
            )
    return job.id


def store(engine: Engine, job: int, version: int, start: dt.datetime, count: int, **more: Any) -> None:
    """Store the first runs of a version from an instant on."""
    with Session(engine) as session, session.begin():
        row = session.get_one(JobVersion, (job, version))
        behind = -((row.anchor_us - to_microseconds(start)) // row.interval_us)
        first = row.anchor_us + behind * row.interval_us
        instants = [
            dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=first + n * row.interval_us)
            for n in range(count)
        ]
        partitions.ensure_partitions(session.connection(), "ping", {at.date() for at in instants})
        values = {"duration_ms": 1.0, "failure_source": 0, "status": probe_pb2.STATUS_OK, **more}
        session.execute(
            insert(results.table("ping")),
            [
                {"job_id": job, "job_version": version, "scheduled_at": at, "started_at": at, **values}
                for at in instants
            ],
        )


def account(engine: Engine, job: int, start: dt.datetime, end: dt.datetime) -> Account:
    """Return the account of the job."""
    with Session(engine) as session:
        return accounts.read_accounts(session, "ping", [job], start=start, end=end).by_job[job]


def test_the_past_stays_what_it_was_after_an_edit(engine: Engine, job: int) -> None:
    """1,800 runs in the first hour and 60 in the second, whatever the test says now."""
    store(engine, job, 1, START, 1790)
    store(engine, job, 1, START + HOUR - dt.timedelta(seconds=20), 5, status=probe_pb2.STATUS_MISSED)
    store(engine, job, 2, START + HOUR, 59)
    found = account(engine, job, START, START + 2 * HOUR)
    assert (found.expected, found.ok, found.missed) == (1860, 1849, 5)
    assert (found.undelivered, found.beyond) == (6, 0)
    assert account(engine, job, START, START + HOUR).expected == 1800
    assert account(engine, job, START - HOUR, START).expected == 0
    assert account(engine, job, START + HOUR / 2, START + HOUR + HOUR / 2).expected == 900 + 30


def test_a_worker_that_was_cut_off_is_judged_by_what_it_knew(engine: Engine, job: int) -> None:
    """Half an hour of the old version behind the change: those were due, and the new one counts from there."""
    store(engine, job, 1, START, 2700)
    store(engine, job, 2, START + HOUR * 1.5, 30)
    found = account(engine, job, START, START + 2 * HOUR)
    assert (found.expected, found.received, found.undelivered, found.beyond) == (2730, 2730, 0, 0)


def test_results_of_no_version_are_beyond(engine: Engine, job: int) -> None:
    """Rows that nobody's plan had, put there by hand, are counted apart and hide no gap."""
    store(engine, job, 2, START + HOUR, 60)
    store(engine, job, 2, START + HOUR / 2, 7)
    found = account(engine, job, START + HOUR / 2, START + 2 * HOUR)
    assert (found.expected, found.received, found.beyond, found.undelivered) == (960, 67, 7, 900)


def test_versions_that_are_not_known_are_counted_together(engine: Engine, job: int) -> None:
    """However many a worker names: each would be a line of its own, and thousands of them too much to read."""
    store(engine, job, 1, START, 900)
    for number in range(3, 23):
        store_at(engine, job, number, [START + dt.timedelta(seconds=2 * number + 1)], probe_pb2.STATUS_OK)
    with Session(engine) as session:
        received = accounts._received(session, "ping", [job], start=START, end=START + HOUR)
    assert [(runs.version, runs.count) for runs in received[job]] == [(0, 20), (1, 900)]
    found = account(engine, job, START, START + HOUR)
    assert (found.expected, found.received, found.beyond, found.undelivered) == (1800, 920, 20, 900)


def store_at(engine: Engine, job: int, version: int, instants: Iterable[dt.datetime], status: int) -> None:
    """Store a result of a version at each of these instants."""
    rows: list[dict[str, Any]] = [
        {
            "job_id": job,
            "job_version": version,
            "scheduled_at": at,
            "started_at": at,
            "duration_ms": 1.0,
            "failure_source": 0,
            "status": status,
        }
        for at in instants
    ]
    with Session(engine) as session, session.begin():
        partitions.ensure_partitions(
            session.connection(), "ping", {row["scheduled_at"].date() for row in rows}
        )
        session.execute(insert(results.table("ping")), rows)


def test_results_off_the_grid_are_beyond_and_hide_no_gap(engine: Engine, job: int) -> None:
    """A worker that brings more than was due, most of it at other instants: each run that was due is judged by itself."""
    store(engine, job, 1, START, 900)
    off = [START + dt.timedelta(seconds=2 * number, microseconds=7) for number in range(1500)]
    store_at(engine, job, 1, off, probe_pb2.STATUS_OK)
    store_at(
        engine, job, 2, [START + 2 * HOUR - dt.timedelta(seconds=1, microseconds=3)], probe_pb2.STATUS_MISSED
    )
    found = account(engine, job, START, START + HOUR)
    assert (found.expected, found.received, found.undelivered) == (1800, 2400, 900)
    assert (found.beyond, found.beyond_measured, found.covered) == (1500, 1500, 900)
    assert found.coverage == 0.5
    assert found.expected - found.undelivered + found.beyond == found.received
    whole = account(engine, job, START, START + 2 * HOUR)
    assert (whole.expected, whole.undelivered, whole.beyond, whole.missed) == (1860, 960, 1501, 1)


def test_a_result_off_the_grid_does_not_make_an_old_version_count_on(engine: Engine, job: int) -> None:
    """It says nothing of what its worker has heard of: the next version counts from its beginning."""
    store(engine, job, 2, START + HOUR, 60)
    store_at(engine, job, 1, [START + 1.5 * HOUR + dt.timedelta(microseconds=5)], probe_pb2.STATUS_OK)
    found = account(engine, job, START + HOUR, START + 2 * HOUR)
    assert (found.expected, found.received, found.undelivered, found.beyond) == (60, 61, 0, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"interval_us": 7_000_000},
        {"interval_us": 7_000_000, "windows": [{"from": "00:40", "to": "01:50"}]},
        {"interval_us": 7_000_000, "starts": 20, "ends": 50},
        {"interval_us": 0, "cron": "*/7 * * * *", "anchor_us": 13_000_000},
        {"interval_us": 0, "cron": "5-40 * * * *", "zone": "Asia/Kathmandu", "anchor_us": 0},
        {
            "interval_us": 0,
            "cron": "* * * * *",
            "anchor_us": 1_000_000,
            "windows": [{"from": "11:20", "to": "12:55"}],
            "zone": "Australia/Lord_Howe",
        },
    ],
    ids=["interval", "windows", "start and end", "cron", "cron in a zone", "cron in windows"],
)
def test_what_was_due_is_what_the_schedule_says(engine: Engine, job: int, change: dict[str, Any]) -> None:
    """Whatever the schedule: of results at any instants, those at its own are judged and the others are beyond."""
    begin = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
    change = {"anchor_us": to_microseconds(begin) + 100_500_000, **change}
    edges = {"starts": "starts_at", "ends": "ends_at"}
    values = {
        edges.get(name, name): begin + dt.timedelta(minutes=value) if name in edges else value
        for name, value in change.items()
    }
    if "windows" in values:
        values["windows"] = [window.plain() for window in windows.read(values["windows"])]
    with Session(engine) as session, session.begin():
        session.execute(
            update(JobVersion)
            .where(JobVersion.job_id == job, JobVersion.version == 2)
            .values(valid_from=begin, **values)
        )
        session.execute(
            update(JobVersion)
            .where(JobVersion.job_id == job, JobVersion.version == 1)
            .values(valid_from=begin - 9 * HOUR, valid_until=begin)
        )
        schedule = schedule_of(session.get_one(JobVersion, (job, 2)))
    end = begin + 3 * HOUR
    due = [
        from_microseconds(at) for at in schedule.instants(to_microseconds(begin), to_microseconds(end) - 1)
    ]
    chance = random.Random(4)
    came = set(chance.sample(due, len(due) // 2))
    odd = {begin + dt.timedelta(seconds=chance.randrange(3 * 3600)) for _ in range(400)} - set(due)
    odd |= {at + dt.timedelta(microseconds=1) for at in due[:50]}
    store_at(engine, job, 2, came, probe_pb2.STATUS_FAILED)
    store_at(engine, job, 2, odd, probe_pb2.STATUS_OK)
    found = account(engine, job, begin, end)
    assert (found.expected, found.beyond, found.undelivered) == (len(due), len(odd), len(due) - len(came))
    assert (found.failed, found.ok, found.covered) == (len(came), len(odd), len(came))


def test_runs_whose_results_have_expired_are_not_called_undelivered(engine: Engine, job: int) -> None:
    """Half of the first hour has gone: what is left counts, and the account says from when on it does."""
    half = START + HOUR / 2
    store(engine, job, 1, half, 900)
    store(engine, job, 2, START + HOUR, 60)
    with Session(engine) as session, session.begin():
        session.add(Expiry(kind="ping", layer="1h", gone_before=START + 2 * HOUR))
        session.add(Expiry(kind="dns", layer=RAW, gone_before=START + 2 * HOUR))
        session.flush()
        untouched = accounts.read_accounts(session, "ping", [job], start=START, end=START + 2 * HOUR)
        session.add(Expiry(kind="ping", layer=RAW, gone_before=half))
    assert (untouched.counted_from, untouched.by_job[job].undelivered) == (START, 900)
    with Session(engine) as session:
        across = accounts.read_accounts(session, "ping", [job], start=START, end=START + 2 * HOUR)
        behind = accounts.read_accounts(session, "ping", [job], start=half + HOUR / 4, end=START + HOUR)
        before = accounts.read_accounts(session, "ping", [job], start=START, end=START + HOUR / 4)
    assert across.counted_from == half
    found = across.by_job[job]
    assert (found.expected, found.received, found.undelivered, found.beyond) == (960, 960, 0, 0)
    assert (behind.counted_from, behind.by_job[job].expected) == (half + HOUR / 4, 450)
    assert (before.counted_from, before.by_job[job]) == (half, Account())


def test_a_test_has_the_accounts_of_its_jobs(engine: Engine, world: World, job: int) -> None:
    """By worker, live ones always, retired ones while they have runs in the range, "run now" never."""
    with Session(engine) as session:
        test = session.scalars(select(results.Base.metadata.tables["jobs"].c.test_id)).first()
    assert test is not None
    plan.run_now(engine, test, dt.datetime.now(dt.UTC))
    world.change(test, deleted_at=dt.datetime.now(dt.UTC))
    plan.plan_tests(engine, [test])
    with Session(engine) as session:
        past = accounts.of_test(session, test, "ping", start=START, end=START + HOUR)
        before = accounts.of_test(session, test, "ping", start=START - HOUR, end=START)
    assert [(item.job_id, item.live, item.account.expected) for item in past.items] == [(job, False, 1800)]
    assert before.items == ()


def test_runs_of_a_drained_worker_are_accounted_apart(engine: Engine, job: int) -> None:
    """A quarter of an hour of the first hour, and the whole of the second, in which it is drained still."""
    store(engine, job, 1, START, 900)
    store(engine, job, 1, START + HOUR * 0.75, 450)
    with Session(engine) as session, session.begin():
        worker = session.get_one(Job, job).worker_id
        for since, until in ((HOUR / 2, START + HOUR * 0.75), (HOUR, None)):
            session.add(Drain(worker_id=worker, since=START + since, until=until, made_by="user:ada"))
    found = account(engine, job, START, START + 2 * HOUR)
    assert (found.expected, found.received, found.undelivered, found.drained) == (1350, 1350, 0, 450 + 60)
