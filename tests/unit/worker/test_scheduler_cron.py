"""The schedule along cron, in windows and zones."""

from __future__ import annotations

from typing import Any

import pytest
from support.scheduling import S

from streamswarm.v1 import probe_pb2


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
