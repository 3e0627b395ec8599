"""Rewrites a day of a result table that is over in the order of its key, so that a job's runs lie side by side.

Results arrive in the order of time, and a chart of one job would read a page for every run. Rewriting copies a
partition, ordered, into a new table whose columns begin with those that are always read, gives it the key and a check
that spares the attachment its scan, and puts it into the partition's place in one short transaction. A result that
comes meanwhile goes into the partition as always, where it can be read and cannot come twice, and a trigger copies it
into a table beside it, which is merged before the swap. Making the trigger waits for writers that are under way, so
every row is in the copy, in the table beside it, or in both.

    result_ping_2026_11_20        the partition: the old one until the swap, then the new
    late_result_ping_2026_11_20   what has come since the copy began; goes with the swap
    new_result_ping_2026_11_20    the copy

It may be cut short at any instant: each transaction leaves the partition whole, and behind the swap nothing is left to
do. Attempts are numbered; one that was overtaken, by another keeper or by a removal of rows, cannot swap any more. The
next attempt begins anew; only when all that was missing are the locks of the swap, it goes on with the copy, unless
somebody has removed rows or changed columns meanwhile.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psycopg2
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from controller.store import partitions, results
from streamswarm.v1 import probe_pb2

#: Longest wait for the locks of a swap; everything on the table waits behind it.
SWAP_LOCK_MS = 200
_SWAP_TRIES = 60
_LONGEST_PAUSE_S = 2.0
#: A lock on the one partition alone is waited for longer: others are not in its way.
_LOCK_MS = 3000
#: Memory of the sort; the rest of a large day goes through temporary files.
_SORT_MEMORY = "64MB"
#: Fewer late rows than this are merged within the swap.
_FEW_LATE = 500
_CHECK = "rewritten_day"
_NO_SUCH_TABLE = "42P01"

#: Told after each step, by its name; tests cut in there.
Told = Callable[[str], None]


class OvertakenError(Exception):
    """The attempt is not the newest any more, or the partition is no longer there; somebody else sees to it."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """One partition of a result table."""

    table: str
    day: dt.date

    @property
    def name(self) -> str:
        """Name of the partition."""
        return partitions.partition_name(self.table, self.day)

    @property
    def new(self) -> str:
        """Name of the copy."""
        return f"new_{self.name}"

    @property
    def late(self) -> str:
        """Name of the table of what came meanwhile."""
        return f"late_{self.name}"

    @property
    def old(self) -> str:
        """Name of what a keeper of a former release swapped out and may have left."""
        return f"old_{self.name}"

    @property
    def key(self) -> str:
        """The columns of the key."""
        return ", ".join(column.name for column in results.described(self.table).primary_key)

    @property
    def key_clause(self) -> str:
        """The key as a table is given it, with what it carries."""
        carried = results.carried(self.table)
        return f"({self.key}) INCLUDE ({', '.join(carried)})" if carried else f"({self.key})"


@dataclass(frozen=True, kw_only=True)
class Rewritten:
    """What was done."""

    day: Day
    rows: int
    #: Seconds that copying took; the partition was in full use meanwhile.
    copy_s: float
    #: Milliseconds from the lock on the table to the answer; the old day's files go after the lock and before the answer.
    swap_ms: float
    #: How often the swap had to be tried.
    tries: int


def rewrite(engine: Engine, day: Day, *, told: Told = lambda _step: None) -> Rewritten:
    """Rewrite one day; the engine's time-out must let it sort that day.

    Raises OvertakenError, ConflictError when views stand on the day, before anything is copied, or
    sqlalchemy.exc.OperationalError when a lock was not had: the partition is whole then, and another call goes on
    with the copy.
    """
    started = time.monotonic()
    attempt = _resume(engine, day)
    if attempt is None:
        attempt = _begin(engine, day)
        told("begun")
        _copy(engine, day, attempt)
        told("copied")
    _vacuum(engine, day, f"(FREEZE, ANALYZE) {day.new}")
    copy_s = time.monotonic() - started
    told("vacuumed")
    while _merge_ahead(engine, day, attempt) > _FEW_LATE:
        told("merged")
    _vacuum(engine, day, day.late)  # or the swap would look through what has been merged
    try:
        rows, swap_ms, tries = _swap_patiently(engine, day, attempt)
    except OperationalError as error:
        if is_lock_timeout(error):
            _keep(engine, day, attempt)
        raise
    told("swapped")
    return Rewritten(day=day, rows=rows, copy_s=copy_s, swap_ms=swap_ms, tries=tries)


def overtake(connection: Connection, day: Day) -> None:
    """Make an attempt under way invalid, in a transaction that removes rows of that day.

    Waits for a copy that is being made, for as long as the connection's lock time-out allows.
    """
    connection.execute(
        text(
            "INSERT INTO rewritten_partitions (name, attempt) VALUES (:name, 1) "
            "ON CONFLICT (name) DO UPDATE SET attempt = rewritten_partitions.attempt + 1"
        ),
        {"name": day.name},
    )


def forget(connection: Connection, day: Day) -> None:
    """Remove what an attempt has left beside a partition, in the transaction that drops it."""
    connection.execute(text("DELETE FROM rewritten_partitions WHERE name = :name"), {"name": day.name})
    connection.execute(text(f"DROP TABLE IF EXISTS {day.new}, {day.late}, {day.old}"))


def _resume(engine: Engine, day: Day) -> int | None:
    """Take over the copy that an earlier attempt has kept; None when there is none that is good.

    What keeps it is taken off: should it turn out to be of no use, the next attempt begins anew.
    """
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_MS}"))
        kept = connection.execute(
            text("SELECT obj_description(to_regclass(:new), 'pg_class')"), {"new": day.new}
        ).scalar_one()
        if kept is None or kept != _mark(_fence(connection, day, None)) or not fits(connection, day):
            return None
        overtake(connection, day)
        connection.execute(text(f"COMMENT ON TABLE {day.new} IS NULL"))
        return _fence(connection, day, None)


def _keep(engine: Engine, day: Day, attempt: int) -> None:
    """Keep the copy for the next attempt: what comes until then goes beside the partition as before."""
    with engine.begin() as connection:
        _fence(connection, day, attempt)
        connection.execute(text(f"COMMENT ON TABLE {day.new} IS '{_mark(attempt)}'"))


def _mark(attempt: int) -> str:
    return f"complete, of attempt {attempt}"


def _begin(engine: Engine, day: Day) -> int:
    """Take the partition for this attempt, clear away what another has left, and keep what comes from now on."""
    with engine.begin() as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = {_LOCK_MS}"))
        overtake(connection, day)
        attempt = _fence(connection, day, None)
        partitions.refuse_views(connection, (day.name, day.new, day.late, day.old))
        clear(connection, day)
        # A vacuum would hold it against the swap, which drops it while everybody waits for the table.
        never = "autovacuum_enabled = false, toast.autovacuum_enabled = false"
        connection.execute(text(f"CREATE TABLE {day.late} (LIKE {day.name}) WITH ({never})"))
        connection.execute(
            text(
                f"CREATE TRIGGER keep_late AFTER INSERT ON {day.name} "
                "FOR EACH ROW EXECUTE FUNCTION keep_late_row()"
            )
        )
    return attempt


def fits(connection: Connection, day: Day) -> bool:
    """Whether the table of what comes meanwhile has the partition's columns, in its order: the trigger writes by place."""
    columns = (
        "(SELECT array_agg((attname, atttypid, atttypmod, attcollation, attnotnull) ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = to_regclass({}) AND attnum > 0 AND NOT attisdropped)"
    )
    return bool(
        connection.execute(
            text(
                f"SELECT {columns.format(':name')} IS NOT DISTINCT FROM {columns.format(':late')}"  # noqa: S608
            ),
            {"name": day.name, "late": day.late},
        ).scalar_one()
    )


def clear(connection: Connection, day: Day) -> None:
    """Remove the trigger and the tables of an attempt; all that they hold stands in the partition too."""
    left = connection.execute(
        text(
            "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(:name) AND tgname = 'keep_late')"
        ),
        {"name": day.name},
    ).scalar_one()
    if left:
        connection.execute(text(f"DROP TRIGGER keep_late ON {day.name}"))
    connection.execute(text(f"DROP TABLE IF EXISTS {day.new}, {day.late}, {day.old}"))


def _copy(engine: Engine, day: Day, attempt: int) -> None:
    """Make the ordered copy; the fence's lock lasts until it is done, so nobody copies or removes meanwhile."""
    first = f"{day.day} 00:00:00+00"
    after = f"{day.day + dt.timedelta(days=1)} 00:00:00+00"
    with engine.begin() as connection:
        _fence(connection, day, attempt)
        connection.execute(text(f"SET LOCAL work_mem = '{_SORT_MEMORY}'"))
        connection.execute(text(f"SET LOCAL maintenance_work_mem = '{_SORT_MEMORY}'"))
        columns, filled = _columns(connection, day)
        connection.execute(
            text(f"CREATE TABLE {day.new} AS SELECT {columns} FROM {day.name} WITH NO DATA")  # noqa: S608
        )
        always = ", ".join(f"ALTER {column} SET NOT NULL" for column in filled)
        connection.execute(text(f"ALTER TABLE {day.new} {always}"))
        connection.execute(
            text(f"INSERT INTO {day.new} SELECT {columns} FROM {day.name} ORDER BY {day.key}")  # noqa: S608
        )
        connection.execute(text(f"ALTER TABLE {day.new} ADD PRIMARY KEY {day.key_clause}"))
        if partitions.has_status(day.table):
            connection.execute(text(f"CREATE INDEX ON {day.new} {partitions.bad_runs()}"))
        connection.execute(
            text(
                f"ALTER TABLE {day.new} ADD CONSTRAINT {_CHECK} "
                f"CHECK (scheduled_at >= '{first}' AND scheduled_at < '{after}')"
            )
        )


def _vacuum(engine: Engine, day: Day, what: str) -> None:
    with (
        _gone_when_overtaken(day),
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
    ):
        connection.execute(text(f"VACUUM {what}"))


@contextlib.contextmanager
def _gone_when_overtaken(day: Day) -> Iterator[None]:
    """Take a table of the attempt that is not there for what it means, before the fence is asked."""
    try:
        yield
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", "") != _NO_SUCH_TABLE:
            raise
        raise OvertakenError(f"{day.name} is in other hands") from error


def _columns(connection: Connection, day: Day) -> tuple[str, list[str]]:
    """Return all columns in the order of the copy, and those that are never NULL.

    The partition, and the table of what comes meanwhile, may have them in another order.
    """
    found = {
        str(name): bool(filled)
        for name, filled in connection.execute(
            text(
                "SELECT attname, attnotnull FROM pg_attribute "
                "WHERE attrelid = to_regclass(:name) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
            ),
            {"name": day.name},
        )
    }
    ordered = results.reading_order(list(found))
    return ", ".join(f'"{name}"' for name in ordered), [f'"{name}"' for name in ordered if found[name]]


def _merge_ahead(engine: Engine, day: Day, attempt: int) -> int:
    """Merge what has come so far, so that little is left to do while the table is locked; return how many rows."""
    with engine.begin() as connection:
        _fence(connection, day, attempt)
        moved, _ = _merge(connection, day)
        return moved


def _merge(connection: Connection, day: Day) -> tuple[int, int]:
    """Move what came beside the partition into the copy; return how many rows that were, and how many were new."""
    columns, _ = _columns(connection, day)
    moved, added = connection.execute(
        text(
            f"WITH moved AS (DELETE FROM {day.late} RETURNING *), "  # noqa: S608
            f"added AS (INSERT INTO {day.new} AS held ({columns}) {_to_merge(day, columns)} RETURNING held.xmax = 0 AS is_new) "
            "SELECT (SELECT count(*) FROM moved), (SELECT count(*) FROM added WHERE is_new)"
        )
    ).one()
    return int(moved), int(added)


def _to_merge(day: Day, columns: str) -> str:
    """Return what of the moved rows goes into the copy, and what becomes of a row that is there already.

    What stands is what stands in the partition: a missed run gives way to its measured result, which came later
    (`controller.gateway.repeats`); rows that are in the copy and beside it are the same otherwise.
    """
    table = results.described(day.table)
    if not partitions.has_status(day.table):
        return f"SELECT {columns} FROM moved ON CONFLICT DO NOTHING"  # noqa: S608
    missed = f"status = {int(probe_pb2.STATUS_MISSED)}"
    taken = ", ".join(f'"{column.name}" = excluded."{column.name}"' for column in table.columns)
    return (
        f"SELECT DISTINCT ON ({day.key}) {columns} FROM moved ORDER BY {day.key}, {missed} "  # noqa: S608
        f"ON CONFLICT ({day.key}) DO UPDATE SET {taken} WHERE held.{missed} AND NOT excluded.{missed}"
    )


def _swap_patiently(engine: Engine, day: Day, attempt: int) -> tuple[int, float, int]:
    """Swap; when the locks are not had in a moment, let the others pass and try again."""
    pause_s = 0.05
    for number in range(1, _SWAP_TRIES + 1):
        try:
            rows, swap_ms = _swap(engine, day, attempt)
            return rows, swap_ms, number
        except OperationalError as error:
            if number == _SWAP_TRIES or not is_lock_timeout(error):
                raise
            time.sleep(random.uniform(pause_s / 2, pause_s))  # noqa: S311  jitter is no secret
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
    raise AssertionError("unreachable")


def _swap(engine: Engine, day: Day, attempt: int) -> tuple[int, float]:
    with engine.begin() as connection:
        # How many rows there are is counted before anybody has to wait; what comes until the swap is added.
        with _gone_when_overtaken(day):
            rows = int(connection.execute(text(f"SELECT count(*) FROM {day.new}")).scalar_one())  # noqa: S608
        renames = _renames(connection, day)
        connection.execute(text(f"SET LOCAL lock_timeout = {SWAP_LOCK_MS}"))
        _fence(connection, day, attempt)
        connection.execute(text(f"LOCK TABLE ONLY {day.table} IN ACCESS EXCLUSIVE MODE"))
        started = time.monotonic()
        connection.execute(text(f"ALTER TABLE {day.table} DETACH PARTITION {day.name}"))
        rows += _merge(connection, day)[1]
        for statement in (
            f"DROP TABLE {day.name}, {day.late}",  # their files go after the locks
            f"ALTER TABLE {day.new} RENAME TO {day.name}",
            *renames,
            partitions.attachment(day.table, day.day),
            f"ALTER TABLE {day.name} DROP CONSTRAINT {_CHECK}",
        ):
            connection.execute(text(statement))
        connection.execute(
            text(
                "UPDATE rewritten_partitions SET rewritten_at = now(), row_count = :rows, "
                "size_bytes = pg_relation_size(to_regclass(:name)) WHERE name = :name"
            ),
            {"name": day.name, "rows": rows},
        )
    return rows, (time.monotonic() - started) * 1000


def _renames(connection: Connection, day: Day) -> list[str]:
    """Return the SQL that gives key and index of the copy their usual names; it has no others before it is attached."""
    indexes = connection.execute(
        text(
            "SELECT c.relname, i.indisprimary FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
            "WHERE i.indrelid = to_regclass(:new)"
        ),
        {"new": day.new},
    )
    return [
        f'ALTER INDEX "{name}" RENAME TO {day.name}_{"pkey" if is_key else "bad"}' for name, is_key in indexes
    ]


def _fence(connection: Connection, day: Day, attempt: int | None) -> int:
    """Lock the partition's row and return its attempt; raise unless it is the expected one and the day is there."""
    found = connection.execute(
        text(
            "SELECT r.attempt FROM rewritten_partitions r WHERE r.name = :name AND EXISTS ("
            "  SELECT FROM pg_inherits WHERE inhrelid = to_regclass(:name) "
            "  AND inhparent = to_regclass(:table) AND NOT inhdetachpending) FOR UPDATE OF r"
        ),
        {"name": day.name, "table": day.table},
    ).scalar_one_or_none()
    if found is None or (attempt is not None and found != attempt):
        raise OvertakenError(f"{day.name} is in other hands")
    return int(found)


def is_lock_timeout(error: OperationalError | psycopg2.OperationalError) -> bool:
    """Whether a lock was not had in time, or two waited for each other."""
    return getattr(getattr(error, "orig", error), "pgcode", "") in ("55P03", "40P01")
