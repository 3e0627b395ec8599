"""Reads the figures of a report: statistics, periods, how runs ended. PostgreSQL computes them.

All functions take jobs and a range [start, end), and go through the key `(job_id, scheduled_at)`.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import INTERVAL
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.queries.figures import as_number
from controller.store.queries.results.series import within
from streamswarm.outcomes import failure_source_name, status_name
from streamswarm.v1 import probe_pb2


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """One metric over many runs."""

    #: Runs in which it was measured; the rest is None when there were none.
    count: int
    min: float | None
    mean: float | None
    #: By linear interpolation, as PostgreSQL's percentile_cont.
    median: float | None
    p95: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class Period:
    """The runs due in one stretch of time."""

    start: dt.datetime
    ok: int
    failed: int
    error: int
    missed: int
    #: Of the headline metric; None where it was not measured.
    mean: float | None
    min: float | None
    max: float | None
    median: float | None
    #: Mean of the kind's metric of loss; None where there is none.
    loss: float | None

    @property
    def runs(self) -> int:
        """All runs, missed ones included."""
        return self.ok + self.failed + self.error + self.missed


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Runs that did not end well for the same reason, with their most frequent message."""

    status: str
    source: str
    count: int
    message: str


def statistics(
    session: Session,
    kind: str,
    metrics: Sequence[str],
    jobs: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> dict[str, Statistics]:
    """Return the statistics of metrics, all jobs together."""
    table = results.table(kind)
    parts: list[ColumnElement[Any]] = []
    for name in metrics:
        value = _value(kind, name)
        parts += [
            func.count(value),
            func.min(value),
            func.avg(value),
            func.percentile_cont(0.5).within_group(value),
            func.percentile_cont(0.95).within_group(value),
            func.max(value),
        ]
    row = session.execute(select(*parts).where(*within(table, jobs, start, end))).one()
    found = {}
    for index, name in enumerate(metrics):
        count, low, mean, median, p95, high = row[index * 6 : index * 6 + 6]
        found[name] = Statistics(count=count, min=low, mean=mean, median=median, p95=p95, max=high)
    return found


def periods(
    session: Session,
    kind: str,
    headline: str,
    loss: str | None,
    jobs: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
) -> tuple[Period, ...]:
    """Return the periods in which there are runs, in order of time; they begin where buckets of roll-ups do."""
    table = results.table(kind)
    begin = func.date_bin(cast(literal(width), INTERVAL), table.c.scheduled_at, literal(rollups.EPOCH))
    value = _value(kind, headline)
    statuses = (func.count().filter(table.c.status == number) for number in _STATUSES)
    rows = session.execute(
        select(
            begin,
            *statuses,
            func.avg(value),
            func.min(value),
            func.max(value),
            func.percentile_cont(0.5).within_group(value),
            func.avg(_value(kind, loss)) if loss else literal(None),
        )
        .where(*within(table, jobs, start, end))
        .group_by(begin)
        .order_by(begin)
    )
    return tuple(
        Period(
            start=row[0],
            ok=row[1],
            failed=row[2],
            error=row[3],
            missed=row[4],
            mean=row[5],
            min=row[6],
            max=row[7],
            median=row[8],
            loss=row[9],
        )
        for row in rows
    )


def count_runs(
    session: Session, kind: str, jobs: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> int:
    """Count the runs of jobs."""
    table = results.table(kind)
    return session.execute(
        select(func.count()).select_from(table).where(*within(table, jobs, start, end))
    ).scalar_one()


def troubles(
    session: Session, kind: str, jobs: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> tuple[Trouble, ...]:
    """Return why runs did not end well, the most frequent reason first."""
    table = results.table(kind)
    rows = session.execute(
        select(
            table.c.status,
            table.c.failure_source,
            func.count(),
            func.mode().within_group(func.left(table.c.error, _LONGEST_MESSAGE)),
        )
        .where(*within(table, jobs, start, end), table.c.status != probe_pb2.STATUS_OK)
        .group_by(table.c.status, table.c.failure_source)
        .order_by(func.count().desc(), table.c.status, table.c.failure_source)
    )
    return tuple(
        Trouble(
            status=status_name(status), source=failure_source_name(source), count=count, message=message or ""
        )
        for status, source, count, message in rows
    )


_STATUSES = (
    probe_pb2.STATUS_OK,
    probe_pb2.STATUS_FAILED,
    probe_pb2.STATUS_ERROR,
    probe_pb2.STATUS_MISSED,
)
_LONGEST_MESSAGE = 300


def _value(kind: str, metric: str) -> ColumnElement[Any]:
    return as_number(results.table(kind).c[results.metric_column(kind, metric).name])
