"""One ingest transaction: sessions claimed and watermarks advanced, rows copied, what cannot be stored set aside.

The claim comes first and is the fence: only a worker's newest session finds its row, and the row stays locked
until the transaction ends, so a newer Hello either comes before, and nothing is stored, or after, and sees the
advanced watermark. Rows are locked in the order of worker ids, so two gateways cannot lock each other out.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from controller.gateway.database import Connection, is_transient
from controller.gateway.packing import HEADER, TRAILER, CopyTarget, PackedResult, copy_target


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One spooled record on its way into the database."""

    seq: int
    #: The rows; None when the result can never be stored.
    packed: PackedResult | None
    #: Why it can never be stored.
    fault: str
    #: The Result message as it came, for the quarantine.
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class Portion:
    """What one session has to store, in spool order."""

    worker_id: uuid.UUID
    epoch: int
    spool_id: str
    entries: Sequence[Entry]

    @property
    def last_seq(self) -> int:
        """The sequence number that the watermark is advanced to."""
        return self.entries[-1].seq


class MissingPartitionError(Exception):
    """A result is due on a day that its table has no partition for."""


#: Portions that were claimed, by position in what was handed in; the others' sessions are no longer the newest.
Claimed = frozenset[int]


async def store_copied(connection: Connection, portions: Sequence[Portion]) -> Claimed:
    """Store by COPY straight into the tables; any row that exists already makes the whole transaction fail."""
    async with connection.transaction():
        watermarks = await _claim(connection, portions)
        entries = _survivors(portions, watermarks)
        packed = [entry.packed for _, entry in entries if entry.packed is not None]
        await _copy_packed(connection, packed)
        await _set_aside(connection, [(portion, entry) for portion, entry in entries if entry.packed is None])
    return frozenset(watermarks)


async def store_staged(connection: Connection, portions: Sequence[Portion]) -> Claimed:
    """Store by way of a temporary table, so that rows that exist already are left out; the first one stands."""
    async with connection.transaction():
        watermarks = await _claim(connection, portions)
        entries = _survivors(portions, watermarks)
        unique: dict[tuple[int, int], PackedResult] = {}
        for _, entry in entries:
            if entry.packed is not None:
                unique.setdefault((entry.packed.job_id, entry.packed.scheduled_at_us), entry.packed)
        by_kind: dict[str, list[PackedResult]] = {}
        for packed in unique.values():
            by_kind.setdefault(packed.kind, []).append(packed)
        for kind, rows in sorted(by_kind.items()):
            new = await _insert_new(connection, kind, rows)
            await _copy_children(
                connection, kind, [row for row in rows if (row.job_id, row.scheduled_at_us) in new]
            )
        await _set_aside(connection, [(portion, entry) for portion, entry in entries if entry.packed is None])
    return frozenset(watermarks)


async def store_singly(connection: Connection, portion: Portion) -> Claimed:
    """Store row by row: what the database refuses for its content goes to the quarantine, the rest is stored."""
    async with connection.transaction():
        watermarks = await _claim(connection, [portion])
        refused = []
        for _, entry in _survivors([portion], watermarks):
            fault = entry.fault
            if entry.packed is not None:
                try:
                    async with connection.transaction():
                        await _copy_packed(connection, [entry.packed])
                    continue
                except psycopg.errors.UniqueViolation:
                    continue  # stored before
                except psycopg.Error as error:
                    if is_transient(error) or isinstance(error, psycopg.ProgrammingError):
                        raise
                    _raise_for_partition(error)
                    fault = f"the database refuses it: {error.diag.message_primary or error}"
            refused.append((portion, Entry(seq=entry.seq, packed=None, fault=fault, payload=entry.payload)))
        await _set_aside(connection, refused)
    return frozenset(watermarks)


async def _claim(connection: Connection, portions: Sequence[Portion]) -> dict[int, int]:
    """Lock the workers whose session is still the newest, advance their watermarks, return the former ones."""
    cursor = await connection.execute(
        """
        WITH claimed AS (
            SELECT w.id, w.acked_seq, b.position, b.last_seq
            FROM workers w
            JOIN unnest(%s::int[], %s::uuid[], %s::bigint[], %s::text[], %s::bigint[])
                 AS b(position, worker_id, epoch, spool_id, last_seq)
              ON w.id = b.worker_id AND w.session_epoch = b.epoch AND w.spool_id = b.spool_id
            WHERE w.revoked_at IS NULL AND w.deleted_at IS NULL
            ORDER BY w.id
            FOR UPDATE OF w
        )
        UPDATE workers w SET acked_seq = greatest(w.acked_seq, c.last_seq), last_seen_at = now()
        FROM claimed c
        WHERE w.id = c.id
        RETURNING c.position, c.acked_seq
        """,
        (
            list(range(len(portions))),
            [portion.worker_id for portion in portions],
            [portion.epoch for portion in portions],
            [portion.spool_id for portion in portions],
            [portion.last_seq for portion in portions],
        ),
    )
    return {row[0]: row[1] for row in await cursor.fetchall()}


def _survivors(portions: Sequence[Portion], watermarks: dict[int, int]) -> list[tuple[Portion, Entry]]:
    """Return what claimed portions hold beyond their watermark."""
    return [
        (portions[position], entry)
        for position, acked_seq in sorted(watermarks.items())
        for entry in portions[position].entries
        if entry.seq > acked_seq
    ]


async def _copy_packed(connection: Connection, packed: Sequence[PackedResult]) -> None:
    by_kind: dict[str, list[PackedResult]] = {}
    for row in packed:
        by_kind.setdefault(row.kind, []).append(row)
    for kind, rows in sorted(by_kind.items()):
        target = copy_target(kind)
        await _copy(connection, target.table, target, [row.row for row in rows])
        await _copy_children(connection, kind, rows)


async def _copy_children(connection: Connection, kind: str, rows: Sequence[PackedResult]) -> None:
    by_group: dict[str, list[bytes]] = {}
    for row in rows:
        for group, child in row.children:
            by_group.setdefault(group, []).append(child)
    for group, children in sorted(by_group.items()):
        target = copy_target(kind, group)
        await _copy(connection, target.table, target, children)


async def _insert_new(
    connection: Connection, kind: str, rows: Sequence[PackedResult]
) -> set[tuple[int, int]]:
    """Insert the rows that are not there yet and return their keys."""
    target = copy_target(kind)
    staging = f"staging_{target.table}"
    await connection.execute(
        f"CREATE TEMPORARY TABLE {staging} (LIKE {target.table}) ON COMMIT DROP".encode()
    )
    await _copy(connection, staging, target, [row.row for row in rows])
    try:
        cursor = await connection.execute(  # table and columns are the contract's own
            f"INSERT INTO {target.table} ({target.column_list}) SELECT {target.column_list} FROM {staging} "  # noqa: S608
            "ON CONFLICT DO NOTHING "
            "RETURNING job_id, (extract(epoch FROM scheduled_at) * 1000000)::bigint".encode()
        )
    except psycopg.errors.CheckViolation as error:
        _raise_for_partition(error)
        raise
    return {(job_id, scheduled_at_us) for job_id, scheduled_at_us in await cursor.fetchall()}


async def _copy(connection: Connection, table: str, target: CopyTarget, rows: Sequence[bytes]) -> None:
    statement = f"COPY {table} ({target.column_list}) FROM STDIN (FORMAT BINARY)".encode()
    try:
        async with connection.cursor() as cursor, cursor.copy(statement) as copy:
            await copy.write(b"".join((HEADER, *rows, TRAILER)))
    except psycopg.errors.CheckViolation as error:
        _raise_for_partition(error)
        raise


def _raise_for_partition(error: psycopg.Error) -> None:
    """A row without a partition is a check violation without a constraint's name."""
    if isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None:
        raise MissingPartitionError from error


async def _set_aside(connection: Connection, refused: Sequence[tuple[Portion, Entry]]) -> None:
    if not refused:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(
            sql.SQL(
                "INSERT INTO quarantine (worker_id, spool_id, seq, reason, payload) VALUES (%s, %s, %s, %s, %s)"
            ),
            [
                (portion.worker_id, portion.spool_id, entry.seq, entry.fault, entry.payload)
                for portion, entry in refused
            ],
        )
