"""Marks the buckets of late results, in the transaction that stores them, so that they are rolled up again.

A bucket that is closed may have been rolled up already. Whether it is closed is decided by the transaction's own
now(); roll-ups never pass the beginning of any transaction that is still open, so a result is either seen by the
roll-up of its bucket or has marked it. What is there already was marked by the transaction that stored it: it marks
nothing, or a worker that sends its results again and again would have them rolled up again and again.
"""

from __future__ import annotations

from controller.gateway.alike import Flags
from controller.gateway.database import BlockingConnection
from controller.gateway.loads import Load
from controller.store.rollups import BUCKET_S, GRACE_S, MARGIN_S

_BUCKET_US = BUCKET_S * 1_000_000
_OPEN_US = (GRACE_S - MARGIN_S) * 1_000_000


def mark_late(connection: BlockingConnection, load: Load, stored: Flags, now_us: int) -> None:
    """Mark the closed buckets that what is stored lies in, flagged by place; `now_us` is the transaction's now()."""
    # Results due from here on lie in buckets that are open.
    open_from_us = (now_us - _OPEN_US) // _BUCKET_US * _BUCKET_US
    if load.earliest_us >= open_from_us:
        return
    marks: set[tuple[str, int, int]] = set()
    for block in load.blocks:
        late = (block.scheduled_at_us < open_from_us) & stored[block.places]
        buckets = block.scheduled_at_us[late] // _BUCKET_US
        marks.update(
            (block.kind, job_id, bucket)
            for job_id, bucket in zip(block.job_ids[late].tolist(), buckets.tolist(), strict=True)
        )
    for place, single in load.singles.items():
        packed = single.packed
        if packed is not None and packed.scheduled_at_us < open_from_us and stored[place]:
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
