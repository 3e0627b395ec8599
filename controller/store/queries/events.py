"""What happened to a test's lines that is no failure, such as a path that changed: the events that its kind declares.

A metric with `event` in the contract tells of one. Where a kind has a boolean for it, a run's own word counts and nothing else:
who measured knows what only seems to differ, such as a path with a silent hop. Without one a number tells, when it is another
one than in the job's run before with the same parameters. Runs without a value say nothing: what was not measured has not
changed.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, Table, func, null, select
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Destination, Job, Worker
from streamswarm import contract
from streamswarm.contract import Metric

#: Events of one answer; of more the newest are told.
MOST_EVENTS = 500
#: How far before a range the run is looked for that its first one is compared with.
_BEFORE = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One event of one job."""

    #: What happened, as the contract names it.
    event: str
    #: When the run was due that saw it.
    scheduled_at: dt.datetime
    job_id: int
    worker_id: uuid.UUID
    worker: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination: str | None
    #: The metric that has another value than before; None for an event that no number stands for.
    metric: str | None
    #: Its value in the run before, where that is known, and in this one.
    before: int | None
    after: int | None


def find(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
    limit: int = MOST_EVENTS,
) -> tuple[EventRecord, ...]:
    """Return the events of runs that were due in [start, end), the newest first, at most so many of each name."""
    found: list[EventRecord] = []
    for name, metrics in contract.kind(kind).events.items():
        found += _of(session, test_id, kind, name, metrics, start, end, worker, destination, limit)
    return tuple(sorted(found, key=lambda event: (event.scheduled_at, event.job_id), reverse=True)[:limit])


def _of(
    session: Session,
    test_id: int,
    kind: str,
    name: str,
    metrics: Sequence[Metric],
    start: dt.datetime,
    end: dt.datetime,
    worker: uuid.UUID | None,
    destination: int | None,
    limit: int,
) -> list[EventRecord]:
    table = results.table(kind)
    flag = next((metric for metric in metrics if metric.type == "boolean"), None)
    number = next((metric for metric in metrics if metric.type == "integer"), None)
    columns = {metric.name: table.c[results.metric_column(kind, metric.name).name] for metric in metrics}
    after: ColumnElement[Any] = columns[number.name] if number else null()
    conditions = [
        Job.test_id == test_id,
        Job.kind == kind,
        *([Job.worker_id == worker] if worker is not None else []),
        *([Job.destination_id == destination] if destination is not None else []),
    ]
    if flag is not None:
        run = _said(table, columns[flag.name], after, conditions, start, end, limit)
    else:
        run = _differing(table, after, conditions, start, end)
    query = (
        select(
            run,
            Job.worker_id,
            Job.destination_id,
            Worker.name.label("worker"),
            Destination.name.label("destination"),
        )
        .select_from(run)
        .join(Job, Job.id == run.c.job_id)
        .join(Worker, Worker.id == Job.worker_id)
        .outerjoin(Destination, Destination.id == Job.destination_id)
        .order_by(run.c.scheduled_at.desc(), run.c.job_id.desc())
        .limit(limit)
    )
    return [
        EventRecord(
            event=name,
            scheduled_at=row["scheduled_at"],
            job_id=row["job_id"],
            worker_id=row["worker_id"],
            worker=row["worker"],
            destination_id=row["destination_id"],
            destination=row["destination"],
            metric=number.name if number else None,
            before=row["before"],
            after=row["after"],
        )
        for row in session.execute(query).mappings()
    ]


def _said(
    table: Table,
    flag: ColumnElement[Any],
    after: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]],
    start: dt.datetime,
    end: dt.datetime,
    limit: int,
) -> Subquery:
    """Return the newest runs that say so themselves, each with the number of the run before it."""
    earlier = table.alias("earlier")
    number = earlier.c.get(after.key) if after.key else None
    before: ColumnElement[Any] = null()
    if number is not None:
        before = (
            select(number)
            .where(
                earlier.c.job_id == table.c.job_id,
                earlier.c.scheduled_at < table.c.scheduled_at,
                earlier.c.scheduled_at >= table.c.scheduled_at - _BEFORE,
                number.is_not(None),
            )
            .order_by(earlier.c.scheduled_at.desc())
            .limit(1)
            .correlate(table)
            .scalar_subquery()
        )
    return (
        select(table.c.job_id, table.c.scheduled_at, after.label("after"), before.label("before"))
        .join(Job, Job.id == table.c.job_id)
        .where(*conditions, table.c.scheduled_at >= start, table.c.scheduled_at < end, flag)
        .order_by(table.c.scheduled_at.desc(), table.c.job_id.desc())
        .limit(limit)
        .subquery("run")
    )


def _differing(
    table: Table,
    after: ColumnElement[Any],
    conditions: Sequence[ColumnElement[bool]],
    start: dt.datetime,
    end: dt.datetime,
) -> Subquery:
    """Return the runs whose number is another one than in the run before, of the same version of the job."""
    before = func.lag(after).over(
        partition_by=(table.c.job_id, table.c.job_version), order_by=table.c.scheduled_at
    )
    runs = (
        select(
            table.c.job_id,
            table.c.scheduled_at,
            after.label("after"),
            before.label("before"),
        )
        .join(Job, Job.id == table.c.job_id)
        .where(
            *conditions,
            table.c.scheduled_at >= start - _BEFORE,
            table.c.scheduled_at < end,
            after.is_not(None),
        )
        .subquery("each")
    )
    return (
        select(runs)
        .where(runs.c.scheduled_at >= start, func.coalesce(runs.c.after != runs.c.before, False))
        .subquery("run")
    )
