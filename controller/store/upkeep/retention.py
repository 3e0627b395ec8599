"""Removes results and roll-ups for their age: whole partitions, detached beside everything that goes on, then dropped.

Results go by days, roll-ups by months, and only once every layer is rolled up beyond them and no late bucket of theirs
is marked, for which three days are waited at the most. What has gone is written down first (`expiries`), so that nothing is computed again from what is missing.
A detachment that was cut short is finished by the next round; a partition that is detached and still there is dropped.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.logs import reason
from controller.settings import Settings
from controller.store import partitions, results, rollups
from controller.store.entities.upkeep import RAW
from controller.store.rollups import DAY, LAYERS
from controller.store.upkeep import rewriting

_log = logging.getLogger(__name__)

#: Longest wait for a lock, or for those who still read a partition; what is not had is left for the next round.
LOCK_MS = 2000
#: A late bucket that waits to be rolled up keeps what is too old for so long at the most. Until a day is gone its results
#: are still taken: a worker that brings some of it again and again would keep everything for ever.
HELD = dt.timedelta(days=3)


@dataclass(frozen=True, kw_only=True)
class Retention:
    """How long results and the layers of roll-ups are kept; None is for ever."""

    kept: Mapping[str, dt.timedelta | None]

    @classmethod
    def of(cls, settings: Settings) -> Retention:
        """Return what the settings say."""
        days = {
            RAW: settings.retention_days,
            rollups.FIVE_MINUTES.name: settings.retention_5m_days,
            rollups.HOUR.name: settings.retention_1h_days,
            DAY.name: settings.retention_1d_days,
        }
        return cls(kept={name: dt.timedelta(days=count) if count else None for name, count in days.items()})


@dataclass(kw_only=True)
class Removed:
    """What was done."""

    #: Partitions that were dropped.
    dropped: list[str] = field(default_factory=list)
    #: Partitions that were in use for too long; the next round tries again.
    left: list[str] = field(default_factory=list)


def expire(engine: Engine, kind: str, retention: Retention, *, now: dt.datetime) -> Removed:
    """Remove of a kind what is too old."""
    removed = Removed()
    for layer in (RAW, *(of.name for of in LAYERS)):
        kept = retention.kept[layer]
        if kept is None:
            continue
        with engine.begin() as connection:
            before = _gone_before(connection, kind, layer, now - kept)
        if before is None:
            continue
        for table in _tables(kind, layer):
            for name in _overdue(engine, table, layer, *before):
                if not remove(engine, table, name):
                    removed.left.append(name)
                    break  # of one table only one can be half detached
                removed.dropped.append(name)
    return removed


def remove(engine: Engine, table: str, name: str) -> bool:
    """Detach a partition, if it still is attached, and drop it; False when somebody held it for too long."""
    try:
        _detach(engine, table, name)
        with engine.begin() as connection:
            connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
            if table in results.all_table_names():
                # At once with the partition: nobody would look any more for what stands beside one that is gone.
                rewriting.forget(connection, rewriting.Day(table=table, day=partitions.day_of(name)))
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    except OperationalError as error:
        if not rewriting.is_lock_timeout(error):
            raise
        _log.info("%s is in use and stays for now: %s", name, reason(error))
        return False
    return True


def _detach(engine: Engine, table: str, name: str) -> None:
    """Detach a partition beside everything that goes on, also one that a round left half detached."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        pending = _pending(connection, name)
        if pending is None:
            return
        connection.execute(text(f"SET lock_timeout = {LOCK_MS}"))
        try:
            how = "FINALIZE" if pending else "CONCURRENTLY"
            connection.execute(text(f"ALTER TABLE {table} DETACH PARTITION {name} {how}"))
        finally:
            if not connection.invalidated:
                connection.execute(text("RESET lock_timeout"))


def _gone_before(
    connection: Connection, kind: str, layer: str, cutoff: dt.datetime
) -> tuple[dt.datetime, dt.datetime] | None:
    """Return before which instant a layer is to go, and before which it is written down as gone; None for nothing yet.

    The second may be later: of a shorter retention, or of a clock that had leapt. What came since of that time is kept.
    No layer goes before all are rolled up beyond it: days are made from hours, and hours from results.
    """
    # Locked as the roll-ups do, so that none of them is reading what is now called gone.
    done = (
        connection.execute(
            text("SELECT done_until FROM rollup_frontiers WHERE kind = :kind ORDER BY layer FOR UPDATE"),
            {"kind": kind},
        )
        .scalars()
        .all()
    )
    marked = connection.execute(
        text("SELECT min(bucket) FROM dirty_buckets WHERE kind = :kind"), {"kind": kind}
    ).scalar_one()
    if len(done) < len(LAYERS):
        return None
    limits = [cutoff, *done, *([max(marked, cutoff - HELD)] if marked is not None else [])]
    before = rollups.floor(min(limits), DAY.width)
    known = connection.execute(
        text(
            "INSERT INTO expiries (kind, layer, gone_before) VALUES (:kind, :layer, :before) "
            "ON CONFLICT (kind, layer) DO UPDATE "
            "SET gone_before = greatest(expiries.gone_before, EXCLUDED.gone_before) RETURNING gone_before"
        ),
        {"kind": kind, "layer": layer, "before": before},
    ).scalar_one()
    return before, known


def _tables(kind: str, layer: str) -> tuple[str, ...]:
    if layer == RAW:
        return results.table_names(kind)
    return tuple(rollups.table_name(source, rollups.layer(layer)) for source in rollups.sources(kind))


def _overdue(
    engine: Engine, table: str, layer: str, before: dt.datetime, gone_before: dt.datetime
) -> Iterator[str]:
    """Return the partitions of a table that end by then, half detached and detached ones first: they block others.

    Those are finished wherever they are written down as gone.
    """
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT c.relname, coalesce(NOT i.inhdetachpending, false) AS attached "
                "FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid "
                "WHERE c.relkind = 'r' AND c.relname ~ :pattern ORDER BY attached, c.relname"
            ),
            {"pattern": f"^{table}_[0-9]{{4}}_[0-9]{{2}}{'_[0-9]{2}' if layer == RAW else ''}$"},
        ).all()
    for name, attached in found:
        if _end_of(name, layer) <= (before if attached else gone_before):
            yield name


def _end_of(name: str, layer: str) -> dt.datetime:
    if layer == RAW:
        day = partitions.day_of(name) + dt.timedelta(days=1)
    else:
        day = (partitions.month_of(name) + dt.timedelta(days=31)).replace(day=1)
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def _pending(connection: Connection, name: str) -> bool | None:
    """Return whether a partition is half detached; None when it is not attached at all."""
    return connection.execute(
        text("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = to_regclass(:name)"), {"name": name}
    ).scalar_one_or_none()
