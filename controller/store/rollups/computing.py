"""Computes whole buckets of roll-ups; what takes too long is halved, down to the bucket that does so alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.store import rollups
from controller.store.rollups import Layer, Source, frontiers, statements

#: Buckets of one job that may take too long alone, each for the time that a statement has, before the rest is not tried.
MOST_TRIED = 5
_TIMED_OUT = "57014"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """What of one job is computed: whole buckets of a layer."""

    job_id: int
    start: dt.datetime
    end: dt.datetime

    def halves(self, width: dt.timedelta) -> tuple[Stretch, ...]:
        """Return its two halves of whole buckets; none of a single bucket."""
        count = (self.end - self.start) // width
        if count < 2:
            return ()
        middle = self.start + count // 2 * width
        return (
            Stretch(job_id=self.job_id, start=self.start, end=middle),
            Stretch(job_id=self.job_id, start=middle, end=self.end),
        )


class _TookTooLongError(Exception):
    """A statement was ended for its time."""


def timed_out(error: OperationalError) -> bool:
    """Whether PostgreSQL has ended a statement because it took longer than it may."""
    return getattr(error.orig, "pgcode", None) == _TIMED_OUT


def compute(connection: Connection, source: Source, of: Layer, stretches: Iterable[Stretch]) -> None:
    """Compute whole buckets of these stretches from their source and write them over what was there."""
    wanted = list(stretches)
    if not wanted:
        return
    # Figures and sketches are joined by their keys. PostgreSQL takes both for a single row and would make the sketches
    # anew for each bucket of the figures: over a minute for a thousand jobs' hour that is half a second otherwise.
    # What is walked down the key is a nested loop all the same, at a price that would have every statement compiled.
    connection.execute(text("SET LOCAL enable_nestloop = off; SET LOCAL jit = off"))
    connection.execute(
        text(statements.statement(source, of)),
        {
            "jobs": [stretch.job_id for stretch in wanted],
            "starts": [stretch.start for stretch in wanted],
            "ends": [stretch.end for stretch in wanted],
            "first": min(stretch.start for stretch in wanted),
            "last": max(stretch.end for stretch in wanted),
            "width": of.width,
        },
    )


def compute_halving(engine: Engine, kind: str, of: Layer, stretch: Stretch) -> list[Stretch]:
    """Compute a stretch in as many transactions as it needs; return what takes too long even so, single buckets mostly.

    After a few of them the rest is not tried: a job that fills all of its buckets must not keep the others waiting.
    """
    waiting = [stretch]
    lost: list[Stretch] = []
    while waiting:
        part = waiting.pop()
        if len(lost) >= MOST_TRIED:
            lost.append(part)
            continue
        try:
            _compute_alone(engine, kind, of, part)
        except _TookTooLongError:
            halves = part.halves(of.width)
            waiting += reversed(halves)
            if not halves:
                lost.append(part)
    return lost


def _compute_alone(engine: Engine, kind: str, of: Layer, stretch: Stretch) -> None:
    with engine.begin() as connection:
        # Outside of what is timed: who waits here has nothing that is too large.
        frontiers.locked(connection, kind)
        try:
            for source in rollups.sources(kind):
                compute(connection, source, of, [stretch])
        except OperationalError as error:
            if not timed_out(error):
                raise
            raise _TookTooLongError from error


def fast(connection: Connection, jobs: Sequence[int]) -> list[int]:
    """Return those jobs that run more often than once a minute."""
    return list(
        connection.execute(
            text(
                "SELECT id FROM jobs WHERE id = ANY(:jobs) AND interval_us > 0 AND interval_us < :most ORDER BY id"
            ),
            {"jobs": list(jobs), "most": rollups.FAST_S * 1_000_000},
        ).scalars()
    )


def results_gone_before(connection: Connection, kind: str) -> dt.datetime | None:
    """Return before when results of a kind are not sure to be there; None while all are."""
    gone_before: dt.datetime | None = connection.execute(
        text("SELECT gone_before FROM expiries WHERE kind = :kind AND layer = 'raw'"), {"kind": kind}
    ).scalar_one_or_none()
    return gone_before
