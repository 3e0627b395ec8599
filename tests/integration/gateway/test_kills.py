"""Kill -9 of a gateway under load, and of PostgreSQL's sessions with it: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import sys
from pathlib import Path
from typing import Any

from grpc import aio
from support.surroundings import free_port

#: A gateway lives until the workers have got this many results off, at random, and not a moment longer.
_LIFE = (800, 4_000)
_WORKERS = 4
_RESULTS = 4_000
_BATCH = 150

_ACK_BEFORE_COMMIT = """
import asyncio, sys
from controller.gateway import ingest
async def too_early(self, batches):
    for batch in batches:
        batch.source.stored(batch)
    await whole(self, batches)
whole = ingest.Lane._store
ingest.Lane._store = too_early
from controller.gateway.__main__ import main
sys.exit(main())
"""


class SpooledWorker:
    """A worker as small as can be: a spool in memory, deleted only after an acknowledgement."""

    def __init__(self, tools: Any, identity: Any, jobs: list[int], port: int) -> None:
        self._tools, self._identity, self._port = tools, identity, port
        self.spool = {
            number + 1: tools.make_result(jobs[number % len(jobs)], number) for number in range(_RESULTS)
        }
        self.sent = 0

    async def run(self) -> None:
        """Deliver everything, dialling again whatever happens."""
        while self.spool:
            with contextlib.suppress(aio.AioRpcError, EOFError, TimeoutError, asyncio.InvalidStateError):
                async with self._tools.session_to(self._port, self._identity.credentials) as session:
                    await self._deliver(session)
            await asyncio.sleep(random.uniform(0.01, 0.1))

    async def _deliver(self, session: Any) -> None:
        welcome = await session.hello(first_unacked_seq=min(self.spool), next_seq=_RESULTS + 1)
        self._delete(welcome.acked_seq)
        unacked: list[int] = []
        left = iter(sorted(self.spool))
        while self.spool:
            while len(unacked) + _BATCH <= 1000:
                seqs = [seq for _, seq in zip(range(_BATCH), left, strict=False)]
                if not seqs:
                    break
                await session.results([self.spool[seq] for seq in seqs], seqs)
                unacked += seqs
                self.sent += len(seqs)
            ack = (await session.expect("ack", 30)).ack.acked_seq
            self._delete(ack)
            unacked = [seq for seq in unacked if seq > ack]

    def _delete(self, acked_seq: int) -> None:
        for seq in [seq for seq in self.spool if seq <= acked_seq]:
            del self.spool[seq]


async def _keep_killing(
    settings: Any, deployment: Any, program: list[str], log: Path, workers: list[SpooledWorker]
) -> int:
    """Run gateway processes and kill each under load, with the database's sessions cut now and then; count them."""
    kills = 0
    while any(worker.spool for worker in workers):
        left = sum(len(worker.spool) for worker in workers)
        enough = left - random.randint(*_LIFE)
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *program,
                env={**os.environ, **settings.environment()},
                stdout=output,
                stderr=output,
            )
        try:
            while sum(len(worker.spool) for worker in workers) > max(enough, 0):
                assert process.returncode is None, "the gateway ended by itself"
                await asyncio.sleep(0.002)
            if kills % 3 == 2:
                await asyncio.to_thread(
                    deployment.sql,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()",
                )
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        kills += 1
    return kills


async def _deliver_under_kills(
    deployment: Any, tools: Any, program: list[str], log: Path
) -> tuple[list[SpooledWorker], int]:
    port = free_port()
    settings = dataclasses.replace(
        deployment.settings, gateway_name="killed", gateway_listen=f"127.0.0.1:{port}"
    )
    workers = []
    for number in range(_WORKERS):
        identity = await deployment.enrol(f"host-{number}")
        jobs = [deployment.job(identity.worker_id) for _ in range(3)]
        workers.append(SpooledWorker(tools, identity, jobs, port))
    async with asyncio.timeout(100):
        kills, *_ = await asyncio.gather(
            _keep_killing(settings, deployment, program, log, workers), *(worker.run() for worker in workers)
        )
    return workers, kills


async def test_kills_lose_and_double_nothing(deployment: Any, tools: Any, tmp_path: Path) -> None:
    """Every spooled result is stored exactly once, counted against what the workers had spooled."""
    workers, kills = await _deliver_under_kills(
        deployment, tools, ["-m", "controller.gateway"], tmp_path / "gateway.log"
    )
    assert kills >= 3
    assert sum(worker.sent for worker in workers) > _WORKERS * _RESULTS, "no kill came under load"
    stored = deployment.sql("SELECT count(*), count(DISTINCT (job_id, scheduled_at)) FROM result_ping")
    assert stored == [(_WORKERS * _RESULTS, _WORKERS * _RESULTS)], "not exactly once"
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]


async def test_acknowledging_before_the_commit_is_caught(deployment: Any, tools: Any, tmp_path: Path) -> None:
    """The mutant that acknowledges too early loses results under the same kills, so the test above can fail."""
    await _deliver_under_kills(deployment, tools, ["-c", _ACK_BEFORE_COMMIT], tmp_path / "gateway.log")
    ((stored,),) = deployment.sql("SELECT count(*) FROM result_ping")
    assert stored < _WORKERS * _RESULTS
