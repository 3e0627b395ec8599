"""Counts the results of jobs that lie at instants which were due by the version that they ran by.

A worker that is broken or in other hands brings results at any instants. Those are counted apart: they are no answer to
what was due. What lies on the grid of an interval, or on the minutes of a cron, PostgreSQL sees from each row; which of
these were due, the schedule tells.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, case, func, literal_column, select, text
from sqlalchemy.orm import Session

from controller.planning.accounts import OnPlan, Span
from controller.store import results
from controller.store.entities import JobVersion
from controller.store.queries.versions import numbers
from streamswarm import windows
from streamswarm.crontab import Cron
from streamswarm.v1 import probe_pb2
from streamswarm.zones import from_microseconds

_EPOCH: ColumnElement[Any] = literal_column("timestamptz 'epoch'")
_MICROSECOND: ColumnElement[Any] = literal_column("interval '1 microsecond'")

#: Each piece of a version walks down the key; one job's instants of an interval are told by its grid, of a cron by a list.
_COUNT = """
    SELECT s.job_id, sum(c.runs)::bigint AS runs, sum(c.measured)::bigint AS measured
    FROM unnest(
        CAST(:jobs AS bigint[]), CAST(:versions AS integer[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]),
        CAST(:origins AS bigint[]), CAST(:strides AS bigint[])
    ) AS s (job_id, version, start, until, origin, stride)
    CROSS JOIN LATERAL (
        SELECT count(*) AS runs, count(*) FILTER (WHERE r.status IN ({measured})) AS measured
        FROM {table} r
        WHERE r.job_id = s.job_id AND r.job_version = s.version
            AND r.scheduled_at >= s.start AND r.scheduled_at < s.until
            AND r.scheduled_at >= :first AND r.scheduled_at < :last AND {due}
    ) c
    GROUP BY s.job_id
"""
_OF_INTERVAL = """
    CASE WHEN s.stride = 0 THEN r.scheduled_at = timestamptz 'epoch' + s.origin * interval '1 microsecond'
    ELSE date_bin(
        s.stride * interval '1 microsecond', r.scheduled_at, timestamptz 'epoch' + s.origin * interval '1 microsecond'
    ) = r.scheduled_at END
"""
_OF_CRON = """
    r.scheduled_at - s.origin * interval '1 microsecond' IN (
        SELECT timestamptz 'epoch' + due * interval '1 microsecond' FROM unnest(CAST(:instants AS bigint[])) due
    )
"""


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """Where one version of a job may have been due: [start, end)."""

    job_id: int
    span: Span
    start_us: int
    end_us: int


def grids(job_ids: Collection[int]) -> Subquery:
    """Return the grids of all versions of jobs: where each begins, and how wide it is, 0 for what is due once."""
    stride = case((JobVersion.cron != "", 60_000_000), else_=JobVersion.interval_us)
    return (
        select(
            JobVersion.job_id,
            JobVersion.version,
            (_EPOCH + JobVersion.anchor_us * _MICROSECOND).label("origin"),
            func.nullif(stride * _MICROSECOND, literal_column("interval '0'")).label("stride"),
        )
        .where(JobVersion.job_id == func.any(numbers(job_ids)))
        # Kept from the rows that it is joined to: each of them would reckon it anew.
        .offset(0)
        .subquery("grid")
    )


def on_grid(scheduled_at: ColumnElement[dt.datetime], grid: Subquery) -> ColumnElement[bool]:
    """Return whether a result lies on the grid of its version; true where that is not known."""
    return func.coalesce(
        func.coalesce(func.date_bin(grid.c.stride, scheduled_at, grid.c.origin), grid.c.origin)
        == scheduled_at,
        True,
    )


def count_on_plan(session: Session, kind: str, known: Mapping[int, Sequence[Span]]) -> dict[int, OnPlan]:
    """Return by job how many results lie at instants that were due within their version's span, for all these jobs."""
    pieces: dict[tuple[str, str], list[_Piece]] = defaultdict(list)
    for job_id, spans in known.items():
        for span in spans:
            schedule = span.version.schedule
            if not span.version.paused:
                pieces[schedule.cron, schedule.zone if schedule.cron else ""] += _pieces(job_id, span)
    found = dict.fromkeys(known, OnPlan())
    for (cron, zone), of_schedule in pieces.items():
        for row in _count(session, kind, of_schedule, cron, zone):
            before = found[row.job_id]
            found[row.job_id] = OnPlan(runs=before.runs + row.runs, measured=before.measured + row.measured)
    return found


def _pieces(job_id: int, span: Span) -> Iterator[_Piece]:
    first_us, end_us = span.edges_us
    if first_us >= end_us:
        return
    schedule = span.version.schedule
    open_ = (
        windows.spans(schedule.windows, schedule.zone, first_us, end_us - 1)
        if schedule.windows
        else [(first_us, end_us)]
    )
    for start_us, until_us in open_:
        yield _Piece(job_id=job_id, span=span, start_us=max(first_us, start_us), end_us=min(end_us, until_us))


def _count(session: Session, kind: str, pieces: Sequence[_Piece], cron: str, zone: str) -> Sequence[Any]:
    if not pieces:
        return []
    schedules = [piece.span.version.schedule for piece in pieces]
    first_us, last_us = min(piece.start_us for piece in pieces), max(piece.end_us for piece in pieces)
    values: dict[str, Any] = {
        "jobs": [piece.job_id for piece in pieces],
        "versions": [piece.span.version.number for piece in pieces],
        "starts": [from_microseconds(piece.start_us) for piece in pieces],
        "ends": [from_microseconds(piece.end_us) for piece in pieces],
        "origins": [schedule.anchor_us for schedule in schedules],
        "strides": [schedule.interval_us for schedule in schedules],
        "first": from_microseconds(first_us),
        "last": from_microseconds(last_us),
    }
    if cron:
        phases = [schedule.anchor_us for schedule in schedules]
        values["instants"] = list(Cron(cron, zone).instants(first_us - max(phases), last_us - min(phases)))
    query = _COUNT.format(
        table=results.table_name(kind),
        measured=f"{int(probe_pb2.STATUS_OK)}, {int(probe_pb2.STATUS_FAILED)}",
        due=_OF_CRON if cron else _OF_INTERVAL,
    )
    return session.execute(text(query), values).all()
