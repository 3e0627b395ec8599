"""Stretches of single jobs that could not be rolled up, for it took longer than a statement may.

A worker that is broken or in other hands may store as many results of its own jobs as the database takes, and whatever
is made of them takes its time. The other jobs of the kind do not wait for that: such a bucket is passed over, noted, and
tried again an hour later, until it succeeds or its results have gone; health and doctor tell of it (`upkeep/standstills`).
Jobs with a note are computed apart from others. A late result of a noted stretch gives the note a number of its own: whoever
is trying the stretch just now, and may not have seen that result, forgets only the notes that were there before.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, delete, func, insert, select, text, update

from controller.store import rollups
from controller.store.entities.upkeep import PassedOver
from controller.store.rollups import DAY, HOUR, Layer, computing, frontiers
from controller.store.rollups.computing import Stretch

_log = logging.getLogger(__name__)

#: So long after it was tried a stretch is tried again, one of a kind in each round.
PAUSE = dt.timedelta(hours=1)


def jobs(connection: Connection, kind: str) -> set[int]:
    """Return the jobs of a kind of which anything is passed over."""
    return set(connection.scalars(select(PassedOver.job_id).where(PassedOver.kind == kind).distinct()))


def note(
    connection: Connection, kind: str, of: Layer, lost: Sequence[Stretch], *, instead_of: Collection[int] = ()
) -> None:
    """Note what was lost, and forget the notes of before: those that were there when the computation began, and no later."""
    connection.execute(delete(PassedOver).where(PassedOver.id.in_(instead_of)))
    if not lost:
        return
    connection.execute(
        insert(PassedOver),
        [
            {"kind": kind, "layer": of.name, "job_id": part.job_id, "start": part.start, "end": part.end}
            for part in lost
        ],
    )
    _log.error(
        "job %s: %s takes longer to roll up than a statement may, in %s stretches of %s, the first from %s: they are passed "
        "over and tried again later, and the other jobs' are rolled up; see what its worker does",
        lost[0].job_id,
        kind,
        len(lost),
        of.width,
        min(part.start for part in lost).isoformat(),
    )


def noted_anew(connection: Connection, kind: str, of: Layer, stretch: Stretch) -> bool:
    """Whether any of a stretch is passed over; it is tried once more then, though a try may be under way just now."""
    found = connection.execute(
        update(PassedOver)
        .where(*_of(kind, of, stretch), PassedOver.start < stretch.end, PassedOver.end > stretch.start)
        .values(id=text("DEFAULT"))
    )
    return found.rowcount > 0


def notes(connection: Connection, kind: str, of: Layer, stretch: Stretch) -> list[int]:
    """Return the notes of what lies in a stretch."""
    query = select(PassedOver.id).where(
        *_of(kind, of, stretch), PassedOver.start >= stretch.start, PassedOver.end <= stretch.end
    )
    return list(connection.scalars(query))


def _of(kind: str, of: Layer, stretch: Stretch) -> tuple[ColumnElement[bool], ...]:
    return (PassedOver.kind == kind, PassedOver.layer == of.name, PassedOver.job_id == stretch.job_id)


def try_again(engine: Engine, kind: str) -> None:
    """Compute the stretch of a kind that has waited longest once more, and the day that is made of it."""
    with engine.begin() as connection:
        gone_before = computing.results_gone_before(connection, kind)
        if gone_before is not None:
            connection.execute(
                delete(PassedOver).where(PassedOver.kind == kind, PassedOver.start < gone_before)
            )
        due = connection.execute(
            select(PassedOver)
            .where(PassedOver.kind == kind, ~PassedOver.tried_at.between(func.now() - PAUSE, func.now()))
            .order_by(PassedOver.tried_at, PassedOver.id)
            .limit(1)
        ).one_or_none()
        reached = {name: standing.reached for name, standing in frontiers.locked(connection, kind).items()}
    if due is None:
        return
    of = rollups.layer(due.layer)
    stretch = Stretch(job_id=due.job_id, start=due.start, end=due.end)
    layers = [(of, stretch)]
    if of is HOUR:
        day = rollups.floor(stretch.start, DAY.width)
        if day < reached[DAY.name]:
            layers.append((DAY, Stretch(job_id=due.job_id, start=day, end=day + DAY.width)))
    for layer, part in layers:
        with engine.connect() as connection:
            before = notes(connection, kind, layer, part)
        lost = computing.compute_halving(engine, kind, layer, part)
        with engine.begin() as connection:
            note(connection, kind, layer, lost, instead_of=before)
