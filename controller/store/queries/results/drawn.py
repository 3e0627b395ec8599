"""Which lines of a test are drawn over a range: those that it has, and those that it had and that ran then."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.queries import layers
from controller.store.queries.results.records import Line, lines
from controller.store.rollups import DAY, HOUR, Source

#: Before the first result there can be.
_BEGINNING = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_END = dt.datetime(9999, 1, 1, tzinfo=dt.UTC)


def drawn_lines(
    connection: Connection | Session,
    test_id: int,
    *,
    start: dt.datetime = _BEGINNING,
    end: dt.datetime = _END,
) -> tuple[Line, ...]:
    """Return the lines of a test by worker and destination name, and behind them the retired ones with runs due in [start, end)."""
    every = lines(connection, test_ids=[test_id], retired=True)
    retired = [line for line in every if line.retired]
    ran = _ran(connection, retired, start, end)
    return (
        *(line for line in every if not line.retired),
        *(line for line in retired if not ran.isdisjoint(line.job_ids)),
    )


def _ran(
    connection: Connection | Session, of: Sequence[Line], start: dt.datetime, end: dt.datetime
) -> set[int]:
    """Return those jobs of lines that have runs in a range, in results or in what is left of them."""
    found: set[int] = set()
    for kind in {line.kind for line in of} & set(results.kinds()):
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
        jobs = [job_id for line in of if line.kind == kind for job_id in line.job_ids]
        values = {"jobs": jobs, "end": end}
        values |= {f"start_{number}": begin for number, (_, _, begin) in enumerate(places)}
        query = f"SELECT j.id FROM unnest(CAST(:jobs AS bigint[])) AS j (id) WHERE {conditions}"  # noqa: S608
        found.update(connection.execute(text(query), values).scalars())
    return found
