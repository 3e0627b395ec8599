"""Results reach the tables exactly once, whatever comes in which order."""

from __future__ import annotations

import asyncio
import datetime as dt
import uuid
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from controller.gateway import ingest, storing
from controller.gateway.batches import Batch, Queue
from controller.store.engine import libpq_url


async def test_a_batch_is_stored_and_acknowledged(deployment: Any, tools: Any) -> None:
    """What a worker sends is in its kind's table when the acknowledgement comes; unmeasured metrics are NULL."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, number) for number in range(3)], [1, 2, 3])
        await session.expect_ack(3)
        rows = deployment.sql(
            "SELECT rtt_avg_ms, loss_pct, rtt_min_ms, status, error FROM result_ping ORDER BY scheduled_at"
        )
    assert rows == [(1.25, 0.0, None, 1, None), (2.25, 0.0, None, 1, None), (3.25, 0.0, None, 1, None)]
    assert deployment.sql("SELECT acked_seq, spool_id FROM workers") == [(3, "spool-a")]


async def test_repeated_metrics_go_to_their_child_tables(deployment: Any, tools: Any) -> None:
    """A system result brings one child row per interface; a name that comes twice keeps its first row."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id, "system")
    result = tools.make_result(job, 0)
    result.system.cpu_busy_pct = 12.5
    for name, rate in (("eth0", 10.0), ("lo", 20.0), ("eth0", 30.0)):
        result.system.interfaces.add(name=name, receive_bytes_per_s=rate, up=True)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([result], [1])
        await session.expect_ack(1)
    assert deployment.sql("SELECT cpu_busy_pct, cpu_user_pct FROM result_system") == [(12.5, None)]
    assert deployment.sql(
        "SELECT key, receive_bytes_per_s, up, mtu_bytes FROM result_system_interfaces ORDER BY key"
    ) == [("eth0", 10.0, True, None), ("lo", 20.0, True, None)]


async def test_results_sent_again_after_a_lost_acknowledgement_are_stored_once(
    deployment: Any, tools: Any
) -> None:
    """The watermark swallows what a reconnected worker sends again, and it is acknowledged again."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    results = [tools.make_result(job, number) for number in range(10)]
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results(results[:6], range(1, 7))
        await session.expect_ack(6)
    async with deployment.session(worker) as session:
        welcome = await session.hello(first_unacked_seq=3, next_seq=11)
        assert welcome.acked_seq == 6
        await session.results(results[2:], range(3, 11))
        await session.expect_ack(10)
    assert deployment.sql("SELECT count(*), count(DISTINCT scheduled_at) FROM result_ping") == [(10, 10)]
    gauges = deployment.gateway._gauges()
    assert (gauges["results_stored"], gauges["results_repeated"]) == (10, 4)


async def test_another_spool_with_the_same_runs_adds_no_rows(deployment: Any, tools: Any) -> None:
    """The natural key is the second fence: new numbers for runs that are stored already change nothing."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    system = deployment.job(worker.worker_id, "system")
    results = [tools.make_result(job, number) for number in range(5)]
    host = tools.make_result(system, 0)
    host.system.cpu_busy_pct = 1
    host.system.interfaces.add(name="eth0")
    async with deployment.session(worker) as session:
        await session.hello(spool_id="first")
        await session.results([*results, host], range(1, 7))
        await session.expect_ack(6)
    host.system.interfaces.add(name="eth1")
    async with deployment.session(worker) as session:
        assert (await session.hello(spool_id="second")).acked_seq == 0
        fresh = tools.make_result(job, 99)
        await session.results([*results, host, fresh], range(1, 8))
        await session.expect_ack(7)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(6,)]
    assert deployment.sql("SELECT key FROM result_system_interfaces") == [("eth0",)]
    tally = deployment.gateway.ingest.tally
    assert (tally.stored, tally.repeated) == (7, 6)


async def test_a_spool_that_was_set_back_loses_nothing(deployment: Any, tools: Any) -> None:
    """After a restored disk the spool's numbers come again for new results; these are stored all the same."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, number) for number in range(10)], range(1, 11))
        await session.expect_ack(10)
    async with deployment.session(worker) as session:
        welcome = await session.hello(first_unacked_seq=4, next_seq=6)
        assert welcome.acked_seq == 3
        again = [tools.make_result(job, 3), tools.make_result(job, 4)]
        await session.results([*again, tools.make_result(job, 50)], [4, 5, 6])
        await session.expect_ack(6)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(11,)]


async def test_a_late_result_gets_its_missing_partition(deployment: Any, tools: Any) -> None:
    """Results of a day that has no partition make it instead of failing."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    long_ago = (dt.datetime.now(dt.UTC) - dt.timedelta(days=40)).replace(microsecond=0)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, 0, at=long_ago), tools.make_result(job, 0)], [1, 2])
        await session.expect_ack(2)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(2,)]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]


async def test_a_stale_session_stores_nothing(deployment: Any, tools: Any) -> None:
    """Once a newer Hello is in the database, wherever it came in, the older session's results are refused."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.gateway.sessions._interval_s = 60  # only the fence in the transaction is looked at
        await asyncio.sleep(0.5)
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        await session.results([tools.make_result(job, 0)], [1])
        reason, _ = await session.ending()
    assert reason == "SUPERSEDED"
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]
    assert deployment.sql("SELECT acked_seq FROM workers") == [(0,)]


@pytest.mark.parametrize("column", ["revoked_at", "deleted_at"])
async def test_a_worker_that_is_gone_stores_nothing(deployment: Any, tools: Any, column: str) -> None:
    """Revoked, or deleted, after its Hello and before the gateway has looked: the claim itself refuses the batch."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.gateway.sessions._interval_s = 60  # only the fence in the transaction is looked at
        await asyncio.sleep(0.5)
        deployment.sql(f"UPDATE workers SET {column} = now()")
        await session.results([tools.make_result(job, 0)], [1])
        reason, _ = await session.ending()
    assert reason == "SUPERSEDED"
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]
    assert deployment.sql("SELECT acked_seq FROM workers") == [(0,)]


async def test_without_the_epoch_in_the_claim_a_stale_session_would_store(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant shows that the fence test above can fail."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    whole = storing._claim.__code__.co_consts
    mutated = tuple(
        text.replace("AND w.session_epoch = b.epoch ", "") if isinstance(text, str) else text
        for text in whole
    )
    assert mutated != whole
    monkeypatch.setattr(storing._claim, "__code__", storing._claim.__code__.replace(co_consts=mutated))
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.gateway.sessions._interval_s = 60
        await asyncio.sleep(0.5)
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        await session.results([tools.make_result(job, 0)], [1])
        await session.expect_ack(1)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(1,)]


async def test_a_database_that_breaks_off_loses_nothing(deployment: Any, tools: Any) -> None:
    """While every connection is cut again and again, batches wait and are stored exactly once."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    done = asyncio.Event()

    async def cut() -> None:
        while not done.is_set():
            await asyncio.to_thread(
                deployment.sql,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'streamswarm-gateway'",
            )
            await asyncio.sleep(0.03)

    async with deployment.session(worker) as session:
        await session.hello()
        cutting = asyncio.create_task(cut())
        for start in range(0, 3000, 100):
            numbers = range(start, start + 100)
            await session.results(
                [tools.make_result(job, number) for number in numbers], [number + 1 for number in numbers]
            )
            await session.expect_ack(start + 100, 60)
            if start == 2000:
                done.set()
        await cutting
    assert deployment.gateway.ingest.tally.retries > 0
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(3000,)]


_AT_COMMIT = """
CREATE FUNCTION at_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE OF acked_seq ON workers DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.acked_seq > OLD.acked_seq) EXECUTE FUNCTION at_commit()
"""


async def test_nothing_is_acknowledged_before_its_commit_returns(deployment: Any, tools: Any) -> None:
    """A COMMIT that waits in the database keeps the acknowledgement waiting, though all rows are written."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    deployment.sql(_AT_COMMIT.format(body="PERFORM pg_advisory_xact_lock(42);"))
    async with deployment.session(worker) as session:
        await session.hello()
        async with await psycopg.AsyncConnection.connect(libpq_url(deployment.settings)) as holder:
            await holder.execute("SELECT pg_advisory_xact_lock(42)")
            await session.results([tools.make_result(job, 0)], [1])
            with pytest.raises(TimeoutError):
                await session.expect_ack(1, 1.5)
            waiting = deployment.sql(
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            )
            assert waiting == [(1,)]
            await holder.rollback()
        # gRPC drops a read that was given up, so the acknowledgement is looked for on a new session.
    async with deployment.session(worker) as session:
        assert (await session.hello(first_unacked_seq=1, next_seq=2)).acked_seq in (0, 1)
        await session.results([tools.make_result(job, 0)], [1])
        await session.expect_ack(1)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(1,)]


async def test_a_commit_that_fails_is_tried_again(deployment: Any, tools: Any) -> None:
    """A transaction that the database gives up at its COMMIT is repeated until it holds."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    deployment.sql("CREATE SEQUENCE attempts")
    deployment.sql(
        _AT_COMMIT.format(
            body="IF nextval('attempts') < 4 THEN RAISE 'not now' USING ERRCODE = '40001'; END IF;"
        )
    )
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, 0)], [1])
        await session.expect_ack(1)
    assert deployment.sql("SELECT last_value FROM attempts") == [(4,)]
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(1,)]


async def test_live_pages_are_told_which_tests_have_news(deployment: Any, tools: Any) -> None:
    """One notification carries the ids of tests that got results."""
    worker = await deployment.enrol("host-a")
    jobs = [deployment.job(worker.worker_id) for _ in range(3)]
    tests = sorted(row[0] for row in deployment.sql("SELECT test_id FROM jobs"))
    async with await psycopg.AsyncConnection.connect(
        libpq_url(deployment.settings), autocommit=True
    ) as listener:
        await listener.execute("LISTEN streamswarm_results")
        async with deployment.session(worker) as session:
            await session.hello()
            await session.results([tools.make_result(job, 0) for job in jobs], [1, 2, 3])
            await session.expect_ack(3)
            heard = [notice async for notice in listener.notifies(timeout=5, stop_after=1)]
    assert heard[0].payload == ",".join(map(str, tests))


async def test_a_one_shot_job_is_retired_once_its_result_is_stored(deployment: Any, tools: Any) -> None:
    """The worker is told that the job is gone; a regular job stays."""
    worker = await deployment.enrol("host-a")
    regular, once = deployment.job(worker.worker_id), deployment.job(worker.worker_id, one_shot=True)
    async with deployment.session(worker) as session:
        await session.hello()
        assert {job.job_id for job in (await session.expect("jobs")).jobs.jobs} == {regular, once}
        await session.results([tools.make_result(regular, 0), tools.make_result(once, 0)], [1, 2])
        change = (await session.expect("jobs")).jobs
    assert (change.full, list(change.removed), len(change.jobs)) == (False, [once], 0)
    assert deployment.sql("SELECT id FROM jobs WHERE retired_at IS NULL") == [(regular,)]


@pytest.mark.parametrize("bounds", [{"most_waiting": 4}, {"most_waiting_bytes": 4}])
async def test_a_full_pipeline_stops_reading(deployment: Any, bounds: dict[str, int]) -> None:
    """A worker's lane holds so many results or bytes and no more: a further batch waits outside, other lanes have room."""
    pipeline = ingest.Ingest(
        deployment.gateway.database, deployment.gateway._make_partitions, lanes=2, **bounds
    )
    batch, other = (
        Batch(source=SimpleNamespace(worker_id=uuid.UUID(int=number)), seqs=[1, 2], wire=[b"", b""], size=2)
        for number in (0, 1)
    )
    await pipeline.submit(batch)
    await pipeline.submit(batch)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(pipeline.submit(batch), 0.1)
    await pipeline.submit(other)
    assert pipeline.waiting == 3
    assert await pipeline._lanes[0].queue.get() is batch
    await asyncio.wait_for(pipeline.submit(batch), 5)


async def test_a_load_is_bounded_by_bytes_too(deployment: Any) -> None:
    """What would make it too large waits for the next one; a batch that is too large by itself goes alone."""
    pipeline = ingest.Ingest(
        deployment.gateway.database, deployment.gateway._make_partitions, lanes=1, most_bytes=10
    )
    batches = [
        Batch(source=SimpleNamespace(worker_id=uuid.UUID(int=0)), seqs=[seq], wire=[b""], size=size)
        for seq, size in enumerate((4, 6, 1, 20, 3))
    ]
    for batch in batches:
        await pipeline.submit(batch)
    lane, loads = pipeline._lanes[0], []
    while not lane.queue.empty():
        load = [lane.queue.get_nowait()]
        assert lane._take_more(load) == len(load)
        loads.append([batch.size for batch in load])
    assert loads == [[4, 6], [1], [20], [3]]


async def test_one_large_batch_makes_room_for_many_small_ones() -> None:
    """Whoever waits is let in as soon as there is room, and not one for each batch that goes."""
    queue = Queue(most_results=4, most_bytes=100)
    large, small = (
        Batch(source=SimpleNamespace(), seqs=list(range(count)), wire=[b""] * count, size=count)
        for count in (4, 1)
    )
    await queue.put(large)
    waiting = [asyncio.create_task(queue.put(small)) for _ in range(6)]
    await asyncio.sleep(0)
    assert (queue.qsize(), await queue.get()) == (1, large)
    await asyncio.sleep(0.01)
    assert (queue.qsize(), sum(task.done() for task in waiting)) == (4, 4)
    for _ in range(6):
        assert await queue.get() is small
        await asyncio.sleep(0)
    assert all(task.done() for task in waiting)


async def test_batches_of_the_same_moment_share_a_transaction(deployment: Any, tools: Any) -> None:
    """One result every few milliseconds, each in a batch of its own: a transaction for each would be the dearest part."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    tally = deployment.gateway.ingest.tally
    async with deployment.session(worker) as session:
        await session.hello()
        before = tally.transactions
        for number in range(1, 41):
            await session.results([tools.make_result(job, number)], [number])
            await asyncio.sleep(0.002)
        await session.expect_ack(40)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(40,)]
    assert tally.transactions - before <= 20
