"""A gateway, and worker daemons that run inside the test, each with its own folder."""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.clock import Clock
from worker.config import WorkerConfig
from worker.daemon import Daemon

# Test folders are no packages, so the neighbour is loaded by its path.
_spec = importlib.util.spec_from_file_location(
    "worker_test_gateways", Path(__file__).with_name("gateways.py")
)
assert _spec is not None
assert _spec.loader is not None
gateways = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = gateways
_spec.loader.exec_module(gateways)


@pytest.fixture(scope="session")
def authority() -> Any:
    return gateways.Authority()


@pytest.fixture
async def gateway(authority: Any) -> AsyncIterator[Any]:
    running = gateways.Gateway(authority)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
def configuration(tmp_path: Path, gateway: Any) -> dict[str, Any]:
    """The values of a worker's configuration file, with CA, token and policy in place."""
    values: dict[str, Any] = gateways.write_configuration(tmp_path / "worker", gateway)
    return values


@pytest.fixture
def listener() -> Any:
    """A TCP port of this host that accepts connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:
        yield server.getsockname()[1]


@pytest.fixture
def make_job(listener: int) -> Callable[..., probe_pb2.Job]:
    """Return a job that connects to the listener."""

    def make(job_id: int = 1, *, interval_s: float = 0.2, **more: Any) -> probe_pb2.Job:
        return probe_pb2.Job(
            job_id=job_id,
            version=1,
            target=f"127.0.0.1:{listener}",
            spec=contract.make_spec("tcp", {"timeout_ms": 500}),
            schedule=probe_pb2.Schedule(interval_us=int(interval_s * 1e6), anchor_us=job_id),
            **more,
        )

    return make


@pytest.fixture
def run_worker(configuration: dict[str, Any]) -> Callable[..., Any]:
    """Run a daemon in this process for the length of a `with` block."""

    @asynccontextmanager
    async def run(*, clock: Clock | None = None, **more: Any) -> AsyncIterator[Daemon]:
        config = WorkerConfig.from_values({**configuration, **more}, where="test")
        daemon = Daemon(config, clock=clock)
        stop = asyncio.Event()
        running = asyncio.ensure_future(daemon.run(stop))
        try:
            yield daemon
        finally:
            stop.set()
            await asyncio.wait_for(running, 20)

    return run


@pytest.fixture
def until() -> Callable[..., Awaitable[None]]:
    """Wait until something holds, or fail."""

    async def wait(holds: Callable[[], Any], *, timeout_s: float = 10.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > deadline:
                pytest.fail(f"did not come true within {timeout_s:g} s")
            await asyncio.sleep(0.02)

    return wait
