"""Sessions: who is heard, which of two is, what a worker is told, and how a session ends."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import psycopg
import pytest
from sqlalchemy.orm import Session

from controller.gateway import session as sessions
from controller.gateway.sessions import Sessions
from controller.store.commands.enrolment import revoke_worker
from streamswarm.v1 import gateway_pb2


async def test_hello_is_answered_and_written_down(deployment: Any) -> None:
    """The Welcome names the worker, its epoch and its credit; the database knows what the worker said of itself."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        welcome = await session.hello(
            clock_us=123,
            instance_id="i",
            boot_id="b",
            policy_json='{"deny": ["10.0.0.0/8"]}',
            facts=gateway_pb2.Facts(os="Debian", memory_bytes=2**40, addresses=["192.0.2.1"]),
            kinds=[gateway_pb2.KindAvailability(kind="ping", reason="no\0 right", mend="setcap")],
        )
        assert (welcome.worker_id, welcome.worker_name) == (str(worker.worker_id), "host-a")
        assert (welcome.acked_seq, welcome.credit_results, welcome.hello_clock_us) == (0, 1000, 123)
        row = deployment.sql(
            "SELECT session_epoch, version, kinds, facts->'memory_bytes', facts->'addresses', policy, "
            "gateway_id IS NOT NULL FROM workers"
        )[0]
    assert row == (
        welcome.session_epoch,
        "test",
        {"ping": {"available": False, "reason": "no right", "mend": "setcap"}},
        2**40,
        ["192.0.2.1"],
        {"deny": ["10.0.0.0/8"]},
        True,
    )
    async with asyncio.timeout(5):
        while deployment.sql("SELECT 1 FROM workers WHERE gateway_id IS NOT NULL OR disconnected_at IS NULL"):
            await asyncio.sleep(0.05)


async def test_the_newest_hello_wins(deployment: Any, tools: Any) -> None:
    """A Hello that comes again, as a replay would, ends the older stream at once; the newer goes on."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as older, deployment.session(worker) as newer:
        first = await older.hello()
        begun = time.monotonic()
        second = await newer.hello()
        assert await older.ending() == ("SUPERSEDED", grpc.StatusCode.ABORTED)
        assert time.monotonic() - begun < 1
        assert second.session_epoch == first.session_epoch + 1
        await newer.results([tools.make_result(job, 0)], [1])
        await newer.expect_ack(1)


async def test_it_is_written_down_which_release_a_worker_had_when(deployment: Any) -> None:
    """Another session with the same is nothing new, one with an older one is; the newest hundred are kept."""
    worker = await deployment.enrol("host-a")
    asked = "SELECT r.version FROM worker_releases r ORDER BY since"
    for version in ("1.0", "1.0", "1.1", "1.0"):
        async with deployment.session(worker) as session:
            await session.hello(worker_version=version)
    assert deployment.sql(asked) == [("1.0",), ("1.1",), ("1.0",)]
    assert deployment.sql(
        "SELECT r.since = w.connected_at FROM worker_releases r JOIN workers w ON w.id = r.worker_id "
        "ORDER BY r.since DESC LIMIT 1"
    ) == [(True,)]
    deployment.sql(
        "INSERT INTO worker_releases (worker_id, since, version) "
        "SELECT id, now() - n * interval '1 day', n::text FROM workers, generate_series(1, 120) AS n"
    )
    async with deployment.session(worker) as session:
        await session.hello(worker_version="1.2")
    found = [version for (version,) in deployment.sql(asked)]
    assert (len(found), found[-1], found[0]) == (100, "1.2", "96")


async def test_a_session_elsewhere_supersedes_this_one(deployment: Any) -> None:
    """Another gateway's Hello, which only the database tells of, ends the stream here with the next look."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.sql("UPDATE workers SET session_epoch = session_epoch + 1")
        assert await session.ending(5) == ("SUPERSEDED", grpc.StatusCode.ABORTED)


async def test_nothing_is_read_after_a_revocation(deployment: Any, tools: Any) -> None:
    """A revoked worker's stream ends with the next look; what it sends from the revocation on is never stored."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session, deployment.session(other) as bystander:
        await session.hello()
        await bystander.hello()
        with Session(deployment.engine) as store, store.begin():
            assert revoke_worker(store, "host-a") == worker.worker_id
        await session.results([tools.make_result(job, 0)], [1])
        reason, _ = await session.ending(5)
        assert reason in ("REVOKED", "SUPERSEDED")
        await bystander.send(heartbeat={"clock_us": 7})
        assert (await bystander.expect("heartbeat")).heartbeat.heartbeat_clock_us == 7
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]
    async with deployment.session(worker) as session:
        await session.send(hello={"spool_id": "s", "contract_version": 1})
        assert await session.ending() == ("REVOKED", grpc.StatusCode.UNAUTHENTICATED)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE certificates SET revoked_at = now()",
        "UPDATE certificates SET not_after = now()",
        "UPDATE workers SET deleted_at = now()",
        "DELETE FROM certificates",
    ],
)
async def test_a_worker_that_is_no_longer_listed_is_cut_off(deployment: Any, change: str) -> None:
    """A revoked or unlisted certificate and a deleted worker end the session and admit no other."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        deployment.sql(change)
        assert await session.ending(5) == ("REVOKED", grpc.StatusCode.UNAUTHENTICATED)
    async with deployment.session(worker) as session:
        await session.send(hello={"spool_id": "s", "contract_version": 1})
        assert await session.ending() == ("REVOKED", grpc.StatusCode.UNAUTHENTICATED)


async def test_a_renewed_certificate_supersedes_the_old_one_when_it_is_used(
    deployment: Any, tools: Any
) -> None:
    """Both are good until the new one is used; from then on the old one is refused."""
    old = await deployment.enrol("host-a")
    key = tools.make_key()
    async with deployment.session(old) as session:
        await session.hello()
        await session.send(renew={"csr_der": tools.make_csr(key)})
        renewed = (await session.expect("renewed")).renewed
        assert renewed.error == ""
        await session.send(renew={"csr_der": tools.make_csr(key)})
        assert "wait" in (await session.expect("renewed")).renewed.error
    new = tools.Identity(
        worker_id=old.worker_id,
        key_pem=tools.key_pem(key),
        chain_pem=renewed.certificate_chain_pem,
        ca_pem=renewed.ca_bundle_pem,
    )
    async with deployment.session(old) as session:
        await session.hello()
    async with deployment.session(new) as session:
        await session.hello()
    async with deployment.session(old) as session:
        await session.send(hello={"spool_id": "s", "contract_version": 1})
        assert await session.ending() == ("REVOKED", grpc.StatusCode.UNAUTHENTICATED)
    async with deployment.session(new) as session:
        await session.hello()


async def test_a_renewal_that_cannot_be_signed_is_answered(deployment: Any) -> None:
    """The session goes on after a refused renewal."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        await session.send(renew={"csr_der": b"nonsense"})
        assert "PKCS #10" in (await session.expect("renewed")).renewed.error
        await session.send(heartbeat={"clock_us": 1})
        await session.expect("heartbeat")


async def test_a_newer_worker_is_told_to_wait_for_the_controller(deployment: Any) -> None:
    """Fields that this gateway does not know would be lost, so a newer contract is refused."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.send(hello={"spool_id": "s", "contract_version": 1000})
        assert await session.ending() == ("CONTRACT_NEWER", grpc.StatusCode.FAILED_PRECONDITION)
    assert deployment.sql("SELECT session_epoch FROM workers") == [(0,)]


@pytest.mark.parametrize(
    "message",
    [
        {"heartbeat": {"clock_us": 1}},
        {"hello": {"contract_version": 1}},
        {"hello": {"contract_version": 1, "spool_id": "x" * 101}},
        {"hello": {"contract_version": 1, "spool_id": "s", "next_seq": -1}},
        {},
    ],
)
async def test_a_stream_that_does_not_begin_with_a_good_hello_ends(deployment: Any, message: Any) -> None:
    """The first message must be a Hello that names a spool."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.send(**message)
        assert await session.ending() == ("PROTOCOL", grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    ("spool_id", "seqs", "count"),
    [
        ("other", [1], 1),
        ("spool-a", [], 0),
        ("spool-a", [1, 2], 1),
        ("spool-a", [2, 1], 2),
        ("spool-a", [0], 1),
    ],
)
async def test_a_batch_that_breaks_the_protocol_ends_the_session(
    deployment: Any, tools: Any, spool_id: str, seqs: list[int], count: int
) -> None:
    """Foreign spools, missing or unordered numbers end the session, and nothing of the batch is stored."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        results = [tools.make_result(job, number).SerializeToString() for number in range(count)]
        await session.send(results={"spool_id": spool_id, "seqs": seqs, "results": results})
        assert await session.ending() == ("PROTOCOL", grpc.StatusCode.INVALID_ARGUMENT)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(0,)]


async def test_more_than_the_credit_ends_the_session(deployment: Any, tools: Any) -> None:
    """While nothing can be stored, the thousand-and-first unacknowledged result is one too many."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.expect("jobs")
        async with await psycopg.AsyncConnection.connect(
            deployment.settings.database_url.replace("+psycopg2", "")
        ) as holder:
            await holder.execute("SELECT 1 FROM workers FOR UPDATE")
            for start in range(0, 1000, 250):
                numbers = range(start, start + 250)
                await session.results(
                    [tools.make_result(job, number) for number in numbers], [number + 1 for number in numbers]
                )
            await session.results([tools.make_result(job, 5000)], [5000])
            assert await session.ending() == ("PROTOCOL", grpc.StatusCode.INVALID_ARGUMENT)
            await holder.rollback()


async def test_a_worker_that_never_reads_holds_up_nobody(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three workers that take nothing, with large job sets to take, leave another's results unharmed, and are ended."""
    monkeypatch.setattr(sessions, "_WRITE_S", 2.0)
    deaf = [await deployment.enrol(f"deaf-{number}") for number in range(3)]
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    for each in deaf:
        first = deployment.job(each.worker_id)
        deployment.sql(
            "INSERT INTO jobs (test_id, worker_id, kind, target, spec, interval_us, anchor_us, one_shot) "
            "SELECT test_id, worker_id, kind, repeat('x', 200), spec, 1000000, n, true "
            "FROM jobs, generate_series(1, 2000) n WHERE id = %s",
            first,
        )
    streams = []
    try:
        for each in deaf:
            context = deployment.session(each)
            streams.append(context)
            script = await context.__aenter__()
            await script.send(hello={"spool_id": "s", "contract_version": 1})
        async with deployment.session(worker) as session:
            await session.hello()
            for number in range(20):
                begun = time.monotonic()
                await session.results([tools.make_result(job, number)], [number + 1])
                await session.expect_ack(number + 1)
                assert time.monotonic() - begun < 3
            async with asyncio.timeout(60):
                while len(deployment.gateway.sessions) > 1:
                    deployment.sql(
                        "WITH changed AS (UPDATE jobs SET version = version + 1 WHERE one_shot) "
                        "UPDATE workers SET jobs_revision = jobs_revision + 1 WHERE host_name LIKE 'deaf%'"
                    )
                    await asyncio.sleep(0.3)
    finally:
        for context in streams:
            await context.__aexit__(None, None, None)


async def test_a_silent_stream_is_given_up(deployment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that says nothing for long is taken for gone."""
    monkeypatch.setattr(sessions, "_SILENCE_S", 0.5)
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        assert await session.ending() == ("", grpc.StatusCode.UNAVAILABLE)


async def test_a_stopping_gateway_finishes_what_it_has_read(deployment: Any, tools: Any) -> None:
    """Results that were read before the drain are stored and acknowledged before the goodbye."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with deployment.session(worker) as session:
        await session.hello()
        await session.results([tools.make_result(job, number) for number in range(500)], range(1, 501))
        await asyncio.sleep(0.02)
        deployment.gateway.sessions.drain()
        assert await session.ending() == ("DRAINING", grpc.StatusCode.UNAVAILABLE)
        acked = [heard.ack.acked_seq for heard in session.heard if heard.WhichOneof("message") == "ack"]
    stored = deployment.sql("SELECT count(*) FROM result_ping")[0][0]
    assert stored == (acked[-1] if acked else 0)


async def test_gateways_are_listed_with_their_gauges(deployment: Any) -> None:
    """The process's row shows that it is alive and how many sessions it holds."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        async with asyncio.timeout(10):
            while not (
                rows := deployment.sql(
                    "SELECT role, name, gauges->'sessions', gauges ? 'loop_lag_ms' FROM processes "
                    "WHERE stopped_at IS NULL AND gauges <> '{}'"
                )
            ):
                await asyncio.sleep(0.1)
    assert rows == [("gateway", "gateway-1", 1, True)]


@pytest.mark.parametrize("ticks", [0, 1, 2, 3])
async def test_the_rounds_end_when_they_are_told_to_while_something_happens(
    deployment: Any, ticks: int
) -> None:
    """A session that closes in the same instant must not make the end unheard."""
    registry = Sessions(deployment.gateway.database, interval_s=30)
    for _ in range(20):
        rounds = asyncio.create_task(registry.run())
        await asyncio.sleep(0.05)  # it waits for something to happen
        registry._hurry.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        rounds.cancel()
        done, _ = await asyncio.wait([rounds], timeout=2)
        assert done, "the rounds go on although they were told to end"
