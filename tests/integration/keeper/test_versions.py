"""Versions of jobs go once nothing can ask for them, and reading accounts costs what lies in the range."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session
from support.keepers import World
from support.statements import heard

from controller.keeper import plan
from controller.keeper.prune import prune
from controller.keeper.versions import prune_versions
from controller.planning.accounts import Account
from controller.store import partitions, results
from controller.store.entities import Job, JobVersion, Worker
from controller.store.entities.upkeep import RAW, Expiry
from controller.store.queries import accounts
from controller.store.queries.versions import read_versions
from streamswarm.v1 import probe_pb2

HOUR = dt.timedelta(hours=1)
START = (dt.datetime.now(dt.UTC) - 12 * HOUR).replace(minute=0, second=0, microsecond=0)
MINUTE_US = 60_000_000


@pytest.fixture
def job(engine: Engine, world: World) -> int:
    """A job every minute with a version for each hour since START; the seventh still holds. Results before START + 3 h expired."""
    world.worker("a", jobs_applied=1)
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")], created_at=START - HOUR)
    plan.plan_tests(engine, [test])
    [made] = world.jobs()
    versions(engine, made.id, 7)
    expired(engine, START + 3 * HOUR)
    return made.id


def versions(engine: Engine, job: int, count: int, width: dt.timedelta = HOUR) -> None:
    """Give a job so many versions, one after the other from START on; the last one holds."""
    made = [
        {
            "job_id": job,
            "version": number + 1,
            "valid_from": START + number * width,
            "valid_until": None if number + 1 == count else START + (number + 1) * width,
            "interval_us": MINUTE_US,
            "anchor_us": 0,
        }
        for number in range(count)
    ]
    with Session(engine) as session, session.begin():
        session.query(JobVersion).filter_by(job_id=job).delete()
        session.execute(insert(JobVersion), made)
        session.execute(update(Job).where(Job.id == job).values(version=count))


def expired(engine: Engine, before: dt.datetime) -> None:
    """Write down that results due before an instant have gone."""
    with Session(engine) as session, session.begin():
        session.merge(Expiry(kind="ping", layer=RAW, gone_before=before))


def left(engine: Engine, job: int) -> list[int]:
    """Return the versions of a job that are there."""
    with Session(engine) as session:
        found = select(JobVersion.version).where(JobVersion.job_id == job).order_by(JobVersion.version)
        return list(session.scalars(found))


def store(engine: Engine, job: int, version: int, start: dt.datetime, count: int) -> None:
    """Store the runs of so many minutes from an instant on."""
    instants = [start + dt.timedelta(minutes=number) for number in range(count)]
    with Session(engine) as session, session.begin():
        partitions.ensure_partitions(session.connection(), "ping", {at.date() for at in instants})
        row = {"job_id": job, "job_version": version, "duration_ms": 1.0, "failure_source": 0}
        session.execute(
            insert(results.table("ping")),
            [{**row, "scheduled_at": at, "started_at": at, "status": probe_pb2.STATUS_OK} for at in instants],
        )


def account(engine: Engine, job: int, start: dt.datetime, end: dt.datetime) -> Account:
    """Return the account of the job."""
    with Session(engine) as session:
        return accounts.read_accounts(session, "ping", [job], start=start, end=end).by_job[job]


def test_versions_go_with_the_results_of_their_time(engine: Engine, job: int) -> None:
    """However small the portions; accounts are what they were, and nothing more goes the next time."""
    store(engine, job, 4, START + 3 * HOUR, 50)
    before = account(engine, job, START, START + 7 * HOUR)
    assert (before.expected, before.received) == (4 * 60, 50)
    expired(engine, START + 3 * HOUR - dt.timedelta(seconds=1))
    assert prune_versions(engine, together=1) == 2
    assert left(engine, job) == [3, 4, 5, 6, 7]
    expired(engine, START + 3 * HOUR)
    assert prune(engine)["job_versions"] == 1
    assert prune_versions(engine) == 0
    assert left(engine, job) == [4, 5, 6, 7]
    assert account(engine, job, START + 3 * HOUR, START + 7 * HOUR) == before


def test_what_never_expires_keeps_its_versions(engine: Engine, job: int) -> None:
    """Also where only other kinds have expired, or only roll-ups."""
    with Session(engine) as session, session.begin():
        session.query(Expiry).delete()
        session.add(Expiry(kind="ping", layer="1h", gone_before=START + 9 * HOUR))
        session.add(Expiry(kind="dns", layer=RAW, gone_before=START + 9 * HOUR))
    assert prune_versions(engine) == 0


def test_a_version_that_a_worker_may_still_run_by_stays(engine: Engine, job: int) -> None:
    """Of a worker that was cut off: what it ran by until now was due, whenever that version ended."""
    store(engine, job, 1, START + 3 * HOUR, 60)
    before = account(engine, job, START, START + 4 * HOUR)
    assert (before.expected, before.received, before.beyond) == (60, 60, 0)
    assert prune_versions(engine) == 0
    expired(engine, START + 3.5 * HOUR)
    assert prune_versions(engine) == 0
    store(engine, job, 7, START + 8 * HOUR, 10)
    expired(engine, START + 4 * HOUR)
    assert prune_versions(engine) == 4
    assert left(engine, job) == [5, 6, 7]


@pytest.mark.parametrize(
    ("values", "gone"),
    [
        ({"jobs_revision": 9}, 0),
        ({"spool_records": 10_000}, 0),
        ({"jobs_revision": 9, "revoked_at": func.now()}, 3),
        ({"jobs_revision": 9, "deleted_at": func.now()}, 3),
    ],
    ids=["has not heard of it", "catches up", "revoked", "deleted"],
)
def test_where_nothing_has_come_the_worker_tells(
    engine: Engine, job: int, values: dict[str, Any], gone: int
) -> None:
    """It may come back with what it ran by an old version, unless it may not come back at all."""
    with engine.begin() as connection:
        connection.execute(update(Worker).values(values))
    assert prune_versions(engine) == gone


def test_the_version_of_a_single_run_goes_with_its_result(engine: Engine, world: World, job: int) -> None:
    """It is never closed; the run's job was retired then."""
    [test] = {made.test_id for made in world.jobs()}
    plan.run_now(engine, test, dt.datetime.now(dt.UTC))
    [single] = [made.id for made in world.jobs() if made.one_shot]
    for ago, there in ((2 * HOUR, [1]), (4 * HOUR, [])):
        with engine.begin() as connection:
            retired = update(Job).where(Job.id == single)
            connection.execute(retired.values(retired_at=START + 5 * HOUR - ago))
        prune_versions(engine)
        assert left(engine, single) == there


def test_an_account_reads_the_versions_of_its_range(engine: Engine, job: int) -> None:
    """Of hundreds the few that held then or ran then, with the same statements for any number."""
    with Session(engine) as session, session.begin():
        session.query(Expiry).delete()
    minutes = dt.timedelta(minutes=1)
    versions(engine, job, 600, minutes)
    # Version by version, one run by a version that had ended, and one that was not yet.
    for number in range(120):
        store(engine, job, number + 1, START + number * minutes, 1)
    store(engine, job, 300, START + 310 * minutes, 1)
    store(engine, job, 330, START + 320 * minutes + dt.timedelta(seconds=30), 1)
    with Session(engine) as session:
        some = read_versions(
            session, [job], start=START + 300 * minutes, end=START + 303 * minutes, ran={(job, 2)}
        )
    assert [version.number for version in some[job]] == [2, 301, 302, 303]
    with heard(engine) as for_few:
        few = account(engine, job, START + 319 * minutes, START + 322 * minutes)
    assert (few.expected, few.received, few.beyond) == (3, 1, 1)
    with heard(engine) as for_many:
        many = account(engine, job, START, START + 400 * minutes)
    assert (many.expected, many.received, many.beyond) == (400, 122, 1)
    assert [statement for statement, _ in for_many] == [statement for statement, _ in for_few]
