"""Jobs with made-up results, and what their roll-ups must be."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import Engine, insert, text
from sqlalchemy.orm import Session

from controller.store import partitions, results, rollups
from controller.store.entities import Job, Test, Worker
from controller.store.rollups import DAY, FIVE_MINUTES, Layer, Source
from streamswarm.v1 import probe_pb2

PING = Source(kind="ping", child=None)
NOW = dt.datetime.now(dt.UTC)
#: The day before yesterday: its hours and the day are closed whatever the time is.
START = rollups.floor(NOW, DAY.width) - 2 * DAY.width
MINUTE = dt.timedelta(minutes=1)


class Book:
    """Jobs and their results."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.chance = random.Random(7)
        with Session(engine) as session, session.begin():
            worker = Worker(name="berlin", host_name="berlin")
            session.add(worker)
            session.flush()
            self._worker_id = worker.id

    def job(self, interval_s: float, kind: str = "ping") -> int:
        """Add a job."""
        with Session(self.engine) as session, session.begin():
            test = Test(
                name=f"every {interval_s} s {self.chance.random()}", kind=kind, spec={}, interval_s=interval_s
            )
            session.add(test)
            session.flush()
            row = Job(
                test_id=test.id,
                worker_id=self._worker_id,
                kind=kind,
                spec={},
                interval_us=int(interval_s * 1e6),
                anchor_us=0,
                target="192.0.2.1",
            )
            session.add(row)
            session.flush()
            return row.id

    def row(self, job: int, at: dt.datetime) -> dict[str, Any]:
        """Make up a result: mostly good, sometimes without a round-trip time."""
        good = self.chance.random() < 0.9
        return {
            "job_id": job,
            "scheduled_at": at,
            "started_at": at,
            "duration_ms": 1.0,
            "job_version": 1,
            "status": probe_pb2.STATUS_OK if good else self.chance.choice([2, 3, 4]),
            "failure_source": 0,
            "loss_pct": 0.0 if good else 100.0,
            "rtt_avg_ms": self.chance.lognormvariate(2, 0.5) if good else None,
            "packets_sent": 3,
        }

    def results(self, job: int, start: dt.datetime, step: dt.timedelta, count: int) -> None:
        """Store results in time, which mark nothing."""
        with self.engine.begin() as connection:
            for day in {(start + number * step).date() for number in (0, count - 1)}:
                partitions.ensure_partitions(connection, "ping", [day])
            rows = [self.row(job, start + number * step) for number in range(count)]
            connection.execute(insert(results.table("ping")), rows)

    def late(self, job: int, at: dt.datetime) -> None:
        """Store a result and mark its bucket, as a gateway does."""
        with self.engine.begin() as connection:
            partitions.ensure_partitions(connection, "ping", [at.date()])
        with self.engine.begin() as connection:
            connection.execute(insert(results.table("ping")), [self.row(job, at)])
            connection.execute(
                text("INSERT INTO dirty_buckets (kind, job_id, bucket) VALUES ('ping', :job, :bucket)"),
                {"job": job, "bucket": rollups.floor(at, FIVE_MINUTES.width)},
            )


def expected(engine: Engine, of: Layer, jobs: set[int] | None = None) -> dict[Any, Any]:
    """Compute the buckets of a layer from the results, slowly and plainly."""
    with engine.connect() as connection:
        rows = connection.execute(results.table("ping").select()).mappings().all()
        frontier = connection.execute(
            text("SELECT done_until FROM rollup_frontiers WHERE kind = 'ping' AND layer = :layer"),
            {"layer": of.name},
        ).scalar_one()
    found: dict[Any, list[Any]] = {}
    for row in rows:
        bucket = rollups.floor(row["scheduled_at"], of.width)
        if bucket < frontier and (jobs is None or row["job_id"] in jobs):
            found.setdefault((row["job_id"], bucket), []).append(row)
    answer = {}
    for key, runs in found.items():
        values = [run["rtt_avg_ms"] for run in runs if run["rtt_avg_ms"] is not None]
        statuses = Counter(run["status"] for run in runs)
        answer[key] = (
            *(statuses[status] for status in rollups.RUNS),
            len(values),
            pytest.approx(sum(values), rel=1e-12) if values else None,
            min(values, default=None),
            max(values, default=None),
            sum(run["loss_pct"] for run in runs),
        )
    return answer


def rolled(engine: Engine, of: Layer) -> dict[Any, Any]:
    """Read the buckets of a layer."""
    table = rollups.table(PING, of)
    with engine.connect() as connection:
        rows = connection.execute(table.select()).mappings().all()
    for row in rows:  # a sketch has as many values as were counted
        assert sum((row["rtt_avg_ms_sketch"] or [])[1::2]) == row["rtt_avg_ms_n"]
    return {
        (row["job_id"], row["bucket"]): (
            *(row[name] for name in rollups.RUNS.values()),
            row["rtt_avg_ms_n"],
            row["rtt_avg_ms_sum"],
            row["rtt_avg_ms_min"],
            row["rtt_avg_ms_max"],
            row["loss_pct_sum"],
        )
        for row in rows
    }


def marks(engine: Engine) -> int:
    """Count the marks."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM dirty_buckets")).scalar_one())
