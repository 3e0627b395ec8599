"""The runs of a test, newest first, page by page."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, false, func, select, true, tuple_
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Worker
from controller.store.health import CLOCK_LIMIT_MS, is_clock_off
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of
from streamswarm import contract
from streamswarm.outcomes import failure_reason_name, failure_source_name, status_name
from streamswarm.zones import from_microseconds, to_microseconds


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One execution of a job at one scheduled instant, and what it delivered."""

    job_id: int
    worker_id: uuid.UUID
    worker: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination: str | None
    target: str
    scheduled_at: dt.datetime
    started_at: dt.datetime
    duration_ms: float
    #: Version of the job that it ran under.
    job_version: int
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    #: `none`, `target`, `network`, `resolver`, `policy`, `vantage`, `schedule` or `internal`.
    failure_source: str
    #: `timed_out`, `refused`, … as the contract's FailureReason names them; None for a run that ended well.
    failure_reason: str | None = None
    error: str
    clock_offset_ms: float | None
    #: Whether the worker's clock was more than five seconds away from the controller's.
    clock_off: bool = False
    #: How late it started after its due instant, by the monotonic clock, in microseconds; None for a missed run.
    start_error_us: int | None = None
    #: Every metric of the kind; None where it was not measured.
    metrics: Mapping[str, float | int | bool | None]
    #: Rows of the kind's child tables by table and key: `{"interfaces": {"eth0": {…}}}`.
    children: Mapping[str, Mapping[str, Mapping[str, float | int | bool | None]]]
    detail: Mapping[str, Any] | None


def find(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime | None = None,
    end: dt.datetime | None = None,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
    job: int | None = None,
    clock_off: bool | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[RunRecord]:
    """Return the runs of a test that were due in [start, end); runs of jobs that ended meanwhile are among them."""
    table = results.table(kind)
    walk = select(table).where(table.c.job_id == Job.id)
    if start is not None:
        walk = walk.where(table.c.scheduled_at >= start)
    if end is not None:
        walk = walk.where(table.c.scheduled_at < end)
    if clock_off is not None:
        off = func.coalesce(func.abs(table.c.clock_offset_ms) > CLOCK_LIMIT_MS, false())
        walk = walk.where(off if clock_off else ~off)
    if cursor:
        microseconds, job_id = decode_cursor(cursor, int, int)
        at = _instant(microseconds)
        walk = walk.where(tuple_(table.c.scheduled_at, table.c.job_id) < (at, job_id))
    # Each job is walked down its own key, so that few rows are touched however many there are.
    newest = walk.order_by(table.c.scheduled_at.desc()).limit(limit + 1).lateral("newest")
    query = (
        select(
            newest,
            Job.worker_id,
            Job.destination_id,
            Job.target,
            Worker.name.label("worker"),
            Destination.name.label("destination"),
        )
        .select_from(Job)
        .join(newest, true())
        .join(Worker, Worker.id == Job.worker_id)
        .outerjoin(Destination, Destination.id == Job.destination_id)
        .where(Job.test_id == test_id, Job.kind == kind)
        .order_by(newest.c.scheduled_at.desc(), newest.c.job_id.desc())
        .limit(limit + 1)
    )
    if worker is not None:
        query = query.where(Job.worker_id == worker)
    if destination is not None:
        query = query.where(Job.destination_id == destination)
    if job is not None:
        query = query.where(Job.id == job)
    rows = session.execute(query).mappings().all()
    children = _children(session, kind, rows[:limit])
    return page_of(
        rows,
        limit,
        lambda row: _record(kind, row, children),
        lambda row: encode_cursor(to_microseconds(row["scheduled_at"]), row["job_id"]),
    )


def _instant(microseconds: int) -> dt.datetime:
    try:
        return from_microseconds(microseconds)
    except OverflowError:
        return from_microseconds(0)


def _children(session: Session, kind: str, rows: Any) -> dict[tuple[int, dt.datetime], dict[str, Any]]:
    """Return the child rows of these runs, by run and child table."""
    runs = [(row["job_id"], row["scheduled_at"]) for row in rows]
    found: dict[tuple[int, dt.datetime], dict[str, Any]] = {}
    if not runs:
        return found
    for child in contract.kind(kind).children:
        table: Table = results.child_table(kind, child.name)
        columns = [
            (column.metric.name, column.name)
            for column in results.child_columns(kind, child.name)
            if column.metric
        ]
        query = (
            select(table).where(tuple_(table.c.job_id, table.c.scheduled_at).in_(runs)).order_by(table.c.key)
        )
        for row in session.execute(query).mappings():
            of_run = found.setdefault((row["job_id"], row["scheduled_at"]), {})
            of_run.setdefault(child.name, {})[row["key"]] = {
                metric: results.measured(row[column]) for metric, column in columns
            }
    return found


def _record(kind: str, row: Any, children: Mapping[tuple[int, dt.datetime], Any]) -> RunRecord:
    return RunRecord(
        job_id=row["job_id"],
        worker_id=row["worker_id"],
        worker=row["worker"],
        destination_id=row["destination_id"],
        destination=row["destination"],
        target=row["target"],
        scheduled_at=row["scheduled_at"],
        started_at=row["started_at"],
        duration_ms=row["duration_ms"],
        job_version=row["job_version"],
        status=status_name(row["status"]),
        failure_source=failure_source_name(row["failure_source"]),
        failure_reason=failure_reason_name(row["failure_reason"]),
        error=row["error"] or "",
        clock_offset_ms=row["clock_offset_ms"],
        clock_off=is_clock_off(row["clock_offset_ms"]),
        start_error_us=row["start_error_us"],
        metrics={
            column.metric.name: results.measured(row[column.name])
            for column in results.columns(kind)
            if column.metric
        },
        children=children.get((row["job_id"], row["scheduled_at"]), {}),
        detail=row["detail"],
    )
