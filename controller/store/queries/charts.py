"""Reads what one chart board shows: several metrics of a line and how its runs ended, in one pass over the rows.

Up to so many runs come as they are; more come in buckets with mean, minimum and maximum, from roll-ups where they serve. What was not measured is
None, and instants without a run are simply not there; gaps tell where that breaks the line, and whether runs were due.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Integer, cast, select, text
from sqlalchemy.orm import Session

from controller.planning.gaps import Gap
from controller.store import results
from controller.store.queries import figures, layers, line_buckets
from controller.store.queries.line_buckets import Band, LineBuckets
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
class ChartLine:
    """The points of one line; sequences but `gaps` have the length of `at`."""

    line: Line
    #: When the run was due, or the middle of its bucket.
    at: Sequence[dt.datetime]
    #: How many runs of each point did not end well, by how; empty where none did in any bucket.
    failed: Sequence[int]
    error: Sequence[int]
    missed: Sequence[int]
    #: By the metric's name.
    bands: Mapping[str, Band]
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
    kinds = {line.kind for line in plans}
    narrowest = max(
        (layers.narrowest(session, kind, start) or dt.timedelta(0) for kind in kinds), default=dt.timedelta(0)
    )
    if not narrowest and may_show_runs(start, end):
        crowded = (
            _has_more_runs(session, kind, _of_kind(plans, kind), start=start, end=end, than=points)
            for kind in kinds
        )
        if not any(crowded):
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
        # Made once of a kind, not for each line: to make them costs more than to read the runs.
        columns = {kind: _columns(kind, metrics) for kind in {line.kind for line in plans}}
        return [
            _runs(session, line, plan, metrics, columns[line.kind], start=start, end=end, most=most)
            for line, plan in plans.items()
        ]
    found: dict[Line, LineBuckets] = {}
    for kind in {line.kind for line in plans}:
        lines = _of_kind(plans, kind)
        source = Source(kind=kind, child=None)
        jobs = [line.job_ids for line in lines]
        read = line_buckets.read(session, source, metrics, jobs, start=start, end=end, width=bucket)
        found |= dict(zip(lines, read, strict=True))
    return [_buckets(session, line, plan, found[line], bucket) for line, plan in plans.items()]


#: Whether any line has so many runs; the first that has them ends it.
_MORE_RUNS = """
    SELECT EXISTS (
        SELECT FROM (
            SELECT array_agg(job_id) AS jobs
            FROM unnest(CAST(:jobs AS bigint[]), CAST(:lines AS integer[])) AS l (job_id, line) GROUP BY line
        ) line
        CROSS JOIN LATERAL (
            SELECT FROM {table} t
            WHERE t.job_id = ANY(line.jobs) AND t.scheduled_at >= :start AND t.scheduled_at < :end OFFSET :than LIMIT 1
        ) further
    )
"""


def _has_more_runs(
    session: Session, kind: str, lines: Sequence[Line], *, start: dt.datetime, end: dt.datetime, than: int
) -> bool:
    """Whether any of these lines has more runs in [start, end) than so many."""
    jobs = [(job_id, number) for number, line in enumerate(lines) for job_id in line.job_ids]
    values = {
        "jobs": [job_id for job_id, _ in jobs],
        "lines": [number for _, number in jobs],
        "start": start,
        "end": end,
        "than": than,
    }
    query = text(_MORE_RUNS.format(table=results.table_name(kind)))
    return bool(session.execute(query, values).scalar_one())


def _of_kind(plans: Iterable[Line], kind: str) -> list[Line]:
    return [line for line in plans if line.kind == kind]


def _columns(kind: str, metrics: Sequence[str]) -> list[ColumnElement[Any]]:
    """Return what is read of a run: job, version, instant, how it ended, and what it measured."""
    table = results.table(kind)
    values = (figures.as_number(table.c[results.metric_column(kind, name).name]) for name in metrics)
    ended = (_is(table.c.status, status) for status in _BAD)
    return [table.c.job_id, table.c.job_version, table.c.scheduled_at, *ended, *values]


def _runs(
    session: Session,
    line: Line,
    plan: Plan,
    metrics: Sequence[str],
    columns: Sequence[ColumnElement[Any]],
    *,
    start: dt.datetime,
    end: dt.datetime,
    most: int,
) -> ChartLine:
    table = results.table(line.kind)
    query = (
        select(*columns)
        .where(*within(table, line.job_ids, start, end))
        .order_by(table.c.scheduled_at.desc())
        .limit(most)
    )
    rows = list(reversed(session.execute(query).all()))
    runs = [Run(job_id=job, version=version, at=at) for job, version, at, *_ in rows]
    whole = len(rows) < most
    gaps = gaps_of_runs(session, plan if whole else replace(plan, start=runs[0].at), runs)
    return _assemble(line, metrics, [row[2:] for row in rows], gaps)


def _buckets(session: Session, line: Line, plan: Plan, found: LineBuckets, width: dt.timedelta) -> ChartLine:
    return ChartLine(
        line=line,
        at=[start + width / 2 for start in found.start],
        failed=found.failed,
        error=found.error,
        missed=found.missed,
        bands=found.bands,
        gaps=gaps_of_buckets(session, plan, found.start, width),
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
