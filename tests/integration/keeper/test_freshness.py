"""Scheduled but not delivered: noticed once, cleared by itself, and no alarm for what is somebody else's matter."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, text, update
from sqlalchemy.orm import Session
from support.keepers import World
from support.leaping import leap

from controller.keeper import freshness, plan
from controller.keeper.freshness import Look
from controller.store import health, partitions, results
from controller.store.entities import Backlog, Job, JobVersion, Mark, OverdueJob, Worker
from streamswarm.v1 import probe_pb2

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def job(engine: Engine, world: World) -> int:
    """A job every two seconds on a worker that has been connected for an hour."""
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "gateway@here")
    worker = world.worker("a", gateway_id=gateway, connected_at=dt.datetime.now(dt.UTC) - HOUR)
    test = world.test(
        "p", "ping", [world.destination("x", "192.0.2.1")], created_at=dt.datetime.now(dt.UTC) - 2 * HOUR
    )
    plan.plan_tests(engine, [test])
    with engine.begin() as connection:
        connection.execute(update(JobVersion).values(valid_from=func.now() - HOUR))
    [made] = world.jobs()
    assert made.worker_id == worker
    return made.id


def deliver(engine: Engine, job: int, ago: dt.timedelta) -> dt.datetime:
    """Store the result of a run that was due so long ago; return when that was."""
    at = dt.datetime.now(dt.UTC) - ago
    with Session(engine) as session, session.begin():
        partitions.ensure_partitions(session.connection(), "ping", {at.date()})
        row = {"job_id": job, "job_version": 1, "scheduled_at": at, "started_at": at, "duration_ms": 1.0}
        session.execute(
            insert(results.table("ping")), [{**row, "status": probe_pb2.STATUS_OK, "failure_source": 0}]
        )
    return at


def since(engine: Engine) -> dt.datetime:
    """Return since when the one job that is noted has delivered nothing."""
    with Session(engine) as session:
        return session.scalars(select(OverdueJob.due_at)).one()


def overdue(engine: Engine) -> list[int]:
    """Return the jobs that are noted."""
    with Session(engine) as session:
        return list(session.scalars(select(OverdueJob.job_id)))


def look_again(engine: Engine) -> Look:
    """Look as if a minute had passed since the last time."""
    with engine.begin() as connection:
        connection.execute(update(Mark).values(until=Mark.until - dt.timedelta(minutes=1)))
    return freshness.look(engine)


def test_what_does_not_come_is_noticed_once_and_cleared_when_it_comes(engine: Engine, job: int) -> None:
    """With the first instant that lacks; a look at once, or by a second keeper, changes nothing."""
    last = deliver(engine, job, dt.timedelta(seconds=100))
    assert freshness.look(engine).noticed == 1
    first = since(engine)
    assert dt.timedelta(0) < first - last <= dt.timedelta(seconds=2)
    assert freshness.look(engine).noticed == 0
    assert look_again(engine).noticed == 0
    assert since(engine) == first
    deliver(engine, job, dt.timedelta(seconds=20))
    assert freshness.look(engine).cleared == 1
    assert overdue(engine) == []


def test_a_clock_that_leaps_and_is_set_back_neither_blinds_nor_accuses(engine: Engine, job: int) -> None:
    """The database's, by two months: what was looked at then is still to come, and what lacked then was never due."""
    deliver(engine, job, dt.timedelta(seconds=1))
    assert freshness.look(engine).noticed == 0
    leap(engine, dt.timedelta(days=60))
    with engine.begin() as connection:
        connection.execute(update(Worker).values(connected_at=func.now() - HOUR))
    assert freshness.look(engine).noticed == 1
    leap(engine, dt.timedelta(0))
    with engine.begin() as connection:
        connection.execute(update(Worker).values(connected_at=func.now() - HOUR))
    deliver(engine, job, dt.timedelta(seconds=1))
    assert freshness.look(engine).cleared == 1
    assert overdue(engine) == []
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM result_ping"))
    assert look_again(engine).noticed == 1


def test_a_result_of_tomorrow_silences_nothing(engine: Engine, job: int) -> None:
    """A clock that was wrong for a moment has left a result a day ahead: what does not come is noticed all the same."""
    deliver(engine, job, -HOUR * 23)
    assert freshness.look(engine).noticed == 1
    assert look_again(engine).cleared == 0
    assert overdue(engine) == [job]
    deliver(engine, job, dt.timedelta(seconds=1))
    assert look_again(engine).cleared == 1


def test_after_a_pause_of_the_keepers_the_first_instant_that_lacks_is_told(
    engine: Engine, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the last of the stretch: the one after the latest result, or from when on something was expected at all."""
    with engine.begin() as connection:
        connection.execute(insert(Mark).values(name="freshness", until=func.now() - HOUR / 2))
    last = deliver(engine, job, HOUR / 3)
    assert freshness.look(engine).noticed == 1
    assert dt.timedelta(0) < since(engine) - last <= dt.timedelta(seconds=2)
    for table in ("result_ping", "overdue_jobs"):
        with engine.begin() as connection:
            connection.execute(text(f"DELETE FROM {table}"))
    assert look_again(engine).noticed == 1
    # Its worker has been connected for an hour, and is given a minute.
    settled = dt.datetime.now(dt.UTC) - HOUR + freshness.SETTLING
    assert abs(since(engine) - settled) < dt.timedelta(seconds=20)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM overdue_jobs"))
    monkeypatch.setattr(freshness, "_LONGEST_LOOK", HOUR / 4)
    assert look_again(engine).noticed == 1
    assert abs(dt.datetime.now(dt.UTC) - HOUR / 4 - since(engine)) < dt.timedelta(seconds=20)


def test_what_delivers_is_left_in_peace(engine: Engine, job: int) -> None:
    """A late result within the grace is no alarm, and neither is one that was missed with its reason."""
    deliver(engine, job, dt.timedelta(seconds=25))
    assert freshness.look(engine) == Look(due=1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE workers SET gateway_id = NULL",
        "UPDATE workers SET connected_at = now() - interval '40 seconds'",
        "UPDATE workers SET spool_records = 100000",
        "UPDATE workers SET revoked_at = now()",
        "UPDATE jobs SET paused = true",
        "UPDATE jobs SET retired_at = now()",
        "UPDATE jobs SET ends_at = now() - interval '10 minutes'",
        "UPDATE jobs SET ends_at = now() - interval '1 second'",
        "UPDATE job_versions SET valid_from = now() - interval '40 seconds'",
        "UPDATE jobs SET interval_us = 86400000000, anchor_us = anchor_us - 3600000000",
        """UPDATE jobs SET windows = jsonb_build_array(jsonb_build_object('from', '00:00', 'to', '24:00', 'days',
                                       jsonb_build_array(to_char(now() + interval '3 days', 'dy'))))""",
    ],
    ids=["offline", "just back", "catching up", "revoked", "paused", "retired", "ended", "just ended", "just changed", "not due", "closed"],
)  # fmt: skip
def test_what_is_no_alarm_of_a_job(engine: Engine, job: int, statement: str) -> None:
    """Whole workers, jobs of which nothing is asked, and what has only just begun."""
    with engine.begin() as connection:
        connection.execute(text(statement))
    assert freshness.look(engine).noticed == 0
    assert overdue(engine) == []


@pytest.mark.parametrize(
    "values",
    [{"gateway_id": None}, {"paused": True}, {"retired_at": func.now()}, {"ends_at": func.now()}],
    ids=["offline", "paused", "retired", "ended"],
)
def test_an_alarm_ends_when_nothing_is_asked_any_more(
    engine: Engine, job: int, values: dict[str, Any]
) -> None:
    """The worker goes away, or the job does."""
    assert freshness.look(engine).noticed == 1
    entity = Worker if "gateway_id" in values else Job
    with engine.begin() as connection:
        connection.execute(update(entity).values(values))
    assert look_again(engine) == Look(cleared=1)
    assert overdue(engine) == []


def test_a_rare_job_is_looked_at_when_it_was_due(engine: Engine, job: int) -> None:
    """Between its instants it costs nothing; after a pause of the keepers what was due meanwhile is looked at."""
    with engine.begin() as connection:
        due = "extract(epoch FROM now() - interval '20 minutes')::bigint * 1000000"
        connection.execute(text(f"UPDATE jobs SET interval_us = 3600000000, anchor_us = {due}"))
        connection.execute(insert(Mark).values(name="freshness", until=func.now() - dt.timedelta(minutes=2)))
    assert freshness.look(engine) == Look()
    with engine.begin() as connection:
        connection.execute(update(Mark).values(until=func.now() - dt.timedelta(minutes=30)))
    assert freshness.look(engine) == Look(due=1, noticed=1)


def test_jobs_that_were_not_due_are_not_read(
    engine: Engine, world: World, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of tests that are due on other days, and of those by interval whose grid has no instant in the stretch."""
    read: list[int] = []
    really = freshness._due

    def counted(row: Any, stretch: Any, **rest: Any) -> Any:
        read.append(row.id)
        return really(row, stretch, **rest)

    monkeypatch.setattr(freshness, "_due", counted)
    now = dt.datetime.now(dt.UTC)
    places = [world.destination(f"place {number}", f"192.0.2.{number + 10}") for number in range(5)]
    rare = {"interval_s": None, "cron": f"0 12 {(now + 10 * 24 * HOUR).day} * *"}
    ages = {"created_at": now - 3 * HOUR}
    tests = [
        world.test("by cron, on another day", "ping", places, **rare, **ages),
        world.test("each day, in three hours", "ping", places, interval_s=86_400.0, starts_at=now + 3 * HOUR - 24 * HOUR),
        world.test("ended", "ping", places, ends_at=now - HOUR, **ages),
        world.test("counted out", "ping", places, max_runs=10, **ages),
        world.test("paused", "ping", places, paused=True, **ages),
        world.test("each hour, in half of one", "ping", places, interval_s=3600.0, starts_at=now - 3 * HOUR - HOUR / 2),
    ]  # fmt: skip
    plan.plan_tests(engine, tests)
    assert len(world.jobs()) == 1 + 6 * 5
    with engine.begin() as connection:
        connection.execute(update(JobVersion).values(valid_from=func.now() - HOUR))
    assert freshness.look(engine) == Look(due=1, noticed=1)
    assert read == [job]


def heard(engine: Engine, records: int, ago: dt.timedelta = dt.timedelta(0)) -> Look:
    """Look as if the worker had told of so many records in its spool, and its last word were so long ago."""
    with engine.begin() as connection:
        connection.execute(update(Worker).values(spool_records=records))
        connection.execute(update(Backlog).values(since=Backlog.since - ago))
    return look_again(engine)


def test_a_spool_that_does_not_shrink_delivers_nothing(engine: Engine, job: int) -> None:
    """While there are ever fewer records the worker is catching up; ten minutes without that, and its jobs are overdue."""
    minute = dt.timedelta(minutes=1)
    with engine.begin() as connection:
        connection.execute(update(Worker).values(spool_records=5_000))
    assert freshness.look(engine).noticed == 0
    for records in (4_000, 3_000):
        assert heard(engine, records, 9 * minute).noticed == 0
    assert heard(engine, 3_001, 9 * minute).noticed == 0
    assert heard(engine, 3_000, 2 * minute).noticed == 1
    # It has begun to send; what it sends is late, and ends the alarm when it comes.
    assert heard(engine, 2_500) == Look()
    deliver(engine, job, dt.timedelta(seconds=20))
    assert heard(engine, 2_000) == Look(cleared=1)
    # It is well again, and nothing of it is kept.
    deliver(engine, job, dt.timedelta(seconds=20))
    heard(engine, 10)
    with Session(engine) as session:
        assert session.scalars(select(Backlog)).all() == []


def test_a_new_session_may_bring_a_larger_spool(engine: Engine, job: int) -> None:
    """What a worker has collected while it was away is no failure to deliver, however little it had before."""
    with engine.begin() as connection:
        connection.execute(update(Worker).values(spool_records=600))
    freshness.look(engine)
    with engine.begin() as connection:
        connection.execute(update(Backlog).values(since=func.now() - HOUR))
        connection.execute(
            update(Worker).values(spool_records=90_000, connected_at=func.now() - dt.timedelta(minutes=2))
        )
    assert look_again(engine).noticed == 0
    with Session(engine) as session:
        assert session.scalars(select(Backlog.least)).all() == [90_000]


def test_many_jobs_are_looked_at_portion_by_portion(
    engine: Engine, world: World, job: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is found once, however the portions fall."""
    places = [world.destination(f"place {number}", f"192.0.2.{number + 10}") for number in range(4)]
    test = world.test("q", "ping", places, created_at=dt.datetime.now(dt.UTC) - 2 * HOUR)
    plan.plan_tests(engine, [test])
    with engine.begin() as connection:
        connection.execute(update(JobVersion).values(valid_from=func.now() - HOUR))
    monkeypatch.setattr(freshness, "_CHUNK", 2)
    assert freshness.look(engine) == Look(due=5, noticed=5)
    assert len(overdue(engine)) == 5
