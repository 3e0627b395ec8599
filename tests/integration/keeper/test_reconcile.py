"""The minute's look over all tests: it reads those that can have jobs, misses none of them, and never meets itself."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select, text, update
from sqlalchemy.orm import Session
from support.keepers import Keepers, World
from support.surroundings import wait_for

from controller.keeper import plan
from controller.keeper.app import make_app
from controller.settings import Settings
from controller.store import queue
from controller.store.engine import make_engine
from controller.store.entities import Job, Test, Worker
from controller.store.queries import plans

DAY = dt.timedelta(days=1)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the tests that are read, each as often as it is."""
    found: list[int] = []
    really = plans.read_tests

    def counted(session: Session, **values: Any) -> Any:
        tests = really(session, **values)
        found.extend(test.id for test in tests)
        return tests

    monkeypatch.setattr(plans, "read_tests", counted)
    return found


def add_past_runs(engine: Engine, world: World, count: int) -> list[int]:
    """Add tests that ran once, an hour and more ago, as one that makes a new test per run leaves them behind."""
    origin = world.test(
        "origin", "ping", [], recurrence="new_test", ends_at=dt.datetime.now(dt.UTC) - DAY / 24
    )
    with Session(engine) as session, session.begin():
        shape = session.get_one(Test, origin)
        shape.planned_version = shape.version
        rows = [
            {
                "name": f"run {number}",
                "kind": "ping",
                "spec": shape.spec,
                "starts_at": func.now() - dt.timedelta(hours=1, minutes=15 * number),
                "origin_id": origin,
                "origin_at": func.now() - dt.timedelta(hours=1, minutes=15 * number),
                "planned_version": 1,
            }
            for number in range(count)
        ]
        return list(session.scalars(insert(Test).values(rows[:1]).returning(Test.id))) + list(
            session.scalars(insert(Test).values(rows[1:]).returning(Test.id))
        )


def test_tests_whose_run_is_over_are_not_read(engine: Engine, world: World, read: list[int]) -> None:
    """Of two thousand none is, nor the one that made them; a new test is, and so is a past one that was changed."""
    world.worker("a")
    place = world.destination("x", "192.0.2.1")
    runs = add_past_runs(engine, world, 2_000)
    assert plan.plan_everything(engine) == 0
    assert read == []
    fresh = world.test("fresh", "ping", [place], interval_s=None)
    assert plan.plan_everything(engine) == 1
    assert set(read) == {fresh}
    read.clear()
    # It is given another instant, and the hint to plan it is lost.
    with Session(engine) as session, session.begin():
        again = session.get_one(Test, runs[7])
        again.starts_at = dt.datetime.now(dt.UTC) + DAY
        again.version += 1
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO test_destinations VALUES (:test, :place)"), {"test": runs[7], "place": place}
        )
    assert plan.plan_everything(engine) == 1
    assert set(read) == {runs[7], fresh}
    assert {job.test_id for job in world.jobs()} == {runs[7], fresh}


def test_the_look_finds_its_tests_by_index(engine: Engine, world: World) -> None:
    """Past runs are passed over by the database too, not read and dropped."""
    add_past_runs(engine, world, 2_000)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE tests"))
    statements: list[tuple[str, Any]] = []
    event.listen(
        engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, values, _context, _many: statements.append(
            (statement, values)
        ),
    )
    with Session(engine) as session:
        plans.ids_to_look_at(session)
        [(statement, values)] = statements
        lines = session.connection().exec_driver_sql(f"EXPLAIN {statement}", values).scalars().all()
    assert not [line for line in lines if "Seq Scan on tests" in line], "\n".join(lines)


@pytest.mark.parametrize("ending", [{"ends_at": dt.datetime(2026, 11, 1, tzinfo=dt.UTC)}, {"max_runs": 3}])
def test_a_test_past_its_end_is_left_alone_until_something_changes(
    engine: Engine, world: World, read: list[int], ending: dict[str, Any]
) -> None:
    """Its jobs stay, for its page shows them; they go with their worker, and run on when it is given a later end."""
    worker, other = world.worker("a"), world.worker("b")
    long_ago = dt.datetime.now(dt.UTC) - 60 * DAY
    test = world.test(
        "over",
        "ping",
        [world.destination("x", "192.0.2.1")],
        created_at=long_ago,
        starts_at=long_ago,
        **ending,
    )
    assert plan.plan_everything(engine) == 2
    read.clear()
    assert plan.plan_everything(engine) == 0
    assert read == []
    assert len(world.jobs()) == 2
    with Session(engine) as session, session.begin():
        session.execute(update(Worker).where(Worker.id == worker).values(revoked_at=func.now()))
    assert plan.plan_everything(engine) == 1
    assert [job.worker_id for job in world.jobs()] == [other]
    with Session(engine) as session, session.begin():
        session.execute(update(Worker).where(Worker.id == other).values(deleted_at=func.now()))
    assert plan.plan_worker(engine, other) == 1
    assert world.jobs() == []
    with Session(engine) as session, session.begin():
        session.execute(update(Worker).where(Worker.id == other).values(deleted_at=None))
    world.change(test, ends_at=None, max_runs=None)
    assert plan.plan_everything(engine) == 1
    [job] = world.jobs()
    assert (job.worker_id, job.ends_at) == (other, None)


def test_what_a_past_test_has_left_over_is_cleaned(engine: Engine, world: World) -> None:
    """A live job of a past run on a worker that is gone, and one of a deleted test: retired, as ever."""
    worker, gone = world.worker("a"), world.worker("b")
    place = world.destination("x", "192.0.2.1")
    once = world.test("once", "ping", [place], interval_s=None)
    deleted = world.test("deleted", "ping", [place])
    plan.plan_tests(engine, [once, deleted])
    assert len(world.jobs()) == 4
    with Session(engine) as session, session.begin():
        session.execute(
            update(Test).where(Test.id == once).values(created_at=func.now() - dt.timedelta(hours=1))
        )
        session.execute(update(Test).where(Test.id == deleted).values(deleted_at=func.now()))
        session.execute(update(Worker).where(Worker.id == gone).values(deleted_at=func.now()))
    assert plan.plan_everything(engine) == 3
    assert [(job.test_id, job.worker_id) for job in world.jobs()] == [(once, worker)]


def test_looks_follow_one_another_and_hold_nobody_up(
    engine: Engine, settings: Settings, world: World, keepers: Keepers
) -> None:
    """While one look waits for a lock the next does not begin, and the test that somebody has just made is planned."""
    world.worker("a")
    place = world.destination("x", "192.0.2.1")
    held = world.test("held", "ping", [place])

    def states() -> list[str]:
        with engine.connect() as connection:
            return list(
                connection.execute(
                    text(
                        "SELECT status::text FROM procrastinate_jobs WHERE task_name = 'reconcile' ORDER BY id"
                    )
                ).scalars()
            )

    async def defer() -> None:
        app = make_app(settings)
        async with app.open_async():
            await app.configure_task("reconcile").defer_async(timestamp=int(time.time()))

    keepers.start()
    # The first look is over, and planned nothing that is held below.
    wait_for("a keeper at rest", lambda: len(world.jobs()) == 1 and states() == [], 40)
    world.change(held, paused=True)
    patient = make_engine(settings, application="test", idle_in_transaction_s=60)
    with Session(patient) as session, session.begin():
        session.get_one(Test, held, with_for_update=True)
        asyncio.run(defer())
        wait_for("the first look", lambda: states() == ["doing"], 20)
        asyncio.run(defer())
        changed = world.test("changed", "ping", [place])
        with engine.begin() as connection:
            queue.plan_test(connection, changed)
        wait_for("planning beside it", lambda: any(job.test_id == changed for job in world.jobs()), 15)
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert states() == ["doing", "todo"]
            time.sleep(0.05)
    patient.dispose()
    wait_for("both looks", lambda: states() == [], 30)
    with Session(engine) as session:
        assert set(session.scalars(select(Job.test_id).where(Job.paused))) == {held}
