"""Reads metrics of repeated groups: hops, interfaces, classes of traffic. Every row of a group is a line of its own.

All rows of a group share the instants of their runs, or buckets, so a run that lacks a row is seen as such. Rows are
found in results and roll-ups alike: what results no longer know is still shown.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.planning.gaps import Gap
from controller.store import results
from controller.store.queries import charts, figures
from controller.store.queries.figures import Figures
from controller.store.queries.results import (
    MAX_POINTS,
    Line,
    Plan,
    Run,
    Series,
    bucket_width,
    gaps_of_buckets,
    gaps_of_runs,
    point_of,
    with_gaps,
)
from controller.store.queries.results.series import within
from controller.store.rollups import FAST_S, HOUR, Source
from streamswarm.v1 import probe_pb2

#: Rows of results that are read for one chart; where there are more, the hours serve: a sweep has a thousand rows a run.
MOST_ROWS = 500_000
#: Keys of a group that are listed: more than any result has rows.
MOST_KEYS = 5_000
#: Runs that say which rows a group has at present: paths change for a run or two.
LATELY = 10
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of a repeated group of one line; all tuples but `gaps` have the length of `at`."""

    #: Width of the buckets; None when every point is a run.
    bucket: dt.timedelta | None
    #: When the run was due, or where its bucket begins.
    at: tuple[dt.datetime, ...]
    #: How many runs of each point did not end well, by how.
    failed: tuple[int, ...]
    error: tuple[int, ...]
    missed: tuple[int, ...]
    #: By key and the metric's name; None where no run of the point had the row.
    rows: Mapping[str, Mapping[str, tuple[Figures | None, ...]]]
    #: Where the line has no runs, and why.
    gaps: tuple[Gap, ...]


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of a group, up to the most that are listed."""

    names: tuple[str, ...]
    #: Whether there are others: no sound worker has so many.
    more: bool


def keys(session: Session, line: Line, child: str, *, start: dt.datetime, end: dt.datetime) -> Keys:
    """Return the keys that a line's group had in runs due in [start, end), numbers in them by their size.

    KeyError when the kind has no such group.
    """
    results.child_table(line.kind, child)
    source = Source(kind=line.kind, child=child)
    found = figures.keys(session, source, line.job_ids, start=start, end=end, most=MOST_KEYS + 1)
    return Keys(names=tuple(sorted(found[:MOST_KEYS], key=_natural)), more=len(found) > MOST_KEYS)


def has_key(
    session: Session, line: Line, child: str, key: str, *, start: dt.datetime, end: dt.datetime
) -> bool:
    """Whether a line's group had this key in any run due in [start, end), however many others it had."""
    source = Source(kind=line.kind, child=child)
    return bool(figures.keys(session, source, line.job_ids, start=start, end=end, most=1, only=[key]))


def keys_lately(session: Session, line: Line, child: str) -> frozenset[str]:
    """Return the keys that any of the newest runs of a line with rows of a group had: others have left it.

    KeyError when the kind has no such group.
    """
    table = results.child_table(line.kind, child)
    of_line = table.c.job_id.in_(line.job_ids)
    newest = select(table.c.scheduled_at).where(of_line).distinct()
    newest = newest.order_by(table.c.scheduled_at.desc()).limit(LATELY)
    found = select(table.c.key).where(of_line, table.c.scheduled_at.in_(newest)).distinct()
    return frozenset(session.execute(found).scalars())


def bucket_for(
    session: Session,
    line: Line,
    plan: Plan,
    count: int,
    *,
    start: dt.datetime,
    end: dt.datetime,
    points: int = MAX_POINTS,
) -> dt.timedelta | None:
    """Return the width of the buckets in which a group of so many rows is shown; None when runs are few enough."""
    bucket = charts.bucket_for(session, {line: plan}, start=start, end=end, points=points)
    if bucket is None or bucket >= HOUR.width:
        return bucket
    # What runs more often has a layer of five minutes.
    return HOUR.width if plan.due(slower_than_s=FAST_S) * count > MOST_ROWS else bucket


def read(
    session: Session,
    line: Line,
    plan: Plan,
    child: str,
    metrics: Sequence[str],
    wanted: Collection[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    bucket: dt.timedelta | None,
    percentiles: bool = False,
    most: int = MAX_POINTS * 2,
) -> Group:
    """Return metrics of these rows over [start, end): runs when `bucket` is None, at most the newest `most`; else buckets.

    KeyError when the kind has no such group, or the group no such metric.
    """
    results.child_table(line.kind, child)
    source = Source(kind=line.kind, child=child)
    if bucket is None:
        return _runs(session, line, plan, source, metrics, wanted, start=start, end=end, most=most)
    span: dict[str, Any] = {"start": start, "end": end, "width": bucket}
    own = figures.buckets(session, Source(kind=line.kind, child=None), [], line.job_ids, **span)
    found = figures.buckets_by_key(
        session, source, metrics, line.job_ids, wanted, **span, percentiles=percentiles
    )
    rows = {}
    for key in wanted:
        by_start = {each.start: each.figures for each in found.get(key, ())}
        rows[key] = {
            name: tuple(by_start[each.start][name] if each.start in by_start else None for each in own)
            for name in metrics
        }
    return Group(
        bucket=bucket,
        at=tuple(each.start for each in own),
        failed=tuple(each.failed for each in own),
        error=tuple(each.error for each in own),
        missed=tuple(each.missed for each in own),
        rows=rows,
        gaps=gaps_of_buckets(session, plan, [each.start for each in own], bucket),
    )


def child_series(
    session: Session,
    line: Line,
    plan: Plan,
    child: str,
    metric: str,
    wanted: Collection[str],
    *,
    group_size: int,
    start: dt.datetime,
    end: dt.datetime,
    points: int = MAX_POINTS,
) -> tuple[Series, ...]:
    """Return a metric of these rows over [start, end) as `results.series` does for a kind's own, one for every key.

    `group_size` is how many rows the group has in all: whoever wants some reads past the others.
    """
    bucket = bucket_for(session, line, plan, group_size, start=start, end=end, points=points)
    made = _series(session, line, plan, child, metric, wanted, start=start, end=end, bucket=bucket)
    if bucket is None and any(len(each.points) > points for each in made):
        bucket = bucket_width(end - start, points=points, interval_s=plan.pace_s)
        made = _series(session, line, plan, child, metric, wanted, start=start, end=end, bucket=bucket)
    return made


def _series(
    session: Session,
    line: Line,
    plan: Plan,
    child: str,
    metric: str,
    wanted: Collection[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    bucket: dt.timedelta | None,
) -> tuple[Series, ...]:
    group = read(
        session, line, plan, child, [metric], wanted, start=start, end=end, bucket=bucket, percentiles=True
    )
    made = []
    for key, row in group.rows.items():
        bare = [point_of(at, measured) for at, measured in zip(group.at, row[metric], strict=True)]
        made.append(
            Series(
                kind=line.kind,
                metric=metric,
                key=key,
                bucket_s=bucket.total_seconds() if bucket else None,
                points=with_gaps(bare, group.gaps, bucket),
            )
        )
    return tuple(made)


def _runs(
    session: Session,
    line: Line,
    plan: Plan,
    source: Source,
    metrics: Sequence[str],
    wanted: Collection[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    most: int,
) -> Group:
    own = results.table(line.kind)
    newest = (
        select(own.c.job_id, own.c.job_version, own.c.scheduled_at, own.c.status)
        .where(*within(own, line.job_ids, start, end))
        .order_by(own.c.scheduled_at.desc())
        .limit(most)
    )
    runs = list(reversed(session.execute(newest).all()))
    table = results.described(source.table)
    rows = session.execute(
        select(
            table.c.job_id,
            table.c.scheduled_at,
            table.c.key,
            *(figures.as_number(table.c[figures.column_of(source, name).name]) for name in metrics),
        ).where(
            *within(table, line.job_ids, runs[0].scheduled_at if runs else end, end),
            table.c.key.in_(wanted),
        )
    )
    measured = {(job, at, key): values for job, at, key, *values in rows}

    def of_run(run: Any, key: str, number: int) -> Figures | None:
        values = measured.get((run.job_id, run.scheduled_at, key))
        return None if values is None else _figures(values[number])

    return Group(
        bucket=None,
        at=tuple(run.scheduled_at for run in runs),
        failed=tuple(int(run.status == probe_pb2.STATUS_FAILED) for run in runs),
        error=tuple(int(run.status == probe_pb2.STATUS_ERROR) for run in runs),
        missed=tuple(int(run.status == probe_pb2.STATUS_MISSED) for run in runs),
        rows={
            key: {
                name: tuple(of_run(run, key, number) for run in runs) for number, name in enumerate(metrics)
            }
            for key in wanted
        },
        gaps=gaps_of_runs(
            session,
            plan if len(runs) < most else replace(plan, start=runs[0].scheduled_at),
            [Run(job_id=run.job_id, version=run.job_version, at=run.scheduled_at) for run in runs],
        ),
    )


def _figures(value: float | None) -> Figures:
    return Figures(count=0 if value is None else 1, mean=value, min=value, max=value)


def _natural(key: str) -> tuple[Any, ...]:
    """Return what keys are sorted by: text and numbers in turn, `eth2` before `eth10`."""
    return tuple(int(part) if number % 2 else part for number, part in enumerate(_DIGITS.split(key)))
