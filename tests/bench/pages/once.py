"""Tests that another one has made for its runs: each ran once, has its result and is over."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import psycopg
from bench.pages.lines import note_versions
from bench.swarm.world import copy_jobs
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from controller.planning.jobs import plan
from controller.store import results
from controller.store.queries import plans
from controller.store.rollups import rolling
from streamswarm.v1 import probe_pb2

_KIND = "ping"
_OWN = ("job_id", "scheduled_at", "started_at", "detail")


def run_once(engine: Engine, connection: psycopg.Connection[Any], tests: Collection[int]) -> int:
    """Let these tests have run; return how many results that made. They came late, and are rolled up as such."""
    with Session(engine) as session:
        found = plans.read_tests(session, ids=tests)
        workers = plans.read_workers(session)
    known = {str(worker.id): worker for worker in workers}
    jobs = []
    for test in found:
        assert test.starts_at is not None
        jobs += plan([test], [known[worker] for worker in test.selection["workers"]], now=test.starts_at).jobs
    copy_jobs(connection, jobs)
    connection.execute(
        "UPDATE jobs SET created_at = to_timestamp(anchor_us / 1000000), updated_at = expires_at, retired_at = expires_at "
        "WHERE one_shot"
    )
    note_versions(connection)
    measured = [column.name for column in results.columns(_KIND) if column.name not in _OWN]
    stored = connection.execute(
        f"INSERT INTO result_ping (job_id, scheduled_at, started_at, {', '.join(measured)}) "
        f"SELECT j.id, j.created_at, j.created_at, {', '.join(f'r.{name}' for name in measured)} "
        "FROM jobs j, LATERAL (SELECT p.* FROM bench_lines l JOIN result_ping p ON p.job_id = l.job_id "
        f"WHERE l.kind = '{_KIND}' AND l.job_id = l.pattern AND p.status = {int(probe_pb2.STATUS_OK)} LIMIT 1) r WHERE j.one_shot".encode()
    ).rowcount
    connection.execute(
        "INSERT INTO dirty_buckets (kind, job_id, bucket) "
        "SELECT kind, id, date_bin('5 minutes', created_at, timestamptz '2000-01-01 00:00:00+00') FROM jobs WHERE one_shot"
    )
    rolling.roll_up(engine, _KIND)
    return stored
