"""Reads tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.planning.asking import FIELDS as SCHEDULE_FIELDS
from controller.planning.asking import Recurrence, schedule_of_values
from controller.planning.schedule import ONE_SHOT_GRACE
from controller.store.entities import Job, Test, Worker, test_destinations
from controller.store.queries.destinations import contains
from controller.store.queries.paging import DEFAULT_LIMIT, Order, Page, asked_order, ordered
from controller.store.queries.workers import is_drained
from streamswarm.schedules import Schedule

TestState = Literal["active", "paused", "waiting", "ended"]
#: By name unless asked otherwise.
ORDERS = {
    "name": Order(keys=(func.lower(Test.name), Test.id), types=(str, int)),
    "kind": Order(keys=(Test.kind, func.lower(Test.name), Test.id), types=(str, str, int)),
    "newest": Order(keys=(Test.id,), types=(int,), descending=True),
}


@dataclass(frozen=True, kw_only=True)
class DestinationOfTest:
    """A destination as a test names it."""

    id: int
    name: str
    address: str


@dataclass(frozen=True, kw_only=True)
class TestRecord:
    """What the user defines: kind, parameters, destinations, workers, schedule."""

    __test__ = False  # keeps pytest from taking it for a test class

    id: int
    name: str
    description: str
    kind: str
    #: Every parameter of the kind with its value.
    spec: Mapping[str, Any]
    destinations: tuple[DestinationOfTest, ...]
    #: `{"all": true}`, or any of `workers` (ids), `sites`, `groups`, `labels`.
    selection: Mapping[str, Any]
    tags: tuple[str, ...]
    #: Seconds between runs; None goes by cron, or runs once.
    interval_s: float | None
    #: Cron, five fields, instead of an interval; empty without.
    cron: str = ""
    #: IANA name of the zone in which cron and windows are meant.
    zone: str = "UTC"
    #: Hours of the week outside of which nothing is due; none is always.
    windows: tuple[Mapping[str, Any], ...] = ()
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    #: It ends after so many due instants, counted from its start or else from when it was made.
    max_runs: int | None = None
    #: Whether each due instant makes a test of its own, which runs once.
    recurrence: Recurrence = "continue"
    #: The test that made this one.
    origin_id: int | None = None
    #: The due instant for which it did.
    origin_at: dt.datetime | None = None
    paused: bool
    #: Jobs that exist for it now: pairs of worker and destination.
    jobs: int
    #: Those of them whose workers are drained.
    jobs_drained: int = 0
    #: Whether it runs once or so many times, was planned, and has no job left that could still run.
    finished: bool = False
    #: Hand it back with a change, so that nobody's change is overwritten unseen.
    version: int
    #: The version that the jobs were planned from; behind `version` until the keeper has planned.
    planned_version: int
    created_by: str
    created_at: dt.datetime
    updated_at: dt.datetime

    @property
    def repeats(self) -> bool:
        """Whether it runs again and again."""
        return self.interval_s is not None or bool(self.cron)

    @property
    def schedule(self) -> Schedule:
        """When it is due, without the phases of its jobs."""
        return schedule_of_values(
            {name: getattr(self, name) for name in SCHEDULE_FIELDS}, created_at=self.created_at
        )

    def state(self, now: dt.datetime) -> TestState:
        """Return whether it runs: `waiting` is before its start, `ended` after its end or its only run."""
        if self.ends_at is not None and now >= self.ends_at:
            return "ended"
        if self.paused:
            return "paused"
        if self.starts_at is not None and now < self.starts_at:
            return "waiting"
        return "ended" if self.finished else "active"


def get(session: Session, test_id: int) -> TestRecord:
    """Return one test or raise NotFoundError."""
    row = session.execute(_select().where(Test.id == test_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no test {test_id}", mend="list the tests")
    return _record(row)


def find(
    session: Session,
    *,
    search: str = "",
    kind: str = "",
    tag: str = "",
    destination: int | None = None,
    paused: bool | None = None,
    origin: int | None = None,
    made_for_run: bool | None = None,
    sort: str = "",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[TestRecord]:
    """Return tests by name, or as `sort` of `ORDERS` says; `search` looks into name and description.

    `made_for_run` tells those that another test has made for one of its runs from those that somebody has made.
    """
    query = _select()
    if search:
        query = query.where(contains(search, Test.name, Test.description))
    if kind:
        query = query.where(Test.kind == kind)
    if tag:
        query = query.where(Test.tags.contains([tag]))
    if destination is not None:
        query = query.where(Test.destinations.any(id=destination))
    if origin is not None:
        query = query.where(Test.origin_id == origin)
    if made_for_run is not None:
        query = query.where(is_made_for_run() if made_for_run else ~is_made_for_run())
    if paused is not None:
        query = query.where(Test.paused.is_(paused))
    return ordered(session, query, asked_order(ORDERS, sort), limit=limit, cursor=cursor, make=_record)


def named(session: Session, ids: Collection[int]) -> tuple[TestRecord, ...]:
    """Return these tests by name; those that are deleted, or were never there, are not among them."""
    query = _select().where(Test.id.in_(ids)).order_by(func.lower(Test.name), Test.id)
    return tuple(_record(row) for row in session.execute(query))


def names(session: Session, *, most: int, always: Collection[int] = ()) -> tuple[tuple[int, str], ...]:
    """Return id and name of the first tests by name, and of those that are always told, in the same order."""
    query = select(Test.id, Test.name).where(Test.deleted_at.is_(None))
    by_name = (func.lower(Test.name), Test.id)
    first = query.order_by(*by_name).limit(most).subquery()
    query = query.where(Test.id.in_(select(first.c.id)) | Test.id.in_(always)).order_by(*by_name)
    return tuple((row.id, row.name) for row in session.execute(query))


def using_destination(
    session: Session, destination_id: int, *, made_for_run: bool | None = None
) -> tuple[tuple[int, str, str], ...]:
    """Return id, name and kind of the tests that aim at a destination, by name."""
    query = (
        select(Test.id, Test.name, Test.kind)
        .join(test_destinations, test_destinations.c.test_id == Test.id)
        .where(test_destinations.c.destination_id == destination_id, Test.deleted_at.is_(None))
        .order_by(func.lower(Test.name))
    )
    if made_for_run is not None:
        query = query.where(is_made_for_run() if made_for_run else ~is_made_for_run())
    return tuple((row.id, row.name, row.kind) for row in session.execute(query))


@cache
def state_now() -> ColumnElement[str]:
    """Return the state of a test, as `TestRecord.state` tells it, for a query over `Test`."""
    return case(
        (Test.ends_at <= func.now(), "ended"),
        (Test.paused, "paused"),
        (Test.starts_at > func.now(), "waiting"),
        (_is_finished(), "ended"),
        else_="active",
    )


def runs_once() -> ColumnElement[bool]:
    """Whether a test has neither interval nor cron, for a query over `Test`."""
    return and_(Test.interval_s.is_(None), Test.cron == "")


def is_made_for_run() -> ColumnElement[bool]:
    """Whether another test has made a test for one of its runs, for a query over `Test`."""
    return Test.origin_id.is_not(None)


def _is_finished() -> ColumnElement[bool]:
    """Whether a test that runs once or so many times is over.

    Its jobs are, or the one instant has passed without any.
    """
    jobs = select(Job.id).where(Job.test_id == Test.id).correlate(Test)
    live = jobs.where(Job.retired_at.is_(None))
    once = and_(
        runs_once(),
        ~live.exists(),
        or_(jobs.exists(), func.coalesce(Test.starts_at, Test.created_at) + ONE_SHOT_GRACE < func.now()),
    )
    counted = live.where(~Job.one_shot)
    over = and_(
        Test.max_runs.is_not(None),
        counted.exists(),
        ~counted.where(or_(Job.ends_at.is_(None), Job.ends_at > func.now())).exists(),
    )
    return and_(Test.planned_version >= Test.version, or_(once, over))


# Made once: to make it costs more than to run it.
@cache
def _select() -> Select[Any]:
    jobs = (
        select(func.count())
        .select_from(Job)
        .where(Job.test_id == Test.id, Job.retired_at.is_(None), or_(~Job.one_shot, runs_once()))
        .correlate(Test)
    )
    drained = jobs.join(Worker, Worker.id == Job.worker_id).where(is_drained())
    return select(
        Test,
        jobs.scalar_subquery().label("jobs"),
        drained.scalar_subquery().label("jobs_drained"),
        _is_finished().label("finished"),
    ).where(Test.deleted_at.is_(None))


def _record(row: Any) -> TestRecord:
    entity: Test = row[0]
    return TestRecord(
        id=entity.id,
        name=entity.name,
        description=entity.description,
        kind=entity.kind,
        spec=entity.spec,
        destinations=tuple(
            DestinationOfTest(id=item.id, name=item.name, address=item.address)
            for item in entity.destinations
        ),
        selection=entity.selection,
        tags=tuple(entity.tags),
        interval_s=entity.interval_s,
        cron=entity.cron,
        zone=entity.zone,
        windows=tuple(entity.windows),
        starts_at=entity.starts_at,
        ends_at=entity.ends_at,
        max_runs=entity.max_runs,
        recurrence="new_test" if entity.recurrence == "new_test" else "continue",
        origin_id=entity.origin_id,
        origin_at=entity.origin_at,
        paused=entity.paused,
        jobs=row.jobs,
        jobs_drained=row.jobs_drained,
        finished=row.finished,
        version=entity.version,
        planned_version=entity.planned_version,
        created_by=entity.created_by,
        created_at=entity.created_at,
        updated_at=entity.updated_at,
    )
