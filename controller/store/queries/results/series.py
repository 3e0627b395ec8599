"""Series of a metric for charts: runs as they are, or buckets, from roll-ups where they serve.

What was not measured stays missing: a series has an empty point where there was no run, with the reason, and never a value for it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Table, select
from sqlalchemy.orm import Session

from controller.planning.gaps import Gap, Reason
from controller.store import results, rollups
from controller.store.queries import figures, layers
from controller.store.queries.figures import Figures
from controller.store.queries.results.gaps import Plan, Run, gaps_of_buckets, gaps_of_runs
from controller.store.rollups import Source
from streamswarm.zones import from_microseconds

MAX_POINTS = 500
#: Ranges up to this are looked through for single runs. In longer ones 500 points lie a day apart or more, whatever ran, and a
#: table may have thousands of days.
_RUNS_WITHIN = dt.timedelta(days=400)
#: Widths of buckets, seconds; people can name each of them.
_WIDTHS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


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
    #: Where there was no run: `missing` when runs were due and none came, `rest` when none was due (a night, a pause),
    #: `unknown` when the schedule of that time is not known any more. None for a run, or runs, whatever was measured.
    gap: Reason | None = None
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
    plan: Plan | None = None,
    points: int = MAX_POINTS,
) -> Series:
    """Return a metric of a line over [start, end): runs as they are, or buckets when there are more than `points`.

    With `plan`, what was due of the line in that range, an empty point stands wherever there is no run for longer than
    from one to the next. KeyError when the kind has no such metric.
    """
    table = results.table(kind)
    column = table.c[results.metric_column(kind, metric).name]
    narrowest = layers.narrowest(connection, kind, start)
    if narrowest is None and may_show_runs(start, end):
        rows = connection.execute(
            select(table.c.job_id, table.c.job_version, table.c.scheduled_at, figures.as_number(column))
            .where(*within(table, job_ids, start, end))
            .order_by(table.c.scheduled_at)
            .limit(points + 1)
        ).all()
        if len(rows) <= points:
            runs = [Run(job_id=job, version=version, at=at) for job, version, at, _ in rows]
            gaps = gaps_of_runs(connection, plan, runs) if plan else ()
            raw = with_gaps([_run(at, measured) for _, _, at, measured in rows], gaps)
            if len(raw) <= points:
                return Series(kind=kind, metric=metric, key=None, bucket_s=None, points=raw)
    width = bucket_width(end - start, points=points, interval_s=plan.pace_s if plan else None)
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
    gaps = gaps_of_buckets(connection, plan, [each.start for each in found], width) if plan else ()
    buckets = with_gaps([point_of(each.start, each.figures[metric]) for each in found], gaps, width)
    return Series(kind=kind, metric=metric, key=None, bucket_s=width.total_seconds(), points=buckets)


def may_show_runs(start: dt.datetime, end: dt.datetime) -> bool:
    """Whether a range is so short that its runs may be shown one by one, if they are few enough."""
    return end - start <= _RUNS_WITHIN


def bucket_width(span: dt.timedelta, *, points: int, interval_s: float | None) -> dt.timedelta:
    """Return the width of buckets with which a span has at most `points` of them, none narrower than the least interval."""
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


def with_gaps(
    points: Sequence[Point], gaps: Iterable[Gap], width: dt.timedelta | None = None
) -> tuple[Point, ...]:
    """Put an empty point at the beginning of each gap between runs, and for each bucket of this width that a gap has."""
    there = {point.at for point in points}
    empty: dict[dt.datetime, Point] = {}
    for gap in gaps:
        at = from_microseconds(gap.start_us)
        if width is None:
            empty[at] = _empty(at, gap.reason)
            continue
        at, end = rollups.floor(at, width), from_microseconds(gap.end_us)
        while at < end:
            # What lacks goes before a rest in the same bucket.
            if at not in there and (at not in empty or gap.reason == "missing"):
                empty[at] = _empty(at, gap.reason)
            at += width
    return tuple(sorted([*points, *empty.values()], key=lambda point: point.at))


def _empty(at: dt.datetime, reason: Reason) -> Point:
    return Point(at=at, value=None, min=None, max=None, count=0, gap=reason)


def _run(at: dt.datetime, value: float | None) -> Point:
    return Point(at=at, value=value, min=value, max=value, count=0 if value is None else 1)


def within(
    table: Table, job_ids: Collection[int], start: dt.datetime, end: dt.datetime
) -> list[ColumnElement[bool]]:
    """Return the conditions for runs of these jobs that were due in [start, end)."""
    return [table.c.job_id.in_(job_ids), table.c.scheduled_at >= start, table.c.scheduled_at < end]
