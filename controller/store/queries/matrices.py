"""Who measures whom: the newest run of every pair of worker and destination, over all tests of a tag and a kind."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import Test
from controller.store.queries import results, tests
from controller.store.queries.results import Line, ResultRecord
from controller.store.queries.tests import TestRecord

_Key = TypeVar("_Key")
#: Rows and columns that are looked at; more could not be told apart.
MOST_SIDE = 100
#: Tests of one tag and kind that are looked at: a mesh has one for each host.
_MOST_TESTS = 500


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One worker that measures one destination, by one test."""

    test: TestRecord
    line: Line
    #: None before the first run.
    result: ResultRecord | None


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Workers by destinations."""

    #: By name.
    workers: tuple[tuple[uuid.UUID, str], ...]
    destinations: tuple[tuple[int, str], ...]
    #: By worker and destination; several tests may measure the same.
    pairs: tuple[Pair, ...]
    #: Workers and destinations that there is no room for.
    workers_left_out: int = 0
    destinations_left_out: int = 0


def tags(session: Session) -> tuple[tuple[str, str], ...]:
    """Return the tags that tests have, each with a kind that they are of, in order."""
    tag = func.jsonb_array_elements_text(Test.tags).label("tag")
    query = select(tag, Test.kind).where(Test.deleted_at.is_(None)).distinct().order_by(tag, Test.kind)
    return tuple((row.tag, row.kind) for row in session.execute(query))


def read(session: Session, kind: str, *, tag: str = "") -> Matrix:
    """Return who measures whom by the tests of a kind, and of a tag unless that is empty."""
    found = {
        test.id: test
        for test in tests.find(session, kind=kind, tag=tag, made_for_run=False, limit=_MOST_TESTS).items
    }
    lines = [line for line in results.lines(session, test_ids=list(found)) if line.destination_id is not None]
    workers = _by_name((line.worker_id, line.worker_name) for line in lines)
    places = _by_name((line.destination_id, line.destination_name) for line in lines if line.destination_id)
    rows, columns = dict(workers[:MOST_SIDE]), dict(places[:MOST_SIDE])
    shown = [line for line in lines if line.worker_id in rows and line.destination_id in columns]
    return Matrix(
        workers=tuple(workers[:MOST_SIDE]),
        destinations=tuple(places[:MOST_SIDE]),
        pairs=tuple(
            Pair(test=found[item.line.test_id], line=item.line, result=item.result)
            for item in results.latest(session, shown)
        ),
        workers_left_out=max(0, len(workers) - MOST_SIDE),
        destinations_left_out=max(0, len(places) - MOST_SIDE),
    )


def _by_name(found: Iterable[tuple[_Key, str]]) -> list[tuple[_Key, str]]:
    return sorted(dict(found).items(), key=lambda item: item[1].lower())
