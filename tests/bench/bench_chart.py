"""24 hours of one job out of 10 million `ping` results: the day as the keeper leaves it beside one plain table.

Both hold the same rows under the same key, in the day's with the headline beside it. The plain table is filled in the order
of time, as results arrive; the day was too, and then rewritten by the keeper's own code. What is read is what a chart reads:
the runs in buckets, with mean, minimum and maximum, by the statement that the product sends. It is the chart of the headline;
`beside_key` is that of a metric that the day's key does not carry.

Warm: the server has run for a while, the kernel holds the files, and each chart is that of a job that nobody has looked at
just now; PostgreSQL's own buffers hold a few hundredths of the tables, as they do on a server that stores results. `again`
is the same chart a second time, out of those buffers. Cold: PostgreSQL is started anew and the kernel is told to drop the
files' pages.

Counted is the time until the database's answer is there, of a statement that it has planned before, with numbers as it holds
them: planning, and Python's reading of 288 rows, are the same for both tables and would hide what differs. `read_ms` is with
all of that: the statement planned anew, numbers as text, rows as Python has them.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, event
from support.deployment import Deployment, deployed

from controller.store import partitions, results
from controller.store.engine import libpq_url, make_engine
from controller.store.queries import results as queries
from controller.store.upkeep import rewriting
from controller.store.upkeep.rewriting import Day

ROWS = int(os.environ.get("BENCH_CHART_ROWS", "10000000"))
#: Runs of a job in a day: one a minute.
RUNS = 1440
WARM_ROUNDS, COLD_ROUNDS = 60, 5
WARM_GOAL, COLD_GOAL = 8, 20
DAY = Day(table="result_ping", day=dt.date(2026, 3, 29))
HEADLINE, BESIDE_KEY = "rtt_avg_ms", "rtt_p95_ms"
NOT_SET = ("detail", "error", "clock_offset_ms")


def fill_sql(table: str, first_minute: int, last_minute: int, jobs: int, start: str) -> str:
    """Return the SQL that adds the runs of all jobs in these minutes, in the order of time."""
    chosen = [column for column in results.columns("ping") if column.name not in NOT_SET]
    values = {
        "job_id": "job",
        "scheduled_at": "at",
        "started_at": "at + interval '150 us'",
        "job_version": "1",
        "status": "1",
        "failure_source": "0",
        "failure_reason": "NULL",
    }
    for column in chosen:
        if column.name not in values:
            noise = f"(hashint8(job::bigint * 1000003 + minute * 31 + {len(values)}) & 65535)"
            if column.type == "bool":
                values[column.name] = f"({noise} > 3000)"
            elif column.type == "float8":
                values[column.name] = f"5 + {noise}::float8 / 1000"
            else:
                values[column.name] = f"{noise} % 100"
    names = ", ".join(column.name for column in chosen)
    expressions = ", ".join(values[column.name] for column in chosen)
    return (
        f"INSERT INTO {table} ({names}) SELECT {expressions} "
        f"FROM generate_series({first_minute}, {last_minute - 1}) AS minute, generate_series(1, {jobs}) AS job, "
        f"LATERAL (SELECT timestamptz '{start}' + minute * interval '1 minute' + job * interval '1 ms' AS at) i "
        "ORDER BY minute, job"
    )


class Chart:
    """The statement by which a chart's mean, minimum and maximum are asked for, as the product sends it."""

    def __init__(self, engine: Engine, metric: str) -> None:
        sent: list[tuple[str, dict[str, Any]]] = []

        def note(_: object, __: object, statement: str, values: dict[str, Any], *more: object) -> None:
            sent.append((statement, values))

        event.listen(engine, "before_cursor_execute", note)
        start = dt.datetime.combine(DAY.day, dt.time(), dt.UTC)
        with engine.connect() as connection:
            queries.series(connection, "ping", metric, [1], start=start, end=start + dt.timedelta(days=1))
        event.remove(engine, "before_cursor_execute", note)
        [(self._sql, self._values)] = [each for each in sent if f" AS {metric}_sum" in each[0]]
        assert self._sql.count(f"FROM {DAY.table} s") == 1

    def of(self, table: str, job: int) -> tuple[bytes, dict[str, Any]]:
        """Return the statement for a job in a table, and its values."""
        return (
            self._sql.replace(f"FROM {DAY.table} s", f"FROM {table} s").encode(),
            {**self._values, "jobs_0": [job]},
        )


def answer_ms(
    connection: psycopg.Connection[Any], chart: Chart, table: str, job: int
) -> tuple[float, list[Any]]:
    """Return how long the answer took, and what it was."""
    statement, values = chart.of(table, job)
    started = time.perf_counter()
    cursor = connection.execute(statement, values, prepare=True, binary=True)
    return (time.perf_counter() - started) * 1000, cursor.fetchall()


def read_ms(connection: psycopg.Connection[Any], chart: Chart, table: str, job: int) -> float:
    """Return how long a chart takes with everything around it."""
    statement, values = chart.of(table, job)
    started = time.perf_counter()
    connection.execute(statement, values, prepare=False).fetchall()
    return (time.perf_counter() - started) * 1000


def drop_cache(folder: Path) -> None:
    """Tell the kernel to drop what it holds of all files below a folder."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def _fill(deployment: Deployment, jobs: int) -> tuple[Chart, Chart, dict[str, float]]:
    engine = make_engine(deployment.settings, application="bench", statement_timeout_s=3600)
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, "ping", [DAY.day])
    with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
        connection.execute("CREATE TABLE plain (LIKE result_ping INCLUDING DEFAULTS)")
        connection.execute("ALTER TABLE plain ADD PRIMARY KEY (job_id, scheduled_at)")
        for table in ("result_ping", "plain"):
            for minute in range(0, RUNS, 60):
                connection.execute(
                    fill_sql(table, minute, minute + 60, jobs, f"{DAY.day} 00:00:00+00").encode()
                )
        connection.execute("VACUUM (FREEZE, ANALYZE) plain")
    done = rewriting.rewrite(engine, DAY)
    charts = Chart(engine, HEADLINE), Chart(engine, BESIDE_KEY)
    engine.dispose()
    return *charts, {"rows": done.rows, "rewrite_s": round(done.copy_s, 1), "swap_ms": round(done.swap_ms, 1)}


def _warm(deployment: Deployment, chart: Chart, beside_key: Chart, jobs: int) -> dict[str, dict[str, float]]:
    """Return the median times by look and table: first and second looks, first ones with all around them, another metric."""
    tables = ("result_ping", "plain")
    times: dict[str, dict[str, list[float]]] = {
        look: {table: [] for table in tables} for look in ("first", "again", "read", "beside_key")
    }
    with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
        for table in tables:
            # Through the whole table once: the kernel has it then, and what is compared is not its luck.
            connection.execute(f"SELECT count(*), count(rtt_avg_ms) FROM {table}".encode())
            answer_ms(connection, chart, table, jobs)
        for number in range(WARM_ROUNDS):
            job, other, third = (1 + (number * 7919 + jobs * part // 3) % jobs for part in range(3))
            found = []
            for table in tables if number % 2 else reversed(tables):
                milliseconds, rows = answer_ms(connection, chart, table, job)
                times["first"][table].append(milliseconds)
                times["again"][table].append(answer_ms(connection, chart, table, job)[0])
                times["read"][table].append(read_ms(connection, chart, table, other))
                times["beside_key"][table].append(answer_ms(connection, beside_key, table, third)[0])
                found.append(rows)
            assert len(found[0]) == 288
            assert found[0] == found[1]
    return {
        look: {table: statistics.median(taken) for table, taken in by_table.items()}
        for look, by_table in times.items()
    }


def _cold(deployment: Deployment, chart: Chart, jobs: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"result_ping": [], "plain": []}
    for number in range(COLD_ROUNDS):
        job = 1 + (number * 104_729 + 17) % jobs
        found = []
        for table, taken in times.items():
            deployment.server.stop()
            drop_cache(deployment.folder)
            deployment.server.start()
            with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
                # The catalogue is not what is compared; every connection reads it.
                statement, values = chart.of(table, job)
                connection.execute(b"EXPLAIN " + statement, values)
                milliseconds, rows = answer_ms(connection, chart, table, job)
                taken.append(milliseconds)
                found.append(rows)
        assert found[0] == found[1]
    return {table: statistics.median(taken) for table, taken in times.items()}


def measure() -> dict[str, Any]:
    """Fill, rewrite, read."""
    jobs = ROWS // RUNS
    with deployed() as deployment:
        chart, beside_key, filled = _fill(deployment, jobs)
        found = _warm(deployment, chart, beside_key, jobs)
        cold = _cold(deployment, chart, jobs)
    warm = found["first"]
    ratio = warm["plain"] / warm["result_ping"]
    cold_ratio = cold["plain"] / cold["result_ping"]
    return {
        "value": round(warm["result_ping"], 3),
        "unit": "ms",
        "peer": "one plain table with the same key, filled in the order of time",
        "peer_value": round(warm["plain"], 3),
        "ratio": round(ratio, 2),
        "goal": f">= {WARM_GOAL} warm, >= {COLD_GOAL} cold",
        "ok": ratio >= WARM_GOAL and cold_ratio >= COLD_GOAL,
        "cold_ms": round(cold["result_ping"], 2),
        "peer_cold_ms": round(cold["plain"], 2),
        "cold_ratio": round(cold_ratio, 2),
        "again_ms": round(found["again"]["result_ping"], 3),
        "peer_again_ms": round(found["again"]["plain"], 3),
        "read_ms": round(found["read"]["result_ping"], 3),
        "peer_read_ms": round(found["read"]["plain"], 3),
        "beside_key_ms": round(found["beside_key"]["result_ping"], 3),
        "peer_beside_key_ms": round(found["beside_key"]["plain"], 3),
        "beside_key_ratio": round(found["beside_key"]["plain"] / found["beside_key"]["result_ping"], 2),
        "columns": len(results.columns("ping")),
        **filled,
    }
