"""What happened to a test's lines that is no failure, such as a path that changed: the events that its kind declares.

A metric with `event` in the contract tells of one. Where a kind has a boolean for it, a run's own word counts and nothing else:
who measured knows what only seems to differ, such as a path with a silent hop. Without one a number tells, when it is another
one than in the job's run before with the same parameters. Runs without a value say nothing: what was not measured has not
changed.

Events are few among many runs, so those of a boolean are looked for by the roll-ups: results are read only in hours that have
some, and where nothing is rolled up yet. Where results have expired the roll-ups themselves tell, in which hour or day and
how often. A number's are looked for among the results, which end with their retention.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, Table, and_, func, literal, null, select, tuple_, union
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.entities import Destination, DirtyBucket, Job, Worker
from controller.store.queries import layers
from controller.store.queries.paging import Page, decode_cursor, encode_cursor
from controller.store.rollups import DAY, HOUR, Layer, Source
from streamswarm import contract
from streamswarm.contract import Metric

#: Events of one answer; of more the newest are told.
MOST_EVENTS = 500
#: How far before a range the run is looked for that its first one is compared with.
_BEFORE = dt.timedelta(days=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One event of one job, or where its results have expired, those of an hour or a day."""

    #: What happened, as the contract names it.
    event: str
    #: When the run was due that saw it; with `within_s`, when the time began in which it was.
    scheduled_at: dt.datetime
    job_id: int
    worker_id: uuid.UUID
    worker: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination: str | None
    #: The metric that has another value than before; None for an event that no number stands for.
    metric: str | None
    #: Its value in the run before, where that is known, and in this one.
    before: int | None
    after: int | None
    #: Seconds within which it happened, where its results have expired; None where the instant is known.
    within_s: int | None
    #: How often it happened within that time; 1 where the instant is known.
    count: int


@dataclass(frozen=True, kw_only=True)
class Events(Page[EventRecord]):
    """The events of a range, the newest first."""

    @property
    def complete_from(self) -> dt.datetime | None:
        """From when on these are all; None when they are all of the range."""
        return None if self.next_cursor is None else self.items[-1].scheduled_at


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What is looked for."""

    kind: str
    event: str
    flag: Metric | None
    number: Metric | None
    conditions: Sequence[ColumnElement[bool]]
    start: dt.datetime
    end: dt.datetime
    #: Instant and job of the last event that was told; None at the beginning.
    after: tuple[dt.datetime, int] | None
    limit: int

    @property
    def until(self) -> dt.datetime:
        """No event after this instant is wanted; one microsecond later it ends."""
        return self.end if self.after is None else min(self.end, self.after[0] + _MICROSECOND)

    def rest(self, at: ColumnElement[Any], job: ColumnElement[Any]) -> list[ColumnElement[bool]]:
        """Return what leaves out those that were told."""
        return [] if self.after is None else [tuple_(at, job) < tuple_(*map(literal, self.after))]


def find(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
    cursor: str | None = None,
    limit: int = MOST_EVENTS,
) -> Events:
    """Return the events of runs that were due in [start, end), the newest first, so many at most.

    Raises InvalidInputError for a cursor that is none of ours.
    """
    after: tuple[dt.datetime, int] | None = None
    if cursor is not None:
        microseconds, job_id = decode_cursor(cursor, int, int)
        after = _EPOCH + dt.timedelta(microseconds=microseconds), job_id
    conditions = [
        Job.test_id == test_id,
        Job.kind == kind,
        *([Job.worker_id == worker] if worker is not None else []),
        *([Job.destination_id == destination] if destination is not None else []),
    ]
    found: list[EventRecord] = []
    for name, metrics in contract.kind(kind).events.items():
        found += _of(
            session,
            _Asked(
                kind=kind,
                event=name,
                flag=next((metric for metric in metrics if metric.type == "boolean"), None),
                number=next((metric for metric in metrics if metric.type == "integer"), None),
                conditions=conditions,
                start=start,
                end=end,
                after=after,
                limit=limit + 1,
            ),
        )
    found.sort(key=_key, reverse=True)
    told = found[:limit]
    if len(found) > limit:
        # Several events of one run are not torn apart.
        told += [event for event in found[limit:] if _key(event) == _key(told[-1])]
    more = len(found) > len(told)
    return Events(items=tuple(told), next_cursor=_cursor(told[-1]) if more else None)


def _key(event: EventRecord) -> tuple[dt.datetime, int]:
    return event.scheduled_at, event.job_id


def _cursor(event: EventRecord) -> str:
    return encode_cursor((event.scheduled_at - _EPOCH) // _MICROSECOND, event.job_id)


def _of(session: Session, asked: _Asked) -> list[EventRecord]:
    rows = list(_told(session, asked) if asked.flag is not None else _differing(session, asked))
    query = (
        select(
            Job.id,
            Job.worker_id,
            Job.destination_id,
            Worker.name.label("worker"),
            Destination.name.label("destination"),
        )
        .join(Worker, Worker.id == Job.worker_id)
        .outerjoin(Destination, Destination.id == Job.destination_id)
        .where(Job.id.in_({row["job_id"] for row in rows}))
    )
    jobs = {job["id"]: job for job in session.execute(query).mappings()} if rows else {}
    return [
        EventRecord(
            event=asked.event,
            worker_id=jobs[row["job_id"]]["worker_id"],
            worker=jobs[row["job_id"]]["worker"],
            destination_id=jobs[row["job_id"]]["destination_id"],
            destination=jobs[row["job_id"]]["destination"],
            metric=asked.number.name if asked.number else None,
            **row,
        )
        for row in rows
    ]


def _told(session: Session, asked: _Asked) -> Iterator[dict[str, Any]]:
    """Yield what runs said themselves: those not rolled up yet, those in hours that have some, and what roll-ups keep."""
    standing = layers.standing_of(session, asked.kind)
    kept = max(asked.start, standing.gone_before.get("raw", asked.start))
    hours_kept = max(asked.start, standing.gone_before.get(HOUR.name, asked.start))
    # The hour in which the range ends is read as it is: it may have events behind the end.
    rolled = min(standing.done_until.get(HOUR.name, kept), rollups.floor(asked.until, HOUR.width))
    yield from _runs(session, asked, max(kept, rolled), asked.until)
    if kept < rolled:
        yield from _runs(session, asked, kept, rolled, within=_hours(session, asked, kept, rolled))
    if asked.start < kept:
        yield from _buckets(session, asked, HOUR, hours_kept, min(kept, asked.until))
    if asked.start < hours_kept:
        yield from _buckets(session, asked, DAY, asked.start, min(hours_kept, asked.until))


def _runs(
    session: Session,
    asked: _Asked,
    start: dt.datetime,
    end: dt.datetime,
    *,
    within: Subquery | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the newest runs in [start, end) that say so, each with the number of the run before it."""
    if start >= end:
        return
    table = results.table(asked.kind)
    number = null() if asked.number is None else table.c[_column(asked, asked.number)]
    query = (
        select(
            table.c.job_id, table.c.scheduled_at, number.label("after"), _before(asked, table).label("before")
        )
        .join(Job, Job.id == table.c.job_id)
        .where(
            *asked.conditions,
            table.c.scheduled_at >= start,
            table.c.scheduled_at < end,
            table.c[_column(asked, asked.flag)],
            *asked.rest(table.c.scheduled_at, table.c.job_id),
        )
        .order_by(table.c.scheduled_at.desc(), table.c.job_id.desc())
        .limit(asked.limit)
    )
    if within is not None:
        query = query.join(
            within,
            and_(
                within.c.job_id == table.c.job_id,
                table.c.scheduled_at >= within.c.bucket,
                table.c.scheduled_at < within.c.bucket + HOUR.width,
            ),
        )
    for row in session.execute(query).mappings():
        yield {**row, "within_s": None, "count": 1}


def _hours(session: Session, asked: _Asked, start: dt.datetime, end: dt.datetime) -> Subquery:
    """Return the newest hours of jobs that have events, and those whose late results are not rolled up yet."""
    table, total = _rolled_up(asked, HOUR)
    first = rollups.floor(start, HOUR.width)
    having = (
        select(table.c.job_id, table.c.bucket)
        .join(Job, Job.id == table.c.job_id)
        .where(*asked.conditions, table.c.bucket >= first, table.c.bucket < end, total > 0)
        .order_by(table.c.bucket.desc())
        # Each has one event at least.
        .limit(asked.limit)
    )
    late = (
        select(
            DirtyBucket.job_id, func.date_bin(HOUR.width, DirtyBucket.bucket, rollups.EPOCH).label("bucket")
        )
        .join(Job, Job.id == DirtyBucket.job_id)
        .where(
            *asked.conditions,
            DirtyBucket.kind == asked.kind,
            DirtyBucket.bucket >= first,
            DirtyBucket.bucket < end,
        )
    )
    return union(having.subquery().select(), late).subquery("hours")


def _buckets(
    session: Session, asked: _Asked, of: Layer, start: dt.datetime, end: dt.datetime
) -> Iterator[dict[str, Any]]:
    """Yield what roll-ups say of a time whose results have expired, the newest first."""
    if start >= end:
        return
    table, total = _rolled_up(asked, of)
    query = (
        select(table.c.job_id, table.c.bucket, total)
        .join(Job, Job.id == table.c.job_id)
        .where(
            *asked.conditions,
            table.c.bucket >= rollups.floor(start, of.width),
            table.c.bucket < end,
            total > 0,
            *asked.rest(table.c.bucket, table.c.job_id),
        )
        .order_by(table.c.bucket.desc(), table.c.job_id.desc())
        .limit(asked.limit)
    )
    for job_id, bucket, count in session.execute(query):
        yield {
            "job_id": job_id,
            "scheduled_at": bucket,
            "before": None,
            "after": None,
            "within_s": round(of.width.total_seconds()),
            "count": round(count),
        }


def _rolled_up(asked: _Asked, of: Layer) -> tuple[Table, ColumnElement[Any]]:
    """Return a layer's table, and its column that counts the runs which said so."""
    table = rollups.table(Source(kind=asked.kind, child=None), of)
    return table, table.c[f"{_column(asked, asked.flag)}_sum"]


def _column(asked: _Asked, metric: Metric | None) -> str:
    if metric is None:
        raise ValueError(f"the event {asked.event} has no such metric")
    return results.metric_column(asked.kind, metric.name).name


def _before(asked: _Asked, table: Table) -> ColumnElement[Any]:
    """Return the number of the run before a table's run, of the same job."""
    if asked.number is None:
        return null()
    earlier = table.alias("earlier")
    number = earlier.c[_column(asked, asked.number)]
    return (
        select(number)
        .where(
            earlier.c.job_id == table.c.job_id,
            earlier.c.scheduled_at < table.c.scheduled_at,
            earlier.c.scheduled_at >= table.c.scheduled_at - _BEFORE,
            number.is_not(None),
        )
        .order_by(earlier.c.scheduled_at.desc())
        .limit(1)
        .correlate(table)
        .scalar_subquery()
    )


def _differing(session: Session, asked: _Asked) -> Iterator[dict[str, Any]]:
    """Yield the runs whose number is another one than in the run before, of the same version of the job."""
    table = results.table(asked.kind)
    number = table.c[_column(asked, asked.number)]
    before = func.lag(number).over(
        partition_by=(table.c.job_id, table.c.job_version), order_by=table.c.scheduled_at
    )
    runs = (
        select(table.c.job_id, table.c.scheduled_at, number.label("after"), before.label("before"))
        .join(Job, Job.id == table.c.job_id)
        .where(
            *asked.conditions,
            table.c.scheduled_at >= asked.start - _BEFORE,
            table.c.scheduled_at < asked.until,
            number.is_not(None),
        )
        .subquery("each")
    )
    query = (
        select(runs)
        .where(
            runs.c.scheduled_at >= asked.start,
            func.coalesce(runs.c.after != runs.c.before, False),
            *asked.rest(runs.c.scheduled_at, runs.c.job_id),
        )
        .order_by(runs.c.scheduled_at.desc(), runs.c.job_id.desc())
        .limit(asked.limit)
    )
    for row in session.execute(query).mappings():
        yield {**row, "within_s": None, "count": 1}
