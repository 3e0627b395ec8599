"""Who is shown as connected: heartbeats and how often they come, sessions that pass from one to the next."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from controller.gateway import session as session_module
from controller.gateway import sessions as registry_module
from streamswarm.v1 import gateway_pb2


async def test_heartbeats_are_written_together(deployment: Any) -> None:
    """What heartbeats tell is in the database soon after; a clock offset that is no number, or none of a clock, is left out."""
    worker, other, liar = [await deployment.enrol(f"host-{name}") for name in "abc"]
    async with (
        deployment.session(worker) as session,
        deployment.session(other) as second,
        deployment.session(liar) as third,
    ):
        for each in (session, second, third):
            await each.hello()
        await third.send(
            heartbeat={"spool_records": -(2**63), "clock_offset_ms": 1e308, "vantage_alarm": "lies"}
        )
        await session.send(heartbeat={"jobs_revision": 3, "spool_records": 7, "clock_offset_ms": 1.5})
        await second.send(
            heartbeat={
                "spool_alarm": "disk full",
                "vantage_alarm": "no carrier",
                "clock_offset_ms": float("nan"),
            }
        )
        async with asyncio.timeout(5):
            while deployment.sql(
                "SELECT count(*) FROM workers WHERE vantage_alarm <> '' OR spool_records = 7"
            ) != [(3,)]:
                await asyncio.sleep(0.05)
    assert deployment.sql(
        "SELECT host_name, jobs_applied, spool_records, vantage_alarm, clock_offset_ms FROM workers ORDER BY host_name"
    ) == [("host-a", 3, 7, "", 1.5), ("host-b", 0, 0, "no carrier", None), ("host-c", 0, 0, "lies", None)]


async def test_the_more_workers_the_rarer_their_heartbeats(deployment: Any) -> None:
    """The gateway says how often, in its Welcome and in every answer."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        assert (await session.hello()).heartbeat_s == 10
        registry = deployment.gateway.sessions
        await session.expect("jobs")  # the Welcome leaves a moment before the session is among the open ones
        others = {uuid.uuid4(): registry._open[worker.worker_id] for _ in range(2_000)}
        registry._open.update(others)
        await session.send(heartbeat={"clock_us": 1})
        assert (await session.expect("heartbeat")).heartbeat.heartbeat_s == 125
        for number in others:
            del registry._open[number]


async def test_a_gateway_that_starts_knows_how_many_are_to_come(deployment: Any) -> None:
    """Its share of all workers that were there in the last day: the first Welcome says the same as the last."""
    deployment.sql(
        "WITH seen(number, at) AS (SELECT number, now() - interval '1 hour' FROM generate_series(1, 2000) number "
        "UNION ALL SELECT number, now() - interval '2 days' FROM generate_series(2001, 9000) number), "
        "made AS (INSERT INTO workers (name, host_name, enrolled_at, last_seen_at) "
        "SELECT number, number, now() - interval '1 year', at FROM seen RETURNING 1) SELECT count(*) FROM made"
    )
    sessions = deployment.gateway.sessions
    for gateways, heartbeat_s in ((1, 125), (2, 62)):
        while deployment.sql("SELECT count(*) FROM processes WHERE role = 'gateway'") != [(gateways,)]:
            deployment.sql(
                "INSERT INTO processes (role, name, host_name, pid, version) VALUES ('gateway', 'other', 'h', 1, '0') "
                "RETURNING 1"
            )
        sessions._rounds = 0
        assert await sessions.round()
        assert sessions.heartbeat_s() == heartbeat_s
        async with deployment.session(await deployment.enrol(f"host-{gateways}")) as session:
            assert (await session.hello()).heartbeat_s == heartbeat_s


async def test_a_heartbeat_takes_back_what_a_keeper_let_go_of(deployment: Any) -> None:
    """A gateway that was paused for long lost its workers on paper; their next heartbeat shows them as connected."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        gateway = deployment.sql("SELECT gateway_id FROM workers")
        deployment.sql("UPDATE workers SET gateway_id = NULL, disconnected_at = now() RETURNING 1")
        await session.send(heartbeat={"jobs_revision": 3})
        async with asyncio.timeout(5):
            while deployment.sql("SELECT gateway_id FROM workers") != gateway:
                await asyncio.sleep(0.05)
        assert deployment.sql("SELECT disconnected_at FROM workers") == [(None,)]


async def test_a_gateway_takes_back_what_a_keeper_let_go_of(deployment: Any) -> None:
    """With its next look, without waiting for a heartbeat, which may be minutes away."""
    worker = await deployment.enrol("host-a")
    async with deployment.session(worker) as session:
        await session.hello()
        gateway = deployment.sql("SELECT gateway_id FROM workers")
        deployment.sql("UPDATE workers SET gateway_id = NULL, disconnected_at = now() RETURNING 1")
        async with asyncio.timeout(5):
            while deployment.sql("SELECT gateway_id, disconnected_at FROM workers") != [
                (gateway[0][0], None)
            ]:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_session_of_great_age_ends_and_another_begins(
    deployment: Any, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    """The worker is told to dial at once, and shown as gone only if it does not."""
    monkeypatch.setattr(session_module, "_AGE_S", (0.3, 0.3))
    monkeypatch.setattr(registry_module, "_COMES_BACK_S", 1.5)
    worker = await deployment.enrol("host-a")
    connected = "SELECT gateway_id IS NOT NULL FROM workers"
    async with deployment.session(worker) as session:
        await session.hello()
        goodbye = (await session.expect("goodbye")).goodbye
        assert (goodbye.reason, goodbye.reconnect_after_ms) == (gateway_pb2.Goodbye.REASON_UNSPECIFIED, 100)
    monkeypatch.setattr(session_module, "_AGE_S", (60.0, 60.0))
    await asyncio.sleep(0.5)
    assert deployment.sql(connected) == [(True,)]
    if comes_back:
        async with deployment.session(worker) as session:
            await session.hello()
            await asyncio.sleep(2)
            assert deployment.sql(connected) == [(True,)]
        return
    async with asyncio.timeout(5):
        while deployment.sql(connected) != [(False,)]:
            await asyncio.sleep(0.05)


async def test_a_drained_worker_is_in_service_again_when_it_can_measure(deployment: Any) -> None:
    """Not by a session that only delivers what waits on its disk, and announces no kind."""
    worker, other = await deployment.enrol("host-a"), await deployment.enrol("host-b")
    deployment.sql("INSERT INTO drains (worker_id, made_by) SELECT id, 'user:ada' FROM workers RETURNING 1")
    still = (
        "SELECT host_name FROM drains JOIN workers ON id = worker_id WHERE until IS NULL ORDER BY host_name"
    )
    for available, left in ((False, ["host-a", "host-b"]), (True, ["host-b"])):
        async with deployment.session(worker) as session:
            await session.hello(kinds=[gateway_pb2.KindAvailability(kind="ping", available=available)])
            assert [row[0] for row in deployment.sql(still)] == left
    async with deployment.session(other) as session:
        await session.hello()
        assert len(deployment.sql(still)) == 1
