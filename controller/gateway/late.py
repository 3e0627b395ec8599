"""Marks the buckets of late results, in the transaction that stores them, so that they are rolled up again.

A bucket that is closed may have been rolled up already. Whether it is closed is decided by the transaction's own
now(); roll-ups never pass the beginning of any transaction that is still open, so a result is either seen by the
roll-up of its bucket or has marked it. A mark too many costs one more roll-up, so what is marked is everything in the
portions that were claimed, stored before or not; of the others nothing is stored in this transaction.
"""

from __future__ import annotations

from collections.abc import Collection

from controller.gateway.database import BlockingConnection
from controller.gateway.loads import Load
from controller.store.rollups import BUCKET_S, GRACE_S, MARGIN_S

_BUCKET_US = BUCKET_S * 1_000_000
_OPEN_US = (GRACE_S - MARGIN_S) * 1_000_000


def mark_late(connection: BlockingConnection, load: Load, claimed: Collection[int], now_us: int) -> None:
    """Mark the closed buckets that results of claimed portions lie in; `now_us` is the transaction's now()."""
    # Results due from here on lie in buckets that are open.
    open_from_us = (now_us - _OPEN_US) // _BUCKET_US * _BUCKET_US
    if load.earliest_us >= open_from_us:
        return
    ours = load.belong_to(claimed)
    marks: set[tuple[str, int, int]] = set()
    for block in load.blocks:
        late = (block.scheduled_at_us < open_from_us) & ours[block.places]
        buckets = block.scheduled_at_us[late] // _BUCKET_US
        marks.update(
            (block.kind, job_id, bucket)
            for job_id, bucket in zip(block.job_ids[late].tolist(), buckets.tolist(), strict=True)
        )
    for place, single in load.singles.items():
        packed = single.packed
        if packed is not None and packed.scheduled_at_us < open_from_us and ours[place]:
            marks.add((packed.kind, packed.job_id, packed.scheduled_at_us // _BUCKET_US))
    if not marks:
        return
    kinds, jobs, numbers = zip(*sorted(marks), strict=True)
    connection.execute(
        "INSERT INTO dirty_buckets (kind, job_id, bucket) "
        "SELECT kind, job_id, to_timestamp(number * %s) "
        "FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS marks(kind, job_id, number)",
        (BUCKET_S, list(kinds), list(jobs), list(numbers)),
    )
