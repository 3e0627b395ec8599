"""A host whose clocks the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: 2030-01-01T00:00:00Z
START_US = 1_893_456_000_000_000


class FakeClock:
    """Clocks that stand still until the test moves them; sleepers wake in order."""

    def __init__(self) -> None:
        self._wall_us = START_US
        self._steady_us = 1_000_000_000
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()

    def wall_us(self) -> int:
        return self._wall_us

    def steady_us(self) -> int:
        return self._steady_us

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._steady_us + round(seconds * 1e6), next(self._numbers), future))
        await future

    def set_wall(self, step_s: float) -> None:
        """Set the wall clock forward or back."""
        self._wall_us += round(step_s * 1e6)

    def suspend(self, seconds: float) -> None:
        """Let time pass while nothing runs, as when a host sleeps."""
        self._wall_us += round(seconds * 1e6)
        self._steady_us += round(seconds * 1e6)

    async def advance(self, seconds: float) -> None:
        """Let time pass, waking every sleeper at its time."""
        end_us = self._steady_us + round(seconds * 1e6)
        await _settle()
        while self._sleepers and self._sleepers[0][0] <= end_us:
            due_us, _, future = heapq.heappop(self._sleepers)
            passed = max(0, due_us - self._steady_us)
            self._steady_us += passed
            self._wall_us += passed
            if not future.done():
                future.set_result(None)
                await _settle()
        passed = end_us - self._steady_us
        self._steady_us += passed
        self._wall_us += passed
        await _settle()


async def _settle() -> None:
    """Let everything run that can, until the loop has nothing left but to wait."""
    ready: Any = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    while ready:
        await asyncio.sleep(0)


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
