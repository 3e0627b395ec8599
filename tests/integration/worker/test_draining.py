"""Draining over real TLS: the spool of a daemon that has ended is delivered, and nothing is measured meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.config import WorkerConfig
from worker.draining import Drained, drain
from worker.lock import DataLock
from worker.spool.file import SpoolFile
from worker.spool.records import Gap


@pytest.fixture
async def waiting(gateway: Any, run_worker: Any, make_job: Any, until: Any) -> int:
    """A worker that has ended while its results were not acknowledged; returns how many wait on its disk."""
    gateway.hold_acks = True
    gateway.jobs = [make_job(1, interval_s=0.1)]
    async with run_worker() as daemon:
        await until(lambda: daemon._spool.records >= 5)
    gateway.hold_acks = False
    return int(daemon._spool.records)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the account can enter which the worker becomes; pytest's own is closed to it."""
    with tempfile.TemporaryDirectory(prefix="streamswarm-drain-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _config(configuration: dict[str, Any]) -> WorkerConfig:
    return WorkerConfig.from_values(configuration, where="test")


async def test_everything_is_delivered_once_and_nothing_measured(
    gateway: Any, configuration: dict[str, Any], waiting: int
) -> None:
    """All that waited is acknowledged; no run is added; the controller is told why no kind is available."""
    assert await drain(_config(configuration), wait_s=10) == Drained(waiting=0)
    assert len(gateway.stored) == waiting
    hello = gateway.hellos[-1]
    assert not any(kind.available for kind in hello.kinds)
    assert {kind.reason for kind in hello.kinds} == {"the worker is being drained"}
    sessions = len(gateway.hellos)
    assert await drain(_config(configuration), wait_s=10) == Drained(waiting=0)
    assert len(gateway.hellos) == sessions, "nothing waits, and yet it has dialled"


async def test_runs_that_were_missed_for_want_of_room_are_told_too(
    gateway: Any, configuration: dict[str, Any], waiting: int
) -> None:
    """They become a result when the others have gone; that is delivered as well, and nothing is left behind."""
    missed = probe_pb2.Result(
        job_id=1, scheduled_at_us=7, status=probe_pb2.STATUS_MISSED, error="the spool is full"
    )
    path = Path(configuration["data_dir"]) / "spool.sqlite"
    for told in (1, 2):
        file = SpoolFile.open(path)
        file.commit([], [Gap(job_id=1, count=56, last_us=9, body=missed.SerializeToString())])
        file.close()
        assert await drain(_config(configuration), wait_s=10) == Drained(waiting=0)
        assert len(gateway.stored) == waiting + told
        missed.scheduled_at_us = 8


async def test_what_is_not_acknowledged_in_time_is_counted(
    gateway: Any, configuration: dict[str, Any], waiting: int
) -> None:
    """A gateway that never acknowledges ends the wait at its bound, with the number and the reason."""
    gateway.hold_acks = True
    drained = await drain(_config(configuration), wait_s=0.5)
    assert drained.waiting == waiting
    assert "not acknowledged within 0.5 s" in drained.reason


async def test_an_unreachable_gateway_is_told(
    gateway: Any, configuration: dict[str, Any], waiting: int
) -> None:
    """The reason says how the last session ended."""
    await gateway.stop()
    drained = await drain(_config(configuration), wait_s=2)
    assert drained.waiting == waiting
    assert drained.reason


async def test_a_revoked_worker_does_not_wait(
    gateway: Any, configuration: dict[str, Any], waiting: int
) -> None:
    """A controller that refuses the worker for good ends the wait at once."""
    gateway.goodbyes = [gateway_pb2.Goodbye(reason=gateway_pb2.Goodbye.REASON_REVOKED, message="gone")]
    drained = await asyncio.wait_for(drain(_config(configuration), wait_s=60), 10)
    assert drained.waiting == waiting
    assert "revoked" in drained.reason


async def test_without_an_identity_nothing_can_be_delivered(
    configuration: dict[str, Any], waiting: int
) -> None:
    """A worker that has lost its identity says so at once instead of enrolling anew."""
    (Path(configuration["data_dir"]) / "identity" / "identity.json").unlink()
    drained = await asyncio.wait_for(drain(_config(configuration), wait_s=60), 10)
    assert drained.waiting == waiting
    assert "no identity" in drained.reason


async def test_a_worker_that_never_measured_gets_no_spool(configuration: dict[str, Any]) -> None:
    """Looking for results makes no file."""
    assert await drain(_config(configuration), wait_s=1) == Drained(waiting=0)
    assert not list(Path(configuration["data_dir"]).glob("spool*"))


async def test_the_command_prints_json_and_keeps_out_of_a_running_daemon(
    gateway: Any, configuration: dict[str, Any], waiting: int, open_folder: Path
) -> None:
    """`drain` refuses while a daemon holds the lock, and afterwards prints what came of it."""
    own = Path(configuration["data_dir"]).parent
    shutil.copytree(own, open_folder / "worker")
    (open_folder / "worker").chmod(0o755)
    values: dict[str, Any] = {**configuration, **({"user": "nobody"} if os.geteuid() == 0 else {})}
    path = open_folder / "worker.yaml"
    path.write_text(yaml.safe_dump(values).replace(str(own), str(open_folder / "worker")))
    command = [sys.executable, "-m", "worker", "drain", "--config", str(path), "--wait", "10"]

    def call() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    lock = DataLock.take(open_folder / "worker" / "data")
    busy = await asyncio.to_thread(call)
    lock.release()
    assert busy.returncode == 1
    assert busy.stdout == ""
    assert "uses the data folder" in busy.stderr
    done = await asyncio.to_thread(call)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"waiting": 0, "reason": ""}
    assert len(gateway.stored) == waiting
