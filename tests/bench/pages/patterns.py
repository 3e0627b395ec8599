"""The results of those lines from which all others are copied: made one by one, each metric with a level and a noise."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Sequence
from typing import Any

from bench.pages.days import Statement, run_all
from bench.pages.lines import BROKEN, FLAKY, SLOWER, UNMEASURED, Line

from controller.settings import Settings
from controller.store import results
from controller.store.results import ResultColumn
from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: Rows of the repeated groups of a run, by kind and group; those of others have two.
_KEYS = {
    ("http", "hops"): ("1",),
    ("system", "interfaces"): ("eth0", "eth1"),
    ("system", "disks"): ("/",),
    ("traceroute", "hops"): tuple(str(number) for number in range(1, 9)),
    ("qos", "classes"): ("EF", "AF41", "AF21", "CS0"),
    # Of sweeps through networks only.
    ("ping", "by_address"): (),
}
#: What a run of the usual parameters does not measure.
_NOT_MEASURED = {
    "ping": (
        "bytes_sent",
        "bytes_received",
        "rtt_p90_ms",
        "rtt_p99_ms",
        "ipdv_max_ms",
        "p95_p50_ms",
        "reply_ttls",
    )
}
#: Metrics of so small a share of the level, by a part of their names.
_PARTS = (
    ("stddev", 0.05),
    ("ipdv", 0.06),
    ("jitter", 0.05),
    ("pdv", 0.1),
    ("min", 0.9),
    ("p9", 1.25),
    ("max", 1.3),
)
_DETAILS: dict[str, dict[str, Any]] = {
    "traceroute": {
        "hops": [
            {
                "hop": hop,
                "result": [
                    {"from": f"10.0.{hop}.1", "rtt": hop * 1.5, "name": f"r{hop}.example.net"},
                    {"from": f"10.1.{hop}.1", "rtt": hop * 1.6},
                ],
            }
            for hop in range(1, 9)
        ]
    },
    "tcp_window": {
        "timeline": {
            "t_ms": list(range(0, 5000, 25)),
            "rtt_ms": [10 + step % 30 for step in range(200)],
            "cwnd": [10 + step % 90 for step in range(200)],
            "bytes": [step * 50_000 for step in range(200)],
        }
    },
    "ping": {"rtt_histogram": {"1": 0, "5": 1, "10": 2, "inf": 0}},
}
#: So long runs keep what no metric holds.
_TOLD = dt.timedelta(hours=6)
#: What was due at one instant: `cell` counts intervals since 1970, `place` tells the patterns of a kind apart.
_FROM = """
    FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place, {interval_us}::bigint AS interval_us,
            CASE WHEN cron = '' THEN anchor_us %% {interval_us} ELSE 0 END AS phase_us
        FROM jobs WHERE id = ANY(%(jobs)s)) j,
    generate_series({first}::bigint, {last}::bigint) AS cell,
    LATERAL (SELECT to_timestamp(0) + (cell * j.interval_us + j.phase_us) * interval '1 us' AS at) i,
    LATERAL (SELECT CASE
        WHEN j.place = {broken} AND at > %(now)s - interval '25 minutes' THEN {failed}
        WHEN j.place = {unmeasured} AND at > %(now)s - interval '1 hour' THEN {error}
        WHEN j.place = {flaky} AND hashint8(cell * 7 + 3) & 63 = 0 THEN {failed}
        ELSE {ok} END AS status, CASE WHEN j.place = {slower} AND at > %(now)s - interval '2 hours' THEN 3 ELSE 1 END::float8 AS lift) s
"""


def store(
    settings: Settings, lines: Sequence[Line], start: dt.datetime, end: dt.datetime, *, now: dt.datetime
) -> int:
    """Store the results that these lines have in [start, end), each line's side by side; return how many."""
    by_class: dict[tuple[str, int], list[int]] = {}
    for line in lines:
        by_class.setdefault((line.kind, line.interval_us), []).append(line.job_id)
    runs: list[Statement] = []
    groups: list[Statement] = []
    for (kind, interval_us), jobs in by_class.items():
        values = {"jobs": jobs, "now": now, "start": start, "end": end, "told_since": now - _TOLD}
        runs.append((_results_sql(kind, interval_us, start, end), values))
        for child in contract.kind(kind).children:
            keys = list(_KEYS.get((kind, child.name), ("1", "2")))
            groups.append((_rows_sql(kind, child.name), {**values, "keys": keys}))
    stored = run_all(settings, runs)
    run_all(settings, groups)
    return stored


def _results_sql(kind: str, interval_us: int, start: dt.datetime, end: dt.datetime) -> str:
    told = {
        "job_id": "j.id",
        "scheduled_at": "at",
        "started_at": "at + interval '150 us'",
        "duration_ms": "20 + j.place",
        "job_version": "1",
        "start_error_us": "150",
        "status": "s.status",
        "failure_source": f"CASE s.status WHEN {probe_pb2.STATUS_FAILED} THEN {probe_pb2.FAILURE_SOURCE_NETWORK} "
        f"WHEN {probe_pb2.STATUS_ERROR} THEN {probe_pb2.FAILURE_SOURCE_VANTAGE} ELSE {probe_pb2.FAILURE_SOURCE_NONE} END",
        "error": f"CASE s.status WHEN {probe_pb2.STATUS_FAILED} THEN 'no answer in time' "
        f"WHEN {probe_pb2.STATUS_ERROR} THEN 'the host has no route' END",
    }
    if kind in _DETAILS:
        text = json.dumps(_DETAILS[kind]).replace("'", "''").replace("%", "%%")
        told["detail"] = (
            f"CASE WHEN at > %(told_since)s AND s.status = {probe_pb2.STATUS_OK} THEN '{text}'::jsonb END"
        )
    for number, column in enumerate(results.columns(kind)):
        if column.metric is not None and column.metric.name not in _NOT_MEASURED.get(kind, ()):
            told[column.name] = _measured(column, number)
    origin = _FROM.format(
        interval_us=interval_us,
        first=int(start.timestamp() * 1_000_000) // interval_us,
        last=int(end.timestamp() * 1_000_000) // interval_us,
        broken=BROKEN,
        unmeasured=UNMEASURED,
        flaky=FLAKY,
        slower=SLOWER,
        ok=probe_pb2.STATUS_OK,
        failed=probe_pb2.STATUS_FAILED,
        error=probe_pb2.STATUS_ERROR,
    )
    return (
        f"INSERT INTO {results.table_name(kind)} ({', '.join(told)}) SELECT {', '.join(told.values())} {origin} "
        "WHERE at >= %(start)s AND at < %(end)s ORDER BY j.id, cell"
    )


def _rows_sql(kind: str, child: str) -> str:
    columns = [column for column in results.child_columns(kind, child) if column.metric is not None]
    values = [_of_row(column, number) for number, column in enumerate(columns)]
    names = ", ".join(["job_id", "scheduled_at", "key", *(column.name for column in columns)])
    return (
        f"INSERT INTO {results.child_table_name(kind, child)} ({names}) "
        f"SELECT r.job_id, r.scheduled_at, k.key, {', '.join(values)} FROM {results.table_name(kind)} r, "
        "LATERAL (SELECT extract(epoch FROM r.scheduled_at)::bigint AS cell, 1::float8 AS lift) i, "
        "unnest(%(keys)s::text[]) WITH ORDINALITY k (key, place) "
        f"WHERE r.job_id = ANY(%(jobs)s) AND r.status = {probe_pb2.STATUS_OK} "
        "AND r.scheduled_at >= %(start)s AND r.scheduled_at < %(end)s ORDER BY 1, 2, 3"
    )


def _measured(column: ResultColumn, number: int) -> str:
    """Return the SQL of what a run measured: all when it went well, and of one that failed the loss alone."""
    assert column.metric is not None
    value = _value(column, number, "j.place")
    if column.metric.role == "loss" and column.metric.unit == "%":
        return f"CASE s.status WHEN {probe_pb2.STATUS_OK} THEN {value} WHEN {probe_pb2.STATUS_FAILED} THEN 100 END"
    return f"CASE s.status WHEN {probe_pb2.STATUS_OK} THEN {value} END"


def _of_row(column: ResultColumn, number: int) -> str:
    return _value(column, number, "k.place")


def _value(column: ResultColumn, number: int, place: str) -> str:
    # Of doubles only: what PostgreSQL takes for a decimal number takes ten times as long.
    assert column.metric is not None
    noise = f"((hashint8(cell * 31 + {place} * 1000003 + {number}) & 65535)::float8 / 65536)"
    if column.type == "bool":
        return "true"
    if column.metric.role == "loss" and column.metric.unit == "%":
        return f"CASE WHEN {place} = {FLAKY} AND {noise} < 0.1 THEN 100::float8 / 3 ELSE 0 END"
    if column.metric.unit == "ms":
        share = next((share for part, share in _PARTS if part in column.name), 1)
        return f"{share}::float8 * (4 + 3 * {place})::float8 * lift * (1 + 0.2 * {noise})"
    if column.metric.unit == "%":
        return f"20 + 10 * {noise}"
    if column.type == "float8":
        return f"100 * (1 + {noise})"
    return f"8 + {place} + CASE WHEN {noise} < 0.02 THEN 1 ELSE 0 END"
