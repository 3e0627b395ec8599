"""Finds results that are stored already, by their keys, and lets missed runs give way to measured ones.

Of each run there is one row. A run that was told as missed may come to be measured after all: its instant comes again
when time was set back. So what was measured stands before what was missed, whichever came first, and of two alike
the first stands. The order in which they come, and how often, makes no difference to what is stored in the end.

A job belongs to one worker for good, and the caller has that worker's row locked: nobody stores for the job between
this look and the end of the transaction.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from controller.gateway.alike import Flags, Integers
from controller.gateway.database import BlockingConnection, array_text
from controller.gateway.loads import Load
from controller.gateway.packing import PackedResult, copy_target
from streamswarm.v1 import probe_pb2


@dataclass(frozen=True, kw_only=True)
class _Keys:
    """Results of one kind; all arrays have one element a result."""

    places: Integers
    job_ids: Integers
    due_us: Integers
    missed: Flags

    def chosen(self, which: Flags | Integers) -> _Keys:
        """Return the flagged or numbered ones."""
        return _Keys(
            places=self.places[which],
            job_ids=self.job_ids[which],
            due_us=self.due_us[which],
            missed=self.missed[which],
        )


def stored_before(
    connection: BlockingConnection, load: Load, keep: Flags, positions: Collection[int]
) -> Integers:
    """Return the places of results of these portions that are in the tables, or come twice in the load itself.

    The row of a missed run that now comes measured is removed, and the new one is not among these.
    """
    wanted = keep & load.belong_to(positions)
    found: list[Integers] = [np.empty(0, dtype=np.int64)]
    for kind, keys in sorted(_keys(load, wanted).items()):
        # Of the same key what was measured comes first, then by place: the first one stands.
        ordered = keys.chosen(np.lexsort((keys.places, keys.missed, keys.due_us, keys.job_ids)))
        again = np.zeros(len(ordered.places), dtype=np.bool_)
        again[1:] = (ordered.job_ids[1:] == ordered.job_ids[:-1]) & (
            ordered.due_us[1:] == ordered.due_us[:-1]
        )
        found.append(ordered.places[again])
        first = ordered.chosen(~again)
        found.append(first.places[_holding(connection, copy_target(kind).table, first)])
    return np.concatenate(found)


def is_stored(connection: BlockingConnection, packed: PackedResult) -> bool:
    """Whether a result is in its table; the row of a missed run that now comes measured is removed."""
    return bool(_holding(connection, copy_target(packed.kind).table, _keys_of({0: packed})))


def _keys(load: Load, wanted: Flags) -> dict[str, _Keys]:
    """Return the keys of what has rows, by kind."""
    parts: dict[str, list[_Keys]] = {}
    for block in load.blocks:
        flags = wanted[block.places]
        places = block.places[flags]
        parts.setdefault(block.kind, []).append(
            _Keys(
                places=places,
                job_ids=block.job_ids[flags],
                due_us=block.scheduled_at_us[flags],
                missed=np.zeros(len(places), dtype=np.bool_),
            )
        )
    singles: dict[str, dict[int, PackedResult]] = {}
    for place, single in load.singles.items():
        if single.packed is not None and wanted[place]:
            singles.setdefault(single.packed.kind, {})[place] = single.packed
    for kind, rows in singles.items():
        parts.setdefault(kind, []).append(_keys_of(rows))
    return {
        kind: _Keys(
            places=np.concatenate([keys.places for keys in some]),
            job_ids=np.concatenate([keys.job_ids for keys in some]),
            due_us=np.concatenate([keys.due_us for keys in some]),
            missed=np.concatenate([keys.missed for keys in some]),
        )
        for kind, some in parts.items()
    }


def _keys_of(rows: dict[int, PackedResult]) -> _Keys:
    """Return the keys of packed results by their places."""
    return _Keys(
        places=np.array(list(rows), dtype=np.int64),
        job_ids=np.array([packed.job_id for packed in rows.values()], dtype=np.int64),
        due_us=np.array([packed.scheduled_at_us for packed in rows.values()], dtype=np.int64),
        missed=np.array([packed.missed for packed in rows.values()], dtype=np.bool_),
    )


def _holding(connection: BlockingConnection, table: str, keys: _Keys) -> list[int]:
    """Return by number which keys the table holds, once the missed runs in the way of measured ones are removed.

    The look-ups are kept apart from the list of keys (OFFSET 0), so that each goes by the key and none reads a day.
    """
    if not len(keys.places):
        return []
    cursor = connection.execute(
        f"""
        SELECT k.number - 1, found.partition, found.row
        FROM unnest(%(jobs)s::bigint[], %(due)s::bigint[]) WITH ORDINALITY AS k(job_id, due_us, number),
             LATERAL (SELECT CASE WHEN r.status = %(missed)s THEN r.tableoid::regclass::text END AS partition,
                             CASE WHEN r.status = %(missed)s THEN r.ctid::text END AS row
                      FROM {table} r WHERE r.job_id = k.job_id
                      AND r.scheduled_at = timestamptz 'epoch' + k.due_us * interval '1 microsecond'
                      AND r.scheduled_at >= timestamptz 'epoch' + %(first)s::bigint * interval '1 microsecond'
                      AND r.scheduled_at <= timestamptz 'epoch' + %(last)s::bigint * interval '1 microsecond'
                      OFFSET 0) AS found
        """.encode(),  # noqa: S608  the contract's own name
        {
            "jobs": array_text(map(str, keys.job_ids.tolist())),
            "due": array_text(map(str, keys.due_us.tolist())),
            "first": int(keys.due_us.min()),
            "last": int(keys.due_us.max()),
            "missed": probe_pb2.STATUS_MISSED,
        },
    )
    holding: list[int] = []
    giving_way: dict[str, list[str]] = {}
    for number, partition, row in cursor.fetchall():
        if partition is None or keys.missed[number]:
            holding.append(number)
        else:
            giving_way.setdefault(partition, []).append(row)
    for partition, rows in giving_way.items():
        _remove(connection, partition, rows, keys)
    return holding


def _remove(connection: BlockingConnection, partition: str, rows: list[str], keys: _Keys) -> None:
    """Remove rows by their place, which nothing moves before the transaction ends: the look holds the table.

    A day's rewriting copies what comes meanwhile, and merges it by the same rule (`controller.store.upkeep.rewriting`).
    """
    connection.execute(
        f"DELETE FROM {partition} WHERE ctid = ANY(%s::tid[]) AND job_id = ANY(%s::bigint[]) AND status = %s".encode(),  # noqa: S608
        (
            array_text(f'"{row}"' for row in rows),
            array_text(map(str, np.unique(keys.job_ids).tolist())),
            probe_pb2.STATUS_MISSED,
        ),
    )
