"""Planning against PostgreSQL: jobs become what the tests say, once, and gateways are told in the same breath."""

from __future__ import annotations

import datetime as dt
import uuid
from itertools import pairwise
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select, text, update
from sqlalchemy.orm import Session
from support.at_once import at_once
from support.keepers import World

from controller.keeper import plan, prune
from controller.planning.jobs import plan as make_plan
from controller.planning.records import Change, Difference
from controller.store.entities import Destination, Job, JobVersion, Test, Worker
from controller.store.queries import plans
from streamswarm.zones import to_microseconds


def test_jobs_are_made_and_the_revision_grows_once(engine: Engine, world: World) -> None:
    """Two workers and two destinations make four jobs; each worker's revision grows by one; again: nothing."""
    workers = [world.worker("a"), world.worker("b")]
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1"), world.destination("y", "192.0.2.2")])
    assert plan.plan_tests(engine, [test]) == 4
    jobs = world.jobs()
    assert {(job.worker_id, job.target) for job in jobs} == {
        (worker, target) for worker in workers for target in ("192.0.2.1", "192.0.2.2")
    }
    assert {job.interval_us for job in jobs} == {2_000_000}
    assert {job.version for job in jobs} == {1}
    assert [world.revision(worker) for worker in workers] == [1, 1]
    assert plan.plan_tests(engine, [test]) == 0
    assert plan.plan_everything(engine) == 0
    assert [world.revision(worker) for worker in workers] == [1, 1]


def test_changes_keep_ids_and_raise_versions(engine: Engine, world: World) -> None:
    """Pause, resume and a new interval change the same job; its version and the worker's revision grow."""
    worker = world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    plan.plan_tests(engine, [test])
    first = world.jobs()[0]
    start = dt.datetime(2026, 11, 20, 1, 2, 3, 456789, tzinfo=dt.UTC)
    for values in ({"paused": True}, {"paused": False, "starts_at": start}, {"interval_s": 5.0}):
        world.change(test, **values)
        assert plan.plan_tests(engine, [test]) == 1
        assert plan.plan_tests(engine, [test]) == 0
    job = world.jobs()[0]
    assert (job.id, job.version, job.paused, job.interval_us) == (first.id, 4, False, 5_000_000)
    assert (job.starts_at, job.ends_at) == (start, None)
    assert world.revision(worker) == 4
    with Session(engine) as session:
        row = session.get_one(Test, test)
        assert row.planned_version == row.version == 4


def test_versions_of_a_job_follow_its_changes(engine: Engine, world: World) -> None:
    """Pause, resume, another schedule, retirement and coming back: each closes a version where the next one begins."""
    world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    hours = [{"days": ["mon"], "from": "09:00", "to": "17:00"}]
    changes: list[dict[str, Any]] = [
        {},
        {"paused": True},
        {"paused": False},
        {"interval_s": None, "cron": "*/5 * * * *", "zone": "Europe/Berlin", "windows": hours},
        {"deleted_at": dt.datetime(2026, 11, 20, tzinfo=dt.UTC)},
        {"deleted_at": None},
    ]
    for values in changes:
        if values:
            world.change(test, **values)
        assert plan.plan_tests(engine, [test]) == 1
    with Session(engine) as session:
        found = session.scalars(select(JobVersion).order_by(JobVersion.version)).all()
        [job] = session.scalars(select(Job)).all()
    assert [version.version for version in found] == [1, 2, 3, 4, 5]
    assert [version.paused for version in found] == [False, True, False, False, False]
    assert [version.interval_us for version in found] == [2_000_000] * 3 + [0, 0]
    assert [version.cron for version in found] == [""] * 3 + ["*/5 * * * *"] * 2
    assert (job.cron, job.zone, job.windows) == ("*/5 * * * *", "Europe/Berlin", hours)
    for earlier, later in pairwise(found[:4]):
        assert earlier.valid_until == later.valid_from
        assert earlier.valid_from < later.valid_from
    # It was retired for a while.
    assert found[3].valid_until is not None
    assert found[3].valid_until < found[4].valid_from
    assert found[4].valid_until is None


def test_a_count_becomes_the_end_of_each_job(engine: Engine, world: World) -> None:
    """So many instants of each job's own grid lie before its end, and the next does not."""
    world.worker("a")
    world.worker("b")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    world.change(test, max_runs=5)
    plan.plan_tests(engine, [test])
    for job in world.jobs():
        assert job.ends_at is not None
        assert to_microseconds(job.ends_at) == job.anchor_us + 4 * job.interval_us + 1


def test_deletion_retires_and_restoring_brings_back(engine: Engine, world: World) -> None:
    """A deleted test's jobs are retired; when it comes back the jobs do too, under their old ids."""
    world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    plan.plan_tests(engine, [test])
    first = world.jobs()[0].id
    world.change(test, deleted_at=dt.datetime.now(dt.UTC))
    assert plan.plan_everything(engine) == 1
    assert world.jobs() == []
    world.change(test, deleted_at=None)
    assert plan.plan_everything(engine) == 1
    assert [(job.id, job.version) for job in world.jobs()] == [(first, 2)]


def test_a_worker_comes_goes_and_changes(engine: Engine, world: World) -> None:
    """Planning one worker touches its jobs alone: on enrolment, when a kind is not available, on revocation."""
    first = world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    plan.plan_tests(engine, [test])
    second = world.worker("b")
    assert plan.plan_worker(engine, second) == 1
    assert world.revision(first) == 1
    with Session(engine) as session, session.begin():
        session.execute(
            update(Worker)
            .where(Worker.id == second)
            .values(kinds={"ping": {"available": False, "reason": "no permission", "mend": "setcap …"}})
        )
    assert plan.plan_worker(engine, second) == 1
    assert [job.worker_id for job in world.jobs()] == [first]
    with Session(engine) as session:
        skips = plans.read_skips(session, test, now=dt.datetime.now(dt.UTC))
    assert [skip.reason for skip in skips] == [
        "the worker cannot run `ping`: no permission; mend it with: setcap …"
    ]
    with Session(engine) as session, session.begin():
        session.execute(update(Worker).where(Worker.id == first).values(revoked_at=func.now()))
    assert plan.plan_worker(engine, first) == 1
    assert world.jobs() == []


def test_a_destination_moves(engine: Engine, world: World) -> None:
    """A new address reaches the jobs of every test that aims there, and of no other."""
    world.worker("a")
    moving, standing = world.destination("x", "192.0.2.1"), world.destination("y", "192.0.2.2")
    for name, destinations in (("p", [moving]), ("q", [moving, standing]), ("r", [standing])):
        plan.plan_tests(engine, [world.test(name, "ping", destinations)])
    with Session(engine) as session, session.begin():
        session.get_one(Destination, moving).address = "198.51.100.7"
    assert plan.plan_destination(engine, moving) == 2
    assert sorted(job.target for job in world.jobs()) == [
        "192.0.2.2",
        "192.0.2.2",
        "198.51.100.7",
        "198.51.100.7",
    ]


def test_planning_at_once_makes_every_job_once(engine: Engine, world: World) -> None:
    """Six planners that start together, with different scopes, make each job once and fail nowhere."""
    workers = [world.worker(f"w{number}") for number in range(4)]
    destination = world.destination("x", "192.0.2.1")
    tests = [world.test(f"t{number}", "ping", [destination]) for number in range(10)]
    at_once(
        *(lambda: plan.plan_everything(engine),) * 2,
        *(lambda: plan.plan_tests(engine, tests),) * 2,
        lambda: plan.plan_worker(engine, workers[2]),
        lambda: plan.plan_worker(engine, workers[1]),
    )
    jobs = world.jobs(live=False)
    assert len(jobs) == 40
    assert {job.version for job in jobs} == {1}


def test_run_now_is_made_once_and_retired_by_its_result(engine: Engine, world: World) -> None:
    """Asking twice for the same instant makes one job a worker; the result retires it; planning leaves it be."""
    worker = world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")], paused=True)
    plan.plan_tests(engine, [test])
    requested = dt.datetime.now(dt.UTC)
    assert plan.run_now(engine, test, requested) == 1
    assert plan.run_now(engine, test, requested) == 0
    assert plan.plan_everything(engine) == 0
    shot = next(job for job in world.jobs() if job.one_shot)
    assert shot.anchor_us == to_microseconds(requested)
    assert shot.interval_us == 0
    assert not shot.paused
    assert shot.expires_at == requested + dt.timedelta(minutes=1)
    assert prune.retire_one_shots(engine) == 0
    before = world.revision(worker)
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, "
                "failure_source) VALUES (:job, :due, :due, 1, 1, 1, 0)"
            ),
            {"job": shot.id, "due": requested},
        )
    assert prune.retire_one_shots(engine) == 1
    assert [job.one_shot for job in world.jobs()] == [False]
    assert world.revision(worker) == before + 1
    assert plan.run_now(engine, test, requested) == 0


def test_an_expired_one_shot_is_retired(engine: Engine, world: World) -> None:
    """A job whose worker never came is retired a minute after its expiry, and not made again."""
    world.worker("a")
    test = world.test(
        "p",
        "ping",
        [world.destination("x", "192.0.2.1")],
        interval_s=None,
    )
    assert plan.plan_everything(engine) == 1
    assert world.jobs()[0].one_shot
    with Session(engine) as session, session.begin():
        session.execute(update(Job).values(expires_at=func.now() - dt.timedelta(minutes=2)))
        session.execute(update(Test).values(created_at=func.now() - dt.timedelta(minutes=12)))
    assert prune.retire_one_shots(engine) == 1
    assert plan.plan_tests(engine, [test]) == 0
    assert world.jobs() == []


def test_a_test_that_is_gone_is_not_run(engine: Engine, world: World) -> None:
    """Running a deleted or unknown test does nothing."""
    world.worker("a")
    test = world.test("p", "system", [], deleted_at=dt.datetime.now(dt.UTC))
    assert plan.run_now(engine, test, dt.datetime.now(dt.UTC)) == 0
    assert plan.run_now(engine, 10**9, dt.datetime.now(dt.UTC)) == 0


def test_a_job_changed_behind_the_planner_is_a_conflict(engine: Engine, world: World) -> None:
    """A plan never overwrites a version of a job that it has not seen."""
    world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    plan.plan_tests(engine, [test])
    with Session(engine) as session, session.begin():
        existing = plans.read_jobs(session, tests=[test])[0]
    with Session(engine) as session, session.begin():
        session.execute(update(Job).values(version=Job.version + 1))
    todo = Difference(create=(), change=(Change(job=existing, values=existing.values),), retire=())
    with (
        Session(engine) as session,
        pytest.raises(plan.PlanConflictError, match="1 of 1 jobs are no longer at the version"),
    ):
        plan.apply(session, todo)


def test_prune_removes_what_is_old_and_keeps_the_rest(engine: Engine) -> None:
    """Old attempts, links, tokens and processes go; new ones stay."""
    with engine.begin() as connection:
        for age in ("0 days", "40 days"):
            at = f"now() - interval '{age}'"
            for statement in (
                f"INSERT INTO login_attempts (at, account, address) VALUES ({at}, 'a', '::1')",
                "INSERT INTO enrolment_tokens (token_hash, host_name, expires_at) "
                f"VALUES (decode(md5('{age}'), 'hex'), 'h', {at})",
                "INSERT INTO api_tokens (name, scope, token_hash, prefix, expires_at) "
                f"VALUES ('t', 'viewer', decode(md5('{age}'), 'hex'), 'p', {at})",
                "INSERT INTO processes (role, name, host_name, pid, version, heartbeat_at) "
                f"VALUES ('web', 'w', 'h', 1, '0', {at})",
            ):
                connection.execute(text(statement))
        worker_id = uuid.uuid4()
        connection.execute(
            text("INSERT INTO workers (id, host_name, name) VALUES (:id, 'h', 'h')"), {"id": worker_id}
        )
        for days in (
            1,
            80,
            100,
        ):  # a serial number that has just expired is still told apart from an unknown one
            connection.execute(
                text(
                    "INSERT INTO certificates (serial, worker_id, not_before, not_after) "
                    "VALUES (:serial, :worker, now() - interval '200 days', now() - :days * interval '1 day')"
                ),
                {"serial": f"{days:x}", "worker": worker_id, "days": days},
            )
    pruned = prune.prune(engine)
    assert pruned["certificates"] == 1
    with engine.connect() as connection:
        assert set(connection.execute(text("SELECT serial FROM certificates")).scalars()) == {"1", "50"}
    assert {
        name: pruned[name] for name in ("login_attempts", "enrolment_tokens", "api_tokens", "processes")
    } == {
        "login_attempts": 1,
        "enrolment_tokens": 1,
        "api_tokens": 1,
        "processes": 1,
    }
    assert set(prune.prune(engine).values()) == {0}


def test_what_is_pruned_goes_some_at_a_time(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much has gathered, no statement takes longer than one may; all of it goes, and nothing else."""
    monkeypatch.setattr(prune, "_ROWS_TOGETHER", 100)
    old = "SELECT now() - interval '2 days', 'a', '::1' FROM generate_series(1, 350)"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO login_attempts (at, account, address) {old}"))
        connection.execute(
            text("INSERT INTO login_attempts (at, account, address) VALUES (now(), 'a', '::1')")
        )
    most = 0

    def count(*, cursor: Any, statement: str, **_: Any) -> None:
        nonlocal most
        if statement.startswith("DELETE FROM login_attempts"):
            most = max(most, cursor.rowcount)

    event.listen(engine, "after_cursor_execute", count, named=True)
    assert prune.prune(engine)["login_attempts"] == 350
    event.remove(engine, "after_cursor_execute", count)
    assert most == 100
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM login_attempts")).scalar_one() == 1


def test_a_retired_worker_id_is_no_fault(engine: Engine) -> None:
    """A task for a worker that does not exist any more does nothing."""
    assert plan.plan_worker(engine, uuid.uuid4()) == 0
    with Session(engine) as session:
        assert session.scalars(select(Job)).all() == []


def test_what_is_not_planned_is_told_from_few_workers(engine: Engine, world: World) -> None:
    """Whomever a test means, the same is told as all workers tell; those that run it are not read, however many there are."""
    place = world.destination("x", "192.0.2.1")
    names = ("fine", "also", "revoked", "pending", "unable", "silent", "unknown", "ancient", "held")
    ids = {name: world.worker(name) for name in names}
    for number in range(40):
        world.worker(f"more {number}")
    ping: dict[str, Any] = {"ping": {"available": True, "reason": "", "mend": ""}}
    changes: dict[str, dict[str, Any]] = {
        "revoked": {"revoked_at": func.now()},
        "pending": {"enrolled_at": None},
        "unable": {"kinds": {"ping": {"available": False, "reason": "no permission", "mend": ""}}},
        "silent": {"kinds": {}},
        "unknown": {"kinds": {"tcp": ping["ping"]}},
        "ancient": {"contract_version": 1},
        "held": {"ability": {"kinds": [], "contract": 3}},
    }
    with Session(engine) as session, session.begin():
        session.execute(update(Worker).values(kinds=ping, enrolled_at=func.now()))
        for name, values in changes.items():
            session.execute(update(Worker).where(Worker.name == name).values(**values))
        for name in names[1:]:
            group = {"site": f"of {name}", "groups": [name, "all"], "labels": {"role": name}}
            session.execute(update(Worker).where(Worker.name == name).values(**group))
    selections: list[dict[str, Any]] = [
        {"all": True},
        {"workers": [str(ids["fine"]), str(ids["revoked"])]},
        {"workers": [str(uuid.uuid4())]},
        {"sites": ["of unable", "of also"]},
        {"groups": ["all"]},
        {"groups": ["nobody"], "sites": ["nowhere"], "labels": {"role": "nothing"}},
        {"labels": {"role": "unknown", "rack": "7"}},
        {"labels": {"role": "also"}, "workers": [str(ids["pending"])], "groups": ["held"]},
        {},
    ]
    test = world.test("p", "ping", [place])
    told = set()
    for selection in selections:
        for schedule in ({"interval_s": 2, "cron": ""}, {"interval_s": None, "cron": "0 * * * *"}):
            world.change(test, selection=selection, **schedule)
            with Session(engine) as session:
                now = dt.datetime.now(dt.UTC)
                found = plans.read_tests(session, ids=[test])
                every = make_plan(found, plans.read_workers(session, kind="ping"), now=now).skipped
                assert plans.read_skips(session, test, now=now) == every, selection
                read = session.scalars(select(Worker.name).where(plans._tells(found[0]))).all()
            told |= {skip.reason for skip in every}
            assert len(read) <= 9, selection
    assert len(told) == 7
