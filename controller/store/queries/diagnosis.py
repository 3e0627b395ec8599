"""Reads what diagnosis has learnt of a test's jobs and of what else their workers measure.

Of a job that is calm no more is read than that it is: its reading would say nothing else to a verdict, and a test may have
thousands of them.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, null, select, true
from sqlalchemy.orm import Session

from controller.diagnosis.verdicts.records import JobReading, MetricReading, RunOutcome, Verdict
from controller.diagnosis.verdicts.verdict import judge, struck
from controller.store.entities import Destination, Job, Test, Worker
from controller.store.entities.diagnosis import DiagnosisState
from controller.store.schedules import columns, pace_us
from streamswarm import contract
from streamswarm.contract import Kind
from streamswarm.zones import from_microseconds, to_microseconds

#: Other jobs of the workers that a verdict looks at, at most; those that measure the hosts themselves come first.
_MOST_OTHERS = 1000


@dataclass(frozen=True, kw_only=True)
class Readings:
    """What is known of a test's jobs, and beside them. A calm job may lack its parameters, metrics and all runs but the newest."""

    jobs: tuple[JobReading, ...]
    others: tuple[JobReading, ...]
    #: Metrics of the test's jobs whose normal range is known.
    ranges: int
    #: When the keeper last looked at any of the test's jobs; None before the first time.
    looked_at: dt.datetime | None


def readings(session: Session, test_id: int, *, now: dt.datetime, whole: int = 0) -> Readings:
    """Return the readings of a test's scheduled jobs, and of the other jobs of the workers from which any of it is bad.

    The first jobs, as many as `whole` says, are read as a whole even when they are calm.
    """
    spared = func.row_number().over(order_by=(Worker.name, Job.id)) > whole if whole else true()
    mine = _select(spared).where(Job.test_id == test_id).order_by(Worker.name, Job.id)
    found = [row for row in session.execute(mine) if row.kind in contract.kinds()]
    jobs = tuple(_reading(row, now) for row in found)
    workers = struck(jobs, now=now)
    beside = (
        _select(true())
        .where(Job.worker_id.in_(workers), Job.test_id != test_id)
        .order_by(Job.destination_id.is_not(None), Job.id)
        .limit(_MOST_OTHERS)
    )
    others = session.execute(beside) if workers else ()
    return Readings(
        jobs=jobs,
        others=tuple(_reading(row, now) for row in others if row.kind in contract.kinds()),
        ranges=sum(row.ranges or 0 for row in found),
        looked_at=max((row.looked_at for row in found if row.looked_at is not None), default=None),
    )


def diagnose(session: Session, test_id: int, *, now: dt.datetime, whole: int = 0) -> tuple[Verdict, Readings]:
    """Return the verdict on a test, and what it rests on; as many of the first jobs as `whole` says with all they have."""
    found = readings(session, test_id, now=now, whole=whole)
    return judge(found.jobs, found.others, now=now), found


def _select(spared: ColumnElement[bool]) -> Select[Any]:
    """Select jobs with their readings; of those that are spared and calm without them."""
    briefly = and_(spared, func.coalesce(DiagnosisState.calm, False))
    return (
        select(
            Job.id,
            Job.test_id,
            Job.kind,
            Job.worker_id,
            Job.target,
            case((briefly, null()), else_=Job.spec).label("spec"),
            *columns(Job),
            Test.name.label("test_name"),
            Worker.name.label("worker_name"),
            func.coalesce(Destination.name, "").label("destination_name"),
            DiagnosisState.needed,
            DiagnosisState.newest_us,
            DiagnosisState.ranges,
            DiagnosisState.looked_at,
            case((briefly, null()), else_=DiagnosisState.reading).label("reading"),
            briefly.label("briefly"),
        )
        .join(Test, Test.id == Job.test_id)
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .join(DiagnosisState, DiagnosisState.job_id == Job.id, isouter=True)
        .where(Job.retired_at.is_(None), ~Job.one_shot, ~Job.paused)
    )


def _reading(row: Any, now: dt.datetime) -> JobReading:
    kind = contract.kind(row.kind)
    reading: Mapping[str, Any] = row.reading or {}
    if row.briefly:
        reading = {"runs": ((row.newest_us, "ok", ""),)}
    return JobReading(
        job_id=row.id,
        test_id=row.test_id,
        test_name=row.test_name,
        kind=kind,
        worker_id=row.worker_id,
        worker_name=row.worker_name,
        destination_name=row.destination_name,
        target=row.target,
        spec=row.spec or {},
        interval_s=pace_us(row, to_microseconds(now)) / 1e6,
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
