"""Of each run one row: what was measured stands before what was told as missed, in whatever order they come."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine

from controller.gateway import plain
from controller.settings import Settings
from controller.store.engine import make_engine
from controller.store.rollups import rolling
from controller.store.upkeep.rewriting import Day, rewrite
from streamswarm.v1 import probe_pb2

MISSED, OK = int(probe_pb2.STATUS_MISSED), int(probe_pb2.STATUS_OK)


@pytest.fixture
def missed(tools: Any) -> Any:
    """The maker of runs that were told as missed."""

    def make(job: int, number: int, **fields: Any) -> probe_pb2.Result:
        result: probe_pb2.Result = tools.make_result(
            job, number, **{"status": MISSED, "error": "its clock was set", "kind": "ping"} | fields
        )
        result.ClearField("metrics")
        return result

    return make


@pytest.fixture
def keeper(settings: Settings) -> Iterator[Engine]:
    """Connections of a keeper that has time."""
    engine = make_engine(settings, application="test-keeper", pool_size=4, lock_timeout_s=30)
    yield engine
    engine.dispose()


def rows(deployment: Any, job: int) -> list[tuple[Any, ...]]:
    """Return how each run of a job ended and what it measured, by its instant."""
    return list(
        deployment.sql(
            "SELECT status, rtt_avg_ms, error FROM result_ping WHERE job_id = %s ORDER BY scheduled_at", job
        )
    )


MEASURED = [(OK, 1.25 + number, None) for number in range(60)]


async def test_a_measured_run_takes_the_place_of_a_missed_one(
    deployment: Any, tools: Any, missed: Any
) -> None:
    """Many alike, one with a text, and the missed ones that did not come again, which stay."""
    worker = await deployment.enrol("host-a")
    job, other = deployment.job(worker.worker_id), deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        told = [missed(job, number) for number in range(60)] + [missed(other, 0), missed(other, 1)]
        await session.results(told, range(1, 63))
        await session.expect_ack(62)
        again = [tools.make_result(job, number) for number in range(60)]
        again.append(tools.make_result(other, 1, status=probe_pb2.STATUS_ERROR, error="no route"))
        await session.results(again, range(63, 124))
        await session.expect_ack(123)
    assert rows(deployment, job) == MEASURED
    assert [row[::2] for row in rows(deployment, other)] == [(MISSED, "its clock was set"), (3, "no route")]


async def test_what_is_told_again_changes_nothing(deployment: Any, tools: Any, missed: Any) -> None:
    """Neither the old missed rows, nor other measurements of the same runs, nor a spool that is sent twice."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    told = [missed(job, number) for number in range(5)]
    measured = [tools.make_result(job, number) for number in range(5)]
    other = [tools.make_result(job, number, duration_ms=99.0) for number in range(5)]
    otherwise = [missed(job, number, error="it slept") for number in range(5)]
    for number, spool in enumerate(("a", "b", "c")):
        async with deployment.session(worker) as session:
            await session.hello(spool_id=spool)
            for first, some in enumerate((told, measured, otherwise, other) if number else (told, otherwise)):
                await session.results(some, range(5 * first + 1, 5 * first + 6))
                await session.expect_ack(5 * first + 5)
        assert rows(deployment, job) == (
            MEASURED[:5] if number else [(MISSED, None, "its clock was set")] * 5
        )
    assert deployment.sql("SELECT max(duration_ms) FROM result_ping") == [(12.5,)]


@pytest.mark.parametrize("missed_first", [True, False])
async def test_in_one_batch_the_measured_run_stands(
    deployment: Any, tools: Any, missed: Any, missed_first: bool
) -> None:
    """A worker that was offline delivers both at once."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    both = [
        [missed(job, number) for number in range(30)],
        [tools.make_result(job, number) for number in range(30)],
    ]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([*both[not missed_first], *both[missed_first]], range(1, 61))
        await session.expect_ack(60)
    assert rows(deployment, job) == MEASURED[:30]


async def test_child_rows_come_with_the_measured_run(deployment: Any, tools: Any, missed: Any) -> None:
    """The missed run had none."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id, "system")
    told = missed(job, 0)
    told.kind = "system"
    run = tools.make_result(job, 0)
    run.system.cpu_busy_pct = 3
    run.system.interfaces.add(name="eth0")
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([told], [1])
        await session.expect_ack(1)
        await session.results([run], [2])
        await session.expect_ack(2)
    assert deployment.sql("SELECT status, cpu_busy_pct FROM result_system") == [(OK, 3.0)]
    assert deployment.sql("SELECT key FROM result_system_interfaces") == [("eth0",)]


async def test_row_by_row_too_the_measured_run_stands(
    deployment: Any, tools: Any, missed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A portion that holds what the database refuses goes the slowest way; the missed run of the refused one stays."""
    monkeypatch.setattr(plain, "finite", float)
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    refused = tools.make_result(job, 2, detail_json='{"huge": 1e200000}')
    runs = [tools.make_result(job, 0), tools.make_result(job, 1), refused, missed(job, 0)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([missed(job, number) for number in range(4)], range(1, 5))
        await session.expect_ack(4)
        await session.results(runs, range(5, 9))
        await session.expect_ack(8)
    assert rows(deployment, job) == [*MEASURED[:2], *[(MISSED, None, "its clock was set")] * 2]
    assert deployment.sql("SELECT seq FROM quarantine") == [(7,)]


async def test_a_superseded_session_removes_nothing(deployment: Any, tools: Any, missed: Any) -> None:
    """Removal and new row are one transaction, behind the same fence; the new session brings the run once more."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([missed(job, 0)], [1])
        await session.expect_ack(1)
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        await session.results([tools.make_result(job, 0)], [2])
        await session.ending()
    assert rows(deployment, job) == [(MISSED, None, "its clock was set")]
    async with deployment.session(worker) as session:
        await session.hello(first_unacked_seq=2, next_seq=3)
        await session.results([tools.make_result(job, 0)], [2])
        await session.expect_ack(2)
    assert rows(deployment, job) == MEASURED[:1]


async def test_commits_that_fail_leave_one_or_the_other(deployment: Any, tools: Any, missed: Any) -> None:
    """While every connection is cut again and again, each run has exactly one row at any instant."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    done, seen = asyncio.Event(), []

    async def cut() -> None:
        while not done.is_set():
            await asyncio.to_thread(
                deployment.sql,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'streamswarm-gateway'",
            )
            seen.append(deployment.sql("SELECT count(*) FROM result_ping"))
            await asyncio.sleep(0.02)

    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([missed(job, number) for number in range(1000)], range(1, 1001))
        await session.expect_ack(1000)
        cutting = asyncio.create_task(cut())
        for first in range(0, 1000, 50):
            numbers = range(first, first + 50)
            await session.results(
                [tools.make_result(job, number) for number in numbers], [1001 + number for number in numbers]
            )
            await session.expect_ack(first + 1050, 60)
        done.set()
        await cutting
    assert {count for ((count,),) in seen} == {1000}
    assert deployment.sql("SELECT status, count(*) FROM result_ping GROUP BY 1") == [(OK, 1000)]


async def test_a_rolled_up_bucket_is_rolled_up_again(deployment: Any, tools: Any, missed: Any) -> None:
    """What gave way is counted no more."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    early = dt.datetime.now(dt.UTC) - dt.timedelta(hours=5)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([missed(job, number, at=early) for number in range(10)], range(1, 11))
        await session.expect_ack(10)
        await asyncio.to_thread(rolling.roll_up, deployment.engine, "ping")
        counted = "SELECT sum(runs_ok), sum(runs_missed), sum(rtt_avg_ms_n) FROM rollup_ping_1h"
        assert deployment.sql(counted) == [(0, 10, 0)]
        await session.results(
            [tools.make_result(job, number, at=early) for number in range(6)], range(11, 17)
        )
        await session.expect_ack(16)
        await asyncio.to_thread(rolling.roll_up, deployment.engine, "ping")
        assert deployment.sql(counted) == [(6, 4, 6)]


@pytest.mark.parametrize("step", ["begun", "copied", "vacuumed", "swapped"])
async def test_a_day_that_is_rewritten_meanwhile_keeps_the_measured_run(
    deployment: Any, tools: Any, missed: Any, keeper: Engine, step: str
) -> None:
    """Whether the missed run lies in the copy or beside it, and both come after the copy."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    at = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=3)
    loop = asyncio.get_running_loop()

    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([missed(job, number, at=at) for number in range(20)], range(1, 21))
        await session.expect_ack(20)

        async def come() -> None:
            await session.results([missed(job, number, at=at) for number in range(20, 30)], range(21, 31))
            await session.expect_ack(30)
            again = [tools.make_result(job, number, at=at) for number in (*range(10), *range(20, 25))]
            await session.results(again, range(31, 46))
            await session.expect_ack(45)

        def told(name: str) -> None:
            if name == step:
                asyncio.run_coroutine_threadsafe(come(), loop).result(30)

        day = Day(table="result_ping", day=at.date())
        await asyncio.to_thread(rewrite, keeper, day, told=told)
        expected = [OK] * 10 + [MISSED] * 10 + [OK] * 5 + [MISSED] * 5
        assert [status for status, _, _ in rows(deployment, job)] == expected
        await asyncio.to_thread(rewrite, keeper, day)
    assert [status for status, _, _ in rows(deployment, job)] == expected
