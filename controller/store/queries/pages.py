"""What the dashboard's lists show of results: the latest run of each job, trends, failures, counts.

Every query goes through the key `(job_id, scheduled_at)` of a kind's table and is bounded in time, so that it
touches few partitions and few rows however many there are.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    CompoundSelect,
    DateTime,
    FromClause,
    Row,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Test, Worker
from controller.store.health import is_clock_off
from controller.store.queries.figures import as_number
from controller.store.queries.versions import numbers
from streamswarm import contract
from streamswarm.outcomes import failure_source_name, status_name
from streamswarm.v1 import probe_pb2

#: What is older than this is not looked for as a latest run.
LATEST_WITHIN = dt.timedelta(days=1)
#: Runs that did not end well are looked through, the newest first, until there were so many of a kind: more than one job
#: can have in a quarter of an hour.
_MOST_BAD = 2000
#: Of those no more than so many of one job are shown.
_MOST_OF_JOB = 3
#: So many of a kind are counted while somebody waits.
_MOST_COUNTED = 100_000
#: Trends are of the runs of so many jobs, which the tests of a list share: one test may have thousands.
_MOST_OF_TRENDS = 500
#: A worker may not know for so long that a job is not its any more.
_LEARNS_WITHIN = dt.timedelta(minutes=1)


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
    #: Mean of the headline metric over the jobs; None where nothing was measured.
    value: float | None
    #: Runs that did not end well.
    bad: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """How the headline metric of a test went."""

    #: Slots in which there were runs, the oldest first.
    points: tuple[TrendPoint, ...]
    #: Jobs that it is of, and how many there were.
    jobs: int
    among: int


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
        run = _bad(kind).where(ours).limit(limit).subquery("run")
        query = _with_names(run).join(run, run.c.job_id == Job.id).where(Job.kind == kind, of_test)
    else:
        # Each job is walked down its own key. None but the jobs whose last runs are the newest can have any of these.
        walk = select(*_shown_columns(kind)).order_by(table.c.scheduled_at.desc())
        walk = walk.where(table.c.job_id == Job.id, *_within(table)).correlate(Job)
        last = walk.with_only_columns(table.c.scheduled_at).limit(1).lateral("last")
        newest = select(Job.id).select_from(Job).join(last, true()).where(Job.kind == kind, of_test)
        newest = newest.order_by(last.c.scheduled_at.desc()).limit(limit)
        jobs = session.scalars(newest, lately).all()
        run = walk.limit(limit).lateral("run")
        query = _with_names(run).join(run, true()).where(Job.kind == kind, Job.id.in_(jobs))
    query = query.order_by(run.c.scheduled_at.desc()).limit(limit)
    return tuple(_records(session, query, lately))


def recent_failures(session: Session, *, within: dt.timedelta, limit: int) -> tuple[RunRecord, ...]:
    """Return the newest runs that did not end well, at most three of a job, newest first.

    Of each kind the newest thousands are looked through, whatever there is.
    """
    return tuple(
        _records(session, _failures(), {**_lately(session, within), "most": _MOST_BAD, "limit": limit})
    )


@cache
def _failures() -> Select[Any]:
    """The statement of `recent_failures`: one for all kinds, and made once, as to make it costs more than to run it."""
    bad = union_all(*(_bad(kind).limit(bindparam("most")) for kind in results.kinds())).subquery("bad")
    nth = func.row_number().over(partition_by=bad.c.job_id, order_by=bad.c.scheduled_at.desc())
    run = select(bad, nth.label("nth")).subquery("run")
    return (
        _with_names(run)
        .join(run, and_(run.c.job_id == Job.id, run.c.kind == Job.kind))
        .where(Job.retired_at.is_(None), run.c.nth <= _MOST_OF_JOB)
        .order_by(run.c.scheduled_at.desc())
        .limit(bindparam("limit"))
    )


def bad_runs(session: Session, *, within: dt.timedelta, most: int = _MOST_COUNTED) -> BadRuns:
    """Count the runs of the time just past that did not end well, no more than so many of a kind."""
    counts = session.scalars(_counted(), {**_lately(session, within), "most": most + 1}).all()
    return BadRuns(
        count=sum(min(count, most) for count in counts), more=any(count > most for count in counts)
    )


@cache
def _counted() -> CompoundSelect[Any]:
    """The statement of `bad_runs`."""
    bad = [
        _bad(kind).with_only_columns(results.table(kind).c.job_id).limit(bindparam("most")).subquery()
        for kind in results.kinds()
    ]
    return union_all(*(select(func.count()).select_from(of_kind) for of_kind in bad))


def trends(
    session: Session, test_ids: Mapping[str, Iterable[int]], *, since: dt.datetime, slot_s: float
) -> dict[int, Trend]:
    """Return the headline metric of each test that has jobs in slots of `slot_s` seconds from `since` on.

    Of a test with very many jobs some are read, whichever workers and destinations they are of, and the same each time.
    """
    asked = {kind: ids for kind, of_kind in test_ids.items() if (ids := list(of_kind))}
    if not asked:
        return {}
    drawn = _drawn(session, asked, since=since - _LEARNS_WITHIN)
    span = {**_lately(session, dt.timedelta(0)), "since": since}
    slots = math.ceil((span["until"] - since).total_seconds() / slot_s)
    begins = bindparam("begins", type_=ARRAY(DateTime(timezone=True)))
    span["begins"] = [since + number * dt.timedelta(seconds=slot_s) for number in range(max(1, slots))]
    parts = []
    for kind in sorted(drawn):
        table = results.table(kind)
        # Looked up among the beginnings: to reckon the slot of each of thousands of runs takes as long as to read them.
        slot = (func.width_bucket(table.c.scheduled_at, begins) - 1).label("slot")
        jobs = numbers([row.id for row in drawn[kind]])
        of_tests = func.unnest(jobs, numbers([row.test_id for row in drawn[kind]]))
        job = of_tests.table_valued(
            column("id", BigInteger), column("test_id", BigInteger), name="job"
        ).render_derived()
        parts.append(
            select(
                job.c.test_id,
                slot,
                func.avg(_headline(kind, table)).label("value"),
                func.count().filter(table.c.status != probe_pb2.STATUS_OK).label("bad"),
            )
            .select_from(job)
            .join(table, table.c.job_id == job.c.id)
            .where(
                table.c.job_id == func.any(jobs),
                table.c.scheduled_at >= bindparam("since", type_=DateTime(timezone=True)),
                table.c.scheduled_at <= bindparam("until"),
            )
            .group_by(job.c.test_id, slot)
        )
    if not parts:
        return {}
    points: dict[int, list[TrendPoint]] = {}
    for test_id, at, value, bad in session.execute(union_all(*parts).order_by("test_id", "slot"), span):
        points.setdefault(test_id, []).append(TrendPoint(slot=at, value=value, bad=bad))
    among = {row.test_id: row.among for rows in drawn.values() for row in rows}
    counts = Counter(row.test_id for rows in drawn.values() for row in rows)
    return {
        test_id: Trend(points=tuple(points.get(test_id, ())), jobs=counts[test_id], among=there_are)
        for test_id, there_are in among.items()
    }


def _drawn(
    session: Session, asked: Mapping[str, Sequence[int]], *, since: dt.datetime
) -> dict[str, list[Row[int, int, str, int]]]:
    """Return jobs that may have runs since an instant, by kind: those that trends are of, each with how many its test has.

    Every test has as many as any other, or all that it has. Which these are is told by the hash of their numbers, which
    follow the order of workers and destinations.
    """
    mixed = func.hashint8(Job.id), Job.id
    job = (
        select(
            Job.id,
            Job.test_id,
            Job.kind,
            func.row_number().over(partition_by=Job.test_id, order_by=mixed).label("nth"),
            func.count().over(partition_by=Job.test_id).label("among"),
        )
        .where(
            Job.test_id == func.any(numbers([test_id for ids in asked.values() for test_id in ids])),
            ~Job.paused,
            or_(Job.retired_at.is_(None), Job.retired_at > since),
        )
        .subquery("job")
    )
    query = select(job.c.id, job.c.test_id, job.c.kind, job.c.among)
    found: dict[str, list[Row[int, int, str, int]]] = {}
    for row in session.execute(query.order_by(job.c.nth, job.c.test_id).limit(_MOST_OF_TRENDS)):
        if row.kind in asked:
            found.setdefault(row.kind, []).append(row)
    return found


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


def _shown_columns(kind: str) -> tuple[ColumnElement[Any], ...]:
    """What of a run is shown."""
    table = results.table(kind)
    return (
        literal_column(f"'{kind}'", Text).label("kind"),
        table.c.job_id,
        table.c.scheduled_at,
        table.c.duration_ms,
        table.c.status,
        table.c.failure_source,
        table.c.error,
        table.c.clock_offset_ms,
        _headline(kind, table).label("value"),
    )


def _bad(kind: str) -> Select[Any]:
    """The runs of a kind that did not end well, newest first, down the index that days have of them."""
    table = results.table(kind)
    return (
        select(*_shown_columns(kind))
        .where(table.c.status != probe_pb2.STATUS_OK, *_within(table))
        .order_by(table.c.scheduled_at.desc())
    )


def _lately(session: Session, age: dt.timedelta) -> dict[str, Any]:
    """Return the time just past, so long, by the database's clock: nothing is due in it from a clock that runs ahead.

    Instants that are known when a statement is planned leave days out of it, which to plan would cost more than to read.
    """
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    return {"after": now - age, "until": now}


def _within(table: Table) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """The conditions that a run was due in a span, which is given to the statement as `_lately` returns it."""
    return table.c.scheduled_at > bindparam("after"), table.c.scheduled_at <= bindparam("until")


def _with_names(run: FromClause) -> Select[Any]:
    """Jobs with the names of what they belong to, and the columns of `run`, which is still to be joined."""
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
        .where(Test.deleted_at.is_(None))
    )


def _records(session: Session, query: Select[Any], values: Mapping[str, Any]) -> Iterator[RunRecord]:
    for row in session.execute(query, values):
        yield RunRecord(
            kind=row.kind,
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
