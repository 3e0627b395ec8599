"""When jobs run: every due instant of every job once, or the reason why not.

Instants lie on the grid of a job's schedule, in the controller's time. For each job a mark moves over the grid:
what lies behind it has been run or accounted for. Due instants that could not be used while the daemon lives
(overlap, a pause of the host, a full spool) are told as missed. When time turns out to be earlier the marks go back;
what was used is passed over, and what was only told, because time had jumped over it, is run.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from worker.clock import Clock, ControllerTime
from worker.concurrency import cancel, first_of
from worker.envelope import ended, missed
from worker.instants import shown_instant
from worker.passed import PassedRuns
from worker.used import Used

log = logging.getLogger(__name__)

#: A run starts late by this much at most; later it counts as missed.
_LATEST_START_US = 5_000_000
#: The longest sleep, so that a clock that was set or a host that woke up is noticed.
_LONGEST_SLEEP_S = 1.0
#: Time that is set back by less is waited for.
_SMALLEST_STEP_US = 1_000_000

Execute = Callable[[probe_pb2.Job, int], Awaitable[probe_pb2.Result]]
Deliver = Callable[[probe_pb2.Result, Used], Awaitable[object]]
Miss = Callable[[probe_pb2.Result], None]


@dataclass(kw_only=True)
class _Planned:
    """A job and where it stands on its grid."""

    job: probe_pb2.Job
    grid: Schedule
    #: Everything up to here has been used or accounted for.
    mark_us: int
    #: What the job has used, ahead of the mark too; kept on disk with each result.
    used: Used
    #: Steady time after which no run starts any more.
    expires_steady_us: int | None = None
    #: The next due instant; None when there is none.
    next_us: int | None = None
    running: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def one_shot(self) -> bool:
        return self.grid.once

    def advance(self, mark_us: int) -> None:
        """Move the mark and find the next due instant behind it."""
        self.mark_us = mark_us
        self.next_us = self.used.next_unused(self.grid, mark_us)


class Scheduler:
    """Starts the runs of all jobs. `execute` runs one, `deliver` keeps its result, `miss` accounts for a missed one."""

    def __init__(
        self,
        *,
        clock: Clock,
        controller_time: ControllerTime,
        execute: Execute,
        deliver: Deliver,
        miss: Miss,
        refusal: Callable[[], str],
        used: Mapping[int, Used],
    ) -> None:
        self._clock = clock
        self._time = controller_time
        self._execute = execute
        self._deliver = deliver
        self._miss = miss
        self._refusal = refusal
        self._used = dict(used)
        self._plan: dict[int, _Planned] = {}
        self._queue: list[tuple[int, int]] = []
        self._changed = asyncio.Event()
        #: Of the last look at what is due: the steady time, and how far the controller's was ahead of it.
        self._looked_us = clock.steady_us()
        self._base_us = controller_time.now_us() - self._looked_us
        self._under_way: set[asyncio.Task[None]] = set()
        self._passed = PassedRuns(clock, self._tell_missed)
        #: Set while no run may start although all is well with the host, such as after a revocation.
        self.suspended = ""

    @property
    def running(self) -> int:
        """Runs under way."""
        return len(self._under_way)

    def set_jobs(self, jobs: Iterable[probe_pb2.Job]) -> None:
        """Take over the set of jobs. Runs under way go on; a changed job keeps its place on the grid.

        What was due until now was due by the set as it was.
        """
        now_us = self._start_due()
        plan: dict[int, _Planned] = {}
        for job in jobs:
            known = self._plan.get(job.job_id)
            if known is not None and known.job == job:
                plan[job.job_id] = known
                continue
            planned = self._take_job(job, known, now_us)
            if planned is not None:
                plan[job.job_id] = planned
        for job_id, planned in self._plan.items():
            if planned.used.ranges:
                self._used[job_id] = planned.used
        self._plan = plan
        self._refill()
        self._changed.set()

    def forget_used(self, before_us: int) -> None:
        """Forget the used instants of jobs that are gone and whose last run lies before an instant."""
        self._used = {
            job_id: used
            for job_id, used in self._used.items()
            if job_id in self._plan or (used.last_us is not None and used.last_us >= before_us)
        }

    async def run(self) -> None:
        """Start runs when they are due, until cancelled; runs under way are then left to `stop`."""
        await first_of(self._keep(), self._passed.run())

    async def stop(self, *, grace_s: float) -> None:
        """Let the runs under way end for a while, then stop them; each gives a result."""
        self._passed.close()
        if self._under_way:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_all_of(self._under_way), grace_s)
        await cancel(*self._under_way)

    # -- inside ------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        while True:
            now_us = self._start_due()
            wait_s = (self._queue[0][0] - now_us) / 1e6 if self._queue else _LONGEST_SLEEP_S
            await self._sleep(min(wait_s, _LONGEST_SLEEP_S))

    def _start_due(self) -> int:
        """Start what is due, account for what was due and cannot start any more; return the controller's time."""
        now_us, steady_us = self._time.now_us(), self._clock.steady_us()
        base_us = now_us - steady_us
        back_us = self._base_us - base_us
        if back_us > _SMALLEST_STEP_US:
            log.warning("the time was set back by %.3f s to %s", back_us / 1e6, shown_instant(now_us))
            # When, since the last look, is not known: it was set to no earlier instant than so long ago.
            self._rewind(now_us - min(steady_us - self._looked_us, _LATEST_START_US))
        self._base_us, self._looked_us = base_us, steady_us
        while self._queue and self._queue[0][0] <= now_us:
            due_us, job_id = heapq.heappop(self._queue)
            planned = self._plan.get(job_id)
            if planned is not None and planned.next_us == due_us:
                self._come_due(planned, now_us)
                self._push(planned)
        return now_us

    def _take_job(self, job: probe_pb2.Job, known: _Planned | None, now_us: int) -> _Planned | None:
        try:
            grid = Schedule.of(job.schedule)
        except ValueError as error:
            log.error("job %d is not run: %s", job.job_id, error)
            text = f"this job is not run: {error}"
            self._tell_error(
                job,
                now_us,
                text,
                probe_pb2.FAILURE_SOURCE_INTERNAL,
                probe_pb2.FAILURE_REASON_INVALID_TEST,
            )
            return None
        used = known.used if known is not None else self._used.get(job.job_id, Used())
        planned = _Planned(job=job, grid=grid, mark_us=now_us, used=used)
        if job.HasField("expires_at_us"):
            planned.expires_steady_us = self._clock.steady_us() + job.expires_at_us - now_us
        if known is not None:
            planned.running = known.running
        if planned.one_shot:
            # Due once, even if its instant has just passed on the way here; expiry says how late is too late.
            done = known is not None and known.one_shot and known.next_us is None
            planned.advance(grid.anchor_us if done else grid.anchor_us - 1)
        else:
            planned.advance(now_us if known is None else max(now_us, known.mark_us))
        return planned

    def _rewind(self, mark_us: int) -> None:
        """The controller's time turned out to be earlier: go back, passing over what has been used already."""
        self._passed.forget_after(mark_us)
        for planned in self._plan.values():
            if not planned.one_shot and planned.mark_us > mark_us:
                planned.advance(mark_us)
        self._refill()

    def _refill(self) -> None:
        self._queue = []
        for planned in self._plan.values():
            self._push(planned)

    def _push(self, planned: _Planned) -> None:
        if planned.next_us is not None and not planned.job.paused:
            heapq.heappush(self._queue, (planned.next_us, planned.job.job_id))

    def _come_due(self, planned: _Planned, now_us: int) -> None:
        first_us = planned.next_us
        if first_us is None:
            return
        last_us = planned.used.last_unused(planned.grid, now_us) or first_us
        starts = planned.one_shot or now_us - last_us <= _LATEST_START_US
        passed_us = planned.grid.last_until(last_us - 1) if starts else last_us
        if not planned.one_shot and passed_us is not None and passed_us >= first_us:
            self._tell_passed(planned, first_us, passed_us, now_us)
        if starts:
            planned.used = planned.used.adding(planned.grid, last_us)
        planned.advance(last_us)
        if starts:
            self._start(planned, last_us)

    def _tell_passed(self, planned: _Planned, first_us: int, last_us: int, now_us: int) -> None:
        """Account for the instants that went by while nothing could start."""
        reason = f"nothing could start on this host until {shown_instant(now_us)}: it slept, stood still, or its clock was set"
        self._passed.add(planned.job, planned.grid, planned.used, first_us, last_us, reason=reason)

    def _start(self, planned: _Planned, due_us: int) -> None:
        job = planned.job
        expires = planned.expires_steady_us
        if expires is not None and self._clock.steady_us() >= expires:
            text = f"the job had expired at {shown_instant(job.expires_at_us)}"
            self._tell_missed(job, due_us, text, probe_pb2.FAILURE_REASON_EXPIRED)
            return
        refusal = self.suspended or self._refusal()
        if refusal:
            self._tell_missed(job, due_us, refusal, probe_pb2.FAILURE_REASON_SUSPENDED)
            return
        if planned.running is not None and not planned.running.done():
            text = "the previous run of this job was still under way"
            self._tell_missed(job, due_us, text, probe_pb2.FAILURE_REASON_OVERLAP)
            return
        planned.running = asyncio.ensure_future(self._run_one(job, due_us, planned.used))
        self._under_way.add(planned.running)
        planned.running.add_done_callback(self._under_way.discard)

    async def _run_one(self, job: probe_pb2.Job, due_us: int, used: Used) -> None:
        try:
            result = await self._execute(job, due_us)
        except asyncio.CancelledError:
            text = "the worker was stopped while this run was under way"
            self._tell_error(
                job, due_us, text, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_STOPPED
            )
            raise
        try:
            await self._deliver(result, used)
        except Exception:
            log.exception(
                "the result of job %d, due at %s, could not be kept", job.job_id, shown_instant(due_us)
            )

    def _tell_missed(
        self,
        job: probe_pb2.Job,
        due_us: int,
        text: str,
        reason: probe_pb2.FailureReason = probe_pb2.FAILURE_REASON_SLEPT,
    ) -> None:
        self._miss(missed(job, due_us, text, reason=reason, clock=self._clock, controller_time=self._time))

    def _tell_error(
        self,
        job: probe_pb2.Job,
        due_us: int,
        text: str,
        source: probe_pb2.FailureSource,
        reason: probe_pb2.FailureReason,
    ) -> None:
        """Tell of a run that did not take place and is not merely missed."""
        result = missed(job, due_us, "", reason=reason, clock=self._clock, controller_time=self._time)
        self._miss(ended(result, probe_pb2.STATUS_ERROR, source, reason, text))

    async def _sleep(self, seconds: float) -> None:
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        waiting = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({sleeping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(sleeping, waiting)
        self._changed.clear()


async def _all_of(running: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(set(running))
