"""Reads what one chart board shows: several metrics of a line and how its runs ended, in one pass over the rows.

Up to so many runs come as they are; more come in buckets with mean, minimum and maximum, from roll-ups where they serve. What was not measured is
None, and instants without a run are simply not there; gaps tell where that breaks the line, and whether runs were due.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Integer, cast, func, select
from sqlalchemy.orm import Session

from controller.planning.gaps import Gap
from controller.store import results
from controller.store.queries import figures, layers
from controller.store.queries.figures import Bucket
from controller.store.queries.results import (
    MAX_POINTS,
    Line,
    Plan,
    Run,
    bucket_width,
    gaps_of_buckets,
    gaps_of_runs,
)
from controller.store.queries.results.series import may_show_runs, within
from controller.store.rollups import Source
from streamswarm.v1 import probe_pb2


@dataclass(frozen=True, kw_only=True)
class Band:
    """One metric: its values, and in buckets their extremes too."""

    mean: tuple[float | None, ...]
    #: Empty when every point is a run.
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """The points of one line; all tuples but `gaps` have the length of `at`."""

    line: Line
    #: When the run was due, or the middle of its bucket.
    at: tuple[dt.datetime, ...]
    #: How many runs of each point did not end well, by how.
    failed: tuple[int, ...]
    error: tuple[int, ...]
    missed: tuple[int, ...]
    #: By the metric's name.
    bands: dict[str, Band]
    #: Where it has no runs, and why.
    gaps: tuple[Gap, ...]


def bucket_for(
    session: Session,
    plans: Mapping[Line, Plan],
    *,
    start: dt.datetime,
    end: dt.datetime,
    points: int = MAX_POINTS,
) -> dt.timedelta | None:
    """Return the width of the buckets that lines are shown in side by side; None when runs are few enough."""
    most, narrowest = 0, dt.timedelta(0)
    for line in plans:
        narrowest = max(narrowest, layers.narrowest(session, line.kind, start) or narrowest)
        if not may_show_runs(start, end):
            continue
        table = results.table(line.kind)
        newest = (
            select(table.c.scheduled_at)
            .where(*within(table, line.job_ids, start, end))
            .limit(points + 1)
            .subquery()
        )
        most = max(most, session.execute(select(func.count()).select_from(newest)).scalar_one())
    if most <= points and not narrowest and may_show_runs(start, end):
        return None
    paces = [plan.pace_s for plan in plans.values() if plan.pace_s]
    return max(narrowest, bucket_width(end - start, points=points, interval_s=min(paces, default=None)))


def chart_lines(
    session: Session,
    plans: Mapping[Line, Plan],
    metrics: Sequence[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    bucket: dt.timedelta | None,
    most: int = MAX_POINTS * 2,
) -> list[ChartLine]:
    """Return lines of one test over [start, end): runs when `bucket` is None, at most the newest `most` of each; else buckets."""
    if bucket is None:
        return [
            _runs(session, line, plan, metrics, start=start, end=end, most=most)
            for line, plan in plans.items()
        ]
    # A line has one job, but for those that were retired and came back; jobs by themselves are read all at once.
    alone = {line.job_ids[0]: line for line in plans if len(line.job_ids) == 1}
    found: dict[Line, Sequence[Bucket]] = {}
    for kind in {line.kind for line in plans}:
        source = Source(kind=kind, child=None)
        jobs = [job_id for job_id, line in alone.items() if line.kind == kind]
        by_job = figures.buckets_by_job(session, source, metrics, jobs, start=start, end=end, width=bucket)
        found |= {alone[job_id]: by_job.get(job_id, ()) for job_id in jobs}
        for line in plans:
            if line.kind == kind and line not in found:
                found[line] = figures.buckets(
                    session, source, metrics, line.job_ids, start=start, end=end, width=bucket
                )
    return [_buckets(session, line, plan, metrics, found[line], bucket) for line, plan in plans.items()]


def _runs(
    session: Session,
    line: Line,
    plan: Plan,
    metrics: Sequence[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    most: int,
) -> ChartLine:
    table = results.table(line.kind)
    values = [figures.as_number(table.c[results.metric_column(line.kind, name).name]) for name in metrics]
    query = (
        select(
            table.c.job_id,
            table.c.job_version,
            table.c.scheduled_at,
            *(_is(table.c.status, status) for status in _BAD),
            *values,
        )
        .where(*within(table, line.job_ids, start, end))
        .order_by(table.c.scheduled_at.desc())
        .limit(most)
    )
    rows = list(reversed(session.execute(query).all()))
    runs = [Run(job_id=job, version=version, at=at) for job, version, at, *_ in rows]
    whole = len(rows) < most
    gaps = gaps_of_runs(session, plan if whole else replace(plan, start=runs[0].at), runs)
    return _assemble(line, metrics, [row[2:] for row in rows], gaps)


def _buckets(
    session: Session,
    line: Line,
    plan: Plan,
    metrics: Sequence[str],
    found: Sequence[Bucket],
    width: dt.timedelta,
) -> ChartLine:
    bands = {}
    for name in metrics:
        of_metric = [item.figures[name] for item in found]
        bands[name] = Band(
            mean=tuple(each.mean for each in of_metric),
            low=tuple(each.min for each in of_metric),
            high=tuple(each.max for each in of_metric),
        )
    return ChartLine(
        line=line,
        at=tuple(item.start + width / 2 for item in found),
        failed=tuple(item.failed for item in found),
        error=tuple(item.error for item in found),
        missed=tuple(item.missed for item in found),
        bands=bands,
        gaps=gaps_of_buckets(session, plan, [item.start for item in found], width),
    )


_BAD = (probe_pb2.STATUS_FAILED, probe_pb2.STATUS_ERROR, probe_pb2.STATUS_MISSED)


def _is(column: ColumnElement[int], status: int) -> ColumnElement[int]:
    return cast(column == status, Integer)


def _assemble(line: Line, metrics: Sequence[str], rows: Sequence[Any], gaps: tuple[Gap, ...]) -> ChartLine:
    columns: list[tuple[Any, ...]] = list(zip(*rows, strict=True)) or [()] * (4 + len(metrics))
    bands = {name: Band(mean=columns[4 + index], low=(), high=()) for index, name in enumerate(metrics)}
    return ChartLine(
        line=line,
        at=columns[0],
        failed=columns[1],
        error=columns[2],
        missed=columns[3],
        bands=bands,
        gaps=gaps,
    )
