"""Tests that make a new test per run: each due instant becomes a one-shot test of its own.

It is made a minute ahead, so that its jobs are on their workers when it is due. However many keepers do this and
however often, an instant has one test: the database holds the pair of origin and instant unique, for ever.
"""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import replace

from sqlalchemy import Engine, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from controller.planning.records import PlannedTest
from controller.planning.schedule import ONE_SHOT_GRACE, end_of, schedule_of
from controller.store import queue
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Test, test_destinations
from controller.store.queries import plans
from controller.store.queries.tests import runs_once
from streamswarm.zones import from_microseconds, to_microseconds

_log = logging.getLogger(__name__)

#: So long before its instant a test is made.
AHEAD = dt.timedelta(minutes=1)
_LONGEST_NAME = 100
#: Tags that say who looks after a test; a suite does not look after what its tests make.
_MARK = "suite:"


def make_tests(engine: Engine) -> int:
    """Make the tests that are due within a minute, and those due lately that a pause of the keepers left out."""
    with Session(engine) as session:
        origins = session.scalars(
            select(Test.id)
            .where(
                Test.recurrence == "new_test", Test.deleted_at.is_(None), Test.paused.is_(False), ~runs_once()
            )
            .order_by(Test.id)
        ).all()
    return sum(_make_for(engine, origin) for origin in origins)


def _make_for(engine: Engine, origin_id: int) -> int:
    with Session(engine) as session, session.begin():
        [planned] = plans.read_tests(session, ids=[origin_id], lock=True)
        origin = session.get_one(Test, origin_id)
        now: dt.datetime = session.scalars(select(func.now())).one()
        if not planned.makes_tests or planned.deleted or planned.paused:
            return 0
        # Not before the latest change: what was due in a pause, or under another schedule, is not made up for.
        since = max(now - ONE_SHOT_GRACE, origin.updated_at)
        return sum(
            _make(session, origin, instant) for instant in due(planned, since=since, until=now + AHEAD)
        )


def due(test: PlannedTest, *, since: dt.datetime, until: dt.datetime) -> tuple[dt.datetime, ...]:
    """Return the instants in [since, until] for which a test makes tests."""
    schedule = schedule_of(test)
    end = end_of(test, schedule)
    bounded = replace(schedule, ends_us=None if end is None else to_microseconds(end))
    found = bounded.instants(to_microseconds(since), to_microseconds(until))
    return tuple(from_microseconds(instant) for instant in found)


def _make(session: Session, origin: Test, instant: dt.datetime) -> int:
    """Make the test of one instant; returns whether it was not there yet."""
    values = {
        "name": _name(session, origin, instant),
        "description": origin.description,
        "kind": origin.kind,
        "spec": origin.spec,
        "selection": origin.selection,
        "tags": [tag for tag in origin.tags if not str(tag).startswith(_MARK)],
        "zone": origin.zone,
        "starts_at": instant,
        "origin_id": origin.id,
        "origin_at": instant,
        "created_by": SYSTEM.name,
    }
    made = session.scalar(
        insert(Test)
        .values(values)
        .on_conflict_do_nothing(index_elements=["origin_id", "origin_at"])
        .returning(Test.id)
    )
    if made is None:
        return 0
    targets = [{"test_id": made, "destination_id": item.id} for item in origin.destinations]
    if targets:
        session.execute(insert(test_destinations), targets)
    detail = {"name": values["name"], "origin": origin.id, "instant": instant}
    audit.record(session, SYSTEM, "test.create", "test", made, detail)
    session.flush()
    queue.plan_test(session.connection(), made)
    _log.info("test %s made test %s for %s", origin.id, made, instant.isoformat())
    return 1


def _name(session: Session, origin: Test, instant: dt.datetime) -> str:
    """Return the origin's name and the instant; with the origin's number when somebody has taken that name."""
    when = f" {instant:%Y-%m-%d %H:%M:%S}Z"
    for more in ("", f" (#{origin.id})"):
        name = origin.name[: _LONGEST_NAME - len(when) - len(more)].rstrip() + when + more
        taken = select(Test.id).where(
            func.lower(Test.name) == name.lower(),
            Test.deleted_at.is_(None),
            Test.origin_id.is_distinct_from(origin.id),
        )
        if session.scalars(taken).first() is None:
            break
    return name
