"""Buckets that one job has filled with more rows than any schedule brings.

A worker that is broken or in other hands may store as many results of its own jobs as the database takes, and what is
made of them may take longer than a statement may. The other jobs of the kind are not to wait for that: such a bucket is
passed over, and told.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection

from sqlalchemy import Connection, text

from controller.store import rollups
from controller.store.rollups import Layer

_log = logging.getLogger(__name__)

#: The most that a bucket may be made of: a run every second with hundreds of rows in its repeated groups stays below.
MOST_ROWS = 1_000_000


def is_crowded(connection: Connection, kind: str, of: Layer, job: int, bucket: dt.datetime) -> bool:
    """Whether a bucket of a job would be made of more rows, of results or of a repeated group, than that."""
    for source in rollups.sources(kind):
        table, instant = source.table, "scheduled_at"
        if of.source is not None:
            table, instant = rollups.table_name(source, rollups.layer(of.source)), "bucket"
        rows: int = connection.execute(
            text(
                f"SELECT count(*) FROM (SELECT FROM {table} WHERE job_id = :job "  # noqa: S608
                f"AND {instant} >= :start AND {instant} < :end LIMIT :most) first_ones"
            ),
            {"job": job, "start": bucket, "end": bucket + of.width, "most": MOST_ROWS + 1},
        ).scalar_one()
        if rows > MOST_ROWS:
            return True
    return False


def tell(kind: str, of: Layer, job: int, passed_over: Collection[dt.datetime]) -> None:
    """Log that buckets of a job were passed over, if any were."""
    if passed_over:
        _log.error(
            "job %s has more than %s rows of %s in each of %s stretches of %s, the first from %s: they are not rolled up, "
            "and the other jobs' are; see what its worker does",
            job,
            f"{MOST_ROWS:,}",
            kind,
            len(passed_over),
            of.width,
            min(passed_over),
        )
