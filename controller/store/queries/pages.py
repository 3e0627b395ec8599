"""What the dashboard's lists show of results: the latest run of each job, trends, failures, counts.

Every query goes through the key `(job_id, scheduled_at)` of a kind's table and is bounded in time, so that it
touches few partitions and few rows however many there are.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    and_,
    cast,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Test, Worker
from controller.store.health import is_clock_off
from controller.store.queries.figures import as_number
from streamswarm import contract
from streamswarm.outcomes import failure_source_name, status_name
from streamswarm.v1 import probe_pb2

#: (after, until].
_Span = tuple[dt.datetime, dt.datetime]
#: What is older than this is not looked for as a latest run.
LATEST_WITHIN = dt.timedelta(days=1)
#: Runs that did not end well are looked through, the newest first, until there were so many of a kind: more than one job
#: can have in a quarter of an hour.
_MOST_BAD = 2000
#: Of those no more than so many of one job are shown.
_MOST_OF_JOB = 3
#: So many of a kind are counted while somebody waits.
_MOST_COUNTED = 100_000


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run with the names of what it belongs to."""

    kind: str
    job_id: int
    test_id: int
    test_name: str
    worker_id: uuid.UUID
    worker_name: str
    destination_id: int | None
    destination_name: str
    scheduled_at: dt.datetime
    duration_ms: float
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    #: `none`, `target`, `network`, … as the contract's FailureSource names them.
    failure_source: str
    error: str
    #: The kind's headline metric; None where it was not measured.
    value: float | None
    #: Whether the worker's clock was more than five seconds away from the controller's.
    clock_off: bool = False


@dataclass(frozen=True, kw_only=True)
class BadRuns:
    """Runs that did not end well."""

    count: int
    #: Whether there were more, which are not counted.
    more: bool


@dataclass(frozen=True, kw_only=True)
class TrendPoint:
    """One slot of a trend."""

    #: 0 is the oldest.
    slot: int
    #: Mean of the headline metric over all jobs; None where nothing was measured.
    value: float | None
    #: Runs that did not end well.
    bad: int


@dataclass(frozen=True, kw_only=True)
class JobOfWorker:
    """A job as its worker's page lists it."""

    id: int
    test_id: int
    test_name: str
    kind: str
    #: Host, host:port or URL; empty for kinds without a destination.
    target: str
    paused: bool


def newest_runs(
    session: Session, kind: str, test_id: int, *, limit: int, only_bad: bool = False
) -> tuple[RunRecord, ...]:
    """Return the newest runs of one test, over all its jobs, newest first."""
    of_test = and_(Job.test_id == test_id, or_(Job.retired_at.is_(None), Job.one_shot))
    table = results.table(kind)
    lately = _lately(session, LATEST_WITHIN)
    run: FromClause
    query: Select[Any]
    if only_bad:
        ours = table.c.job_id.in_(select(Job.id).where(Job.kind == kind, of_test))
        run = _bad(kind, lately).where(ours).limit(limit).subquery("run")
        query = _with_names(kind, run).join(run, run.c.job_id == Job.id).where(of_test)
    else:
        # Each job is walked down its own key. None but the jobs whose last runs are the newest can have any of these.
        walk = select(*_shown_columns(kind)).order_by(table.c.scheduled_at.desc())
        walk = walk.where(table.c.job_id == Job.id, *_within(table, lately)).correlate(Job)
        last = walk.with_only_columns(table.c.scheduled_at).limit(1).lateral("last")
        newest = select(Job.id).select_from(Job).join(last, true()).where(Job.kind == kind, of_test)
        newest = newest.order_by(last.c.scheduled_at.desc()).limit(limit)
        jobs = session.scalars(newest).all()
        run = walk.limit(limit).lateral("run")
        query = _with_names(kind, run).join(run, true()).where(Job.id.in_(jobs))
        query = query.order_by(run.c.scheduled_at.desc()).limit(limit)
    return _newest_first(_records(session, kind, query), limit)


def recent_failures(session: Session, *, within: dt.timedelta, limit: int) -> tuple[RunRecord, ...]:
    """Return the newest runs that did not end well, at most three of a job, newest first.

    Of each kind the newest thousands are looked through, whatever there is.
    """
    found: list[RunRecord] = []
    lately = _lately(session, within)
    for kind in contract.kinds():
        bad = _bad(kind, lately).limit(_MOST_BAD).subquery("bad")
        nth = func.row_number().over(partition_by=bad.c.job_id, order_by=bad.c.scheduled_at.desc())
        run = select(bad, nth.label("nth")).subquery("run")
        query = (
            _with_names(kind, run)
            .join(run, run.c.job_id == Job.id)
            .where(Job.retired_at.is_(None), run.c.nth <= _MOST_OF_JOB)
            .order_by(run.c.scheduled_at.desc())
            .limit(limit)
        )
        found += _records(session, kind, query)
    return _newest_first(found, limit)


def bad_runs(session: Session, *, within: dt.timedelta, most: int = _MOST_COUNTED) -> BadRuns:
    """Count the runs of the time just past that did not end well, no more than so many of a kind."""
    counts = []
    lately = _lately(session, within)
    for kind in contract.kinds():
        bad = (
            _bad(kind, lately).with_only_columns(results.table(kind).c.job_id).limit(most + 1).subquery("bad")
        )
        counts.append(session.execute(select(func.count()).select_from(bad)).scalar_one())
    return BadRuns(
        count=sum(min(count, most) for count in counts), more=any(count > most for count in counts)
    )


def trends(
    session: Session, test_ids: Mapping[str, Iterable[int]], *, since: dt.datetime, slot_s: float
) -> dict[int, tuple[TrendPoint, ...]]:
    """Return the headline metric of each test in slots of `slot_s` seconds from `since` on."""
    found: dict[int, list[TrendPoint]] = {}
    _, now = _lately(session, dt.timedelta(0))
    for kind, ids in test_ids.items():
        table = results.table(kind)
        age = func.extract("epoch", table.c.scheduled_at - since)
        slot = cast(func.floor(age / slot_s), Integer).label("slot")
        rows = session.execute(
            select(
                Job.test_id,
                slot,
                func.avg(_headline(kind, table)),
                func.count().filter(table.c.status != probe_pb2.STATUS_OK),
            )
            .select_from(Job)
            .join(table, table.c.job_id == Job.id)
            .where(
                Job.test_id.in_(tuple(ids)),
                Job.kind == kind,
                table.c.scheduled_at >= since,
                table.c.scheduled_at <= now,
            )
            .group_by(Job.test_id, slot)
            .order_by(Job.test_id, slot)
        )
        for test_id, at, value, bad in rows:
            found.setdefault(test_id, []).append(TrendPoint(slot=at, value=value, bad=bad))
    return {test_id: tuple(points) for test_id, points in found.items()}


def jobs_of_worker(session: Session, worker_id: uuid.UUID) -> tuple[JobOfWorker, ...]:
    """Return the scheduled jobs of a worker by the name of their test."""
    rows = session.execute(
        select(Job.id, Job.test_id, Test.name, Job.kind, Job.target, Job.paused)
        .join(Test, Test.id == Job.test_id)
        .where(Job.worker_id == worker_id, Job.retired_at.is_(None), ~Job.one_shot, Test.deleted_at.is_(None))
        .order_by(func.lower(Test.name), Job.id)
    )
    return tuple(
        JobOfWorker(
            id=row.id,
            test_id=row.test_id,
            test_name=row.name,
            kind=row.kind,
            target=row.target,
            paused=row.paused,
        )
        for row in rows
    )


def _headline(kind: str, table: Table) -> ColumnElement[float]:
    return as_number(table.c[results.metric_column(kind, contract.kind(kind).headline.name).name])


def _newest_first(runs: Iterable[RunRecord], limit: int) -> tuple[RunRecord, ...]:
    return tuple(sorted(runs, key=lambda run: run.scheduled_at, reverse=True)[:limit])


def _shown_columns(kind: str) -> tuple[ColumnElement[Any], ...]:
    """What of a run is shown."""
    table = results.table(kind)
    return (
        table.c.job_id,
        table.c.scheduled_at,
        table.c.duration_ms,
        table.c.status,
        table.c.failure_source,
        table.c.error,
        table.c.clock_offset_ms,
        _headline(kind, table).label("value"),
    )


def _bad(kind: str, within: _Span) -> Select[Any]:
    """The runs of a kind that did not end well, newest first, down the index that days have of them."""
    table = results.table(kind)
    return (
        select(*_shown_columns(kind))
        .where(table.c.status != probe_pb2.STATUS_OK, *_within(table, within))
        .order_by(table.c.scheduled_at.desc())
    )


def _lately(session: Session, age: dt.timedelta) -> _Span:
    """Return the time just past, so long, by the database's clock: nothing is due in it from a clock that runs ahead.

    Instants that are known when a statement is planned leave days out of it, which to plan would cost more than to read.
    """
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    return now - age, now


def _within(table: Table, span: _Span) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The conditions that a run was due in a span."""
    after, until = span
    return table.c.scheduled_at > after, table.c.scheduled_at <= until


def _with_names(kind: str, run: FromClause) -> Select[Any]:
    """Jobs of a kind with the names of what they belong to, and the columns of `run`, which is still to be joined."""
    return (
        select(
            Job.test_id,
            Test.name.label("test_name"),
            Job.worker_id,
            Worker.name.label("worker_name"),
            Job.destination_id,
            func.coalesce(Destination.name, "").label("destination_name"),
            run,
        )
        .select_from(Job)
        .join(Test, Test.id == Job.test_id)
        .join(Worker, Worker.id == Job.worker_id)
        .outerjoin(Destination, Destination.id == Job.destination_id)
        .where(Job.kind == kind, Test.deleted_at.is_(None))
    )


def _records(session: Session, kind: str, query: Select[Any]) -> Iterator[RunRecord]:
    for row in session.execute(query):
        yield RunRecord(
            kind=kind,
            job_id=row.job_id,
            test_id=row.test_id,
            test_name=row.test_name,
            worker_id=row.worker_id,
            worker_name=row.worker_name,
            destination_id=row.destination_id,
            destination_name=row.destination_name,
            scheduled_at=row.scheduled_at,
            duration_ms=row.duration_ms,
            status=status_name(row.status),
            failure_source=failure_source_name(row.failure_source),
            error=row.error or "",
            value=row.value,
            clock_off=is_clock_off(row.clock_offset_ms),
        )
