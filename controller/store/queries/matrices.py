"""Who measures whom: the newest run of every pair of worker and destination, over all tests of a tag and a kind."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from controller.store.entities import Test
from controller.store.queries import standings, tests
from controller.store.queries.standings import Standing
from controller.store.queries.tests import TestRecord, is_made_for_run
from streamswarm.outcomes import status_name

#: Rows and columns that are looked at; more could not be told apart.
MOST_SIDE = 100
#: Tests of one tag and kind that are looked at: a mesh has one for each host.
_MOST_TESTS = 500

# A test may be of thousands of workers: the sides are cut before anything is read of their runs. Lines whose worker or destination has
# left the test do not count.
_SIDES = """
    WITH line AS (
        SELECT DISTINCT worker_id, destination_id FROM jobs j
        WHERE test_id = ANY(CAST(:tests AS bigint[])) AND destination_id IS NOT NULL AND CASE WHEN one_shot THEN NOT EXISTS (
            SELECT FROM jobs s
            WHERE s.test_id = j.test_id AND s.worker_id = j.worker_id AND s.destination_id = j.destination_id AND NOT s.one_shot
        ) ELSE retired_at IS NULL END
    )
    (SELECT id AS worker_id, CAST(NULL AS bigint) AS destination_id, name, count(*) OVER () AS there_are
    FROM workers WHERE id IN (SELECT worker_id FROM line) ORDER BY lower(name), id LIMIT :most)
    UNION ALL
    (SELECT NULL, id, name, count(*) OVER ()
    FROM destinations WHERE id IN (SELECT destination_id FROM line) ORDER BY lower(name), id LIMIT :most)
"""
_PAIRS = """
    WITH known AS (
        {jobs} AND worker_id = ANY(CAST(:workers AS uuid[])) AND destination_id = ANY(CAST(:destinations AS bigint[]))
        {by_line}
    )
    SELECT DISTINCT ON (known.test_id, known.worker_id, known.destination_id)
        known.test_id, known.worker_id, known.destination_id, newest.scheduled_at, newest.status, newest.value
    FROM known LEFT JOIN LATERAL ({newest}) newest ON known.kind = :kind
    WHERE known.live OR NOT known.scheduled
    ORDER BY known.test_id, known.worker_id, known.destination_id, newest.scheduled_at DESC NULLS LAST
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One worker that measures one destination, by one test."""

    test: TestRecord
    worker_id: uuid.UUID
    destination_id: int
    #: How the newest run ended: `ok`, `failed`, `error` or `missed`; empty before the first.
    status: str
    #: None before the first run.
    standing: Standing | None
    #: What the newest run measured of the metric that was asked for; None where it did not.
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Workers by destinations."""

    #: By name.
    workers: tuple[tuple[uuid.UUID, str], ...]
    destinations: tuple[tuple[int, str], ...]
    #: Several tests may measure the same; by test.
    pairs: tuple[Pair, ...]
    #: Workers and destinations that there is no room for.
    workers_left_out: int = 0
    destinations_left_out: int = 0


def tags(session: Session) -> tuple[tuple[str, str], ...]:
    """Return the tags that tests have, each with a kind that they are of, in order."""
    # Many tests have the same.
    alike = select(Test.tags, Test.kind).where(Test.deleted_at.is_(None)).distinct().subquery("alike")
    tag = func.jsonb_array_elements_text(alike.c.tags).label("tag")
    query = select(tag, alike.c.kind).distinct().order_by(tag, alike.c.kind)
    return tuple((row.tag, row.kind) for row in session.execute(query))


def read(session: Session, kind: str, metric: str, *, tag: str = "") -> Matrix:
    """Return who measures whom, and a metric of it, by the tests of a kind, and of a tag unless that is empty."""
    test_ids = _tests(session, kind, tag)
    sides = session.execute(text(_SIDES), {"tests": test_ids, "most": MOST_SIDE}).all()
    workers = [row for row in sides if row.worker_id is not None]
    places = [row for row in sides if row.worker_id is None]
    return Matrix(
        workers=tuple((row.worker_id, row.name) for row in workers),
        destinations=tuple((row.destination_id, row.name) for row in places),
        pairs=_pairs(
            session,
            kind,
            metric,
            test_ids,
            [row.worker_id for row in workers],
            [row.destination_id for row in places],
        ),
        workers_left_out=workers[0].there_are - len(workers) if workers else 0,
        destinations_left_out=places[0].there_are - len(places) if places else 0,
    )


def _tests(session: Session, kind: str, tag: str) -> list[int]:
    query = select(Test.id).where(Test.deleted_at.is_(None), Test.kind == kind, ~is_made_for_run())
    if tag:
        query = query.where(Test.tags.contains([tag]))
    return list(session.scalars(query.order_by(func.lower(Test.name), Test.id).limit(_MOST_TESTS)))


def _pairs(
    session: Session,
    kind: str,
    metric: str,
    test_ids: Sequence[int],
    workers: Sequence[uuid.UUID],
    places: Sequence[int],
) -> tuple[Pair, ...]:
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    query = _PAIRS.format(
        jobs=standings.JOBS_OF_TESTS, by_line=standings.BY_LINE, newest=standings.newest(kind, metric)
    )
    values = {
        "tests": test_ids,
        "workers": workers,
        "destinations": places,
        "kind": kind,
        "now": now,
        "recently": now - standings.RECENTLY,
    }
    rows = session.execute(text(query), values).all()
    found = {test.id: test for test in tests.named(session, {row.test_id for row in rows})}
    pairs = []
    for test_id, worker_id, destination_id, last_at, status, value in rows:
        if test_id not in found:
            continue  # deleted at this moment
        ended = "" if last_at is None else status_name(status)
        pairs.append(
            Pair(
                test=found[test_id],
                worker_id=worker_id,
                destination_id=destination_id,
                status=ended,
                standing=standings.of_run(last_at, ended) if ended else None,
                value=value,
            )
        )
    return tuple(pairs)
