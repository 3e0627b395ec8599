"""Finds results that are stored already, by their keys.

A job belongs to one worker for good, and the caller has that worker's row locked: nobody stores for the job between
this look and the end of the transaction.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from controller.gateway.alike import Flags, Integers
from controller.gateway.database import BlockingConnection, array_text
from controller.gateway.loads import Load
from controller.gateway.packing import copy_target


def stored_before(
    connection: BlockingConnection, load: Load, keep: Flags, positions: Collection[int]
) -> Integers:
    """Return the places of results of these portions that are in the tables, or come twice in the load itself."""
    wanted = keep & np.isin(load.owners, list(positions))
    found: list[Integers] = [np.empty(0, dtype=np.int64)]
    for kind, (places, job_ids, due_us) in sorted(_keys(load, wanted).items()):
        # By key, and of the same key by place: the first one stands.
        order = np.lexsort((places, due_us, job_ids))
        places, job_ids, due_us = places[order], job_ids[order], due_us[order]
        again = np.zeros(len(places), dtype=np.bool_)
        again[1:] = (job_ids[1:] == job_ids[:-1]) & (due_us[1:] == due_us[:-1])
        again[_in_table(connection, copy_target(kind).table, job_ids, due_us)] = True
        found.append(places[again])
    return np.concatenate(found)


def _keys(load: Load, wanted: Flags) -> dict[str, tuple[Integers, Integers, Integers]]:
    """Return places, jobs and due instants of what has rows, by kind."""
    parts: dict[str, list[tuple[Integers, Integers, Integers]]] = {}
    for block in load.blocks:
        flags = wanted[block.places]
        parts.setdefault(block.kind, []).append(
            (block.places[flags], block.job_ids[flags], block.scheduled_at_us[flags])
        )
    for place, single in load.singles.items():
        packed = single.packed
        if packed is not None and wanted[place]:
            one = (place, packed.job_id, packed.scheduled_at_us)
            parts.setdefault(packed.kind, []).append(
                tuple(np.array([number], dtype=np.int64) for number in one)  # type: ignore[arg-type]
            )
    return {
        kind: (
            np.concatenate([places for places, _, _ in some]),
            np.concatenate([job_ids for _, job_ids, _ in some]),
            np.concatenate([due_us for _, _, due_us in some]),
        )
        for kind, some in parts.items()
    }


def _in_table(connection: BlockingConnection, table: str, job_ids: Integers, due_us: Integers) -> list[int]:
    """Return which of the keys are in a result table, by their number.

    The look-ups are kept apart from the list of keys (OFFSET 0), so that each goes by the key and none reads a day.
    """
    if not len(job_ids):
        return []
    cursor = connection.execute(
        f"""
        SELECT k.number - 1
        FROM unnest(%(jobs)s::bigint[], %(due)s::bigint[]) WITH ORDINALITY AS k(job_id, due_us, number),
             LATERAL (SELECT FROM {table} r WHERE r.job_id = k.job_id
                      AND r.scheduled_at = timestamptz 'epoch' + k.due_us * interval '1 microsecond'
                      AND r.scheduled_at >= timestamptz 'epoch' + %(first)s::bigint * interval '1 microsecond'
                      AND r.scheduled_at <= timestamptz 'epoch' + %(last)s::bigint * interval '1 microsecond'
                      OFFSET 0) AS found
        """.encode(),  # noqa: S608  the contract's own name
        {
            "jobs": array_text(map(str, job_ids.tolist())),
            "due": array_text(map(str, due_us.tolist())),
            "first": int(due_us.min()),
            "last": int(due_us.max()),
        },
    )
    return [number for (number,) in cursor.fetchall()]
