"""A gateway knows the database's clock, tells how far its own is away, and judges results by the database's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.gateway.clock import DatabaseClock
from controller.gateway.database import Database
from controller.settings import Settings
from controller.store.engine import libpq_url

HOUR_S = 3600.0


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    """The database as a gateway reaches it."""
    made = Database(libpq_url(settings))
    yield made
    await made.close()


async def test_how_far_the_own_clock_is_away_is_measured_and_told_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Ahead or behind, within half the round trip; what passes five seconds is a warning, and its end is told."""
    ahead_s = 0.0
    clock = DatabaseClock(database, wall=lambda: time.time() + ahead_s)
    assert clock.gauges() == {}
    caplog.set_level("INFO", logger="controller.gateway.clock")
    for ahead_s in (1.0, 7.0, 7.0, -HOUR_S, 0.0):
        await clock.measure()
        assert abs(clock.gauges()["clock_offset_ms"] - ahead_s * 1000) < 500
        assert 0 < clock.gauges()["database_round_trip_ms"] < 1000
    told = [record.getMessage() for record in caplog.records if record.name == "controller.gateway.clock"]
    assert [line.partition(":")[0] for line in told] == [
        "this host's clock is 7.0 s ahead of the database's",
        "this host's clock agrees with the database's again, within 0.0 s",
    ]


async def test_the_database_s_time_goes_on_whatever_the_own_clock_is_set_to(database: Database) -> None:
    """Between two measurements by the time that has passed; before the first by the own clock."""
    wall, elapsed = time.time(), 100.0
    clock = DatabaseClock(database, wall=lambda: wall, elapsed=lambda: elapsed)
    assert clock.now_us() == int(wall * 1_000_000)
    await clock.measure()
    begun_us = clock.now_us()
    assert abs(begun_us / 1_000_000 - time.time()) < 5
    wall, elapsed = wall + 400 * 86_400, elapsed + 30.0
    assert clock.now_us() - begun_us == pytest.approx(30_000_000, abs=2)


async def test_it_is_measured_again_and_again(deployment: Any, database: Database) -> None:
    """At the start, before anything is served, and then by its task; the process shows it."""
    assert abs(deployment.gateway.clock.gauges()["clock_offset_ms"]) < 1000
    clock = DatabaseClock(database)
    running = asyncio.create_task(clock.run(interval_s=0.02))
    try:
        seen = set()
        async with asyncio.timeout(10):
            while len(seen) < 3:
                seen.add(clock.offset_ms)
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("days", [400, -400], ids=["ahead", "behind"])
async def test_a_gateway_whose_clock_is_wrong_neither_drops_nor_sets_aside(
    deployment: Any, tools: Any, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """What is too old to be stored, and what is too far ahead, the database's clock decides."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    for lane in deployment.gateway.ingest._lanes:
        lane._preparation._retention_days = 30
    async with deployment.session(worker) as session:
        await session.hello()
        really = time.time
        monkeypatch.setattr(deployment.gateway.clock, "_wall", lambda: really() + days * 86_400)
        await session.results([tools.make_result(job, number) for number in range(3)], [1, 2, 3])
        await session.expect_ack(3)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(3,)]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
async def test_workers_are_told_the_database_s_time_at_every_gateway(deployment: Any, ahead_s: float) -> None:
    """In the Welcome and in every answer to a heartbeat: who goes to another gateway keeps its time and its offset."""
    worker = await deployment.enrol("host-a")
    clock = deployment.gateway.clock
    told, at = clock._known
    clock._known = (told + ahead_s, at)  # what the database says, and this host's clock does not
    async with deployment.session(worker) as session:
        for answer in ("welcome", "heartbeat"):
            if answer == "welcome":
                await session.hello(clock_us=123)
                message = session.welcome
            else:
                await session.send(heartbeat={"clock_us": 456})
                message = (await session.expect("heartbeat")).heartbeat
            assert abs(message.clock_us / 1_000_000 - time.time() - ahead_s) < 5, answer
