"""Which lines of a test are drawn over a range: those that it has, and those that it had and that ran then.

A test may have thousands of lines, and no page shows so many: only those that are asked for are read.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, func, select, text, tuple_
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.entities import Destination, Job, Worker
from controller.store.queries import layers
from controller.store.queries.results.records import Line, lines
from controller.store.queries.versions import numbers
from controller.store.rollups import DAY, HOUR, Source

#: Before the first result there can be.
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_END = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)
#: Of a line's jobs: whether it was scheduled once and is no longer, as `Line.retired` tells.
_RETIRED: ColumnElement[bool] = func.bool_or(~Job.one_shot) & ~func.bool_or(
    ~Job.one_shot & Job.retired_at.is_(None)
)


@dataclass(frozen=True, kw_only=True)
class DrawnLines:
    """The first of the lines that are drawn."""

    lines: tuple[Line, ...]
    #: How many there are, those that were not read included.
    total: int


def drawn_lines(
    connection: Connection | Session,
    test_id: int,
    *,
    most: int,
    start: dt.datetime = _BEGINNING,
    end: dt.datetime = _END,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
    retired: bool | None = None,
) -> DrawnLines:
    """Return the lines of a test by worker and destination name, and behind them the retired ones with runs due in [start, end).

    `worker` and `destination` leave those of a pair, `retired` those that are, or are not. No more than `most` are read.
    """
    asked = [
        Job.test_id == test_id,
        *([Job.worker_id == worker] if worker is not None else []),
        *([Job.destination_id == destination] if destination is not None else []),
    ]
    ran = _ran(connection, _retired(connection, asked), start, end)
    line = (
        select(Job.worker_id, Job.destination_id, func.min(Job.id).label("first"), _RETIRED.label("retired"))
        .where(*asked)
        .group_by(Job.worker_id, Job.destination_id)
        .having(~_RETIRED | func.bool_or(Job.id == func.any(numbers(ran))))
        .subquery("line")
    )
    names = Worker.name, func.coalesce(Destination.name, "")
    query = (
        select(line.c.worker_id, line.c.destination_id, func.count().over().label("total"))
        .join(Worker, Worker.id == line.c.worker_id)
        .join(Destination, Destination.id == line.c.destination_id, isouter=True)
        .where(*([] if retired is None else [line.c.retired.is_(retired)]))
        .order_by(line.c.retired, *names, line.c.worker_id, line.c.first)
        .limit(most)
    )
    rows = connection.execute(query).all()
    pairs = [(row.worker_id, row.destination_id) for row in rows]
    found = lines(connection, test_ids=[test_id], pairs=pairs, retired=True)
    return DrawnLines(
        lines=tuple(sorted(found, key=lambda each: each.retired)), total=rows[0].total if rows else 0
    )


def _retired(connection: Connection | Session, asked: Sequence[ColumnElement[bool]]) -> dict[str, list[int]]:
    """Return the jobs of the retired lines by kind."""
    pair = tuple_(Job.worker_id, func.coalesce(Job.destination_id, 0))
    left = select(Job.worker_id, func.coalesce(Job.destination_id, 0)).where(
        *asked, ~Job.one_shot, Job.retired_at.is_not(None)
    )
    query = (
        select(Job.kind, func.array_agg(Job.id))
        .where(*asked, pair.in_(left))
        .group_by(Job.worker_id, Job.destination_id, Job.kind)
        .having(_RETIRED)
    )
    found: dict[str, list[int]] = {}
    for kind, job_ids in connection.execute(query):
        found.setdefault(kind, []).extend(job_ids)
    return found


def _ran(
    connection: Connection | Session, of: Mapping[str, Sequence[int]], start: dt.datetime, end: dt.datetime
) -> set[int]:
    """Return those of the jobs of each kind that have runs in a range, in results or in what is left of them."""
    found: set[int] = set()
    for kind in of.keys() & set(results.kinds()):
        source = Source(kind=kind, child=None)
        places = [(results.table_name(kind), "scheduled_at", start)]
        narrowest = layers.narrowest(connection, kind, start)
        for layer in (HOUR, DAY):
            if narrowest is not None and layer.width <= narrowest:
                places.append(
                    (rollups.table_name(source, layer), "bucket", rollups.floor(start, layer.width))
                )
        conditions = " OR ".join(
            f"EXISTS (SELECT FROM {table} t WHERE t.job_id = j.id AND t.{instant} >= :start_{number} AND t.{instant} < :end)"
            for number, (table, instant, _) in enumerate(places)
        )
        values = {"jobs": of[kind], "end": end}
        values |= {f"start_{number}": begin for number, (_, _, begin) in enumerate(places)}
        query = f"SELECT j.id FROM unnest(CAST(:jobs AS bigint[])) AS j (id) WHERE {conditions}"  # noqa: S608
        found.update(connection.execute(text(query), values).scalars())
    return found
