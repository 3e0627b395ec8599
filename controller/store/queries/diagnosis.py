"""Reads what diagnosis has learnt of a test's jobs and of what else their workers measure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.diagnosis.verdicts.records import JobReading, MetricReading, RunOutcome, Verdict
from controller.diagnosis.verdicts.verdict import judge, struck
from controller.store.entities import Destination, Job, Test, Worker
from controller.store.entities.diagnosis import DiagnosisState
from controller.store.schedules import schedule_of
from streamswarm import contract
from streamswarm.contract import Kind
from streamswarm.zones import from_microseconds, to_microseconds

#: Other jobs of the workers that a verdict looks at, at most; those that measure the hosts themselves come first.
_MOST_OTHERS = 1000


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What is known of a test's jobs, and beside them."""

    jobs: tuple[JobReading, ...]
    others: tuple[JobReading, ...]
    #: When the keeper last looked at any of the test's jobs; None before the first time.
    looked_at: dt.datetime | None


def readings(session: Session, test_id: int, *, now: dt.datetime) -> Readings:
    """Return the readings of a test's scheduled jobs, and of the other jobs of the workers from which any of it is bad."""
    mine = _select().where(Job.test_id == test_id).order_by(Worker.name, Job.id)
    found = session.execute(mine).all()
    jobs = tuple(_reading(row, now) for row in found if row.Job.kind in contract.kinds())
    workers = struck(jobs, now=now)
    beside = (
        _select()
        .where(Job.worker_id.in_(workers), Job.test_id != test_id)
        .order_by(Job.destination_id.is_not(None), Job.id)
        .limit(_MOST_OTHERS)
    )
    others = session.execute(beside).all() if workers else []
    return Readings(
        jobs=jobs,
        others=tuple(_reading(row, now) for row in others if row.Job.kind in contract.kinds()),
        looked_at=max((row.looked_at for row in found if row.looked_at is not None), default=None),
    )


def diagnose(session: Session, test_id: int, *, now: dt.datetime) -> tuple[Verdict, Readings]:
    """Return the verdict on a test, and what it rests on."""
    found = readings(session, test_id, now=now)
    return judge(found.jobs, found.others, now=now), found


def _select() -> Any:
    return (
        select(
            Job,
            Test.name.label("test_name"),
            Worker.name.label("worker_name"),
            func.coalesce(Destination.name, "").label("destination_name"),
            DiagnosisState.needed,
            DiagnosisState.reading,
            DiagnosisState.looked_at,
        )
        .join(Test, Test.id == Job.test_id)
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .join(DiagnosisState, DiagnosisState.job_id == Job.id, isouter=True)
        .where(Job.retired_at.is_(None), ~Job.one_shot, ~Job.paused)
    )


def _reading(row: Any, now: dt.datetime) -> JobReading:
    job: Job = row.Job
    kind = contract.kind(job.kind)
    reading: Mapping[str, Any] = row.reading or {}
    return JobReading(
        job_id=job.id,
        test_id=job.test_id,
        test_name=row.test_name,
        kind=kind,
        worker_id=job.worker_id,
        worker_name=row.worker_name,
        destination_name=row.destination_name,
        target=job.target,
        spec=job.spec,
        interval_s=schedule_of(job).pace_us(to_microseconds(now)) / 1e6,
        needed=row.needed or 0,
        runs=tuple(
            RunOutcome(at=from_microseconds(at), status=status, source=source)
            for at, status, source in reading.get("runs", ())
        ),
        error=reading.get("error", ""),
        clock_offset_ms=reading.get("clock_offset_ms"),
        metrics=tuple(_metrics(kind, reading)),
    )


def _metrics(kind: Kind, reading: Mapping[str, Any]) -> list[MetricReading]:
    known = {metric.name: metric for metric in kind.metrics}
    return [
        MetricReading(
            metric=known[one["name"]],
            state=one["state"],
            low=one["low"],
            normal=one["normal"],
            high=one["high"],
            now=one["now"],
            since=None if one["since_us"] is None else from_microseconds(one["since_us"]),
            beyond=one["beyond"],
            seasonal=one["seasonal"],
        )
        for one in reading.get("metrics", ())
        if one["name"] in known
    ]
