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


def chart_line(
    session: Session,
    line: Line,
    plan: Plan,
    metrics: Sequence[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    bucket: dt.timedelta | None,
    most: int = MAX_POINTS * 2,
) -> ChartLine:
    """Return a line over [start, end): runs when `bucket` is None, at most the newest `most`; else buckets."""
    table = results.table(line.kind)
    values = [figures.as_number(table.c[results.metric_column(line.kind, name).name]) for name in metrics]
    if bucket is None:
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
    source = Source(kind=line.kind, child=None)
    found = figures.buckets(session, source, metrics, line.job_ids, start=start, end=end, width=bucket)
    by_metric = {name: [item.figures[name] for item in found] for name in metrics}
    return ChartLine(
        line=line,
        at=tuple(item.start + bucket / 2 for item in found),
        failed=tuple(item.failed for item in found),
        error=tuple(item.error for item in found),
        missed=tuple(item.missed for item in found),
        bands={
            name: Band(
                mean=tuple(each.mean for each in of_metric),
                low=tuple(each.min for each in of_metric),
                high=tuple(each.max for each in of_metric),
            )
            for name, of_metric in by_metric.items()
        },
        gaps=gaps_of_buckets(session, plan, [item.start for item in found], bucket),
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
