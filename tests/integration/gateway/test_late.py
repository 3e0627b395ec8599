"""Late results mark their buckets, in the transaction that stores them; results in time mark nothing."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import numpy as np
import psycopg
import pytest

from controller.gateway.alike import Block
from controller.gateway.late import mark_late
from controller.gateway.loads import Load, Portion, Single
from controller.gateway.packing import PackedResult
from controller.settings import Settings
from controller.store import rollups
from controller.store.engine import libpq_url

FIVE = dt.timedelta(minutes=5)


async def test_only_what_comes_late_marks_its_bucket(deployment: Any, tools: Any) -> None:
    """A batch of hours ago marks each job's five minutes once; the run of a moment ago marks none."""
    worker = await deployment.enrol("host-a")
    job, other = deployment.job(worker.worker_id), deployment.job(worker.worker_id, "system")
    now = dt.datetime.now(dt.UTC)
    early = rollups.floor(now - dt.timedelta(hours=5), FIVE)
    system = tools.make_result(other, 0, at=early)
    system.system.cpu_busy_pct = 1
    # 400 runs, two seconds apart, lie in three buckets; enough of them to be packed together.
    late = [tools.make_result(job, number, at=early) for number in range(400)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, 0, at=now)], [1])
        await session.expect_ack(1)
        assert deployment.sql("SELECT count(*) FROM dirty_buckets") == [(0,)]
        await session.results([*late, system], range(2, 403))
        await session.expect_ack(402)
        marks = deployment.sql("SELECT DISTINCT kind, job_id, bucket FROM dirty_buckets ORDER BY 2, 3")
        assert marks == [
            *(("ping", job, early + step * FIVE) for step in range(3)),
            ("system", other, early),
        ]


async def test_what_is_stored_already_marks_nothing(deployment: Any, tools: Any) -> None:
    """Late results that come again, under their numbers or new ones, alone or among others, are not rolled up again."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    early = rollups.floor(dt.datetime.now(dt.UTC) - dt.timedelta(hours=5), FIVE)
    late = [
        tools.make_result(job, number, at=early, error="" if number else "a text") for number in range(140)
    ]
    count = "SELECT count(*) FROM dirty_buckets"
    for first_seq, again in ((1, False), (1, True), (141, True), (281, True)):
        async with deployment.session(worker) as session:
            await session.hello(first_unacked_seq=first_seq, next_seq=1_000)
            await session.results(late, range(first_seq, first_seq + 140))
            await session.expect_ack(first_seq + 139)
            marks = deployment.sql(count)
            assert marks == [(0,)] if again else marks > [(0,)], first_seq
            deployment.sql("DELETE FROM dirty_buckets")
    async with deployment.session(worker) as session:
        await session.hello(next_seq=1_000)
        more = tools.make_result(job, 600, at=early)
        await session.results([late[0], more], [421, 422])
        await session.expect_ack(422)
    assert deployment.sql("SELECT bucket FROM dirty_buckets") == [(early + 4 * FIVE,)]


async def test_a_transaction_that_fails_marks_nothing(deployment: Any, tools: Any) -> None:
    """Results of a session that was superseded leave neither rows nor marks."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    early = dt.datetime.now(dt.UTC) - dt.timedelta(hours=5)
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        await session.results([tools.make_result(job, 0, at=early)], [1])
        await session.ending()
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]
    assert deployment.sql("SELECT count(*) FROM dirty_buckets") == [(0,)]


@pytest.fixture
def edge(settings: Settings) -> Any:
    """Mark a result that is due at an instant, by itself or among its like, and return the marked buckets."""

    def mark(due_us: int, now_us: int, *, alike: bool) -> list[tuple[Any, ...]]:
        portion = Portion(worker_id=uuid.uuid4(), epoch=1, spool_id="s", seqs=[1], wire=[b""])
        if alike:
            one = np.zeros(1, dtype=np.int64)
            block = Block(kind="ping", rows=one, places=one, job_ids=one + 7, scheduled_at_us=one + due_us)
            load = Load(portions=[portion], blocks=[block], singles={})
        else:
            packed = PackedResult(
                kind="ping", job_id=7, scheduled_at_us=due_us, missed=False, row=b"", children=()
            )
            load = Load(portions=[portion], blocks=[], singles={0: Single(packed=packed)})
        with psycopg.connect(libpq_url(settings)) as connection:
            mark_late(connection, load, np.array([True]), now_us)
            found = connection.execute("SELECT job_id, bucket FROM dirty_buckets").fetchall()
            connection.rollback()
        return found

    return mark


@pytest.mark.parametrize("alike", [False, True], ids=["single", "alike"])
def test_a_result_is_late_from_the_instant_on_at_which_its_bucket_may_be_rolled_up(
    edge: Any, engine: Any, alike: bool
) -> None:
    """A bucket closes a minute after its end; from five seconds before on, whatever is due in it marks it."""
    begin = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    begin_us = int(begin.timestamp()) * 1_000_000
    end_us = begin_us + 300_000_000
    closing_us = end_us + 55_000_000
    for due_us in (begin_us, end_us - 1):
        assert edge(due_us, closing_us - 1, alike=alike) == []
        assert edge(due_us, closing_us, alike=alike) == [(7, begin)]
    # What is due in the next bucket is in time.
    assert edge(end_us, closing_us, alike=alike) == []
    assert edge(begin_us - 1, closing_us - 1, alike=alike) == [(7, begin - FIVE)]
