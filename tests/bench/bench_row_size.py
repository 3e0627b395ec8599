"""Bytes that a stored `ping` result takes, key and its index included, beside the same result as a JSONB row.

Both tables hold the same runs of as many jobs in the order of time, as results arrive; the JSONB row has the same key
in columns of its own and everything else, envelope and metrics, in one object without what was not measured.
"""

from __future__ import annotations

import time
from typing import Any

import psycopg
from bench_ingest import DAY_US, result
from support.deployment import deployed

from controller.gateway.alike import pack_alike
from controller.gateway.packing import HEADER, TRAILER, copy_target
from controller.store.engine import libpq_url

ROWS = 400_000
JOBS = 400
TOGETHER = 20_000
GOAL = 0.45


def _fill(connection: psycopg.Connection[Any]) -> None:
    target = copy_target("ping")
    statement = f"COPY {target.table} ({target.column_list}) FROM STDIN (FORMAT BINARY)".encode()
    start_us = int(time.time() * 1e6) // DAY_US * DAY_US
    for first in range(0, ROWS, TOGETHER):
        wire = [
            result(number % JOBS + 1, start_us + number // JOBS * 60_000_000, number).SerializeToString()
            for number in range(first, first + TOGETHER)
        ]
        blocks, left = pack_alike(wire)
        assert not left
        with connection.cursor().copy(statement) as copy:
            copy.write(b"".join((HEADER, *(block.rows.tobytes() for block in blocks), TRAILER)))
    connection.execute(
        "CREATE TABLE as_jsonb (job_id bigint, scheduled_at timestamptz, result jsonb NOT NULL, "
        "PRIMARY KEY (job_id, scheduled_at))"
    )
    connection.execute(
        "INSERT INTO as_jsonb SELECT job_id, scheduled_at, "
        "jsonb_strip_nulls(to_jsonb(r) - 'job_id' - 'scheduled_at') FROM result_ping r ORDER BY scheduled_at, job_id"
    )


def measure() -> dict[str, Any]:
    """Fill both tables and weigh them."""
    with (
        deployed() as deployment,
        psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection,
    ):
        _fill(connection)
        connection.execute("VACUUM ANALYZE")
        ((ours, ours_key),) = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)), sum(pg_indexes_size(inhrelid)) "
            "FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
            "WHERE inhparent = 'result_ping'::regclass AND c.reltuples > 0"
        ).fetchall()
        ((peer, peer_key),) = connection.execute(
            "SELECT pg_total_relation_size('as_jsonb'), pg_indexes_size('as_jsonb')"
        ).fetchall()
        ((rows, peer_rows),) = connection.execute(
            "SELECT (SELECT count(*) FROM result_ping), (SELECT count(*) FROM as_jsonb)"
        ).fetchall()
        assert rows == peer_rows == ROWS
    value, peer_value = float(ours) / ROWS, float(peer) / ROWS
    return {
        "value": round(value, 1),
        "unit": "bytes/result",
        "peer": "JSONB row with the same key",
        "peer_value": round(peer_value, 1),
        "ratio": round(value / peer_value, 3),
        "goal": f"<= {GOAL}",
        "ok": value / peer_value <= GOAL,
        "metrics": len(result(1, 1, 1).ping.ListFields()),
        "key": round(float(ours_key) / ROWS, 1),
        "peer_key": round(float(peer_key) / ROWS, 1),
    }
