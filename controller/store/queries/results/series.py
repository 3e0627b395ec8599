"""Series of a metric for charts: runs as they are, or buckets, from roll-ups where they serve.

What was not measured stays missing: a series has an empty point where runs are missing, and never a value for them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Connection, Double, Integer, Table, cast, select
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.queries import layers
from controller.store.rollups import Source

MAX_POINTS = 500
#: Widths of buckets, seconds; people can name each of them.
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
#: Runs further apart than so many intervals have a gap between them.
_GAP = 1.5


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
    #: Percentiles of a bucket, where the metric has a distribution; from roll-ups they are off by 1 % at the most.
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


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
    conditions = within(table, job_ids, start, end)
    wanted = _Wanted(source=Source(kind=kind, child=None), metric=metric, key=None, job_ids=job_ids)
    bucket_s, found = _points(connection, wanted, column, conditions, (start, end), interval_s, points)
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
    conditions = within(table, job_ids, start, end)
    keys = connection.execute(select(table.c.key).where(*conditions).distinct().order_by(table.c.key))
    made = []
    for key in keys.scalars().all():
        bucket_s, found = _points(
            connection,
            _Wanted(source=Source(kind=kind, child=child), metric=metric, key=key, job_ids=job_ids),
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


@dataclass(frozen=True, kw_only=True)
class _Wanted:
    """What a series is of."""

    source: Source
    metric: str
    key: str | None
    job_ids: Collection[int]


def _points(
    connection: Connection | Session,
    wanted: _Wanted,
    column: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]],
    span: tuple[dt.datetime, dt.datetime],
    interval_s: float | None,
    points: int,
) -> tuple[float | None, tuple[Point, ...]]:
    table = results.described(wanted.source.table)
    value = cast(cast(column, Integer) if isinstance(column.type, Boolean) else column, Double)
    narrowest = layers.narrowest(connection, wanted.source.kind, span[0])
    if narrowest is None:
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
    width = max(width, narrowest or width)
    found = layers.buckets(
        connection,
        wanted.source,
        [wanted.metric],
        wanted.job_ids,
        start=span[0],
        end=span[1],
        width=width,
        key=wanted.key,
        percentiles=True,
    )
    return width.total_seconds(), tuple(
        _with_empty_buckets([_point(bucket, wanted.metric) for bucket in found], width)
    )


def _point(bucket: layers.Bucket, metric: str) -> Point:
    figures = bucket.figures[metric]
    p50, p95, p99 = figures.percentiles or (None, None, None)
    return Point(
        at=bucket.start,
        value=figures.mean,
        min=figures.min,
        max=figures.max,
        count=figures.count,
        p50=p50,
        p95=p95,
        p99=p99,
    )


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


def within(
    table: Table, job_ids: Collection[int], start: dt.datetime, end: dt.datetime
) -> list[ColumnElement[bool]]:
    """Return the conditions for runs of these jobs that were due in [start, end)."""
    return [table.c.job_id.in_(job_ids), table.c.scheduled_at >= start, table.c.scheduled_at < end]
