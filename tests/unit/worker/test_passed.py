"""Runs that went by while nothing could start are told one by one, a few at a time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.scheduling import S

from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from worker import passed
from worker.concurrency import cancel
from worker.used import Used


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


async def test_what_is_not_told_any_more_leaves_its_place_to_others(
    make_job: Any, clock: Any, start_us: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a pause that time was set back into, only the rows that are left count among those that wait."""
    monkeypatch.setattr(passed, "_MOST_WAITING", 100)
    told: list[int] = []
    runs = passed.PassedRuns(clock, lambda job, due_us, reason: told.append(job.job_id))
    for number, last_s in ((1, 100), (2, 60)):
        job = make_job(number)
        grid = Schedule.of(job.schedule)
        runs.add(job, grid, Used(), start_us + 1, start_us + last_s * S, reason="")
        if number == 1:
            runs.forget_after(start_us + 9 * S)
    running = asyncio.ensure_future(runs.run())
    await clock.advance(1)
    await cancel(running)
    assert told == [1] * 9 + [2] * 60


async def test_a_pause_with_fewer_runs_than_were_counted_holds_up_nobody(
    make_job: Any, clock: Any, start_us: int
) -> None:
    """It is left as soon as it has nothing more to tell."""
    told: list[int] = []
    runs = passed.PassedRuns(clock, lambda job, due_us, reason: told.append(job.job_id))
    for number in (1, 2):
        job = make_job(number)
        runs.add(job, Schedule.of(job.schedule), Used(), start_us + 1, start_us + 3 * S, reason="")
    runs._waiting[0].rows += 4
    running = asyncio.ensure_future(runs.run())
    await clock.advance(1)
    await cancel(running)
    assert told == [1, 1, 1, 2, 2, 2]
