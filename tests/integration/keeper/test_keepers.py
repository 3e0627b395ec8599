"""Keepers as processes: quick, once however many run, and back after every kind of death."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session
from support.keepers import Keepers, World
from support.surroundings import database_folder, wait_for

from controller.keeper.rescue import rescue
from controller.settings import Settings
from controller.store import health, partitions, queue, results, schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import make_engine
from controller.store.entities import Test


def doing(engine: Engine, task: str) -> int:
    """Count the tasks of a name that a keeper works on."""
    with engine.connect() as connection:
        return int(
            connection.execute(
                text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' AND task_name = :task"),
                {"task": task},
            ).scalar_one()
        )


def waiting_for_locks(engine: Engine) -> int:
    """Count the keepers' sessions that wait for a lock."""
    with engine.connect() as connection:
        return int(
            connection.execute(
                text(
                    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' "
                    "AND application_name = 'streamswarm-keeper'"
                )
            ).scalar_one()
        )


def alive(engine: Engine) -> int:
    """Count the keepers whose heartbeat is fresh."""
    with engine.connect() as connection:
        return health.read_health(connection).keeper.alive


def defer_plan(engine: Engine, test: int) -> None:
    """Have a test planned, as a command does."""
    with engine.begin() as connection:
        queue.plan_test(connection, test)


def settled(engine: Engine) -> bool:
    """Whether the look over all tests that a keeper takes at its start is over; it holds the lock of planning."""
    with engine.connect() as connection:
        deferred = connection.execute(
            text("SELECT count(*) FROM procrastinate_periodic_defers WHERE task_name = 'reconcile'")
        )
        left = connection.execute(
            text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'reconcile'")
        )
        return bool(deferred.scalar_one()) and not left.scalar_one()


def test_jobs_follow_a_new_test_at_once(engine: Engine, world: World, keepers: Keepers) -> None:
    """A test that is written and deferred in one transaction has its jobs within a second, ten times over."""
    worker = world.worker("a")
    destination = world.destination("x", "192.0.2.1")
    keepers.start()
    wait_for("a keeper's heartbeat", lambda: alive(engine) == 1, 10)
    slowest = 0.0
    for number in range(10):
        test = world.test(f"t{number}", "ping", [destination])
        defer_plan(engine, test)
        slowest = max(
            slowest,
            wait_for("planning", lambda test=test: any(job.test_id == test for job in world.jobs()), 5),
        )
    assert slowest < 1.5
    assert world.revision(worker) == 10


def test_two_keepers_one_effect(engine: Engine, world: World, keepers: Keepers) -> None:
    """Two keepers work off many tasks, some of them twins; each job is made once, each run-now once."""
    for name in ("a", "b", "c"):
        world.worker(name)
    destination = world.destination("x", "192.0.2.1")
    tests = [world.test(f"t{number}", "ping", [destination]) for number in range(20)]
    requested = int(time.time() * 1_000_000)
    for _ in range(3):
        with engine.begin() as connection:
            for test in tests:
                queue.defer(connection, "plan", {"test_id": test})
                queue.defer(connection, "run_now", {"test_id": test, "requested_at_us": requested})
    keepers.start()
    keepers.start()
    wait_for("two keepers' heartbeats", lambda: alive(engine) == 2, 10)

    def idle() -> bool:
        with engine.connect() as connection:
            return not connection.execute(
                text("SELECT count(*) FROM procrastinate_jobs WHERE task_name IN ('plan', 'run_now')")
            ).scalar_one()

    wait_for("an empty queue", idle, 20)
    jobs = world.jobs(live=False)
    assert sorted((job.one_shot, job.version) for job in jobs) == [(False, 1)] * 60 + [(True, 1)] * 60
    assert "Traceback" not in keepers.log()


def test_a_keeper_killed_in_the_middle_of_a_task(engine: Engine, world: World, keepers: Keepers) -> None:
    """A task whose keeper is killed with kill -9 is taken up by the other one and done once."""
    world.worker("a")
    victim = keepers.start()
    wait_for("a keeper at rest", lambda: alive(engine) == 1 and settled(engine), 10)
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    with Session(engine) as session, session.begin():
        session.get_one(Test, test, with_for_update=True)
        defer_plan(engine, test)
        wait_for("the start of the task", lambda: doing(engine, "plan") == 1, 5)
        victim.send_signal(signal.SIGKILL)
        victim.wait(5)
        keepers.start()
    took = wait_for("the rescue", lambda: len(world.jobs()) == 1, 25)
    assert took < 20
    assert "taken up again" in keepers.log()
    wait_for("the end of the task", lambda: doing(engine, "plan") == 0, 5)
    assert [job.version for job in world.jobs()] == [1]


def test_a_keeper_stopped_inside_a_transaction(engine: Engine, world: World, keepers: Keepers) -> None:
    """A keeper that is stopped while it plans holds the other up for no more than 15 s, and does no harm later."""
    worker = world.worker("a")
    test = world.test("p", "ping", [world.destination("x", "192.0.2.1")])
    paused = keepers.start()
    wait_for("a keeper at rest", lambda: alive(engine) == 1 and settled(engine), 10)
    with Session(engine) as session, session.begin():
        session.get_one(Test, test, with_for_update=True)
        defer_plan(engine, test)
        wait_for("the keeper's wait for the test", lambda: waiting_for_locks(engine) == 1, 5)
        paused.send_signal(signal.SIGSTOP)
    keepers.start()
    try:
        took = wait_for("the successor's planning", lambda: len(world.jobs()) == 1, 25)
    finally:
        paused.send_signal(signal.SIGCONT)
    assert took < 15
    wait_for("the return of the paused keeper", lambda: alive(engine) == 2, 10)
    wait_for("the end of the task", lambda: doing(engine, "plan") == 0, 20)
    assert [(job.version, job.retired_at) for job in world.jobs(live=False)] == [(1, None)]
    assert world.revision(worker) == 1


def at_rest(engine: Engine) -> bool:
    """Whether no keeper works on anything, its first look over all tests included.

    What is cut short then are connections alone: a task that is cut short has to be rescued, and that takes time.
    """
    with engine.connect() as connection:
        left = connection.execute(text("SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing'"))
        return settled(engine) and not left.scalar_one()


def keepers_connections(engine: Engine) -> set[int]:
    """Return the process ids of the sessions that keepers have."""
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'streamswarm-keeper%'")
        )
        return set(found.scalars())


def cut(engine: Engine) -> int:
    """Cut all connections of keepers, and return how many there were once all of them are gone."""
    found = keepers_connections(engine)
    with engine.connect() as connection:
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM unnest(:pids) pid"), {"pids": [*found]}
        )
    wait_for("the end of the connections", lambda: not found & keepers_connections(engine), 20)
    return len(found)


def test_keepers_outlive_the_database(tmp_path: Path) -> None:
    """PostgreSQL is killed under a task and comes back seconds later: the keeper goes on, and told it in plain lines."""
    folder = database_folder()
    server = EmbeddedPostgres(folder, user="nobody" if os.geteuid() == 0 else None)
    keepers = Keepers(Settings(database_url=server.start(), data_dir=tmp_path), tmp_path / "log")
    settings = Settings(database_url=server.url())
    schema.upgrade(settings)
    engine = make_engine(settings, application="test")
    world = World(engine)
    try:
        world.worker("a")
        destination = world.destination("x", "192.0.2.1")
        keeper = keepers.start()
        wait_for("a keeper at rest", lambda: alive(engine) == 1 and settled(engine), 15)
        held = world.test("p", "ping", [destination])
        with Session(engine) as session:
            session.get_one(Test, held, with_for_update=True)
            defer_plan(engine, held)
            wait_for("the keeper's wait for the test", lambda: waiting_for_locks(engine) == 1, 5)
            pid = server.status().pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            time.sleep(3)
            session.invalidate()
        server.start()
        engine.dispose()
        wait_for("planning after the outage", lambda: len(world.jobs()) == 1, 40)
        assert keeper.poll() is None
        assert f"(test_id={held}) broke off and is tried again: " in keepers.log()
        assert not any(word in keepers.log() for word in ("Traceback", " ERROR ", "sqlalche.me"))
    finally:
        keepers.end()
        engine.dispose()
        server.stop()
        shutil.rmtree(folder)


def test_a_keeper_ends_in_good_order(engine: Engine, keepers: Keepers) -> None:
    """SIGTERM ends a keeper within a few seconds with code 0; it is gone from the list of the living."""
    keeper = keepers.start()
    wait_for("a keeper's heartbeat", lambda: alive(engine) == 1, 10)
    keeper.send_signal(signal.SIGTERM)
    assert keeper.wait(10) == 0
    assert alive(engine) == 0
    assert "Traceback" not in keepers.log()


def test_a_keeper_makes_the_partitions(engine: Engine, settings: Settings, keepers: Keepers) -> None:
    """Soon after its start every result table has partitions for all days that the settings ask for."""
    keepers.start()
    days = partitions.days_around(dt.datetime.now(dt.UTC), ahead=settings.partitions_ahead_days)
    wanted = {partitions.partition_name(table, day) for table in results.all_table_names() for day in days}

    def made() -> bool:
        with engine.connect() as connection:
            found = connection.execute(
                text(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent::regclass::text !~ '_pkey$'"
                )
            )
            return wanted <= set(found.scalars())

    wait_for("partitions", made, 20)


def test_a_keeper_outlives_broken_connections(engine: Engine, world: World, keepers: Keepers) -> None:
    """All of a keeper's connections are cut, more than once; it comes back by itself and works on."""
    world.worker("a")
    destination = world.destination("x", "192.0.2.1")
    keeper = keepers.start()
    for number in range(3):
        wait_for("a keeper at rest", lambda: alive(engine) == 1 and at_rest(engine), 30)
        assert cut(engine) > 1
        test = world.test(f"t{number}", "ping", [destination])
        defer_plan(engine, test)
        wait_for(
            "planning after the cut", lambda test=test: any(job.test_id == test for job in world.jobs()), 20
        )
    assert keeper.poll() is None


def test_workers_of_a_dead_gateway_are_marked(engine: Engine, world: World, keepers: Keepers) -> None:
    """A gateway that has been silent for long loses its workers; one that is alive keeps its own."""
    with engine.begin() as connection:
        dead = health.register_process(connection, "gateway", "dead")
        living = health.register_process(connection, "gateway", "living")
        connection.execute(
            text("UPDATE processes SET heartbeat_at = now() - interval '16 s' WHERE id = :id"), {"id": dead}
        )
    lost, kept = world.worker("lost", gateway_id=dead), world.worker("kept", gateway_id=living)
    keepers.start()

    def connected() -> dict[Any, int | None]:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT id, gateway_id FROM workers"))
            return dict(rows.all())

    wait_for("the mark", lambda: connected()[lost] is None, 10)
    assert connected()[kept] == living
    with engine.connect() as connection:
        assert (
            connection.execute(
                text("SELECT disconnected_at FROM workers WHERE id = :id"), {"id": lost}
            ).scalar_one()
            is not None
        )


def test_a_keeper_refuses_a_database_without_schema(empty_postgres_url: str, tmp_path: Any) -> None:
    """A keeper on an empty database ends at once and says what to do."""
    settings = Settings(database_url=empty_postgres_url, data_dir=tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "controller.keeper"],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "the database has no StreamSwarm schema yet\n  → make it: streamswarm db upgrade\n"
    )


def test_what_may_take_long_is_left_to_its_keeper(engine: Engine) -> None:
    """After eleven minutes at a keeper that lives a plan has lost its end; a rewriting works on, for three hours."""
    with engine.begin() as connection:
        keeper = connection.execute(
            text("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()) RETURNING id")
        ).scalar_one()
        tasks = [
            queue.defer(connection, name, {}, queueing_lock=name) for name in ("plan", "rewrite", "expire")
        ]
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :keeper WHERE id = ANY(:ids)"),
            {"keeper": keeper, "ids": tasks},
        )
        started = "INSERT INTO procrastinate_events (job_id, type, at) VALUES (:id, 'started', now() - :ago * interval '1 s')"
        for task, ago in zip(tasks, (660, 660, 4 * 3600), strict=True):
            connection.execute(text("DELETE FROM procrastinate_events WHERE job_id = :id"), {"id": task})
            connection.execute(text(started), {"id": task, "ago": ago})
    assert rescue(engine) == 2
    with engine.connect() as connection:
        states = dict(connection.execute(text("SELECT id, status::text FROM procrastinate_jobs")).all())
    assert states == {tasks[0]: "todo", tasks[1]: "doing", tasks[2]: "todo"}


@pytest.mark.parametrize("attempts", [0, 5])
def test_rescue_with_a_twin_waiting(engine: Engine, attempts: int) -> None:
    """A stalled task with a waiting twin gives way to it; one that was cut short too often is given up."""
    with engine.begin() as connection:
        first = queue.plan_test(connection, 1)
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', attempts = :n WHERE id = :id"),
            {"id": first, "n": attempts},
        )
        second = queue.plan_test(connection, 1)
        third = queue.defer(connection, "plan", {"test_id": 2}, queueing_lock="other")
        connection.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', attempts = :n WHERE id = :id"),
            {"id": third, "n": attempts},
        )
    assert rescue(engine) == 2
    assert rescue(engine) == 0
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT id, status::text FROM procrastinate_jobs")).all()
    assert dict(rows) == {
        first: "failed",
        second: "todo",
        third: "todo" if attempts == 0 else "failed",
    }
