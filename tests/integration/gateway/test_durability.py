"""An acknowledgement means that the disk has the results: seen from outside, by the system calls of PostgreSQL."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

_BATCHES = 20
#: A synchronisation of the write-ahead log that has succeeded, with the time at which it was over.
_SYNC = re.compile(
    r"(\d+\.\d+) (?:<\.\.\. )?(?:fdatasync|fsync)(?:\(\d+<\S*/pg_wal/\S+>| resumed>).*= 0 <(\d+\.\d+)>"
)

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace is not installed (apt-get install strace)"
)


@asynccontextmanager
async def _traced(deployment: Any, trace: Path) -> AsyncIterator[None]:
    """Follow the gateway's sessions in the database."""
    pids = deployment.sql(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name LIKE 'streamswarm-gateway%'"
    )
    attached = [word for (pid,) in pids for word in ("-p", str(pid))]
    process = await asyncio.create_subprocess_exec(
        "strace", "-ttt", "-T", "-y", "-e", "trace=fdatasync,fsync", "-o", str(trace), *attached,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    for _ in pids:
        assert b"attached" in await asyncio.wait_for(process.stderr.readline(), 20)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _deliver(deployment: Any, tools: Any, trace: Path) -> int:
    """Deliver batches one by one; return how many were acknowledged after a synchronisation of their own."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    spans = []
    async with deployment.session(worker) as session:
        await session.hello()
        for number in range(4):  # both lanes and their connections are there
            await session.results([tools.make_result(job, number)], [number + 1])
            await session.expect_ack(number + 1)
        async with _traced(deployment, trace):
            for number in range(4, 4 + _BATCHES):
                sent = time.time()
                await session.results([tools.make_result(job, number)], [number + 1])
                await session.expect_ack(number + 1)
                spans.append((sent, time.time()))
    syncs = [
        float(found[1]) + float(found[2])
        for line in trace.read_text().splitlines()
        if (found := _SYNC.search(line))
    ]
    return sum(any(sent <= sync <= acknowledged for sync in syncs) for sent, acknowledged in spans)


async def test_every_acknowledgement_comes_after_a_synchronisation(
    deployment: Any, tools: Any, tmp_path: Path
) -> None:
    """Between sending a batch and its acknowledgement the write-ahead log was synchronised: each time."""
    assert await _deliver(deployment, tools, tmp_path / "trace") == _BATCHES


async def test_without_a_synchronous_commit_it_would_be_noticed(
    deployment: Any, tools: Any, tmp_path: Path
) -> None:
    """The test above can fail: a database that answers before its disk has it is seen."""
    ((database,),) = deployment.sql("SELECT current_database()")
    deployment.sql(f"ALTER DATABASE {database} SET synchronous_commit = off")
    deployment.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(20):
        while not await _reaches_its_database(deployment):
            await asyncio.sleep(0.1)
    assert await _deliver(deployment, tools, tmp_path / "trace") < _BATCHES / 2


async def _reaches_its_database(deployment: Any) -> bool:
    """Whether the gateway has connections that work; its first attempt finds the broken ones."""
    try:
        async with deployment.gateway.database.connection() as connection:
            await connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True
