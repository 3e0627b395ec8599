"""A new test per run: one for each due instant, however many keepers make them, and no flood."""

from __future__ import annotations

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session
from support.keepers import World

from controller.keeper import plan, prune, renew
from controller.store.entities import Test
from controller.store.queries import plans
from streamswarm.zones import from_microseconds

MINUTE = dt.timedelta(minutes=1)
DAY = dt.timedelta(days=1)


def now_of(engine: Engine) -> dt.datetime:
    """Return the database's time."""
    with engine.connect() as connection:
        found: dt.datetime = connection.execute(text("SELECT now()")).scalar_one()
        return found


@pytest.fixture
def origin(engine: Engine, world: World) -> int:
    """A test that is due in half a minute and then every hour, and was made long ago."""
    start = now_of(engine) + MINUTE / 2 - dt.timedelta(hours=24)
    test = world.test(
        "Nightly",
        "ping",
        [world.destination("x", "192.0.2.1")],
        interval_s=3600.0,
        starts_at=start,
        recurrence="new_test",
        tags=["core", "suite:office"],
        created_at=start - MINUTE,
        updated_at=start - MINUTE,
    )
    world.worker("a")
    return test


def made(engine: Engine, origin: int) -> list[Test]:
    """Return the tests that a test has made, in order of time."""
    with Session(engine) as session:
        return list(session.scalars(select(Test).where(Test.origin_id == origin).order_by(Test.origin_at)))


def test_a_due_instant_becomes_a_test_that_runs_once(engine: Engine, world: World, origin: int) -> None:
    """With the origin's parameters and destinations, named after the instant; its job is due exactly then."""
    assert renew.make_tests(engine) == 1
    assert renew.make_tests(engine) == 0
    [child] = made(engine, origin)
    assert child.origin_at is not None
    assert child.name == f"Nightly {child.origin_at:%Y-%m-%d %H:%M:%S}Z"
    assert (child.interval_s, child.cron, child.recurrence, child.tags) == (None, "", "continue", ["core"])
    assert child.starts_at == child.origin_at
    assert [item.name for item in child.destinations] == ["x"]
    plan.plan_everything(engine)
    [job] = world.jobs()
    assert (job.test_id, job.one_shot) == (child.id, True)
    assert from_microseconds(job.anchor_us) == child.origin_at


def test_many_keepers_make_one_test(engine: Engine, origin: int) -> None:
    """Eight at once, and again after somebody has deleted it."""
    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda _: renew.make_tests(engine), range(8))) == 1
    [child] = made(engine, origin)
    with Session(engine) as session, session.begin():
        session.get_one(Test, child.id).deleted_at = now_of(engine)
    assert renew.make_tests(engine) == 0


def test_keepers_that_were_away_make_up_for_minutes_not_for_days(
    engine: Engine, world: World, origin: int
) -> None:
    """A run that can still start is made; of the day before nothing is."""
    world.change(origin, starts_at=now_of(engine) - dt.timedelta(hours=24, minutes=5))
    assert renew.make_tests(engine) == 1
    [child] = made(engine, origin)
    assert child.origin_at is not None
    assert dt.timedelta(minutes=4) < now_of(engine) - child.origin_at < dt.timedelta(minutes=7)


@pytest.mark.parametrize(
    "values",
    [
        {"paused": True},
        {"recurrence": "continue"},
        {"max_runs": 24},
        {"windows": [{"days": [], "from": "00:00", "to": "00:01"}]},
    ],
    ids=["paused", "continues", "counted out", "outside of its windows"],
)
def test_what_makes_no_test(engine: Engine, world: World, origin: int, values: dict[str, Any]) -> None:
    """Paused, continuing, behind its last run, or outside of its hours."""
    if "windows" in values:
        other_day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(now_of(engine).weekday() + 3) % 7]
        values = {"windows": [{"days": [other_day], "from": "00:00", "to": "24:00"}]}
    world.change(origin, **values)
    assert renew.make_tests(engine) == 0
    assert made(engine, origin) == []


def test_a_name_that_is_taken_is_told_apart(engine: Engine, world: World, origin: int) -> None:
    """Somebody has a test of that name already; theirs stays, and the run has its test."""
    with Session(engine) as session:
        start = session.get_one(Test, origin).starts_at
    assert start is not None
    due = start + dt.timedelta(hours=24)
    world.test(f"nightly {due:%Y-%m-%d %H:%M:%S}z", "ping", [world.destination("y", "192.0.2.2")])
    assert renew.make_tests(engine) == 1
    assert made(engine, origin)[0].name.endswith(f"Z (#{origin})")


def test_the_tests_of_runs_go_with_their_results(engine: Engine, world: World, origin: int) -> None:
    """Once their day has expired, with an entry in the audit log; not before, and not what is more than such a run."""
    now = now_of(engine)

    def run(name: str, days: int, kind: str = "ping", **values: Any) -> int:
        at = now - days * DAY
        return world.test(
            name,
            kind,
            [],
            **{
                "interval_s": None,
                "starts_at": at,
                "origin_id": origin,
                "origin_at": at,
                "planned_version": 1,
                **values,
            },
        )

    old = [run(f"old {number}", 100 + number) for number in range(3)]
    again = run("ran again", 110)
    kept = [
        run("recent", 20),
        run("repeats now", 120, interval_s=60.0),
        run("another kind", 130, kind="tcp"),
        run("made by a person", 140, origin_id=None, origin_at=None),
        run("not planned yet", 150, planned_version=0),
        again,
    ]
    with Session(engine) as session, session.begin():
        session.execute(
            text(
                "INSERT INTO jobs (test_id, worker_id, kind, spec, interval_us, anchor_us, one_shot, retired_at) "
                "SELECT :test, id, 'ping', '{}', 0, 0, true, now() - interval '1 day' FROM workers LIMIT 1"
            ),
            {"test": again},
        )
    assert prune.delete_expired_runs(engine) == 0
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO expiries VALUES ('ping', 'raw', :before), ('ping', '5m', now())"),
            {"before": now - 90 * DAY},
        )
    assert prune.prune(engine)["tests"] == 3
    assert prune.delete_expired_runs(engine) == 0
    with Session(engine) as session:
        living = set(session.scalars(select(Test.id).where(Test.deleted_at.is_(None))))
        told = session.execute(text("SELECT object_id FROM audit WHERE action = 'test.delete'")).scalars()
        assert {int(number) for number in told} == set(old)
    assert living == {origin, *kept}
    # The pair of origin and instant stays taken, and there is nothing to plan.
    with Session(engine) as session:
        assert set(plans.ids_to_look_at(session)).isdisjoint(old)
