"""Tests by workers by destinations: which jobs there should be, and what is said about those that there are not."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.planning.difference import difference
from controller.planning.jobs import plan, plan_run_now
from controller.planning.records import ExistingJob, Plan, PlannedDestination, PlannedTest, PlannedWorker
from controller.planning.schedule import LONGEST_PHASE_US, end_of, phase_us, schedule_of
from controller.planning.selection import selects
from streamswarm import SCHEDULES_CONTRACT
from streamswarm.windows import Window
from streamswarm.zones import from_microseconds, to_microseconds

OFFICE = (Window(days=(1, 2, 3, 4, 5), from_min=540, to_min=1020),)
NOW = dt.datetime(2026, 11, 20, 12, 0, tzinfo=dt.timezone.utc)
TARGET = PlannedDestination(id=1, name="one", address="192.0.2.1")
OTHER = PlannedDestination(id=2, name="two", address="WWW.Example.org")


def make_worker(number: int, **values: Any) -> PlannedWorker:
    """Return a worker that is ready for everything."""
    return PlannedWorker(
        **{
            "id": uuid.UUID(int=number),
            "name": f"w{number}",
            "site": "",
            "groups": (),
            "labels": {},
            "kinds": {},
            "enrolled": True,
            "revoked": False,
            "deleted": False,
            **values,
        }
    )


def make_test(**values: Any) -> PlannedTest:
    """Return a ping test to one destination, every two seconds, everywhere."""
    return PlannedTest(
        **{
            "id": 7,
            "kind": "ping",
            "spec": {"count": 3},
            "selection": {"all": True},
            "destinations": (TARGET,),
            "interval_us": 2_000_000,
            "starts_at": None,
            "ends_at": None,
            "paused": False,
            "deleted": False,
            "created_at": NOW - dt.timedelta(hours=1),
            **values,
        }
    )


def stored(made: Plan, *, retired: bool = False) -> list[ExistingJob]:
    """Return a plan's jobs as if they had been written down."""
    return [
        ExistingJob(id=number, version=1, retired=retired, values=values)
        for number, values in enumerate(made.jobs, start=1)
    ]


def test_every_worker_runs_to_every_destination() -> None:
    """Two workers and two destinations make four jobs, with targets in canonical form."""
    made = plan([make_test(destinations=(TARGET, OTHER))], [make_worker(1), make_worker(2)], now=NOW)
    assert {(job.worker_id.int, job.target) for job in made.jobs} == {
        (worker, target) for worker in (1, 2) for target in ("192.0.2.1", "www.example.org")
    }
    assert made.skipped == ()
    assert all(job.spec == {"count": 3} and not job.one_shot and job.expires_at is None for job in made.jobs)


def test_a_kind_without_destination_makes_one_job_a_worker() -> None:
    """System tests have no destination and an empty target."""
    made = plan([make_test(kind="system", destinations=())], [make_worker(1)], now=NOW)
    assert [(job.destination_id, job.target) for job in made.jobs] == [(None, "")]
    assert made.skipped == ()


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        ({"all": True}, {1, 2, 3}),
        ({}, set()),
        ({"all": False}, set()),
        ({"workers": [str(uuid.UUID(int=2))]}, {2}),
        ({"workers": [str(uuid.UUID(int=10)).upper()]}, set()),
        ({"sites": ["berlin"]}, {1}),
        ({"sites": [""]}, set()),
        ({"groups": ["edge", "core"]}, {1, 2}),
        ({"labels": {"os": "linux"}}, {3}),
        ({"labels": {"os": "bsd"}}, set()),
        ({"sites": ["berlin"], "labels": {"os": "linux"}}, {1, 3}),
    ],
)
def test_selection_takes_what_any_of_its_parts_names(selection: dict[str, Any], taken: set[int]) -> None:
    """All, or any of ids, sites, groups and labels; an empty selection takes nobody."""
    workers = [
        make_worker(1, site="berlin", groups=("edge",)),
        make_worker(2, groups=("core", "lab")),
        make_worker(3, labels={"os": "linux"}),
    ]
    assert {worker.id.int for worker in workers if selects(selection, worker)} == taken


@pytest.mark.parametrize(
    ("worker", "reason"),
    [
        ({"enrolled": False}, "has not enrolled yet"),
        ({"revoked": True}, "access is revoked"),
        ({"kinds": {"tcp": {"available": True}}}, "release does not know `ping`"),
        (
            {"kinds": {"ping": {"available": False, "reason": "no permission", "mend": "sysctl -w x"}}},
            "cannot run `ping`: no permission; mend it with: sysctl -w x",
        ),
        ({"kinds": {"ping": {"available": False}}}, "the worker gives no reason"),
    ],
)
def test_a_worker_that_cannot_is_listed_with_the_reason(worker: dict[str, Any], reason: str) -> None:
    """No job is planned where it could not run, and the page can say why."""
    made = plan([make_test()], [make_worker(1, **worker), make_worker(2)], now=NOW)
    assert [job.worker_id.int for job in made.jobs] == [2]
    (skip,) = made.skipped
    assert (skip.test_id, skip.worker_name) == (7, "w1")
    assert reason in skip.reason
    assert made.pairs == {(7, uuid.UUID(int=2))}


def test_available_kinds_and_silent_workers_are_planned() -> None:
    """A worker that announced the kind, or nothing yet, has its job; a deleted one is not even mentioned."""
    workers = [
        make_worker(1, kinds={"ping": {"available": True}}),
        make_worker(2),
        make_worker(3, deleted=True),
    ]
    made = plan([make_test()], workers, now=NOW)
    assert [job.worker_id.int for job in made.jobs] == [1, 2]
    assert made.skipped == ()


@pytest.mark.parametrize(
    ("test", "reason"),
    [
        ({"kind": "telepathy"}, "`telepathy` is not a probe kind"),
        ({"destinations": ()}, "it has no destination"),
        ({"destinations": (replace(TARGET, deleted=True),)}, "the destination is deleted"),
        ({"destinations": (replace(TARGET, address="192.0.2.1:80"),)}, "`ping` cannot aim at it"),
        (
            {"destinations": (replace(TARGET, address="fd00::1%eth0"),)},
            "; correct its address, or take it out of the test",
        ),
        ({"kind": "http"}, "`http` cannot aim at it: `192.0.2.1` must start with"),
        ({"selection": {"sites": ["nowhere"]}}, "its selection takes no worker"),
    ],
)
def test_a_test_that_cannot_be_planned_says_why(test: dict[str, Any], reason: str) -> None:
    """Unknown kinds, unfit destinations and empty selections make no jobs and one reason."""
    made = plan([make_test(**test)], [make_worker(1)], now=NOW)
    assert made.jobs == ()
    (skip,) = made.skipped
    assert reason in skip.reason


def test_a_deleted_test_is_gone() -> None:
    """Deleted tests make neither jobs nor reasons."""
    made = plan([make_test(deleted=True)], [make_worker(1)], now=NOW)
    assert (made.jobs, made.skipped, made.pairs) == ((), (), frozenset())


def test_the_grid_begins_at_the_start_and_carries_the_phase() -> None:
    """The anchor is the start, else the creation, plus the phase; pausing does not move it."""
    started = make_test(starts_at=NOW, ends_at=NOW + dt.timedelta(days=1))
    (job,) = plan([started], [make_worker(1)], now=NOW).jobs
    phase = phase_us(7, uuid.UUID(int=1), 1, 2_000_000)
    assert job.anchor_us == to_microseconds(NOW) + phase
    assert (job.starts_at, job.ends_at) == (NOW, NOW + dt.timedelta(days=1))
    (created,) = plan([make_test()], [make_worker(1)], now=NOW).jobs
    (paused,) = plan([make_test(paused=True)], [make_worker(1)], now=NOW + dt.timedelta(days=3)).jobs
    assert created.anchor_us == to_microseconds(NOW - dt.timedelta(hours=1)) + phase
    assert paused == replace(created, paused=True)


@given(
    st.integers(1, 2**62),
    st.integers(0, 2**128 - 1),
    st.none() | st.integers(1, 2**62),
    st.integers(100_000, 2**50),
)
def test_the_phase_lies_on_the_interval(
    test: int, worker: int, destination: int | None, interval: int
) -> None:
    """A phase is the same every time, not negative, below the interval and below the cap."""
    phase = phase_us(test, uuid.UUID(int=worker), destination, interval)
    assert 0 <= phase < min(interval, LONGEST_PHASE_US)
    assert phase == phase_us(test, uuid.UUID(int=worker), destination, interval)


def test_phases_spread_the_load() -> None:
    """A thousand workers of one test fall evenly into tenths of its interval."""
    tenths = [0] * 10
    for number in range(1000):
        tenths[phase_us(1, uuid.UUID(int=number), 1, 10_000_000) // 1_000_000] += 1
    assert min(tenths) > 60
    assert max(tenths) < 140


@given(st.integers(0, 2**52))
def test_microseconds_are_exact(microseconds: int) -> None:
    """Instants survive the way to microseconds and back."""
    assert to_microseconds(from_microseconds(microseconds)) == microseconds


def test_nothing_to_do_when_all_is_as_it_should_be() -> None:
    """A plan compared with its own jobs is no difference; a job's row version plays no part."""
    made = plan([make_test(destinations=(TARGET, OTHER))], [make_worker(1), make_worker(2)], now=NOW)
    todo = difference(made, stored(made), now=NOW)
    assert not todo
    assert todo.workers == frozenset()


def test_new_changed_and_gone_jobs() -> None:
    """Another worker is created, another interval changes, a dropped destination retires."""
    before = plan([make_test(destinations=(TARGET, OTHER))], [make_worker(1)], now=NOW)
    after = plan([make_test(interval_us=5_000_000)], [make_worker(1), make_worker(2)], now=NOW)
    todo = difference(after, stored(before), now=NOW)
    assert [values.worker_id.int for values in todo.create] == [2]
    assert [(change.job.id, change.values.interval_us) for change in todo.change] == [(1, 5_000_000)]
    assert [job.values.destination_id for job in todo.retire] == [2]
    assert {worker.int for worker in todo.workers} == {1, 2}
    assert todo.tests == {7}


def test_a_retired_job_comes_back_under_its_id() -> None:
    """Of several retired jobs of one identity the newest comes back; a live one makes coming back needless."""
    made = plan([make_test()], [make_worker(1)], now=NOW)
    old = ExistingJob(id=3, version=4, retired=True, values=made.jobs[0])
    new = replace(old, id=5)
    todo = difference(made, [new, old], now=NOW)
    assert [(change.job.id, change.job.version) for change in todo.change] == [(5, 4)]
    assert not difference(made, [replace(old, retired=False), new], now=NOW)


def test_a_one_shot_test_runs_once() -> None:
    """Due at its start, dropped when late, not repeated after it was retired, not changed once it was due."""
    test = make_test(interval_us=None, starts_at=NOW)
    made = plan([test], [make_worker(1)], now=NOW)
    (job,) = made.jobs
    assert (job.interval_us, job.anchor_us, job.one_shot) == (0, to_microseconds(NOW), True)
    assert job.expires_at == NOW + dt.timedelta(minutes=10)
    assert (job.starts_at, job.ends_at) == (None, None)
    later = NOW + dt.timedelta(minutes=5)
    assert not difference(plan([test], [make_worker(1)], now=later), stored(made, retired=True), now=later)
    changed = plan([replace(test, spec={"count": 9})], [make_worker(1)], now=later)
    assert not difference(changed, stored(made), now=later)
    assert plan([test], [make_worker(1)], now=NOW + dt.timedelta(minutes=11)).jobs == ()
    assert plan([replace(test, paused=True)], [make_worker(1)], now=NOW).jobs == ()


def test_a_one_shot_test_that_is_put_off() -> None:
    """While it is not due it can be changed, moved and moved back."""
    tomorrow = NOW + dt.timedelta(days=1)
    test = make_test(interval_us=None, starts_at=tomorrow)
    made = plan([test], [make_worker(1)], now=NOW)
    changed = plan([replace(test, spec={"count": 9})], [make_worker(1)], now=NOW)
    assert [change.values.spec for change in difference(changed, stored(made), now=NOW).change] == [
        {"count": 9}
    ]
    moved = plan([replace(test, starts_at=tomorrow + dt.timedelta(days=1))], [make_worker(1)], now=NOW)
    todo = difference(moved, stored(made), now=NOW)
    assert (len(todo.create), len(todo.retire)) == (1, 1)
    assert len(difference(made, stored(made, retired=True), now=NOW).change) == 1


def test_run_now_stands_beside_the_schedule() -> None:
    """It makes one-shot jobs due at the instant asked for, also for a paused test; planning leaves them alone."""
    test = make_test(paused=True, ends_at=NOW - dt.timedelta(days=1))
    shots = plan_run_now(test, [make_worker(1)], requested_at=NOW, now=NOW)
    (shot,) = shots.jobs
    assert (shot.one_shot, shot.paused, shot.anchor_us) == (True, False, to_microseconds(NOW))
    assert shot.expires_at == NOW + dt.timedelta(minutes=1)
    scheduled = plan([test], [make_worker(1)], now=NOW)
    existing = [*stored(scheduled), ExistingJob(id=99, version=1, retired=False, values=shot)]
    assert not difference(scheduled, existing, now=NOW)
    gone = plan([replace(test, deleted=True)], [make_worker(1)], now=NOW)
    assert {job.id for job in difference(gone, existing, now=NOW).retire} == {1, 99}
    unable = plan([test], [make_worker(1, revoked=True)], now=NOW)
    assert {job.id for job in difference(unable, existing, now=NOW).retire} == {1, 99}


def test_a_run_now_that_comes_too_late_is_dropped() -> None:
    """A request that waited in the queue beyond its grace makes no jobs."""
    late = NOW + dt.timedelta(minutes=2)
    assert plan_run_now(make_test(), [make_worker(1)], requested_at=NOW, now=late).jobs == ()


def test_cron_windows_and_zone_reach_the_jobs() -> None:
    """With the job's phase, which stays below a minute: cron knows minutes only."""
    made = plan(
        [make_test(interval_us=None, cron="0 9 * * *", zone="Europe/Berlin", windows=OFFICE)],
        [make_worker(number) for number in range(1, 30)],
        now=NOW,
    )
    assert {(job.cron, job.zone, job.interval_us, job.one_shot) for job in made.jobs} == {
        ("0 9 * * *", "Europe/Berlin", 0, False)
    }
    assert all(job.windows == (OFFICE[0].plain(),) for job in made.jobs)
    phases = {job.anchor_us for job in made.jobs}
    assert len(phases) == 29
    assert all(0 <= phase < LONGEST_PHASE_US for phase in phases)


@pytest.mark.parametrize(
    "values", [{"interval_us": None, "cron": "0 9 * * *"}, {"windows": OFFICE}], ids=["cron", "windows"]
)
def test_a_release_that_does_not_know_schedules_gets_no_such_job(values: dict[str, Any]) -> None:
    """It would run once, or at all hours; the skip says why. One that was never there gets it in advance."""
    old, new, unknown = (
        make_worker(1, contract_version=SCHEDULES_CONTRACT - 1),
        make_worker(2, contract_version=SCHEDULES_CONTRACT),
        make_worker(3, contract_version=0),
    )
    made = plan([make_test(**values)], [old, new, unknown], now=NOW)
    assert [job.worker_id for job in made.jobs] == [new.id, unknown.id]
    [skip] = made.skipped
    assert (skip.worker_id, "upgrade the worker" in skip.reason) == (old.id, True)
    assert len(plan([make_test()], [old], now=NOW).jobs) == 1


def test_a_test_that_makes_tests_has_no_jobs_but_may_run_now() -> None:
    """And a "run now" of it is left to run."""
    test = make_test(makes_tests=True, max_runs=3, windows=OFFICE)
    assert plan([test], [make_worker(1)], now=NOW).jobs == ()
    [job] = plan_run_now(test, [make_worker(1)], requested_at=NOW, now=NOW).jobs
    assert (job.one_shot, job.windows, job.ends_at) == (True, (), None)
    left = ExistingJob(id=1, version=1, retired=False, values=job)
    assert not difference(plan([test], [make_worker(1)], now=NOW), [left], now=NOW)


@given(
    phase=st.integers(0, LONGEST_PHASE_US - 1),
    start_s=st.integers(0, 7 * 86_400),
    runs=st.integers(1, 400),
    cron=st.sampled_from(["*/5 * * * *", "7 */2 * * *", "30 2 * * 1,6", "0 9 1 * *"]),
    hours=st.sampled_from([(), OFFICE]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"]),
)
@settings(max_examples=120, deadline=None)
def test_a_count_ends_each_job_behind_its_own_last_run(
    phase: int, start_s: int, runs: int, cron: str, hours: Any, zone: str
) -> None:
    """The end that is counted once for a test by cron is the one that the job's own instants give."""
    test = make_test(
        interval_us=None,
        cron=cron,
        zone=zone,
        windows=hours,
        max_runs=runs,
        starts_at=dt.datetime(2026, 3, 25, 23, 59, 40, tzinfo=dt.timezone.utc)
        + dt.timedelta(seconds=start_s),
    )
    schedule = schedule_of(test)
    mine = replace(schedule, anchor_us=phase)
    assert test.starts_at is not None
    alone = replace(mine, starts_us=to_microseconds(test.starts_at)).end_after(runs)
    assert end_of(test, mine) == (None if alone is None else from_microseconds(alone))
