"""Which instants run, and which are told as missed with what reason, while clocks go as they should."""

from __future__ import annotations

from typing import Any

from support.scheduling import S

from streamswarm.v1 import probe_pb2


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


async def test_a_short_delay_starts_the_run_late(make_bench: Any, make_job: Any, start_us: int) -> None:
    """A loop that stood still for a moment runs the latest instant and tells of those before."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=1)])
    await bench.clock.advance(1.5)
    bench.clock.suspend(3)
    await bench.clock.advance(0.6)
    assert bench.instants()[:3] == [start_us + S, start_us + 4 * S, start_us + 5 * S]
    assert [result.scheduled_at_us for result in bench.missed] == [start_us + 2 * S, start_us + 3 * S]


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


async def test_what_jobs_have_used_that_are_gone_for_long_is_forgotten(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Not while it could come again, and never that of jobs which are there."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1), make_job(2)])
    await bench.clock.advance(2.5)
    bench.scheduler.set_jobs([make_job(2)])
    bench.scheduler.forget_used(start_us + 2 * S)
    assert set(bench.scheduler._used) == {1, 2}
    bench.scheduler.forget_used(start_us + 3 * S)
    assert set(bench.scheduler._used) == {2}
