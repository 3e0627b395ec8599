"""Tests deleted with their data: their results go, some at a time, and nothing of others' does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, func, select, text
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store import partitions
from controller.store.engine import make_engine
from controller.store.entities import Job, JobVersion, Quarantine, Test, Worker
from controller.store.queries import accounts, schedules
from controller.store.rollups import rolling
from controller.store.upkeep import purging, rewriting
from controller.store.upkeep.purging import purge
from controller.store.upkeep.rewriting import Day

FIRST = dt.date(2026, 3, 28)
NOW = dt.datetime(2026, 3, 31, tzinfo=dt.UTC)
TABLES = ("result_ping", "rollup_ping_1h", "rollup_ping_1d")


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll-ups end where these tests are in time: until today there would be more empty days every day."""
    monkeypatch.setattr(rolling, "horizon_of", lambda _engine: NOW)


@pytest.fixture
def pair(engine: Engine) -> tuple[int, int]:
    """Two tests with two days of results each, rolled up; the first was deleted with its data."""
    with Session(engine) as session, session.begin():
        worker = Worker(name="berlin", host_name="berlin")
        session.add(worker)
        session.flush()
        jobs = []
        for name in ("gone", "kept"):
            test = Test(name=name, kind="ping", spec={}, interval_s=60)
            session.add(test)
            session.flush()
            job = Job(
                test_id=test.id,
                worker_id=worker.id,
                kind="ping",
                spec={},
                interval_us=60_000_000,
                anchor_us=0,
                target="192.0.2.1",
            )
            session.add(job)
            session.flush()
            jobs.append(job.id)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [FIRST, FIRST + dt.timedelta(days=1)])
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) SELECT job, at, at, 1, 1, 1, 0 FROM unnest(CAST(:jobs AS bigint[])) AS job, "
                "generate_series(timestamptz '2026-03-28', timestamptz '2026-03-29 23:00', interval '1 h') AS at"
            ),
            {"jobs": jobs},
        )
    rolling.roll_up(engine, "ping")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE tests SET deleted_at = now(), data_deleted_at = now() WHERE name = 'gone'")
        )
    return jobs[0], jobs[1]


@pytest.fixture
def impatient(settings: Settings) -> Iterator[Engine]:
    """An engine that waits for no lock for long."""
    engine = make_engine(settings, application="test", lock_timeout_s=0.1)
    yield engine
    engine.dispose()


def settle(engine: Engine) -> None:
    """Let the deletion be so long ago that nothing is stored for the test any more."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE tests SET data_deleted_at = now() - CAST(:settled AS interval) * 2 WHERE name = 'gone'"
            ),
            {"settled": purging.SETTLED},
        )


def left(engine: Engine, job: int) -> list[int]:
    """Count the rows of a job in each table."""
    with engine.connect() as connection:
        return [
            connection.execute(
                text(f"SELECT count(*) FROM {table} WHERE job_id = :job"), {"job": job}
            ).scalar_one()
            for table in TABLES
        ]


def is_over(engine: Engine) -> bool:
    """Whether the removal is done with."""
    with engine.connect() as connection:
        return bool(
            connection.execute(
                text("SELECT data_removed_at IS NOT NULL FROM tests WHERE name = 'gone'")
            ).scalar_one()
        )


def test_all_of_one_test_goes_and_nothing_of_another(
    engine: Engine, pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and roll-ups, a few rows a transaction."""
    monkeypatch.setattr(purging, "ROWS_TOGETHER", 7)
    gone, kept = pair
    assert left(engine, gone) == left(engine, kept) == [48, 48, 2]
    assert purge(engine) == 98
    assert left(engine, gone) == [0, 0, 0]
    assert left(engine, kept) == [48, 48, 2]
    assert purge(engine) == 0


def test_it_is_over_when_nothing_can_come_any_more(
    engine: Engine, pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that still knew the job may have stored a result after the first round; the last finds nothing."""
    purge(engine)
    assert purge(engine) == 0
    assert not is_over(engine)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) VALUES (:job, :at, :at, 1, 1, 1, 0)"
            ),
            {"job": pair[0], "at": dt.datetime(2026, 3, 28, tzinfo=dt.UTC)},
        )
        for job in pair:
            connection.execute(
                text(
                    "INSERT INTO job_versions (job_id, version, interval_us, anchor_us) "
                    "SELECT :job, number, 60000000, 0 FROM generate_series(1, 5) AS number"
                ),
                {"job": job},
            )
    settle(engine)
    monkeypatch.setattr(purging, "ROWS_TOGETHER", 2)
    assert purge(engine) == 1
    assert not is_over(engine)
    assert purge(engine) == 0
    assert is_over(engine)
    # Nothing asks any more when its jobs were due.
    with engine.connect() as connection:
        there = connection.execute(text("SELECT job_id, count(*) FROM job_versions GROUP BY job_id")).all()
    assert there == [(pair[1], 5)]


def test_a_round_that_is_stopped_goes_on_later(
    engine: Engine, pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper that is told to stop ends after the transaction under way."""
    monkeypatch.setattr(purging, "ROWS_TOGETHER", 7)
    purge(engine, stopped=lambda: True)
    assert left(engine, pair[0]) == [41, 48, 2]
    purge(engine)
    assert left(engine, pair[0]) == [0, 0, 0]


def test_a_day_that_is_being_rewritten_does_not_bring_them_back(
    engine: Engine, pair: tuple[int, int]
) -> None:
    """The copy that still has the rows cannot take the day's place."""
    day = Day(table="result_ping", day=FIRST)

    def remove(step: str) -> None:
        if step == "copied":
            purge(engine)

    with pytest.raises(rewriting.OvertakenError):
        rewriting.rewrite(engine, day, told=remove)
    assert left(engine, pair[0]) == [0, 0, 0]
    rewriting.rewrite(engine, day)
    assert left(engine, pair[0]) == [0, 0, 0]
    assert left(engine, pair[1]) == [48, 48, 2]


def test_a_day_that_cannot_be_had_keeps_the_removal_open(
    engine: Engine, impatient: Engine, pair: tuple[int, int]
) -> None:
    """While a day is being copied nobody knows whether it is empty; the round after that removes what it has."""
    settle(engine)
    last = FIRST + dt.timedelta(days=1)
    with engine.begin() as copying:
        rewriting.overtake(copying, Day(table="result_ping", day=last))
        assert purge(impatient) == 24 + 48 + 2
        # Nothing is found any more but for the day that is not looked at.
        assert purge(impatient) == 0
        assert not is_over(engine)
    assert left(engine, pair[0]) == [24, 0, 0]
    assert purge(impatient) == 24
    assert purge(impatient) == 0
    assert is_over(engine)


def test_all_of_a_worker_goes_and_its_tests_keep_what_others_measured(
    engine: Engine, pair: tuple[int, int]
) -> None:
    """Results, roll-ups and refused ones of a deleted worker; no account and no report counts its runs as missed."""
    own, others = pair
    with Session(engine) as session, session.begin():
        session.execute(text("UPDATE tests SET deleted_at = NULL, data_deleted_at = NULL"))
        worker = Worker(name="oslo", host_name="oslo", deleted_at=func.now(), data_deleted_at=func.now())
        session.add(worker)
        session.flush()
        test_id = session.get_one(Job, others).test_id
        session.get_one(Job, own).worker_id = worker.id
        session.get_one(Job, own).test_id = test_id
        for each in session.scalars(select(Worker)):
            session.add(Quarantine(worker_id=each.id, spool_id="s", seq=1, reason="odd", payload=b"x"))
        for job in pair:
            session.add(
                JobVersion(job_id=job, version=1, interval_us=60_000_000, anchor_us=0, valid_from=FIRST)
            )
    assert purge(engine) == 98 + 1
    assert left(engine, own) == [0, 0, 0]
    assert left(engine, others) == [48, 48, 2]
    start = dt.datetime(2026, 3, 28, tzinfo=dt.UTC)
    with Session(engine) as session:
        assert [
            row.host_name
            for row in session.execute(
                select(Worker.host_name).join(Quarantine, Quarantine.worker_id == Worker.id)
            )
        ] == ["berlin"]
        told = accounts.of_test(session, test_id, "ping", start=start, end=start + dt.timedelta(days=1))
        assert [line.job_id for line in told.items] == [others]
        assert [job.id for job in schedules.read_jobs(session, test_id, "ping")] == [others]
        session.execute(text("UPDATE workers SET data_deleted_at = data_deleted_at - interval '1 day'"))
        session.commit()
    assert purge(engine) == 0
    with engine.connect() as connection:
        over = connection.execute(text("SELECT host_name FROM workers WHERE data_removed_at IS NOT NULL"))
        assert over.scalars().all() == ["oslo"]
        assert connection.execute(text("SELECT job_id FROM job_versions")).scalars().all() == [others]
