"""Removes the results of tests and workers that were deleted with their data, some rows at a time.

A gateway may know their jobs from before for a while, and a roll-up may have read what is being removed. So
the removal is over only with a round that began long enough after the deletion, looked at every day and found nothing.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.store import partitions, results, rollups
from controller.store.rollups import LAYERS
from controller.store.upkeep import rewriting

#: What can be deleted with its data: table, and the column of `jobs` that refers to it.
_OWNERS = (("tests", "test_id"), ("workers", "worker_id"))
#: Rows that are removed in one transaction.
ROWS_TOGETHER = 5000
#: So long after a deletion no gateway stores for its jobs any more, and no roll-up reads what was there.
SETTLED = dt.timedelta(minutes=15)


@dataclass(frozen=True, kw_only=True)
class _Deleted:
    """A test or a worker that was deleted with its data."""

    #: `tests` or `workers`.
    table: str
    #: The column of `jobs` that refers to it.
    column: str
    id: int | uuid.UUID
    #: Whether it was deleted so long ago that nothing is stored for its jobs any more.
    settled: bool


@dataclass(frozen=True, kw_only=True)
class _Round:
    """What one round did for one of them."""

    #: Rows that were removed.
    removed: int
    #: Whether every day was looked at; one that is being copied is not, and may still have rows.
    complete: bool


def purge(engine: Engine, *, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove what there is of tests and workers deleted with their data; return how many rows that were."""
    total = 0
    for deleted in _to_purge(engine):
        done = _purge(engine, deleted, stopped)
        total += done.removed
        if stopped():
            return total
        if deleted.settled and done.complete and not done.removed:
            _remove_versions(engine, deleted)
            with engine.begin() as connection:
                connection.execute(
                    text(f"UPDATE {deleted.table} SET data_removed_at = now() WHERE id = :id"),  # noqa: S608  our own names
                    {"id": deleted.id},
                )
    return total


def _to_purge(engine: Engine) -> list[_Deleted]:
    found = []
    with engine.connect() as connection:
        for table, column in _OWNERS:
            deleted = f"{table} WHERE data_deleted_at IS NOT NULL AND data_removed_at IS NULL"
            rows = connection.execute(
                text(
                    f"SELECT id, data_deleted_at < now() - CAST(:settled AS interval) AS settled FROM {deleted} ORDER BY id"  # noqa: S608  our own names
                ),
                {"settled": SETTLED},
            )
            found += [_Deleted(table=table, column=column, id=row.id, settled=row.settled) for row in rows]
    return found


def _purge(engine: Engine, deleted: _Deleted, stopped: Callable[[], bool]) -> _Round:
    with engine.connect() as connection:
        rows = connection.execute(
            text(f"SELECT kind, id FROM jobs WHERE {deleted.column} = :id ORDER BY id"),  # noqa: S608  our own names
            {"id": deleted.id},
        ).all()
    jobs: dict[str, list[int]] = {}
    for kind, job_id in rows:
        jobs.setdefault(kind, []).append(job_id)
    removed, complete = 0, True
    for kind, of_kind in jobs.items():
        for parent in (*results.table_names(kind), *_rollup_names(kind)):
            with engine.connect() as connection:
                names = partitions.attached(connection, parent)
            for name in names:
                try:
                    while count := _remove_some(engine, parent, name, of_kind):
                        removed += count
                        if stopped():
                            return _Round(removed=removed, complete=False)
                except OperationalError as error:
                    if not rewriting.is_lock_timeout(error):
                        raise
                    complete = False  # a later round removes what that day has
    with engine.begin() as connection:
        every = [job_id for of_kind in jobs.values() for job_id in of_kind]
        connection.execute(text("DELETE FROM dirty_buckets WHERE job_id = ANY(:jobs)"), {"jobs": every})
        if deleted.table == "workers":
            # Results that could never be stored are its data too.
            removed += connection.execute(
                text("DELETE FROM quarantine WHERE worker_id = :id"), {"id": deleted.id}
            ).rowcount
    return _Round(removed=removed, complete=complete)


def _remove_versions(engine: Engine, deleted: _Deleted) -> None:
    """Remove how its jobs were scheduled: without results nothing asks for it any more."""
    some = f"SELECT v.ctid FROM job_versions v JOIN jobs j ON j.id = v.job_id WHERE j.{deleted.column} = :id LIMIT :most"  # noqa: S608  our own names
    statement = text(f"DELETE FROM job_versions WHERE ctid = ANY(ARRAY({some}))")  # noqa: S608  our own names
    removed = 1
    while removed:
        with engine.begin() as connection:
            removed = connection.execute(statement, {"id": deleted.id, "most": ROWS_TOGETHER}).rowcount


def _rollup_names(kind: str) -> tuple[str, ...]:
    return tuple(rollups.table_name(source, of) for source in rollups.sources(kind) for of in LAYERS)


def _remove_some(engine: Engine, parent: str, name: str, jobs: Sequence[int]) -> int:
    with engine.begin() as connection:
        if not _has_any(connection, name, jobs):
            return 0
        if parent in results.all_table_names():
            # A copy of that day that is being made still has the rows.
            rewriting.overtake(connection, rewriting.Day(table=parent, day=partitions.day_of(name)))
        return connection.execute(
            text(
                f"DELETE FROM {name} WHERE ctid = ANY(ARRAY("  # noqa: S608  our own names
                f"SELECT ctid FROM {name} WHERE job_id = ANY(:jobs) LIMIT :most))"
            ),
            {"jobs": list(jobs), "most": ROWS_TOGETHER},
        ).rowcount


def _has_any(connection: Connection, name: str, jobs: Sequence[int]) -> bool:
    return bool(
        connection.execute(
            text(f"SELECT EXISTS (SELECT FROM {name} WHERE job_id = ANY(:jobs))"),  # noqa: S608  our own names
            {"jobs": list(jobs)},
        ).scalar_one()
    )
