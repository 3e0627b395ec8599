"""How far the roll-ups of a kind are: a frontier for each layer, behind which every bucket is complete but for marks."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass

from sqlalchemy import Connection, text

from controller.store import partitions, results, rollups
from controller.store.rollups import LAYERS, Layer

_log = logging.getLogger(__name__)

#: A result that comes once a bucket is closed has marked it.
GRACE = dt.timedelta(seconds=rollups.GRACE_S)
#: A frontier goes forward by a day at the most, and back by one.
LONGEST_STEP = dt.timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Where one layer stands."""

    done_until: dt.datetime
    #: None between steps.
    step_until: dt.datetime | None
    step_job: int

    @property
    def reached(self) -> dt.datetime:
        """What lies behind may have been computed; what lies beyond will be."""
        return self.step_until or self.done_until


def locked(connection: Connection, kind: str) -> dict[str, Frontier]:
    """Lock and return the frontiers of a kind, so that only one process rolls it up at a time."""
    rows = connection.execute(
        text(
            "SELECT layer, done_until, step_until, step_job FROM rollup_frontiers WHERE kind = :kind "
            "ORDER BY layer FOR UPDATE"
        ),
        {"kind": kind},
    )
    return {
        row.layer: Frontier(done_until=row.done_until, step_until=row.step_until, step_job=row.step_job)
        for row in rows
    }


def begin(connection: Connection, kind: str, horizon: dt.datetime) -> None:
    """Make the frontiers of a kind that has none yet, before its oldest result."""
    known = set(
        connection.execute(
            text("SELECT layer FROM rollup_frontiers WHERE kind = :kind"), {"kind": kind}
        ).scalars()
    )
    missing = [of for of in LAYERS if of.name not in known]
    if not missing:
        return
    first = _oldest(connection, kind) or horizon - GRACE
    for of in missing:
        connection.execute(
            text(
                "INSERT INTO rollup_frontiers (kind, layer, done_until) VALUES (:kind, :layer, :until) "
                "ON CONFLICT DO NOTHING"
            ),
            {"kind": kind, "layer": of.name, "until": rollups.floor(first, of.width)},
        )


def go_back(connection: Connection, kind: str, horizon: dt.datetime) -> None:
    """Let frontiers that lie ahead of the time go back by a day: the database's clock had jumped, and was set back.

    What comes now lies behind them and yet in open buckets, so it marks nothing.
    """
    frontiers = locked(connection, kind)
    if max(frontiers[of.name].reached for of in LAYERS) <= horizon:
        return
    _log.warning("the database's clock was set back: a day of %s is rolled up again", kind)
    for of in LAYERS:
        back = rollups.floor(horizon - LONGEST_STEP, of.width)
        move(connection, kind, of, done=min(frontiers[of.name].done_until, back), until=None, job=0)


def _oldest(connection: Connection, kind: str) -> dt.datetime | None:
    """Return the beginning of the first day that has results."""
    for name in partitions.attached(connection, results.table_name(kind)):
        if connection.execute(text(f"SELECT EXISTS (SELECT FROM {name})")).scalar_one():  # noqa: S608
            return dt.datetime.combine(partitions.day_of(name), dt.time(), dt.UTC)
    return None


def move(
    connection: Connection, kind: str, of: Layer, *, done: dt.datetime, until: dt.datetime | None, job: int
) -> None:
    """Write down how far a layer is: done until an instant, and in the step under way behind a job."""
    connection.execute(
        text(
            "UPDATE rollup_frontiers SET done_until = :done, step_until = :until, step_job = :job "
            "WHERE kind = :kind AND layer = :layer"
        ),
        {"kind": kind, "layer": of.name, "done": done, "until": until, "job": job},
    )
