"""A host whose clocks the test moves, and spools in real files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from support.scheduling import START_US, Bench, FakeClock

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.spool import Limits, Spool
from worker.used import Used


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def start_us() -> int:
    return START_US


@pytest.fixture
def make_job() -> Callable[..., probe_pb2.Job]:
    """Return a job on the grid of START_US."""

    def make(
        job_id: int = 1, *, interval_s: float = 1.0, anchor_us: int = START_US, **more: object
    ) -> probe_pb2.Job:
        schedule = probe_pb2.Schedule(interval_us=round(interval_s * 1e6), anchor_us=anchor_us)
        return probe_pb2.Job(
            job_id=job_id,
            version=1,
            target="192.0.2.1:80",
            spec=contract.make_spec("tcp", {}),
            schedule=schedule,
            **more,  # type: ignore[arg-type]
        )

    return make


@pytest.fixture
async def make_bench(clock: Any) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(used: dict[int, Used] | None = None) -> Bench:
        benches.append(Bench(clock, used))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.end()


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Spool] = []

    async def open_one(limits: Limits | None = None, name: str = "spool.sqlite") -> Spool:
        spool = Spool(tmp_path / name, clock=SystemClock(), limits=limits)
        await spool.open()
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        if not spool._closing:
            await spool.close()
