"""What happened to a test's lines that is no failure, such as a path that changed: the events that its kind declares.

A metric with `event` in the contract tells of one. A boolean says so itself; a number does when it is another one than in
the job's run before, which counts where the boolean is unset, as after a restart of the worker. Runs without a value say
nothing: what was not measured has not changed.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, null, select
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
    said: ColumnElement[Any] = columns[flag.name] if flag else null()
    after: ColumnElement[Any] = columns[number.name] if number else null()
    before = func.lag(after).over(partition_by=table.c.job_id, order_by=table.c.scheduled_at)
    runs = (
        select(
            table.c.job_id,
            table.c.scheduled_at,
            said.label("said"),
            after.label("after"),
            before.label("before"),
        )
        .join(Job, Job.id == table.c.job_id)
        .where(
            Job.test_id == test_id,
            Job.kind == kind,
            table.c.scheduled_at >= start - _BEFORE,
            table.c.scheduled_at < end,
            (after if number else said).is_not(None),
        )
    )
    if worker is not None:
        runs = runs.where(Job.worker_id == worker)
    if destination is not None:
        runs = runs.where(Job.destination_id == destination)
    run = runs.subquery("run")
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
        .where(
            and_(run.c.scheduled_at >= start, func.coalesce(run.c.said, run.c.after != run.c.before, False))
        )
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
