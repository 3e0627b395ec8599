"""Reads how a test was planned over time: its definition now, what was changed when, and its jobs."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import AuditEntry, Destination, Job, Test, Worker


@dataclass(frozen=True, kw_only=True)
class ScheduledTest:
    """A test as it is defined now; a deleted one too."""

    id: int
    name: str
    description: str
    kind: str
    interval_s: float | None
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    paused: bool
    created_at: dt.datetime
    deleted_at: dt.datetime | None
    cron: str = ""
    zone: str = "UTC"
    windows: tuple[Mapping[str, Any], ...] = ()
    max_runs: int | None = None


@dataclass(frozen=True, kw_only=True)
class ScheduleChange:
    """A change of a test's definition, as the audit log has it."""

    at: dt.datetime
    #: What the changed fields were before, as JSON carries them.
    before: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ScheduledJob:
    """A job as it is now, with the names of its worker and destination."""

    id: int
    worker_id: uuid.UUID
    worker_name: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination_name: str
    target: str
    #: 0 for a one-shot job.
    interval_us: int
    anchor_us: int
    one_shot: bool
    created_at: dt.datetime
    retired_at: dt.datetime | None


def read_test(session: Session, test_id: int) -> ScheduledTest:
    """Return a test, deleted or not; NotFoundError when there never was one."""
    row = session.get(Test, test_id, populate_existing=True)
    if row is None:
        raise NotFoundError(f"there is no test {test_id}", mend="list the tests")
    return ScheduledTest(
        id=row.id,
        name=row.name,
        description=row.description,
        kind=row.kind,
        interval_s=row.interval_s,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        paused=row.paused,
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        cron=row.cron,
        zone=row.zone,
        windows=tuple(row.windows),
        max_runs=row.max_runs,
    )


def read_changes(session: Session, test_id: int) -> tuple[ScheduleChange, ...]:
    """Return the changes of a test's schedule, oldest first; of other fields none."""
    rows = session.execute(
        select(AuditEntry.at, AuditEntry.action, AuditEntry.detail)
        .where(
            AuditEntry.object_type == "test",
            AuditEntry.object_id == str(test_id),
            AuditEntry.action.in_(("test.update", "test.pause", "test.resume")),
        )
        .order_by(AuditEntry.at, AuditEntry.id)
    )
    changes = (ScheduleChange(at=row.at, before=_before(row.action, row.detail)) for row in rows)
    return tuple(change for change in changes if change.before)


def read_jobs(session: Session, test_id: int, kind: str) -> tuple[ScheduledJob, ...]:
    """Return the jobs of a test, retired ones too, by worker and destination; none of workers deleted with their data."""
    destination = func.coalesce(Destination.name, "")
    rows = session.execute(
        select(Job, Worker.name.label("worker_name"), destination.label("destination_name"))
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .where(Job.test_id == test_id, Job.kind == kind, Worker.data_deleted_at.is_(None))
        .order_by(Worker.name, destination, Job.worker_id, Job.id)
        .execution_options(populate_existing=True)
    )
    return tuple(_job(row[0], row.worker_name, row.destination_name) for row in rows)


def _job(job: Job, worker_name: str, destination_name: str) -> ScheduledJob:
    return ScheduledJob(
        id=job.id,
        worker_id=job.worker_id,
        worker_name=worker_name,
        destination_id=job.destination_id,
        destination_name=destination_name,
        target=job.target,
        interval_us=job.interval_us,
        anchor_us=job.anchor_us,
        one_shot=job.one_shot,
        created_at=job.created_at,
        retired_at=job.retired_at,
    )


_FIELDS = ("interval_s", "cron", "zone", "windows", "max_runs", "paused")


def _before(action: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    if action != "test.update":
        return {"paused": action == "test.resume"}
    return {name: detail[name]["from"] for name in _FIELDS if isinstance(detail.get(name), Mapping)}
