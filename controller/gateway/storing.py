"""One ingest transaction: sessions claimed and watermarks advanced, rows copied, what cannot be stored set aside.

The claim comes first and is the fence: only a worker's newest session finds its row, and the row stays locked
until the transaction ends, so a newer Hello either comes before, and nothing is stored, or after, and sees the
advanced watermark. Rows are locked in the order of worker ids, so two gateways cannot lock each other out.

All of it blocks: it runs in the threads of the pipeline, never on the event loop.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import psycopg

from controller.gateway.alike import Flags, Integers
from controller.gateway.database import BlockingConnection, is_in_vain, is_transient
from controller.gateway.late import mark_late
from controller.gateway.loads import Entry, Load, Portion
from controller.gateway.packing import HEADER, TRAILER, CopyTarget, PackedResult, copy_target
from controller.gateway.repeats import is_stored, stored_before

_log = logging.getLogger(__name__)


class MissingPartitionError(Exception):
    """A result is due on a day that its table has no partition for."""


#: Portions that were claimed, by position in the load; the others' sessions are no longer the newest.
Claimed = frozenset[int]
#: Refused results that are kept for each worker, and bytes of each: enough to see what is wrong, and no way to fill the disk.
MOST_KEPT = 10_000
_LARGEST_KEPT = 16_384
_NOTHING = np.iinfo(np.int64).max
_NO_PLACES = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What a transaction has done."""

    claimed: Claimed
    #: Portions that held results which were stored already.
    repeating: frozenset[int]
    #: Places of what claimed portions held and was there already, by number or by key.
    repeated: Integers
    #: Why results were set aside in which nothing was wrong until they were to be stored, by place.
    refused: Mapping[int, str] = field(default_factory=dict)


def store_copied(
    connection: BlockingConnection, load: Load, positions: Collection[int], wary: Collection[int] = ()
) -> Stored:
    """Store portions by COPY straight into the tables.

    What `wary` portions hold is looked for in the tables first, and left out where it is there already; a run that was
    told as missed gives way to its measured result. A row of another that exists already makes the whole transaction
    fail.
    """
    with connection.transaction():
        watermarks, now_us = _claim(connection, load, positions)
        beyond = np.full(len(load.portions), _NOTHING)
        for position, acked_seq in watermarks.items():
            beyond[position] = acked_seq
        keep = load.seqs > beyond[load.owners]
        again = stored_before(connection, load, keep, wary) if wary else _NO_PLACES
        keep[again] = False
        rows: dict[str, list[bytes]] = {}
        for block in load.blocks:
            flags = keep[block.places]
            kept = block if flags.all() else block.chosen(flags)
            rows.setdefault(block.kind, []).append(kept.rows.tobytes())
        entries = [load.entry(place) for place in load.singles if keep[place]]
        singles: dict[str, list[PackedResult]] = {}
        for _, entry in entries:
            if entry.packed is not None:
                singles.setdefault(entry.packed.kind, []).append(entry.packed)
                rows.setdefault(entry.packed.kind, []).append(entry.packed.row)
        for kind, parts in sorted(rows.items()):
            target = copy_target(kind)
            _copy(connection, target.table, target, parts)
            _copy_children(connection, kind, singles.get(kind, ()))
        _set_aside(connection, [(portion, entry) for portion, entry in entries if entry.fault])
        _note_expired(connection, load, keep)
        mark_late(connection, load, keep, now_us)
    return Stored(
        claimed=frozenset(watermarks),
        repeating=frozenset(np.unique(load.owners[again]).tolist()),
        repeated=np.flatnonzero(load.belong_to(watermarks) & ~keep),
    )


def store_singly(connection: BlockingConnection, load: Load, position: int) -> Stored:
    """Store a portion row by row: what the database refuses for its content is set aside, the rest is stored."""
    with connection.transaction():
        watermarks, now_us = _claim(connection, load, [position])
        stored = np.zeros(len(load.seqs), dtype=np.bool_)
        new = stored.copy()
        asides = []
        refused: dict[int, str] = {}
        repeated = set(load.places(position)) if watermarks else set()
        for place, portion, entry in _survivors(load, watermarks):
            repeated.remove(place)
            new[place] = True
            fault = entry.fault
            if entry.packed is not None:
                try:
                    with connection.transaction():
                        if is_stored(connection, entry.packed):
                            repeated.add(place)
                        else:
                            _copy_packed(connection, entry.packed)
                            stored[place] = True
                    continue
                except psycopg.Error as error:
                    if is_transient(error) or isinstance(error, psycopg.ProgrammingError):
                        raise
                    _raise_for_partition(error)
                    fault = f"the database refuses it: {error.diag.message_primary or error}"
                except Exception as error:
                    if isinstance(error, MissingPartitionError) or not is_in_vain(error):
                        raise
                    _log.exception(
                        "result %s of worker %s cannot be stored and is set aside",
                        entry.seq,
                        portion.worker_id,
                    )
                    fault = f"it cannot be stored: {error!r}"
            if not fault:
                continue  # nobody wants it any more
            if entry.packed is not None:
                refused[place] = fault
            asides.append((portion, Entry(seq=entry.seq, packed=None, fault=fault, payload=entry.payload)))
        _set_aside(connection, asides)
        _note_expired(connection, load, new)
        mark_late(connection, load, stored, now_us)
    return Stored(
        claimed=frozenset(watermarks),
        repeating=frozenset(),
        repeated=np.array(sorted(repeated), dtype=np.int64),
        refused=refused,
    )


def _claim(
    connection: BlockingConnection, load: Load, positions: Collection[int]
) -> tuple[dict[int, int], int]:
    """Lock the workers whose session is still the newest, advance their watermarks, return the former ones.

    With them comes the transaction's now(), in microseconds; 0 when nothing was claimed.
    """
    cursor = connection.execute(
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
        RETURNING c.position, c.acked_seq, (extract(epoch FROM now()) * 1000000)::bigint
        """,
        (
            list(positions),
            [load.portions[position].worker_id for position in positions],
            [load.portions[position].epoch for position in positions],
            [load.portions[position].spool_id for position in positions],
            [load.portions[position].last_seq for position in positions],
        ),
    )
    claimed = cursor.fetchall()
    return {position: acked_seq for position, acked_seq, _ in claimed}, claimed[0][2] if claimed else 0


def _survivors(load: Load, watermarks: dict[int, int]) -> Iterator[tuple[int, Portion, Entry]]:
    """Yield what claimed portions hold beyond their watermark, with its place."""
    for position, acked_seq in sorted(watermarks.items()):
        for place in load.places(position):
            portion, entry = load.entry(place)
            if entry.seq > acked_seq:
                yield place, portion, entry


def _copy_packed(connection: BlockingConnection, packed: PackedResult) -> None:
    target = copy_target(packed.kind)
    _copy(connection, target.table, target, [packed.row])
    _copy_children(connection, packed.kind, [packed])


def _copy_children(connection: BlockingConnection, kind: str, rows: Sequence[PackedResult]) -> None:
    by_group: dict[str, list[bytes]] = {}
    for row in rows:
        for group, child in row.children:
            by_group.setdefault(group, []).append(child)
    for group, children in sorted(by_group.items()):
        target = copy_target(kind, group)
        _copy(connection, target.table, target, children)


def _copy(connection: BlockingConnection, table: str, target: CopyTarget, rows: Sequence[bytes]) -> None:
    statement = f"COPY {table} ({target.column_list}) FROM STDIN (FORMAT BINARY)".encode()
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(b"".join((HEADER, *rows, TRAILER)))
    except psycopg.errors.CheckViolation as error:
        _raise_for_partition(error)
        raise


def _raise_for_partition(error: psycopg.Error) -> None:
    """A row without a partition is a check violation without a constraint's name."""
    if isinstance(error, psycopg.errors.CheckViolation) and error.diag.constraint_name is None:
        raise MissingPartitionError from error


def _note_expired(connection: BlockingConnection, load: Load, new: Flags) -> None:
    """Count what nobody will find any more, with the workers that brought it; their rows are held since the claim."""
    counts = Counter(
        load.worker_id(place) for place, single in load.singles.items() if single.expired and new[place]
    )
    if counts:
        connection.execute(
            "UPDATE workers w SET results_expired = w.results_expired + c.count, results_expired_at = now() "
            "FROM unnest(%s::uuid[], %s::bigint[]) AS c(worker_id, count) WHERE w.id = c.worker_id",
            (list(counts), list(counts.values())),
        )


def _set_aside(connection: BlockingConnection, refused: Sequence[tuple[Portion, Entry]]) -> None:
    if not refused:
        return
    connection.execute(
        """
        WITH refused AS (
            SELECT * FROM unnest(%s::uuid[], %s::text[], %s::bigint[], %s::text[], %s::bytea[])
                AS r(worker_id, spool_id, seq, reason, payload)
        ),
        full_already AS (
            SELECT w.worker_id FROM (SELECT DISTINCT worker_id FROM refused) w
            WHERE (
                SELECT count(*) FROM (SELECT FROM quarantine q WHERE q.worker_id = w.worker_id LIMIT %s) kept
            ) >= %s
        )
        INSERT INTO quarantine (worker_id, spool_id, seq, reason, payload)
        SELECT * FROM refused WHERE worker_id NOT IN (SELECT worker_id FROM full_already)
        """,
        (
            [portion.worker_id for portion, _ in refused],
            [portion.spool_id for portion, _ in refused],
            [entry.seq for _, entry in refused],
            [entry.fault for _, entry in refused],
            [entry.payload[:_LARGEST_KEPT] for _, entry in refused],
            MOST_KEPT,
            MOST_KEPT,
        ),
    )
