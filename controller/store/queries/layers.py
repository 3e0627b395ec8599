"""Which layer serves which part of a range: roll-ups where they are whole, results elsewhere.

A range is covered by as few rows as its buckets allow: the widest layer in the middle, narrower ones beside it, and
the results themselves at both ends and where nothing is rolled up yet. Where results have expired, the range is
widened to whole buckets of what is left.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from controller.store import rollups
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, Layer, Source


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a range, and what it is read from."""

    #: None for the results themselves.
    layer: Layer | None
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a kind is rolled up, and what of it has expired, by layer; `raw` stands for the results."""

    done_until: dict[str, dt.datetime]
    gone_before: dict[str, dt.datetime]


def narrowest(connection: Connection | Session, kind: str, start: dt.datetime) -> dt.timedelta | None:
    """Return the width of the narrowest buckets that are left of a kind at an instant; None while results are."""
    standing = standing_of(connection, kind)
    width = None
    for finer, coarser in (("raw", HOUR), (HOUR.name, DAY)):
        if start < standing.gone_before.get(finer, start):
            width = coarser.width
    return width


def cover(start: dt.datetime, end: dt.datetime, layers: Sequence[Layer], standing: Standing) -> list[Piece]:
    """Cover [start, end) without gap or overlap, by the widest layers wherever whole buckets of them are done."""
    if start >= end:
        return []
    if not layers:
        return [Piece(layer=None, start=start, end=end)]
    *narrower, widest = layers
    first = rollups.ceil(start, widest.width)
    last = min(rollups.floor(end, widest.width), standing.done_until.get(widest.name, first))
    if first >= last:
        return cover(start, end, narrower, standing)
    return [
        *cover(start, first, narrower, standing),
        Piece(layer=widest, start=first, end=last),
        *cover(last, end, narrower, standing),
    ]


def parts(
    connection: Connection | Session,
    kind: str,
    job_ids: Collection[int],
    span: tuple[dt.datetime, dt.datetime],
    usable: Sequence[Layer],
) -> list[tuple[Sequence[int], Piece]]:
    """Return what is read: pieces of the range, each with the jobs whose figures it has."""
    standing = standing_of(connection, kind)
    start, end = _widened(*span, standing)
    narrow = cover(start, end, usable, standing)
    fast = _with_narrow_layer(connection, kind, job_ids, narrow)
    others = sorted(set(job_ids) - set(fast))
    wide = cover(start, end, [of for of in usable if not of.fast_only], standing)
    return [(jobs, piece) for jobs, pieces in ((fast, narrow), (others, wide)) if jobs for piece in pieces]


def _widened(start: dt.datetime, end: dt.datetime, standing: Standing) -> tuple[dt.datetime, dt.datetime]:
    """Widen a range to whole buckets of the narrowest layer that is still there where it begins and ends."""
    for finer, coarser in (("raw", HOUR), (HOUR.name, DAY)):
        gone_before = standing.gone_before.get(finer)
        if gone_before is not None and start < gone_before:
            start = rollups.floor(start, coarser.width)
        if gone_before is not None and end < gone_before:
            end = rollups.ceil(end, coarser.width)
    return start, end


def standing_of(connection: Connection | Session, kind: str) -> Standing:
    """Return how far a kind is rolled up, and what of it has expired."""
    done = connection.execute(
        text("SELECT layer, done_until FROM rollup_frontiers WHERE kind = :kind"), {"kind": kind}
    )
    gone = connection.execute(
        text("SELECT layer, gone_before FROM expiries WHERE kind = :kind"), {"kind": kind}
    )
    done_until = {row.layer: row.done_until for row in done}
    if {FIVE_MINUTES.name, HOUR.name} <= done_until.keys():
        # Beyond the hours nothing says whether the narrowest layer is whole.
        done_until[FIVE_MINUTES.name] = min(done_until[FIVE_MINUTES.name], done_until[HOUR.name])
    return Standing(
        done_until=done_until,
        gone_before={row.layer: row.gone_before for row in gone},
    )


def _with_narrow_layer(
    connection: Connection | Session, kind: str, job_ids: Collection[int], pieces: Sequence[Piece]
) -> list[int]:
    """Return the jobs whose narrowest roll-ups are whole in these pieces: they hold as many runs as the hours do.

    A job that ran less often for part of the range has hours that the narrowest layer knows nothing of.
    """
    spans = [
        (rollups.floor(piece.start, HOUR.width), rollups.ceil(piece.end, HOUR.width))
        for piece in pieces
        if piece.layer == FIVE_MINUTES
    ]
    if not spans:
        return []
    source = Source(kind=kind, child=None)
    runs = " + ".join(rollups.RUNS.values())
    values: dict[str, Any] = {"jobs": list(job_ids)}
    parts = []
    for number, (first, last) in enumerate(spans):
        values |= {f"first_{number}": first, f"last_{number}": last}
        parts += [
            f"SELECT job_id, {sign} sum({runs}) AS runs FROM {rollups.table_name(source, of)} "  # noqa: S608
            f"WHERE job_id = ANY(:jobs) AND bucket >= :first_{number} AND bucket < :last_{number} GROUP BY job_id"
            for of, sign in ((FIVE_MINUTES, ""), (HOUR, "-"))
        ]
    each = " UNION ALL ".join(parts)
    return list(
        connection.execute(
            text(
                f"SELECT job_id FROM ({each}) each GROUP BY job_id HAVING sum(runs) = 0 ORDER BY job_id"  # noqa: S608
            ),
            values,
        ).scalars()
    )
