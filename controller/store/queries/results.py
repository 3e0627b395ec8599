"""Reads results: the latest of each job, series for charts, recent runs, counts by status.

Names of kinds and metrics are looked up in the contract before they come near SQL. What was not measured stays
missing: a series has an empty point where runs are missing, and never a value for them.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Integer,
    Table,
    cast,
    func,
    literal,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Worker
from streamswarm.v1 import probe_pb2

MAX_POINTS = 500
_EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
#: Widths of buckets, seconds; people can name each of them.
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
#: Runs further apart than so many intervals have a gap between them.
_GAP = 1.5


@dataclass(frozen=True, kw_only=True)
class Line:
    """One test from one worker to one destination: a line on a chart.

    "Run now" makes jobs of its own; their results belong to the same line.
    """

    test_id: int
    kind: str
    worker_id: uuid.UUID
    worker_name: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination_name: str
    #: The newest job's target.
    target: str
    #: Seconds between runs; None when there are only one-shot jobs.
    interval_s: float | None
    #: Whether a scheduled job is planned at present.
    live: bool
    job_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One run."""

    job_id: int
    job_version: int
    scheduled_at: dt.datetime
    started_at: dt.datetime
    duration_ms: float
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    #: `none`, `target`, `network`, `resolver`, `policy`, `vantage`, `schedule` or `internal`.
    failure_source: str
    error: str
    clock_offset_ms: float | None
    #: Metrics by name; None is "not measured".
    metrics: Mapping[str, float | int | bool | None]
    detail: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """A line with its latest run."""

    line: Line
    #: None before the first.
    result: ResultRecord | None


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a series: a run, or the runs of one bucket."""

    #: When the run was due, or where the bucket begins.
    at: dt.datetime
    #: The value, or the mean of the bucket's values; None where nothing was measured.
    value: float | None
    min: float | None
    max: float | None
    #: Values in it: 0 where nothing was measured.
    count: int


@dataclass(frozen=True, kw_only=True)
class Series:
    """One metric over a range of time."""

    kind: str
    metric: str
    #: Key of the child row (interface, disk), where the metric is one of a repeated group.
    key: str | None
    #: Width of the buckets, seconds; None when every point is a run.
    bucket_s: float | None
    points: tuple[Point, ...]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many runs ended how."""

    ok: int = 0
    failed: int = 0
    error: int = 0
    missed: int = 0

    @property
    def total(self) -> int:
        """All runs, missed ones included."""
        return self.ok + self.failed + self.error + self.missed


def lines(
    connection: Connection | Session,
    *,
    test_ids: Collection[int] | None = None,
    worker_id: uuid.UUID | None = None,
    retired: bool = False,
) -> tuple[Line, ...]:
    """Return lines by test, worker and destination name: of these tests, of one worker, or all.

    Lines that are no longer planned come only when `retired` is set.
    """
    statement = (
        select(
            Job.id,
            Job.test_id,
            Job.kind,
            Job.worker_id,
            Worker.name.label("worker_name"),
            Job.destination_id,
            func.coalesce(Destination.name, "").label("destination_name"),
            Job.target,
            Job.interval_us,
            Job.one_shot,
            Job.retired_at,
        )
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .order_by(Job.test_id, Worker.name, func.coalesce(Destination.name, ""), Job.worker_id, Job.id)
    )
    if test_ids is not None:
        statement = statement.where(Job.test_id.in_(test_ids))
    if worker_id is not None:
        statement = statement.where(Job.worker_id == worker_id)
    groups: dict[tuple[int, uuid.UUID, int | None], list[Any]] = {}
    for row in connection.execute(statement):
        groups.setdefault((row.test_id, row.worker_id, row.destination_id), []).append(row)
    found = (_line(rows) for rows in groups.values())
    return tuple(line for line in found if retired or line.live or line.interval_s is None)


def latest(connection: Connection | Session, wanted: Iterable[Line]) -> tuple[LineResult, ...]:
    """Return each line with its latest run."""
    wanted = tuple(wanted)
    newest: dict[int, ResultRecord] = {}
    for kind, job_ids in _by_kind(wanted).items():
        newest.update(
            {
                record.job_id: record
                for record in _recent_each(connection, kind, job_ids, limit=1, before=None)
            }
        )
    answer = []
    for line in wanted:
        records = [newest[job_id] for job_id in line.job_ids if job_id in newest]
        result = max(records, key=lambda record: record.scheduled_at, default=None)
        answer.append(LineResult(line=line, result=result))
    return tuple(answer)


def recent(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    limit: int = 50,
    before: dt.datetime | None = None,
) -> tuple[ResultRecord, ...]:
    """Return the latest runs of these jobs, newest first; `before` is the instant up to which they were read."""
    found = _recent_each(connection, kind, job_ids, limit=limit, before=before)
    found.sort(key=lambda record: (record.scheduled_at, record.job_id), reverse=True)
    return tuple(found[:limit])


def counts(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> dict[int, Counts]:
    """Return how many runs due in [start, end) ended how, for every job asked for."""
    table = results.table(kind)
    found: dict[int, dict[str, int]] = {job_id: {} for job_id in job_ids}
    rows = connection.execute(
        select(table.c.job_id, table.c.status, func.count())
        .where(*_within(table, job_ids, start, end))
        .group_by(table.c.job_id, table.c.status)
    )
    for job_id, status, count in rows:
        found[job_id][_status(status)] = count
    return {job_id: Counts(**by_status) for job_id, by_status in found.items()}


def series(
    connection: Connection | Session,
    kind: str,
    metric: str,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    interval_s: float | None = None,
    points: int = MAX_POINTS,
) -> Series:
    """Return a metric of a line over [start, end): runs as they are, or buckets when there are more than `points`.

    With `interval_s`, the line's interval, an empty point stands wherever runs are missing. KeyError when the
    kind has no such metric.
    """
    table = results.table(kind)
    column = table.c[results.metric_column(kind, metric).name]
    conditions = _within(table, job_ids, start, end)
    bucket_s, found = _points(connection, table, column, conditions, (start, end), interval_s, points)
    return Series(kind=kind, metric=metric, key=None, bucket_s=bucket_s, points=found)


def child_series(
    connection: Connection | Session,
    kind: str,
    child: str,
    metric: str,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    interval_s: float | None = None,
    points: int = MAX_POINTS,
) -> tuple[Series, ...]:
    """Return a metric of a repeated group as `series` does, one for every key (interface, disk), by key."""
    table = results.child_table(kind, child)
    known = [column for column in results.child_columns(kind, child) if column.metric is not None]
    if metric not in [column.metric.name for column in known if column.metric is not None]:
        raise KeyError(f"`{metric}` is not a metric of `{kind}.{child}`")
    name = next(column.name for column in known if column.metric and column.metric.name == metric)
    conditions = _within(table, job_ids, start, end)
    keys = connection.execute(select(table.c.key).where(*conditions).distinct().order_by(table.c.key))
    made = []
    for key in keys.scalars().all():
        bucket_s, found = _points(
            connection,
            table,
            table.c[name],
            [*conditions, table.c.key == key],
            (start, end),
            interval_s,
            points,
        )
        made.append(Series(kind=kind, metric=metric, key=key, bucket_s=bucket_s, points=found))
    return tuple(made)


def bucket_width(span: dt.timedelta, *, points: int, interval_s: float | None) -> dt.timedelta:
    """Return the width of buckets with which a span has at most `points` of them, none narrower than an interval."""
    needed = max(span.total_seconds() / max(points - 1, 1), interval_s or 0)
    for width in _WIDTHS:
        if width >= needed:
            return dt.timedelta(seconds=width)
    days = -(-needed // 86_400)
    return dt.timedelta(days=days)


def _points(
    connection: Connection | Session,
    table: Table,
    column: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]],
    span: tuple[dt.datetime, dt.datetime],
    interval_s: float | None,
    points: int,
) -> tuple[float | None, tuple[Point, ...]]:
    value = cast(cast(column, Integer) if isinstance(column.type, Boolean) else column, Double)
    rows = connection.execute(
        select(table.c.scheduled_at, value)
        .where(*conditions)
        .order_by(table.c.scheduled_at)
        .limit(points + 1)
    ).all()
    if len(rows) <= points:
        raw = tuple(_with_gaps(rows, interval_s))
        if len(raw) <= points:
            return None, raw
    width = bucket_width(span[1] - span[0], points=points, interval_s=interval_s)
    begin = func.date_bin(cast(literal(width), INTERVAL), table.c.scheduled_at, literal(_EPOCH))
    found = connection.execute(
        select(begin, func.avg(value), func.min(value), func.max(value), func.count(value))
        .where(*conditions)
        .group_by(begin)
        .order_by(begin)
    )
    buckets = [
        Point(at=at, value=mean, min=low, max=high, count=count) for at, mean, low, high, count in found
    ]
    return width.total_seconds(), tuple(_with_empty_buckets(buckets, width))


def _with_gaps(rows: Sequence[Any], interval_s: float | None) -> Iterator[Point]:
    previous: dt.datetime | None = None
    for at, value in rows:
        if previous is not None and interval_s and (at - previous).total_seconds() > _GAP * interval_s:
            yield Point(
                at=previous + dt.timedelta(seconds=interval_s), value=None, min=None, max=None, count=0
            )
        yield Point(at=at, value=value, min=value, max=value, count=0 if value is None else 1)
        previous = at


def _with_empty_buckets(buckets: Iterable[Point], width: dt.timedelta) -> Iterator[Point]:
    expected: dt.datetime | None = None
    for bucket in buckets:
        while expected is not None and expected < bucket.at:
            yield Point(at=expected, value=None, min=None, max=None, count=0)
            expected += width
        yield bucket
        expected = bucket.at + width


def _recent_each(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    limit: int,
    before: dt.datetime | None,
) -> list[ResultRecord]:
    """Return the latest runs of every job, each found by its own walk down the key."""
    table = results.table(kind)
    walk = select(table).where(table.c.job_id == Job.id)
    if before is not None:
        walk = walk.where(table.c.scheduled_at < before)
    newest = walk.order_by(table.c.scheduled_at.desc()).limit(limit).lateral("newest")
    rows = connection.execute(select(newest).select_from(Job).join(newest, true()).where(Job.id.in_(job_ids)))
    named = [(column.metric.name, column.name) for column in results.columns(kind) if column.metric]
    return [
        ResultRecord(
            job_id=row["job_id"],
            job_version=row["job_version"],
            scheduled_at=row["scheduled_at"],
            started_at=row["started_at"],
            duration_ms=row["duration_ms"],
            status=_status(row["status"]),
            failure_source=_failure_source(row["failure_source"]),
            error=row["error"] or "",
            clock_offset_ms=row["clock_offset_ms"],
            metrics={metric: row[column] for metric, column in named},
            detail=row["detail"],
        )
        for row in rows.mappings()
    ]


def _within(
    table: Table, job_ids: Collection[int], start: dt.datetime, end: dt.datetime
) -> list[ColumnElement[bool]]:
    return [table.c.job_id.in_(job_ids), table.c.scheduled_at >= start, table.c.scheduled_at < end]


def _by_kind(wanted: Iterable[Line]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for line in wanted:
        if line.kind in results.kinds():
            kinds.setdefault(line.kind, []).extend(line.job_ids)
    return kinds


def _line(rows: Sequence[Any]) -> Line:
    scheduled = [row for row in rows if not row.one_shot]
    live = [row for row in scheduled if row.retired_at is None]
    shown = (live or scheduled or rows)[-1]
    return Line(
        test_id=shown.test_id,
        kind=shown.kind,
        worker_id=shown.worker_id,
        worker_name=shown.worker_name,
        destination_id=shown.destination_id,
        destination_name=shown.destination_name,
        target=shown.target,
        interval_s=None if shown.one_shot else shown.interval_us / 1_000_000,
        live=bool(live),
        job_ids=tuple(row.id for row in rows if row.kind == shown.kind),
    )


def _status(number: int) -> str:
    return probe_pb2.Status.Name(number).removeprefix("STATUS_").lower()


def _failure_source(number: int) -> str:
    return probe_pb2.FailureSource.Name(number).removeprefix("FAILURE_SOURCE_").lower()
