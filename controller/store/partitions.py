"""Daily partitions of the result tables, by the instant for which a run was due.

The keeper makes them ahead. A result of another day, from a spool that waited long, is stored all the same: the
gateway calls `ensure_partitions` for the days that it lacks. A partition is made as a table of its own and then
attached, which lets inserts and queries on the parent go on meanwhile.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable

from sqlalchemy import Connection, Engine, text

from controller.errors import ConflictError
from controller.store import results
from streamswarm.v1 import probe_pb2

#: Days before today for which partitions are kept ready: spools that waited over a night or a weekend.
DAYS_BACK = 3
#: Longest wait for the lock on a parent table; a waiting attachment makes others wait behind it.
LOCK_TIMEOUT_S = 3
_PARTITION = re.compile(r"((new|late|old)_)?result_\w+_\d{4}_\d{2}_\d{2}\Z|rollup_\w+_\d{4}_\d{2}\Z")
_LOCK = 7_377_230_145_220_652


def is_partition(name: str) -> bool:
    """Return whether a table of that name is a partition of a result or roll-up table, or stands beside one for a while."""
    return _PARTITION.match(name) is not None


def partition_name(table: str, day: dt.date) -> str:
    """Return the name of a table's partition for a day (UTC)."""
    return f"{table}_{day:%Y_%m_%d}"


def day_of(name: str) -> dt.date:
    """Return the day of a partition of a result table."""
    return dt.datetime.strptime(name[-10:], "%Y_%m_%d").replace(tzinfo=dt.UTC).date()


def refuse_views(connection: Connection, names: Iterable[str]) -> None:
    """Raise ConflictError when views, materialised or not, stand on one of these tables, which cannot be dropped then."""
    found = connection.execute(
        text(
            "SELECT DISTINCT r.ev_class::regclass || ' on ' || d.refobjid::regclass AS view FROM pg_depend d "
            "JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass "
            "WHERE d.refclassid = 'pg_class'::regclass AND r.ev_class <> d.refobjid "
            "AND d.refobjid IN (SELECT to_regclass(name) FROM unnest(CAST(:names AS text[])) AS name) ORDER BY 1"
        ),
        {"names": list(names)},
    )
    if views := ", ".join(found.scalars()):
        raise ConflictError(
            f"views stand on single days: {views}",
            mend="drop them, or make them on the table of all days: days are replaced and removed",
        )


def days_around(now: dt.datetime, *, ahead: int, back: int = DAYS_BACK) -> list[dt.date]:
    """Return the days from `back` before to `ahead` after the day of `now` in UTC."""
    today = now.astimezone(dt.UTC).date()
    return [today + dt.timedelta(days=offset) for offset in range(-back, ahead + 1)]


def ensure_partitions(connection: Connection, kind: str, days: Iterable[dt.date]) -> list[str]:
    """Make the partitions of a kind's tables for these days where they are missing; return those made.

    Runs in the caller's transaction, which should be a short one of its own: until it ends, a second caller
    waits. Calling it again does nothing. Raises sqlalchemy.exc.OperationalError when a lock is not had in time.
    """
    wanted = [(table, day) for table in results.table_names(kind) for day in sorted(set(days))]
    if not _missing(connection, wanted):
        return []
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    made = []
    for table, day in _missing(connection, wanted):
        made.append(partition_name(table, day))
        for statement in partition_statements(table, day):
            connection.execute(text(statement))
    return made


def ensure_all(engine: Engine, days: Iterable[dt.date]) -> list[str]:
    """Make the partitions of every result table for these days, each day and kind in its own transaction."""
    made = []
    for kind in results.kinds():
        for day in sorted(set(days)):
            with engine.begin() as connection:
                made += ensure_partitions(connection, kind, [day])
    return made


def attached(connection: Connection, table: str) -> list[str]:
    """Return the names of a table's partitions, the oldest first."""
    return list(
        connection.execute(
            text(
                "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                "WHERE i.inhparent = to_regclass(:table) AND NOT i.inhdetachpending ORDER BY c.relname"
            ),
            {"table": table},
        ).scalars()
    )


def month_name(table: str, month: dt.date) -> str:
    """Return the name of a roll-up table's partition for the month of a day (UTC)."""
    return f"{table}_{month:%Y_%m}"


def month_of(name: str) -> dt.date:
    """Return the first day of the month of a roll-up table's partition."""
    return dt.datetime.strptime(name[-7:], "%Y_%m").replace(tzinfo=dt.UTC).date()


def ensure_months(connection: Connection, table: str, instants: Iterable[dt.datetime]) -> None:
    """Make the partitions of a roll-up table for the months of these instants where they are missing."""
    months = {instant.astimezone(dt.UTC).date().replace(day=1) for instant in instants}
    missing = {month for month in months if not _is_attached(connection, month_name(table, month))}
    if not missing:
        return
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    for month in sorted(missing):
        name = month_name(table, month)
        if _is_attached(connection, name):
            continue
        after = (month + dt.timedelta(days=31)).replace(day=1)
        connection.execute(
            text(
                f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
            )
        )
        connection.execute(
            text(
                f"ALTER TABLE {table} ATTACH PARTITION {name} "
                f"FOR VALUES FROM ('{month} 00:00:00+00') TO ('{after} 00:00:00+00')"
            )
        )


def _is_attached(connection: Connection, name: str) -> bool:
    return bool(
        connection.execute(
            text("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass(:name))"),
            {"name": name},
        ).scalar_one()
    )


def partition_statements(table: str, day: dt.date) -> tuple[str, ...]:
    """Return the SQL that makes the partition of a table for a day, then the SQL that attaches it.

    The runs that did not end well are found by an index of each partition: `rewriting` gives it to a day it makes anew.
    """
    if table not in results.all_table_names():
        raise ValueError(f"{table} is not a result table")
    name = partition_name(table, day)
    made = f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
    if not has_status(table):
        return made, attachment(table, day)
    return made, f"CREATE INDEX {name}_bad ON {name} {bad_runs()}", attachment(table, day)


def has_status(table: str) -> bool:
    """Return whether a result table says how runs ended; those of repeated groups do not."""
    return "status" in results.described(table).columns


def bad_runs() -> str:
    """Return what is indexed of the runs that did not end well: they are looked for by time."""
    return f"(scheduled_at, job_id) WHERE status <> {probe_pb2.STATUS_OK}"


def attachment(table: str, day: dt.date) -> str:
    """Return the SQL that attaches the partition of a table for a day."""
    after = day + dt.timedelta(days=1)
    return (
        f"ALTER TABLE {table} ATTACH PARTITION {partition_name(table, day)} "
        f"FOR VALUES FROM ('{day} 00:00:00+00') TO ('{after} 00:00:00+00')"
    )


def missing(connection: Connection, kind: str, days: Iterable[dt.date]) -> list[str]:
    """Return the names of the partitions of a kind's tables that there are not for these days."""
    wanted = [(table, day) for table in results.table_names(kind) for day in sorted(set(days))]
    return [partition_name(table, day) for table, day in _missing(connection, wanted)]


def _missing(connection: Connection, wanted: list[tuple[str, dt.date]]) -> list[tuple[str, dt.date]]:
    names = [partition_name(table, day) for table, day in wanted]
    found = set(
        connection.execute(
            text(
                "SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid "
                "WHERE c.relname = ANY(:names)"
            ),
            {"names": names},
        ).scalars()
    )
    return [pair for pair, name in zip(wanted, names, strict=True) if name not in found]
