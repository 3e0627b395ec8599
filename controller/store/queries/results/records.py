"""Runs as they were stored: lines, the latest run of each, recent runs, counts by status."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Uuid, and_, cast, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Worker
from controller.store.health import is_clock_off
from controller.store.queries.results.series import within
from controller.store.queries.versions import numbers
from streamswarm import crontab
from streamswarm.outcomes import failure_reason_name, failure_source_name, status_name

#: Where the latest run of most lines is found: two or three partitions, however many there are.
_RECENTLY = dt.timedelta(days=2)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One test from one worker to one destination: a line on a chart.

    "Run now" makes jobs of its own; their results belong to the same line.
    """

    test_id: int
    kind: str
    worker_id: uuid.UUID
    worker_name: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination_name: str
    #: The newest job's target.
    target: str
    #: Seconds between runs, by cron the longest time between two on one day; None when there are only one-shot jobs.
    interval_s: float | None
    #: Whether a scheduled job is planned at present.
    live: bool
    job_ids: tuple[int, ...]

    @property
    def retired(self) -> bool:
        """Whether it was scheduled once and is no longer: its worker or destination has left the test."""
        return not self.live and self.interval_s is not None


@dataclass(frozen=True, kw_only=True)
class ResultRecord:
    """One run."""

    job_id: int
    job_version: int
    scheduled_at: dt.datetime
    started_at: dt.datetime
    duration_ms: float
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
    #: Metrics by name; None is "not measured".
    metrics: Mapping[str, float | int | bool | None]
    detail: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class LineResult:
    """A line with its latest run."""

    line: Line
    #: None before the first.
    result: ResultRecord | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many runs ended how."""

    ok: int = 0
    failed: int = 0
    error: int = 0
    missed: int = 0

    @property
    def total(self) -> int:
        """All runs, missed ones included."""
        return self.ok + self.failed + self.error + self.missed


def lines(
    connection: Connection | Session,
    *,
    test_ids: Collection[int] | None = None,
    worker_id: uuid.UUID | None = None,
    pairs: Collection[tuple[uuid.UUID, int | None]] | None = None,
    retired: bool = False,
) -> tuple[Line, ...]:
    """Return lines by test, worker and destination name: of these tests, of one worker, or all.

    `pairs` leaves those of so many workers and destinations. Lines that are no longer planned come only when `retired` is set.
    """
    statement = (
        select(
            Job.id,
            Job.test_id,
            Job.kind,
            Job.worker_id,
            Worker.name.label("worker_name"),
            Job.destination_id,
            func.coalesce(Destination.name, "").label("destination_name"),
            Job.target,
            Job.interval_us,
            Job.cron,
            Job.one_shot,
            Job.retired_at,
        )
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .order_by(Job.test_id, Worker.name, func.coalesce(Destination.name, ""), Job.worker_id, Job.id)
    )
    if test_ids is not None:
        statement = statement.where(Job.test_id.in_(test_ids))
    if worker_id is not None:
        statement = statement.where(Job.worker_id == worker_id)
    if pairs is not None:
        workers = cast([worker for worker, _ in pairs], ARRAY(Uuid))
        asked = func.unnest(workers, numbers([destination or 0 for _, destination in pairs]))
        pair = asked.table_valued("worker_id", "destination_id").render_derived("pair")
        of_pair = and_(
            pair.c.worker_id == Job.worker_id,
            pair.c.destination_id == func.coalesce(Job.destination_id, 0),
        )
        statement = statement.join(pair, of_pair)
    groups: dict[tuple[int, uuid.UUID, int | None], list[Any]] = {}
    for row in connection.execute(statement):
        groups.setdefault((row.test_id, row.worker_id, row.destination_id), []).append(row)
    found = (_line(rows) for rows in groups.values())
    return tuple(line for line in found if retired or not line.retired)


def latest(connection: Connection | Session, wanted: Iterable[Line]) -> tuple[LineResult, ...]:
    """Return each line with its latest run."""
    wanted = tuple(wanted)
    recently = dt.datetime.now(dt.UTC) - _RECENTLY
    found = _latest_each(connection, wanted, since=recently)
    # The others have run long ago, or never: only they are worth a look into every partition there is.
    others = [line for line in wanted if line not in found]
    found.update(_latest_each(connection, others, before=recently))
    return tuple(LineResult(line=line, result=found.get(line)) for line in wanted)


def recent(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    limit: int = 50,
    before: dt.datetime | None = None,
) -> tuple[ResultRecord, ...]:
    """Return the latest runs of these jobs, newest first; `before` is the instant up to which they were read."""
    found = _recent_each(connection, kind, job_ids, limit=limit, before=before)
    found.sort(key=lambda record: (record.scheduled_at, record.job_id), reverse=True)
    return tuple(found[:limit])


def counts(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> dict[int, Counts]:
    """Return how many runs due in [start, end) ended how, for every job asked for."""
    table = results.table(kind)
    found: dict[int, dict[str, int]] = {job_id: {} for job_id in job_ids}
    rows = connection.execute(
        select(table.c.job_id, table.c.status, func.count())
        .where(*within(table, job_ids, start, end))
        .group_by(table.c.job_id, table.c.status)
    )
    for job_id, status, count in rows:
        found[job_id][status_name(status)] = count
    return {job_id: Counts(**by_status) for job_id, by_status in found.items()}


def _latest_each(
    connection: Connection | Session,
    wanted: Iterable[Line],
    *,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
) -> dict[Line, ResultRecord]:
    """Return the latest run in [since, before) of every line that has one."""
    line_of = {job_id: line for line in wanted for job_id in line.job_ids}
    found: dict[Line, ResultRecord] = {}
    for kind, job_ids in _by_kind(wanted).items():
        for record in _recent_each(connection, kind, job_ids, limit=1, since=since, before=before):
            line = line_of[record.job_id]
            if line not in found or found[line].scheduled_at < record.scheduled_at:
                found[line] = record
    return found


def _recent_each(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    *,
    limit: int,
    since: dt.datetime | None = None,
    before: dt.datetime | None = None,
) -> list[ResultRecord]:
    """Return the latest runs in [since, before) of every job, each found by its own walk down the key.

    None is due later than now, by the database's clock: a single run from a clock that was wrong would stand for the
    job's state until then.
    """
    table = results.table(kind)
    walk = select(table).where(table.c.job_id == Job.id, table.c.scheduled_at <= func.now())
    if since is not None:
        walk = walk.where(table.c.scheduled_at >= since)
    if before is not None:
        walk = walk.where(table.c.scheduled_at < before)
    newest = walk.order_by(table.c.scheduled_at.desc()).limit(limit).lateral("newest")
    rows = connection.execute(select(newest).select_from(Job).join(newest, true()).where(Job.id.in_(job_ids)))
    named = [(column.metric.name, column.name) for column in results.columns(kind) if column.metric]
    return [
        ResultRecord(
            job_id=row["job_id"],
            job_version=row["job_version"],
            scheduled_at=row["scheduled_at"],
            started_at=row["started_at"],
            duration_ms=row["duration_ms"],
            status=status_name(row["status"]),
            failure_source=failure_source_name(row["failure_source"]),
            failure_reason=failure_reason_name(row["failure_reason"]),
            error=row["error"] or "",
            clock_offset_ms=row["clock_offset_ms"],
            clock_off=is_clock_off(row["clock_offset_ms"]),
            start_error_us=row["start_error_us"],
            metrics={metric: results.measured(row[column]) for metric, column in named},
            detail=row["detail"],
        )
        for row in rows.mappings()
    ]


def _by_kind(wanted: Iterable[Line]) -> dict[str, list[int]]:
    kinds: dict[str, list[int]] = {}
    for line in wanted:
        if line.kind in results.kinds():
            kinds.setdefault(line.kind, []).extend(line.job_ids)
    return kinds


def _line(rows: Sequence[Any]) -> Line:
    scheduled = [row for row in rows if not row.one_shot]
    live = [row for row in scheduled if row.retired_at is None]
    shown = (live or scheduled or rows)[-1]
    return Line(
        test_id=shown.test_id,
        kind=shown.kind,
        worker_id=shown.worker_id,
        worker_name=shown.worker_name,
        destination_id=shown.destination_id,
        destination_name=shown.destination_name,
        target=shown.target,
        interval_s=None if shown.one_shot else _pace_us(shown) / 1_000_000,
        live=bool(live),
        job_ids=tuple(row.id for row in rows if row.kind == shown.kind),
    )


def _pace_us(row: Any) -> int:
    return crontab.longest_gap_us(row.cron) if row.cron else int(row.interval_us)
