"""Which instants run, which are told as missed, and that none comes twice, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from streamswarm.v1 import probe_pb2
from worker import passed
from worker.clock import ControllerTime
from worker.concurrency import cancel
from worker.scheduler import Scheduler
from worker.spool import Used

S = 1_000_000


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
            miss=self.missed.append,
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

    def instants(self, job_id: int = 1) -> list[int]:
        return [due for job, due in self.ran if job == job_id]

    async def end(self) -> None:
        await cancel(self._running)
        await self.scheduler.stop(grace_s=0)

    async def _execute(self, job: probe_pb2.Job, due_us: int) -> probe_pb2.Result:
        self.ran.append((job.job_id, due_us))
        await self.clock.sleep(self.run_s)
        return probe_pb2.Result(job_id=job.job_id, scheduled_at_us=due_us)

    async def _deliver(self, result: probe_pb2.Result, used: Used) -> None:
        self.used[result.job_id] = used


@pytest.fixture
async def make_bench(clock: Any) -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(used: dict[int, Used] | None = None) -> Bench:
        benches.append(Bench(clock, used))
        return benches[-1]

    yield make
    for bench in benches:
        await bench.end()


async def test_every_instant_of_every_job_runs_once(make_bench: Any, make_job: Any, start_us: int) -> None:
    """Two jobs with their own grids keep them for ten minutes."""
    bench = make_bench()
    bench.scheduler.set_jobs(
        [make_job(1, interval_s=2), make_job(2, interval_s=30, anchor_us=start_us + 7 * S)]
    )
    await bench.clock.advance(600)
    assert bench.instants(1) == [start_us + n * 2 * S for n in range(1, 301)]
    assert bench.instants(2) == [start_us + 7 * S + n * 30 * S for n in range(20)]
    assert bench.missed == []


async def test_a_run_that_lasts_too_long_is_not_overlapped(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """The instants that it covers are told as missed, with the reason."""
    bench = make_bench()
    bench.run_s = 2.5
    bench.scheduler.set_jobs([make_job(1, interval_s=1)])
    await bench.clock.advance(6.9)
    assert bench.instants() == [start_us + S, start_us + 4 * S]
    assert [result.scheduled_at_us for result in bench.missed] == [start_us + n * S for n in (2, 3, 5, 6)]
    assert {result.status for result in bench.missed} == {probe_pb2.STATUS_MISSED}
    assert {result.failure_source for result in bench.missed} == {probe_pb2.FAILURE_SOURCE_SCHEDULE}
    assert "previous run" in bench.missed[0].error


async def test_a_sleep_of_the_host_is_told_run_by_run(make_bench: Any, make_job: Any, start_us: int) -> None:
    """After an hour of suspend each run has its row, a few at a time, while the schedule goes on."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=2)])
    await bench.clock.advance(3)
    bench.clock.suspend(3600)
    before = len(bench.ran)
    await bench.clock.advance(1)
    assert 0 < len(bench.missed) <= 600
    await bench.clock.advance(99)
    assert [result.scheduled_at_us for result in bench.missed] == [
        start_us + n * 2 * S for n in range(2, 1801)
    ]
    assert {result.status for result in bench.missed} == {probe_pb2.STATUS_MISSED}
    assert "further" not in bench.missed[-1].error
    assert len(bench.ran) == before + 51
    assert len({*bench.instants(), *(result.scheduled_at_us for result in bench.missed)}) == 1851


async def test_of_a_pause_of_days_the_first_day_is_told_run_by_run(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """The last row says how many others there were."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=60)])
    bench.clock.suspend(3 * 86_400)
    await bench.clock.advance(30)
    assert len(bench.missed) == 1441
    assert bench.missed[-1].scheduled_at_us == start_us + 86_460 * S
    assert "so did 2878 further due runs" in bench.missed[-1].error


async def test_a_worker_that_ends_tells_what_is_left_in_one_row(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Nothing is left untold: the row counts the runs that have none of their own."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=2), make_job(2, interval_s=2)])
    bench.clock.suspend(3600.5)
    await bench.clock.advance(1)
    told = len(bench.missed)
    await bench.end()
    assert told < len(bench.missed) <= told + 2
    counted = [int(result.error.split("so did ")[1].split()[0]) for result in bench.missed[told:]]
    assert len(bench.missed) + sum(counted) == 2 * 1799
    await bench.scheduler.stop(grace_s=0)
    assert len(bench.missed) <= told + 2


async def test_more_than_can_be_told_is_told_as_a_number(
    make_bench: Any, make_job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many jobs at short intervals: each tells a few runs at least, and all runs are counted."""
    monkeypatch.setattr(passed, "_MOST_WAITING", 100)
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(number, interval_s=2) for number in range(1, 5)])
    bench.clock.suspend(600.5)
    await bench.clock.advance(10)
    counted = [
        int(result.error.split("so did ")[1].split()[0])
        for result in bench.missed
        if "so did" in result.error
    ]
    assert len(bench.missed) == 100 + 3 * 20
    assert len(bench.missed) + sum(counted) == 4 * 299


async def test_a_short_delay_starts_the_run_late(make_bench: Any, make_job: Any, start_us: int) -> None:
    """A loop that stood still for a moment runs the latest instant and tells of those before."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=1)])
    await bench.clock.advance(1.5)
    bench.clock.suspend(3)
    await bench.clock.advance(0.6)
    assert bench.instants()[:3] == [start_us + S, start_us + 4 * S, start_us + 5 * S]
    assert [result.scheduled_at_us for result in bench.missed] == [start_us + 2 * S, start_us + 3 * S]


@pytest.mark.parametrize("step_s", [-0.4, -1.5, -30.0, -3600.0])
async def test_a_clock_that_goes_back_repeats_nothing_and_does_not_mute_the_job(
    make_bench: Any, make_job: Any, start_us: int, step_s: float
) -> None:
    """Used instants are passed over when they come again, and those before them are measured."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, anchor_us=start_us - 10_000 * S)])
    await bench.clock.advance(20.2)
    first = set(bench.instants())
    bench.correct(step_s)
    await bench.clock.advance(10)
    again = bench.instants()[len(first) :]
    assert not first & set(again)
    if step_s <= -30:
        assert len(again) >= 9
    await bench.clock.advance(-step_s + 10)
    assert len(set(bench.instants())) == len(bench.instants())
    assert max(bench.instants()) > max(first) + 5 * S


async def test_a_restart_repeats_nothing(make_bench: Any, make_job: Any, start_us: int, clock: Any) -> None:
    """What was used before the stop is kept, even when the clock was set back meanwhile."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=1)])
    await clock.advance(20.5)
    await bench.end()
    first = bench.instants()
    assert bench.used[1] == Used(first[0], first[-1])
    clock.set_wall(-10)
    after = make_bench(bench.used)
    after.scheduler.set_jobs([make_job(1, interval_s=1)])
    await clock.advance(15)
    assert not set(first) & set(after.instants())
    assert after.instants()[0] == first[-1] + S


async def test_start_and_end_are_kept(make_bench: Any, make_job: Any, start_us: int) -> None:
    """Nothing runs before the start or from the end on."""
    bench = make_bench()
    job = make_job(1, interval_s=1)
    job.schedule.starts_at_us = start_us + 5 * S
    job.schedule.ends_at_us = start_us + 8 * S
    bench.scheduler.set_jobs([job])
    await bench.clock.advance(20)
    assert bench.instants() == [start_us + n * S for n in (5, 6, 7)]


async def test_paused_jobs_rest_and_go_on_afterwards(make_bench: Any, make_job: Any, start_us: int) -> None:
    """What would have been due meanwhile was not due."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(2.5)
    bench.scheduler.set_jobs([make_job(1, paused=True)])
    await bench.clock.advance(10)
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(2)
    assert bench.instants() == [start_us + n * S for n in (1, 2, 13, 14)]
    assert bench.missed == []


async def test_jobs_that_are_taken_away_stop(make_bench: Any, make_job: Any, start_us: int) -> None:
    """And a job that comes back does not repeat what it has used."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1), make_job(2)])
    await bench.clock.advance(2.5)
    bench.scheduler.set_jobs([make_job(2)])
    await bench.clock.advance(2)
    assert len(bench.instants(1)) == 2
    assert len(bench.instants(2)) == 4
    bench.correct(-4)
    bench.scheduler.set_jobs([make_job(1), make_job(2)])
    await bench.clock.advance(3)
    assert bench.instants(1) == [start_us + n * S for n in (1, 2, 3)]


async def test_a_changed_job_keeps_its_place_on_the_grid(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """A new version does not repeat the instant that the old one has just used."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=10)])
    await bench.clock.advance(10.005)
    changed = make_job(1, interval_s=10)
    changed.version = 2
    bench.scheduler.set_jobs([changed])
    await bench.clock.advance(11)
    assert bench.instants() == [start_us + 10 * S, start_us + 20 * S]


async def test_a_one_shot_job_runs_once(make_bench: Any, make_job: Any, start_us: int, clock: Any) -> None:
    """Although its instant has passed when it comes, and neither a new set nor a restart runs it again."""
    bench = make_bench()
    job = make_job(1, interval_s=0, anchor_us=start_us - 3 * S, expires_at_us=start_us + 60 * S)
    bench.scheduler.set_jobs([job])
    await clock.advance(1)
    assert bench.instants() == [start_us - 3 * S]
    job.version = 2
    bench.scheduler.set_jobs([job])
    await clock.advance(5)
    after = make_bench(bench.used)
    after.scheduler.set_jobs([job])
    await clock.advance(5)
    assert bench.instants() + after.instants() == [start_us - 3 * S]


async def test_an_expired_one_shot_job_is_told_as_missed(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Expiry counts from receipt by the steady clock: a controller's time that jumps does not stretch it."""
    bench = make_bench()
    bench.scheduler.set_jobs(
        [make_job(1, interval_s=0, anchor_us=start_us + 5 * S, expires_at_us=start_us + 8 * S)]
    )
    bench.correct(-60)
    await bench.clock.advance(70)
    assert bench.ran == []
    (result,) = bench.missed
    assert "expired" in result.error
    assert result.scheduled_at_us == start_us + 5 * S


async def test_a_refusal_is_told_and_ends(make_bench: Any, make_job: Any) -> None:
    """While the spool takes nothing, no run starts and each is told with the reason."""
    bench = make_bench()
    bench.refusal = "the spool is full"
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(3.5)
    assert bench.ran == []
    assert [result.error for result in bench.missed] == ["the spool is full"] * 3
    bench.refusal = ""
    await bench.clock.advance(2)
    assert len(bench.ran) == 2


async def test_a_schedule_that_cannot_be_kept_is_an_error_and_the_others_run(
    make_bench: Any, make_job: Any
) -> None:
    """One bad job does not stop the rest."""
    bench = make_bench()
    bad = make_job(9)
    bad.schedule.interval_us = 5
    bench.scheduler.set_jobs([bad, make_job(1)])
    await bench.clock.advance(2.5)
    assert len(bench.instants(1)) == 2
    (result,) = bench.missed
    assert (result.job_id, result.status) == (9, probe_pb2.STATUS_ERROR)


async def test_runs_that_are_stopped_give_a_result(make_bench: Any, make_job: Any) -> None:
    """A stop leaves no run without a trace."""
    bench = make_bench()
    bench.run_s = 100
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(1.5)
    await bench.end()
    (result,) = bench.missed
    assert result.status == probe_pb2.STATUS_ERROR
    assert "stopped" in result.error


def by_cron(make_job: Any, cron: str, *, zone: str = "UTC", windows: tuple[tuple[int, int], ...] = ()) -> Any:
    """Return a job by cron, with a phase of two seconds, in windows of every day."""
    job = make_job(1)
    job.schedule.CopyFrom(probe_pb2.Schedule(anchor_us=2 * S, cron=cron, zone=zone))
    for start, end in windows:
        job.schedule.windows.add(days=range(1, 8), from_min=start, to_min=end)
    return job


async def test_cron_in_a_window_runs_at_its_instants_and_nowhere_else(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Every ten minutes, only from 05:50 to 06:25 in Kathmandu, which is a quarter of an hour off the hour."""
    bench = make_bench()
    bench.scheduler.set_jobs(
        [by_cron(make_job, "*/10 * * * *", zone="Asia/Kathmandu", windows=((350, 385),))]
    )
    await bench.clock.advance(3600)
    # 2030-01-01T00:00Z is 05:45 there.
    assert bench.instants() == [start_us + minute * 60 * S + 2 * S for minute in (5, 15, 25, 35)]
    assert bench.missed == []


async def test_cron_goes_on_over_a_change_of_clocks(make_bench: Any, make_job: Any, start_us: int) -> None:
    """The night on which Berlin's clocks are set forward: half past two is due once, as the clocks jump."""
    bench = make_bench()
    jump_us = 1_901_149_200_000_000 - start_us  # 2030-03-31T01:00Z
    bench.clock.suspend(jump_us / S - 600)
    bench.correct(0)
    bench.scheduler.set_jobs([by_cron(make_job, "30 2 * * *", zone="Europe/Berlin")])
    await bench.clock.advance(3600)
    assert bench.instants() == [start_us + jump_us + 2 * S]


@pytest.mark.parametrize("windows", [(), ((0, 8), (10, 20))], ids=["always", "in windows"])
async def test_cron_repeats_and_skips_nothing_when_time_is_set(
    make_bench: Any, make_job: Any, start_us: int, windows: tuple[tuple[int, int], ...]
) -> None:
    """The wall clock jumps and nothing happens; the controller's goes back and no used instant comes again."""
    bench = make_bench()
    bench.scheduler.set_jobs([by_cron(make_job, "* * * * *", windows=windows)])
    minutes = [minute for minute in range(20) if not windows or minute not in (8, 9)]
    await bench.clock.advance(300)
    for step_s in (3600.0, -7200.0):
        bench.clock.set_wall(step_s)
    await bench.clock.advance(300)
    bench.correct(-240)
    await bench.clock.advance(240 + 600)
    assert bench.instants() == [start_us + minute * 60 * S + 2 * S for minute in minutes]
    assert len(bench.used) == 1


async def test_a_pause_of_the_host_is_told_along_cron(make_bench: Any, make_job: Any, start_us: int) -> None:
    """Each passed instant in its window is told, those outside of it are not; the last one still starts."""
    bench = make_bench()
    bench.scheduler.set_jobs([by_cron(make_job, "*/2 * * * *", windows=((0, 5), (8, 30)))])
    await bench.clock.advance(60)
    bench.clock.suspend(10 * 60 + 4 - 60)
    await bench.clock.advance(1)
    assert bench.instants() == [start_us + 2 * S, start_us + 602 * S]
    assert [result.scheduled_at_us for result in bench.missed] == [
        start_us + minute * 60 * S + 2 * S for minute in (2, 4, 8)
    ]


async def test_a_restart_keeps_the_place_in_cron(make_bench: Any, make_job: Any, start_us: int) -> None:
    """What was used before the restart is not run again, and nothing is left out behind it."""
    bench = make_bench()
    job = by_cron(make_job, "* * * * *")
    bench.scheduler.set_jobs([job])
    await bench.clock.advance(122.5)
    await bench.end()
    after = make_bench(bench.used)
    after.scheduler.set_jobs([job])
    await bench.clock.advance(120)
    assert bench.instants() + after.instants() == [start_us + n * 60 * S + 2 * S for n in range(5)]
