"""A scheduler on clocks that the test moves."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Any

from streamswarm.v1 import probe_pb2
from worker.clock import ControllerTime
from worker.concurrency import cancel
from worker.scheduler import Scheduler
from worker.used import Used

S = 1_000_000
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


class Bench:
    """A scheduler with runs that take as long as the test says."""

    def __init__(self, clock: Any, used: dict[int, Used] | None = None) -> None:
        self.clock = clock
        self.time = ControllerTime(clock)
        self.correct(0.0)
        self.ran: list[tuple[int, int]] = []
        self.missed: list[probe_pb2.Result] = []
        self.used: dict[int, Used] = dict(used or {})
        self.run_s = 0.01
        self.refusal = ""
        self.scheduler = Scheduler(
            clock=clock,
            controller_time=self.time,
            execute=self._execute,
            deliver=self._deliver,
            miss=self._miss,
            refusal=lambda: self.refusal,
            used=self.used,
        )
        self._running = asyncio.ensure_future(self.scheduler.run())

    def correct(self, step_s: float) -> None:
        """Let the controller say that its time is another."""
        now = self.clock.steady_us()
        self.time.new_session()
        told_us = self.time.now_us() + round(step_s * S)
        self.time.observe(sent_steady_us=now, received_steady_us=now, controller_us=told_us)

    async def hear_late(self, wait_s: float) -> None:
        """Let a gateway answer Hello after a while, with the time at which it does."""
        sent, base = self.clock.steady_us(), self.time.now_us() - self.clock.steady_us()
        await self.clock.advance(wait_s)
        now = self.clock.steady_us()
        self.time.new_session()
        self.time.observe(sent_steady_us=sent, received_steady_us=now, controller_us=base + now)

    def instants(self, job_id: int = 1) -> list[int]:
        return [due for job, due in self.ran if job == job_id]

    async def end(self) -> None:
        await cancel(self._running)
        await self.scheduler.stop(grace_s=0)

    def _miss(self, result: probe_pb2.Result) -> None:
        if result.status == probe_pb2.STATUS_MISSED:
            assert (result.job_id, result.scheduled_at_us) not in self.ran
        self.missed.append(result)

    async def _execute(self, job: probe_pb2.Job, due_us: int) -> probe_pb2.Result:
        self.ran.append((job.job_id, due_us))
        await self.clock.sleep(self.run_s)
        return probe_pb2.Result(job_id=job.job_id, scheduled_at_us=due_us)

    async def _deliver(self, result: probe_pb2.Result, used: Used) -> None:
        self.used[result.job_id] = used
