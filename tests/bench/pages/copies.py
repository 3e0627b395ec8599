"""Copies the past of the patterns for all other lines: results at their own instants, roll-ups, what diagnosis has learnt.

The intervals divide five minutes, and a copy is due in the same interval as its pattern: so the same runs fall into each of its
buckets, and the roll-ups of the pattern are those of the copy.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import psycopg
from bench.pages.days import Days, Statement, run_all
from sqlalchemy import Engine

from controller.settings import Settings
from controller.store import partitions, results, rollups
from controller.store.engine import libpq_url
from controller.store.rollups import DAY, HOUR, rolling

#: Results of fresh days are stored in the order of time, so much of it in one statement.
_SLICE = dt.timedelta(minutes=30)
#: The columns that a copy has of its own.
_OWN = ("job_id", "scheduled_at", "started_at", "detail")


def copy_over(settings: Settings, days: Days) -> int:
    """Copy the results of the days that are over, in the order of their keys; return how many."""
    rows = [_copy(table, day) for day in reversed(days.over) for table in _of_runs()]
    children = [_copy(table, day) for day in reversed(days.over) for table in _of_groups()]
    run_all(settings, children)
    return run_all(settings, rows)


def copy_fresh(settings: Settings, start: dt.datetime, end: dt.datetime) -> int:
    """Copy the results of a stretch of time, in its order; return how many."""
    stored = 0
    while start < end:
        day_end = dt.datetime.combine(start.date() + dt.timedelta(days=1), dt.time(), dt.UTC)
        until = min(start + _SLICE, end, day_end)
        run_all(settings, [_copy(table, start.date(), start, until) for table in _of_groups()])
        stored += run_all(settings, [_copy(table, start.date(), start, until) for table in _of_runs()])
        start = until
    return stored


def _of_runs() -> Iterator[str]:
    yield from (results.table_name(kind) for kind in results.kinds())


def _of_groups() -> Iterator[str]:
    yield from sorted(set(results.all_table_names()) - set(_of_runs()))


def _kind(table: str) -> str:
    return next(kind for kind in results.kinds() if table in results.table_names(kind))


def _copy(
    table: str, day: dt.date, start: dt.datetime | None = None, end: dt.datetime | None = None
) -> Statement:
    names = [column.name for column in results.described(table).columns if column.name not in _OWN]
    instants = [name for name in _OWN[1:3] if name in results.described(table).columns]
    part = partitions.partition_name(table, day)
    within = f"AND scheduled_at >= '{start}' AND scheduled_at < '{end}'" if start and end else ""
    own = ", ".join(f"p.{name} + l.shift" for name in instants)
    statement = (
        f"INSERT INTO {part} ({', '.join(['job_id', *instants, *names])}) "
        f"SELECT l.job_id, {own}, {', '.join(f'p.{name}' for name in names)} "
        f"FROM (SELECT * FROM bench_lines WHERE kind = '{_kind(table)}' AND job_id <> pattern "
        f"AND since < '{day + dt.timedelta(days=1)}' AND until > '{day}' ORDER BY job_id) l, "
        f"LATERAL (SELECT * FROM {part} WHERE job_id = l.pattern {within} ORDER BY {_key(table)}) p "
        f"WHERE p.scheduled_at + l.shift >= l.since AND p.scheduled_at + l.shift < l.until{' ORDER BY 2, 1' if within else ''}"
    )
    return statement, None


def _key(table: str) -> str:
    return ", ".join(column.name for column in results.described(table).primary_key)


def copy_rollups(settings: Settings) -> None:
    """Copy the roll-ups of whole buckets."""
    statements = [
        f"INSERT INTO {table} ({', '.join(['job_id', 'bucket', *names])}) "
        f"SELECT l.job_id, r.bucket, {', '.join(f'r.{name}' for name in names)} "
        f"FROM (SELECT * FROM bench_lines WHERE kind = '{kind}' AND job_id <> pattern ORDER BY job_id) l, "
        f"LATERAL (SELECT * FROM {table} WHERE job_id = l.pattern AND bucket >= l.since "
        f"AND bucket + interval '{of.width.total_seconds():g} s' <= l.until ORDER BY bucket) r"
        for kind in results.kinds()
        for source in rollups.sources(kind)
        for of in (HOUR, DAY)
        for table, names in [
            (rollups.table_name(source, of), [name for name, _ in rollups.columns(source)][2:])
        ]
    ]
    run_all(settings, [(each, None) for each in statements])


def roll_up_ends(engine: Engine, settings: Settings) -> None:
    """Have the buckets in which lines ended rolled up by themselves, marked as late results mark theirs."""
    with psycopg.connect(libpq_url(settings), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dirty_buckets (kind, job_id, bucket) "
            "SELECT kind, job_id, date_bin('5 minutes', until - interval '1 us', timestamptz '2000-01-01 00:00:00+00') "
            "FROM bench_lines WHERE until > since AND until < now() - interval '10 minutes'"
        )
    for kind in results.kinds():
        rolling.roll_up(engine, kind)


def copy_states(settings: Settings) -> None:
    """Copy what diagnosis has learnt of the patterns."""
    statement = (
        "INSERT INTO diagnosis_states (job_id, version, fingerprint, position, looked_at, needed, model, reading) "
        "SELECT l.job_id, s.version, s.fingerprint, s.position, s.looked_at, s.needed, s.model, s.reading "
        "FROM bench_lines l JOIN diagnosis_states s ON s.job_id = l.pattern WHERE l.job_id <> l.pattern AND l.until > l.since"
    )
    run_all(settings, [(statement, None)])
