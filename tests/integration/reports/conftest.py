"""Reports on a real database: entities as commands make them, and many runs at once."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.orm import Session
from support.reports import END, HOUR

from controller.planning.schedule import grid_origin, phase_us
from controller.store import partitions, results
from controller.store.commands import destinations, reports, tests
from controller.store.commands.audit import SYSTEM
from controller.store.entities import AuditEntry, Destination, Job, JobVersion, Test, Worker
from controller.store.queries.reports import ReportRecord
from streamswarm.v1 import probe_pb2
from streamswarm.zones import from_microseconds, to_microseconds


@dataclass
class Ground:
    """Writes what a report is to tell of."""

    engine: Engine

    def worker(self, name: str) -> uuid.UUID:
        """Make an enrolled worker."""
        with Session(self.engine) as session, session.begin():
            worker = Worker(name=name, host_name=name, enrolled_at=func.now())
            session.add(worker)
            session.flush()
            return worker.id

    def destination(self, name: str, address: str) -> int:
        """Make a destination."""
        with Session(self.engine) as session, session.begin():
            return destinations.create(session, {"name": name, "address": address}, actor=SYSTEM).id

    def test(self, name: str, kind: str, *, created_at: dt.datetime = HOUR, **more: Any) -> int:
        """Make a test, every 10 s, that is as old as it is said to be."""
        with Session(self.engine) as session, session.begin():
            made = tests.create(session, {"name": name, "kind": kind, "interval_s": 10, **more}, actor=SYSTEM)
            session.execute(update(Test).where(Test.id == made.id).values(created_at=created_at))
            return made.id

    def job(self, test_id: int, worker_id: uuid.UUID, destination_id: int | None = None, **more: Any) -> int:
        """Plan a job of a test, as the keeper does."""
        with Session(self.engine) as session, session.begin():
            test = session.get_one(Test, test_id)
            interval = round((test.interval_s or 0) * 1e6)
            anchor = to_microseconds(grid_origin(test.starts_at, test.created_at))
            if interval:
                anchor += phase_us(test_id, worker_id, destination_id, interval)
            values = {
                "interval_us": interval,
                "anchor_us": anchor,
                "created_at": test.created_at,
                "one_shot": not interval,
                "target": session.get_one(Destination, destination_id).address if destination_id else "",
            }
            job = Job(
                test_id=test_id,
                worker_id=worker_id,
                destination_id=destination_id,
                kind=test.kind,
                spec=test.spec,
                **(values | more),
            )
            session.add(job)
            session.flush()
            session.add(
                JobVersion(
                    job_id=job.id,
                    version=1,
                    valid_from=job.created_at,
                    valid_until=None if job.one_shot else job.retired_at,
                    interval_us=job.interval_us,
                    anchor_us=job.anchor_us,
                )
            )
            return job.id

    def due(self, job_id: int, start: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        """Return the instants of a job's grid in [start, end), one after another."""
        with Session(self.engine) as session:
            job = session.get_one(Job, job_id)
        at, step, found = job.anchor_us, job.interval_us, []
        while at < to_microseconds(end):
            if at >= to_microseconds(start):
                found.append(from_microseconds(at))
            at += step
        return found

    def runs(self, job_id: int, rows: Iterable[dict[str, Any]]) -> None:
        """Store runs: `at`, and optionally status, source, error, offset and metrics."""
        with Session(self.engine) as session, session.begin():
            kind = session.get_one(Job, job_id).kind
            versions = session.scalars(
                select(JobVersion).where(JobVersion.job_id == job_id).order_by(JobVersion.version)
            ).all()
            values = []
            for row in rows:
                row = dict(row)
                at = row.pop("at")
                status = row.pop("status", probe_pb2.STATUS_OK)
                value = {
                    "job_id": job_id,
                    "scheduled_at": at,
                    "started_at": at,
                    "duration_ms": 1.5,
                    "job_version": max(
                        (known.version for known in versions if known.valid_from <= at), default=1
                    ),
                    "status": status,
                    "failure_source": row.pop("source", probe_pb2.FAILURE_SOURCE_NONE),
                    "error": row.pop("error", None),
                }
                for name in list(row):
                    value[results.metric_column(kind, name).name] = row.pop(name)
                values.append(value)
            partitions.ensure_partitions(
                session.connection(), kind, {value["scheduled_at"].date() for value in values}
            )
            # One statement for each set of columns: what is left out is not measured.
            for shape in {tuple(sorted(value)) for value in values}:
                session.execute(
                    insert(results.table(kind)),
                    [value for value in values if tuple(sorted(value)) == shape],
                )

    def changed(self, test_id: int, at: dt.datetime, change: Any) -> None:
        """Change a test through a command, and let audit log and versions say that it was then."""
        with Session(self.engine) as session, session.begin():
            change(session)
            session.flush()
            newest = session.scalar(
                select(func.max(AuditEntry.id)).where(
                    AuditEntry.object_type == "test", AuditEntry.object_id == str(test_id)
                )
            )
            session.execute(update(AuditEntry).where(AuditEntry.id == newest).values(at=at))
            test = session.get_one(Test, test_id)
            for job in session.scalars(select(Job).where(Job.test_id == test_id, ~Job.one_shot)).all():
                latest = session.get_one(JobVersion, (job.id, job.version))
                latest.valid_until = at
                job.version += 1
                job.interval_us = round((test.interval_s or 0) * 1e6)
                session.add(
                    JobVersion(
                        job_id=job.id,
                        version=job.version,
                        valid_from=at,
                        interval_us=job.interval_us,
                        anchor_us=latest.anchor_us,
                        paused=test.paused,
                    )
                )

    def ask(self, *test_ids: int, start: dt.datetime, end: dt.datetime) -> ReportRecord:
        """Ask for a report."""
        with Session(self.engine) as session, session.begin():
            values = {"tests": list(test_ids), "from": start.isoformat(), "to": end.isoformat()}
            return reports.create(session, values, actor=SYSTEM)


@pytest.fixture
def ground(engine: Engine) -> Ground:
    """An empty ground on a fresh database."""
    return Ground(engine)


@pytest.fixture
def lines(ground: Ground) -> dict[str, Any]:
    """Two lines of a ping, an hour before and an hour of runs: ok, failed, not measured, missed, lacking."""
    dice = random.Random(5)
    destinations = [ground.destination("Router", "192.0.2.1"), ground.destination("Wide", "192.0.2.2")]
    test = ground.test(
        "Round trip", "ping", created_at=HOUR - dt.timedelta(hours=1), destinations=destinations
    )
    workers = [ground.worker("alpha"), ground.worker("beta")]
    jobs = [ground.job(test, *pair) for pair in zip(workers, destinations, strict=True)]
    for job in jobs:
        rows: list[dict[str, Any]] = []
        for index, at in enumerate(ground.due(job, HOUR - dt.timedelta(hours=1), END)):
            if index % 50 == 7:
                continue
            row: dict[str, Any] = {"at": at, "rtt_avg_ms": dice.uniform(1, 90), "loss_pct": 0.0}
            if index % 40 == 3:
                row = {
                    "at": at, "status": probe_pb2.STATUS_FAILED, "loss_pct": 100.0,
                    "source": probe_pb2.FAILURE_SOURCE_NETWORK, "error": 'no "reply"\nwithin 1000 ms — é',
                }  # fmt: skip
            elif index % 60 == 11:
                row = {
                    "at": at, "status": probe_pb2.STATUS_ERROR, "source": probe_pb2.FAILURE_SOURCE_VANTAGE,
                    "error": "no route",
                }  # fmt: skip
            elif index % 90 == 13:
                row = {
                    "at": at, "status": probe_pb2.STATUS_MISSED, "source": probe_pb2.FAILURE_SOURCE_SCHEDULE,
                    "error": "the one before still ran",
                }  # fmt: skip
            rows.append(row)
        ground.runs(job, rows)
    return {"test": test, "jobs": jobs, "workers": workers, "destinations": destinations}
