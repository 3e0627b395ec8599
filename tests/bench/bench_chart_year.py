"""A year of one job: roll-ups beside the results themselves, through the product's own query.

The job runs twice a minute, or as often as `BENCH_YEAR_INTERVAL_S` says, for 365 days in daily partitions, each
rewritten in the order of its key as keepers leave them, with one other job beside it. Both sides give the chart of the
year in at most 500 points with count, mean, minimum, maximum and three percentiles; the results' side is what is left of
the query when nothing is rolled up, asked for in a transaction that forgets so. The sides are read in turns.
"""

from __future__ import annotations

import datetime as dt
import os
import statistics
import time
from typing import Any

import psycopg
from bench_chart import fill_sql
from sqlalchemy import Connection, Engine, text
from support.deployment import deployed

from controller.store import partitions, rollups
from controller.store.engine import libpq_url, make_engine
from controller.store.queries import figures
from controller.store.queries.figures import Bucket
from controller.store.queries.results import bucket_width
from controller.store.rollups import LAYERS, Source, rolling, sketches

INTERVAL_S = int(os.environ.get("BENCH_YEAR_INTERVAL_S", "30"))
DAYS = int(os.environ.get("BENCH_YEAR_DAYS", "365"))
#: In each, the results are read once and the roll-ups this often.
ROUNDS, OURS_EACH = 7, 5
GOAL = 50
METRICS = ["rtt_avg_ms", "loss_pct"]
SOURCE = Source(kind="ping", child=None)
FIRST = dt.datetime(2025, 3, 1, tzinfo=dt.UTC)
LAST = FIRST + dt.timedelta(days=DAYS)
JOB, JOBS = 1, 2


def _fill(engine: Engine, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(DAYS):
            day = FIRST + dt.timedelta(days=number)
            with engine.begin() as made:
                partitions.ensure_partitions(made, "ping", [day.date()])
            # In the order of the key at once: what rewriting makes of it is measured elsewhere.
            runs = 86_400 // INTERVAL_S
            statement = fill_sql("result_ping", 0, runs, JOBS, day.isoformat())
            statement = statement.replace("interval '1 minute'", f"interval '{INTERVAL_S} s'")
            connection.execute(statement.replace("ORDER BY minute, job", "ORDER BY job, minute").encode())
        connection.execute("VACUUM (FREEZE, ANALYZE)")


def _read(connection: Connection) -> tuple[float, tuple[Bucket, ...]]:
    """Return the time of the chart of the year, milliseconds, and what it shows."""
    width = bucket_width(LAST - FIRST, points=500, interval_s=INTERVAL_S)
    started = time.perf_counter()
    found = figures.buckets(
        connection, SOURCE, METRICS, [JOB], start=FIRST, end=LAST, width=width, percentiles=True
    )
    return (time.perf_counter() - started) * 1000, found


def _rolled_up(engine: Engine) -> tuple[float, tuple[Bucket, ...]]:
    with engine.connect() as connection:
        return _read(connection)


def _of_results(engine: Engine) -> tuple[float, tuple[Bucket, ...]]:
    with engine.connect() as connection:
        connection.execute(text("DELETE FROM rollup_frontiers WHERE kind = 'ping'"))
        found = _read(connection)
        connection.rollback()
    return found


def _compare(ours: tuple[Bucket, ...], plain: tuple[Bucket, ...]) -> float:
    """Fail unless both are the same; return the largest relative error of a percentile."""
    assert [bucket.start for bucket in ours] == [bucket.start for bucket in plain]
    assert DAYS <= len(ours) <= 500
    worst = 0.0
    for mine, other in zip(ours, plain, strict=True):
        assert (mine.ok, mine.failed, mine.error, mine.missed) == (
            other.ok,
            other.failed,
            other.error,
            other.missed,
        )
        for metric in METRICS:
            a, b = mine.figures[metric], other.figures[metric]
            assert (a.count, a.min, a.max) == (b.count, b.min, b.max)
            assert a.mean is not None
            assert b.mean is not None
            assert abs(a.mean - b.mean) <= 1e-12 * abs(b.mean)
            for found, exact in zip(a.percentiles, b.percentiles, strict=True):
                worst = max(worst, abs(found - exact) / abs(exact))
        assert len(mine.figures["rtt_avg_ms"].percentiles) == 3
    return worst


def measure() -> dict[str, Any]:
    """Fill a year, roll it up, read both in turns."""
    with deployed() as deployment:
        engine = make_engine(deployment.settings, application="bench", statement_timeout_s=3600)
        _fill(engine, libpq_url(deployment.settings))
        started = time.perf_counter()
        rolling.roll_up(engine, "ping")
        rolled_s = time.perf_counter() - started
        with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
            connection.execute("VACUUM (ANALYZE)")
            sizes = {
                of.name: connection.execute(
                    "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0) FROM pg_inherits "
                    "WHERE inhparent = to_regclass(%s)",
                    (rollups.table_name(SOURCE, of),),
                ).fetchall()[0][0]
                for of in LAYERS
            }
        (_, ours), (_, plain) = _rolled_up(engine), _of_results(engine)
        worst = _compare(ours, plain)
        ours_all, plain_all = [], []
        for _ in range(ROUNDS):
            plain_all.append(_of_results(engine)[0])
            ours_all += [_rolled_up(engine)[0] for _ in range(OURS_EACH)]
        engine.dispose()
    ours_ms, plain_ms = statistics.median(ours_all), statistics.median(plain_all)
    ratio = plain_ms / ours_ms
    return {
        "value": round(ours_ms, 2),
        "unit": "ms",
        "peer": "the same query over the results",
        "peer_value": round(plain_ms, 1),
        "ratio": round(ratio, 1),
        "goal": f">= {GOAL}",
        "ok": ratio >= GOAL and worst <= sketches.ERROR,
        "runs": sum(bucket.ok + bucket.failed + bucket.error + bucket.missed for bucket in ours),
        "points": len(ours),
        "worst_percentile_error": round(worst, 5),
        "stated_error": sketches.ERROR,
        "roll_up_s": round(rolled_s, 1),
        **{f"bytes_{name}": int(size) for name, size in sizes.items()},
    }
