"""Several gateways on one database: any worker to any of them, and none does harm to another."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from bench.swarm.members import SwarmWorker, greeting
from support.pausing import PLACES, Dialler, Pausing, Place
from support.surroundings import free_addresses

from controller.gateway.server import RunningGateway, running
from worker.identity import Identity, make_identity


@pytest.fixture
async def second(gateway_settings: Any, deployment: Any) -> AsyncIterator[RunningGateway]:
    """Another gateway, whose rounds come so seldom that only the database's own fences count."""
    settings = dataclasses.replace(gateway_settings, gateway_name="gateway-2")
    async with running(settings, interval_s=60) as gateway:
        yield gateway


async def test_any_worker_may_dial_any_gateway(deployment: Any, second: RunningGateway, tools: Any) -> None:
    """A worker that one gateway has enrolled gets its jobs from the other, and delivers there."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with tools.session_to(second.session_port, worker.credentials) as session:
        await session.hello()
        assert [item.job_id for item in (await session.expect("jobs")).jobs.jobs] == [job]
        await session.results([tools.make_result(job, 0)], [1])
        await session.expect_ack(1)
    async with deployment.session(worker) as session:
        assert (await session.hello(next_seq=2)).acked_seq == 1


async def test_a_newer_session_elsewhere_fences_the_old_stream(
    deployment: Any, second: RunningGateway, tools: Any
) -> None:
    """What the old stream still brings is refused in the transaction itself; then the stream is ended."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    async with (
        tools.session_to(second.session_port, worker.credentials) as older,
        deployment.session(worker) as newer,
    ):
        first = await older.hello()
        await older.results([tools.make_result(job, 0)], [1])
        await older.expect_ack(1)
        welcome = await newer.hello(next_seq=2)
        assert (welcome.session_epoch, welcome.acked_seq) == (first.session_epoch + 1, 1)
        await older.results([tools.make_result(job, number) for number in (1, 2)], [2, 3])
        assert await older.ending() == ("SUPERSEDED", grpc.StatusCode.ABORTED)
        assert not any(heard.HasField("ack") and heard.ack.acked_seq > 1 for heard in older.heard)
        assert deployment.sql("SELECT count(*) FROM result_ping") == [(1,)]
        await newer.results([tools.make_result(job, number) for number in (1, 2)], [2, 3])
        await newer.expect_ack(3)
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(3,)]


async def test_a_stream_that_was_superseded_elsewhere_ends_with_the_next_look(
    deployment: Any, second: RunningGateway, tools: Any
) -> None:
    """Also when the worker says nothing on it any more."""
    worker = await deployment.enrol("host-a")
    async with (
        deployment.session(worker) as older,
        tools.session_to(second.session_port, worker.credentials) as newer,
    ):
        await older.hello()
        await newer.hello()
        assert await older.ending(5) == ("SUPERSEDED", grpc.StatusCode.ABORTED)
        await newer.send(heartbeat={"clock_us": 1})
        await newer.expect("heartbeat")
    async with asyncio.timeout(5):
        while deployment.sql("SELECT 1 FROM workers WHERE gateway_id IS NOT NULL"):
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _gateway(settings: Any, name: str, log: Path) -> AsyncIterator[tuple[Any, str]]:
    """A gateway as a process; gives it and the address of its sessions."""
    sessions, enrolment = free_addresses(2)
    settings = dataclasses.replace(
        settings, gateway_name=name, gateway_listen=sessions, enrolment_listen=enrolment
    )
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "controller.gateway",
            env={**os.environ, **settings.environment()},
            stdout=output,
            stderr=output,
        )
    try:
        host, port = sessions.split(":")
        async with asyncio.timeout(60):
            while True:
                assert process.returncode is None, log.read_text()
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection(host, int(port))
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield process, sessions
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _identity(worker: Any) -> Identity:
    return make_identity(
        key_pem=worker.key_pem, chain_pem=worker.chain_pem, ca_pem=worker.ca_pem, gateways=()
    )


async def _eventually(condition: Any, seconds: float = 30.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not come about"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


async def test_a_drain_hands_the_workers_over_without_a_gap(deployment: Any, tmp_path: Path) -> None:
    """Workers that go on measuring are with the other gateway within seconds; each of their results is stored once."""
    log = tmp_path / "gateways.log"
    async with (
        _gateway(deployment.settings, "a", log) as (leaving, first),
        _gateway(deployment.settings, "b", log) as (_, second),
    ):
        workers = []
        for number in range(10):
            enrolled = await deployment.enrol(f"host-{number}")
            deployment.job(enrolled.worker_id)
            workers.append(SwarmWorker(_identity(enrolled), [first, second], greeting(), []))
        tasks = [asyncio.ensure_future(worker.run()) for worker in workers]

        async def measure() -> None:
            while True:
                for worker in workers:
                    worker.measure()
                await asyncio.sleep(0.02)

        await _eventually(lambda: all(worker.current_at for worker in workers))
        measuring = asyncio.ensure_future(measure())
        at_first = "SELECT count(*) FROM workers w JOIN processes p ON p.id = w.gateway_id WHERE p.name = 'a'"
        assert deployment.sql(at_first)[0][0] > 0
        await asyncio.sleep(0.3)
        told_at = time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(leaving.wait(), 30) == 0
        await _eventually(lambda: all(worker.current_at for worker in workers))
        assert time.monotonic() - told_at < 10
        measuring.cancel()
        await _eventually(lambda: not any(worker.queue.records for worker in workers))
        for task in tasks:
            task.cancel()
        await asyncio.gather(measuring, *tasks, return_exceptions=True)
    assert "Traceback" not in log.read_text()
    ends = [end for worker in workers for end in worker.ends]
    assert ends
    assert all("draining" in end for end in ends), ends
    measured = sum(worker.queue.next_seq - 1 for worker in workers)
    assert measured > 100
    stored = deployment.sql("SELECT count(*), count(DISTINCT (job_id, scheduled_at)) FROM result_ping")
    assert stored == [(measured, measured)]


@pytest.mark.parametrize("place", PLACES)
async def test_a_paused_gateway_does_no_harm_when_it_goes_on(
    deployment: Any, tmp_path: Path, place: Place
) -> None:
    """Stopped past its time-outs, in the middle of a transaction too: the successor waits for seconds, nothing stale is written."""
    worker = await deployment.enrol("host-a")
    dialler = Dialler(
        worker_id=worker.worker_id, credentials=worker.credentials, job_id=deployment.job(worker.worker_id)
    )
    pausing = Pausing(
        deployment.settings, f"127.0.0.1:{deployment.gateway.session_port}", tmp_path / "gateway.log"
    )
    found = await pausing.round(dialler, random.Random(), place)
    stale_or_lost = (found.stale_rows, found.stale_watermark, found.lost, found.doubled)
    assert not any(stale_or_lost), f"not exactly once: {found}"
    assert found.clean, found


class _Freezer:
    """A way between a worker and its gateway that can stop carrying anything, without a word to either end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._carry = asyncio.Event()
        self._carry.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> _Freezer:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Carry nothing from now on; connections stay open."""
        self._carry.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        beyond = await asyncio.open_connection("127.0.0.1", self._port)
        for source, sink in ((reader, beyond[1]), (beyond[0], writer)):
            task = asyncio.ensure_future(self._pump(source, sink))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65_536):
                await self._carry.wait()
                sink.write(data)
                await sink.drain()
            await self._carry.wait()
        finally:
            sink.close()


async def test_a_half_open_connection_is_found_by_both_sides(deployment: Any) -> None:
    """Within a minute, though neither end is told of anything and both have nothing to say."""
    worker = await deployment.enrol("host-a")
    deployment.job(worker.worker_id)
    async with _Freezer(deployment.gateway.session_port) as freezer:
        member = SwarmWorker(_identity(worker), [f"127.0.0.1:{freezer.port}"], greeting(), [])
        task = asyncio.ensure_future(member.run())
        await _eventually(lambda: bool(member.current_at))
        freezer.freeze()
        worker_s = await _eventually(lambda: not member.current_at, 60)
        gateway_s = await _eventually(lambda: len(deployment.gateway.sessions) == 0, 60 - worker_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert worker_s <= 60
    assert worker_s + gateway_s <= 60
