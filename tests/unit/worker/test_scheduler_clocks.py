"""Clocks that jump, hosts that sleep: no instant runs twice, and none is skipped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scheduling import START_US, Bench, FakeClock, S

from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from worker.used import Used


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
    assert bench.used[1] == Used(((first[0], first[-1]),))
    clock.set_wall(-10)
    after = make_bench(bench.used)
    after.scheduler.set_jobs([make_job(1, interval_s=1)])
    await clock.advance(15)
    assert not set(first) & set(after.instants())
    assert after.instants()[0] == first[-1] + S


@pytest.mark.parametrize("step_s", [40.0, 3600.0])
async def test_what_a_jump_has_passed_over_is_measured_when_time_is_set_back(
    make_bench: Any, make_job: Any, start_us: int, step_s: float
) -> None:
    """What was told as missed runs as its instants come again; what ran ahead of time does not."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=2)])
    await bench.clock.advance(10.5)
    bench.correct(step_s)
    await bench.clock.advance(20)
    told = {result.scheduled_at_us for result in bench.missed}
    assert told == {start_us + second * S for second in range(12, int(step_s) + 10, 2)}
    bench.correct(-step_s)
    await bench.clock.advance(step_s + 60)
    # While time was ahead, 20 s have passed by; their runs were those ahead of time.
    assert sorted(bench.instants()) == [
        start_us + second * S for second in range(2, int(step_s) + 91, 2) if not 12 <= second <= 30
    ]
    assert {result.scheduled_at_us for result in bench.missed} == told


async def test_what_waits_to_be_told_is_not_told_when_time_is_set_back(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Only what lies before the repaired time stays missed: the host slept for ten seconds as well."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(3.5)
    bench.clock.suspend(10)
    bench.correct(3600)
    await bench.clock.advance(0.2)
    bench.correct(-3600)
    await bench.clock.advance(100)
    assert len(bench.missed) < 700
    assert [result.scheduled_at_us for result in bench.missed[:9]] == [start_us + n * S for n in range(4, 13)]
    assert [due for due in bench.instants() if due <= bench.time.now_us()] == [
        start_us + n * S for n in (1, 2, 3, *range(14, 114))
    ]


async def test_an_instant_between_a_step_back_and_the_next_look_is_run(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Nobody tells the schedule that time was set; it looks once a second."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1, interval_s=600, anchor_us=start_us + 300 * S)])
    bench.clock.suspend(600)
    await bench.clock.advance(1)
    bench.correct(-301.25)
    await bench.clock.advance(2)
    assert bench.instants() == [start_us + 300 * S]
    await bench.clock.advance(600)
    assert bench.instants() == [start_us + 300 * S, start_us + 900 * S]


async def test_a_jump_onto_what_ran_ahead_of_time_repeats_nothing(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """Forward, back, and forward again into the same minutes."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(5.5)
    bench.correct(1000)
    await bench.clock.advance(100)
    bench.correct(-1000)
    await bench.clock.advance(5)
    bench.correct(950)
    await bench.clock.advance(5)
    assert len(set(bench.instants())) == len(bench.instants()) == 5 + 100 + 5


async def test_a_restart_keeps_what_ran_ahead_of_time(make_bench: Any, make_job: Any, clock: Any) -> None:
    """And what ran before it: the file holds both."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1)])
    await clock.advance(20.5)
    bench.correct(1000)
    await clock.advance(10)
    await bench.end()
    first = bench.instants()
    assert bench.used[1].ranges == ((first[0], first[19]), (first[20], first[-1]))
    after = make_bench(bench.used)
    after.scheduler.set_jobs([make_job(1)])
    after.correct(-10)
    await clock.advance(1100)
    assert not set(first) & set(after.instants())
    assert max(after.instants()) > first[-1]


@pytest.mark.parametrize("wait_s", [6, 14, 40])
async def test_a_gateway_that_answers_late_moves_no_run(
    make_bench: Any, make_job: Any, start_us: int, wait_s: float
) -> None:
    """Its answer tells the time when it was made, not half-way: every run starts when it is due, and none is missed."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1)])
    await bench.clock.advance(3.5)
    await bench.hear_late(wait_s)
    await bench.clock.advance(10)
    assert bench.missed == []
    assert bench.instants() == [start_us + n * S for n in range(1, int(wait_s) + 14)]


async def test_a_change_that_comes_before_the_schedule_looks_swallows_nothing(
    make_bench: Any, make_job: Any, start_us: int
) -> None:
    """A host wakes up, and the first that happens is a new set of jobs: what was due before it still counts."""
    bench = make_bench()
    bench.scheduler.set_jobs([make_job(1), make_job(2)])
    await bench.clock.advance(2.5)
    bench.clock.suspend(10)
    changed = make_job(1)
    changed.version = 2
    bench.scheduler.set_jobs([changed])
    await bench.clock.advance(2)
    for job, ran in ((1, (1, 2, 12, 13, 14)), (2, (1, 2, 12))):
        told = [result.scheduled_at_us for result in bench.missed if result.job_id == job]
        assert told == [start_us + n * S for n in range(3, 12)]
        assert bench.instants(job) == [start_us + n * S for n in ran]


_STEP = st.one_of(
    st.tuples(st.just("go"), st.sampled_from([0.3, 1.0, 2.9, 15.5, 40.0])),
    st.tuples(st.just("sleep"), st.sampled_from([2.0, 30.0, 700.0])),
    # None of them adds up to a step back of less than a second, which is waited for.
    st.tuples(st.just("set"), st.sampled_from([-7200.0, -3600.0, -90.0, -8.0, -2.0, 8.0, 90.0, 3600.0])),
    st.tuples(st.just("change"), st.just(0.0)),
    st.tuples(st.just("late answer"), st.sampled_from([0.3, 2.9, 14.0, 40.0])),
)


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(_STEP, max_size=10), interval_s=st.sampled_from([1.0, 2.0, 7.0, 600.0]))
def test_whatever_time_does_no_run_is_repeated_and_none_is_skipped(
    steps: list[tuple[str, float]], interval_s: float
) -> None:
    """Every instant that time goes through has run; every other one before now has run or was told, never told after."""
    asyncio.run(_follow(steps, interval_s))


async def _follow(steps: list[tuple[str, float]], interval_s: float) -> None:
    bench = Bench(FakeClock())
    bench.run_s = 0.0
    schedule = probe_pb2.Schedule(interval_us=round(interval_s * S), anchor_us=START_US - 20_000 * S)
    bench.scheduler.set_jobs([probe_pb2.Job(job_id=1, schedule=schedule)])
    gone_through: list[tuple[int, int]] = []
    for number, (what, seconds) in enumerate([*steps, ("go", 200.0)]):
        if what == "sleep":
            bench.clock.suspend(seconds)
        elif what == "set":
            bench.correct(seconds)
        else:
            begun_us = bench.time.now_us()
            if what == "late answer":
                await bench.hear_late(seconds)
            elif what == "go":
                await bench.clock.advance(seconds)
            else:
                bench.scheduler.set_jobs([probe_pb2.Job(job_id=1, version=number, schedule=schedule)])
                await bench.clock.advance(0)
            gone_through.append((begun_us + 1, bench.time.now_us()))
    await bench.end()
    ran = bench.instants()
    assert len(set(ran)) == len(ran)
    grid = Schedule.of(schedule)
    for first_us, last_us in gone_through:
        assert set(grid.instants(first_us, last_us)) <= set(ran)
    told = {result.scheduled_at_us for result in bench.missed}
    assert set(grid.instants(START_US + 1, bench.time.now_us())) <= set(ran) | told
