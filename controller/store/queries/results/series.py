"""Series of a metric for charts: runs as they are, or buckets, from roll-ups where they serve.

What was not measured stays missing: a series has an empty point where runs are missing, and never a value for them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, select
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.queries import figures, layers
from controller.store.queries.figures import Figures
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
    narrowest = layers.narrowest(connection, kind, start)
    if narrowest is None:
        rows = connection.execute(
            select(table.c.scheduled_at, figures.as_number(column))
            .where(*within(table, job_ids, start, end))
            .order_by(table.c.scheduled_at)
            .limit(points + 1)
        ).all()
        if len(rows) <= points:
            raw = tuple(with_empty_runs((_run(at, measured) for at, measured in rows), interval_s))
            if len(raw) <= points:
                return Series(kind=kind, metric=metric, key=None, bucket_s=None, points=raw)
    width = bucket_width(end - start, points=points, interval_s=interval_s)
    width = max(width, narrowest or width)
    found = figures.buckets(
        connection,
        Source(kind=kind, child=None),
        [metric],
        job_ids,
        start=start,
        end=end,
        width=width,
        percentiles=True,
        counts=False,
    )
    buckets = tuple(with_empty_buckets((point_of(each.start, each.figures[metric]) for each in found), width))
    return Series(kind=kind, metric=metric, key=None, bucket_s=width.total_seconds(), points=buckets)


def bucket_width(span: dt.timedelta, *, points: int, interval_s: float | None) -> dt.timedelta:
    """Return the width of buckets with which a span has at most `points` of them, none narrower than an interval."""
    needed = max(span.total_seconds() / max(points - 1, 1), interval_s or 0)
    for width in _WIDTHS:
        if width >= needed:
            return dt.timedelta(seconds=width)
    days = -(-needed // 86_400)
    return dt.timedelta(days=days)


def point_of(at: dt.datetime, measured: Figures | None) -> Point:
    """Return the point of a run or a bucket; an empty one where there are no figures."""
    if measured is None:
        return Point(at=at, value=None, min=None, max=None, count=0)
    p50, p95, p99 = measured.percentiles or (None, None, None)
    return Point(
        at=at,
        value=measured.mean,
        min=measured.min,
        max=measured.max,
        count=measured.count,
        p50=p50,
        p95=p95,
        p99=p99,
    )


def with_empty_runs(points: Iterable[Point], interval_s: float | None) -> Iterator[Point]:
    """Put an empty point wherever runs of a line with this interval are missing between points, which are runs."""
    previous: dt.datetime | None = None
    for point in points:
        if previous is not None and interval_s and (point.at - previous).total_seconds() > _GAP * interval_s:
            yield point_of(previous + dt.timedelta(seconds=interval_s), None)
        yield point
        previous = point.at


def with_empty_buckets(points: Iterable[Point], width: dt.timedelta) -> Iterator[Point]:
    """Put an empty point for every bucket that is missing between points, which are buckets."""
    expected: dt.datetime | None = None
    for point in points:
        while expected is not None and expected < point.at:
            yield point_of(expected, None)
            expected += width
        yield point
        expected = point.at + width


def _run(at: dt.datetime, value: float | None) -> Point:
    return Point(at=at, value=value, min=value, max=value, count=0 if value is None else 1)


def within(
    table: Table, job_ids: Collection[int], start: dt.datetime, end: dt.datetime
) -> list[ColumnElement[bool]]:
    """Return the conditions for runs of these jobs that were due in [start, end)."""
    return [table.c.job_id.in_(job_ids), table.c.scheduled_at >= start, table.c.scheduled_at < end]
