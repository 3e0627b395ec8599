"""The latest runs that did not end well: found by an index that each day has, whatever else there is."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session
from support.statements import heard

from controller.settings import Settings
from controller.store import partitions, results, revisions, schema
from controller.store.engine import make_engine
from controller.store.entities import Job, Test, Worker
from controller.store.queries import pages
from controller.store.upkeep import rewriting
from controller.store.upkeep.rewriting import Day
from streamswarm.v1 import probe_pb2

WITHIN = dt.timedelta(minutes=15)
TODAY = dt.datetime.now(dt.UTC).date()


@pytest.fixture
def jobs(engine: Engine) -> list[int]:
    """Jobs of a test, with partitions for their runs."""
    with engine.begin() as connection:
        partitions.ensure_partitions(
            connection, "ping", partitions.days_around(dt.datetime.now(dt.UTC), ahead=1)
        )
    with Session(engine) as session, session.begin():
        made = []
        test = Test(name="p", kind="ping", spec={}, interval_s=1)
        session.add(test)
        for number in range(20):
            worker = Worker(name=f"w{number}", host_name=f"w{number}")
            session.add(worker)
            session.flush()
            job = Job(
                test_id=test.id, worker_id=worker.id, kind="ping", spec={}, interval_us=1_000_000, anchor_us=0
            )
            session.add(job)
            session.flush()
            made.append(job.id)
    return made


def run(engine: Engine, job: int, ago_s: float, status: int = probe_pb2.STATUS_FAILED) -> None:
    """Store a run that was due so long ago."""
    with engine.begin() as connection:
        at: dt.datetime = connection.execute(select(func.now())).scalar_one() - dt.timedelta(seconds=ago_s)
        row = {"job_id": job, "job_version": 1, "scheduled_at": at, "started_at": at, "duration_ms": 1.0}
        connection.execute(insert(results.table("ping")), [{**row, "status": status, "failure_source": 1}])


def failures(engine: Engine, limit: int = 8) -> list[int]:
    """Return the jobs of the latest failures."""
    with Session(engine) as session:
        return [found.job_id for found in pages.recent_failures(session, within=WITHIN, limit=limit)]


def test_three_of_a_job_at_the_most_and_the_newest_first(engine: Engine, jobs: list[int]) -> None:
    """Whatever went wrong; nothing of jobs and tests that are gone, nothing older, nothing that was well."""
    for ago in range(10, 60, 10):
        run(engine, jobs[0], ago)
    run(engine, jobs[1], 35, probe_pb2.STATUS_MISSED)
    run(engine, jobs[2], 120, probe_pb2.STATUS_ERROR)
    run(engine, jobs[3], 5, probe_pb2.STATUS_OK)
    run(engine, jobs[4], 901)
    run(engine, jobs[5], 15)
    with engine.begin() as connection:
        connection.execute(update(Job).where(Job.id == jobs[5]).values(retired_at=func.now()))
    first, second, third = jobs[:3]
    assert failures(engine) == [first, first, first, second, third]
    assert failures(engine, limit=4) == [first, first, first, second]
    with engine.begin() as connection:
        connection.execute(update(Test).values(deleted_at=func.now()))
    assert failures(engine) == []


def test_what_is_read_does_not_grow_with_what_was_well(engine: Engine, jobs: list[int]) -> None:
    """Of thousands of runs the few that are shown; the failures of one test as well."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) SELECT job, at, at, 1, 1, 1, 0 FROM unnest(CAST(:jobs AS bigint[])) AS job, "
                "generate_series(now() - interval '15 minutes', now(), interval '1 s') AS at"
            ),
            {"jobs": jobs},
        )
    for job in jobs[:5]:
        run(engine, job, 30.5)
    with engine.begin() as connection:
        connection.execute(text("ANALYZE result_ping"))
    with heard(engine) as everything, Session(engine) as session:
        test = session.scalars(select(Test.id)).one()
        assert len(pages.recent_failures(session, within=WITHIN, limit=8)) == 5
        assert len(pages.newest_runs(session, "ping", test, limit=8, only_bad=True)) == 5
    asked = [each for each in everything if "result_ping" in each[0]]
    assert len(asked) == 2
    for statement, values in asked:
        assert read(engine, statement, values) < 100


def read(engine: Engine, statement: str, values: Any) -> float:
    """Return how many rows of results a statement looks at."""
    with engine.connect() as connection:
        explained = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", values
        ).scalar_one()
    return _rows((json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"])


def _rows(node: dict[str, Any]) -> float:
    own = 0.0
    if node.get("Relation Name", "").startswith("result_ping"):
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return own + sum(_rows(child) for child in node.get("Plans", ()))


def indexed(engine: Engine) -> set[str]:
    """Return the partitions that have the index."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT tablename FROM pg_indexes WHERE indexdef LIKE '%status <> 1%'")
        )
        return set(found.scalars())


def indexes(engine: Engine, partition: str) -> set[str]:
    """Return the names of a partition's indexes."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT indexname FROM pg_indexes WHERE tablename = :name"), {"name": partition}
        )
        return set(found.scalars())


def test_a_day_that_is_rewritten_keeps_it(engine: Engine, jobs: list[int]) -> None:
    """All tables that have a status have the index; a day also after it was rewritten twice, by its usual name."""
    day = TODAY - dt.timedelta(days=2)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "system", [TODAY])
    assert partitions.partition_name("result_system", TODAY) in indexed(engine)
    assert partitions.partition_name("result_system_interfaces", TODAY) not in indexed(engine)
    run(engine, jobs[0], 2 * 86_400)
    assert f"result_ping_{day:%Y_%m_%d}" in indexed(engine)
    for _ in range(2):
        rewriting.rewrite(engine, Day(table="result_ping", day=day))
        assert indexes(engine, f"result_ping_{day:%Y_%m_%d}") == {
            f"result_ping_{day:%Y_%m_%d}_bad",
            f"result_ping_{day:%Y_%m_%d}_pkey",
        }
    assert f"result_ping_{day:%Y_%m_%d}" in indexed(engine)


def test_the_days_that_are_there_get_it_with_the_migration(empty_postgres_url: str) -> None:
    """Today and those to come; nobody asks for the latest failures of days before."""
    settings = Settings(database_url=empty_postgres_url)
    engine = make_engine(settings, application="test")
    today = dt.datetime.now(dt.UTC).date()
    days = [today + dt.timedelta(days=offset) for offset in (-1, 0, 1)]
    with engine.begin() as connection:
        revisions.bring(connection, "0007")
        for day in days:
            create, *_, attach = partitions.partition_statements("result_ping", day)
            connection.execute(text(create))
            connection.execute(text(attach))
    assert indexed(engine) == set()
    schema.upgrade(settings)
    assert indexed(engine) == {partitions.partition_name("result_ping", day) for day in days[1:]}
    engine.dispose()
