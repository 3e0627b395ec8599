"""The days of the result tables, as keepers leave them: those that are over in the order of their keys, frozen."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy import Engine, text

from controller.settings import Settings
from controller.store import partitions, results
from controller.store.engine import libpq_url
from controller.store.upkeep import rewriting
from controller.store.upkeep.due_days import REST
from controller.store.upkeep.rewriting import Day

#: SQL, and the values in it.
Statement = tuple[str, dict[str, Any] | None]
#: Statements at the same time: one for each processor.
AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class Days:
    """All days, the oldest first."""

    over: tuple[dt.date, ...]
    #: Those whose results lie in the order in which they came.
    fresh: tuple[dt.date, ...]

    @property
    def all(self) -> tuple[dt.date, ...]:
        """Both."""
        return (*self.over, *self.fresh)


def days_until(now: dt.datetime, *, back: int, end: dt.datetime) -> Days:
    """Return the days from so many before today to that of `end`, apart by whether a keeper has rewritten them by now."""
    today = now.astimezone(dt.UTC).date()
    known = [
        today - dt.timedelta(days=number) for number in range(back, -((end.date() - today).days) - 1, -1)
    ]
    over = [
        day
        for day in known
        if dt.datetime.combine(day, dt.time(), dt.UTC) + dt.timedelta(days=1) + REST <= now
    ]
    return Days(over=tuple(over), fresh=tuple(known[len(over) :]))


def lay_out(engine: Engine, days: Days) -> None:
    """Make the partitions: one day that is over is rewritten by the keeper's own code, the others are made like it."""
    for kind in results.kinds():
        with engine.begin() as connection:
            partitions.ensure_partitions(connection, kind, [*days.over[:1], *days.fresh])
        for table in results.table_names(kind) if days.over else ():
            first, *rest = (Day(table=table, day=day) for day in days.over)
            rewriting.rewrite(engine, first)
            with engine.begin() as connection:
                for day in rest:
                    connection.execute(text(f"DROP TABLE IF EXISTS {day.name}"))
                    connection.execute(text(f"CREATE TABLE {day.name} (LIKE {first.name} INCLUDING ALL)"))
                    connection.execute(text(partitions.attachment(table, day.day)))


def settle(settings: Settings, days: Days) -> None:
    """Freeze and analyse the days that are over, and note when they were rewritten, as keepers do."""
    names = [
        partitions.partition_name(table, day)
        for day in reversed(days.over)
        for table in results.all_table_names()
    ]
    run_all(settings, [(f"VACUUM (FREEZE, ANALYZE) {name}", None) for name in names])
    with psycopg.connect(libpq_url(settings), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO rewritten_partitions (name, attempt, rewritten_at, row_count, size_bytes) "
            "SELECT relname, 1, now(), greatest(reltuples, 0)::bigint, pg_relation_size(oid) FROM pg_class WHERE relname = ANY(%s) "
            "ON CONFLICT (name) DO UPDATE SET row_count = excluded.row_count, size_bytes = excluded.size_bytes",
            (names,),
        )


def analyse_fresh(settings: Settings, days: Days) -> None:
    """Do what autovacuum has done of days that are not over."""
    names = [
        partitions.partition_name(table, day) for day in days.fresh for table in results.all_table_names()
    ]
    run_all(settings, [(f"VACUUM (ANALYZE) {name}", None) for name in names])


def run_all(settings: Settings, statements: Sequence[Statement]) -> int:
    """Run statements, some at a time; return how many rows they have changed."""

    def run(share: int) -> int:
        changed = 0
        with psycopg.connect(libpq_url(settings), autocommit=True) as connection:
            # A row after the other down the key: what is looked for lies there in the order that is wanted.
            connection.execute(
                "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET work_mem = '64MB'"
            )
            while waiting:
                statement, values = waiting.pop()
                changed += max(0, connection.execute(statement.encode(), values).rowcount)
        return changed

    waiting = list(reversed(statements))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return sum(pool.map(run, range(AT_ONCE)))
