"""Tests with their latest state and trend, as lists show them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.orm import Session

from controller.store.queries import pages, standings
from controller.store.queries.tests import TestRecord
from streamswarm import contract
from streamswarm.contract import Kind
from web.pages.drawing import Spark, spark
from web.pages.states import TestLook, test_look

TREND = dt.timedelta(minutes=30)
_SLOTS = 60


@dataclass(frozen=True, kw_only=True)
class TestRow:
    """One test of a list."""

    __test__ = False  # keeps pytest from taking it for a test class

    test: TestRecord
    kind: Kind
    look: TestLook
    #: None where the list draws no trends.
    spark: Spark | None


def read_rows(session: Session, found: Sequence[TestRecord], *, trends: bool) -> list[TestRow]:
    """Return the rows of the tests in the order given."""
    known = [test for test in found if test.kind in contract.kinds()]
    now = dt.datetime.now(dt.UTC)
    standing = standings.read(session, _by_kind(known))
    rows = [
        TestRow(
            test=test,
            kind=contract.kind(test.kind),
            look=test_look(test, standing.get(test.id), now),
            spark=None,
        )
        for test in known
    ]
    return with_trends(session, rows) if trends else rows


def with_trends(session: Session, rows: Sequence[TestRow]) -> list[TestRow]:
    """Return the rows with the trends of their tests."""
    tests = [row.test for row in rows]
    slots = _slots(tests)
    since = dt.datetime.now(dt.UTC) - TREND
    drawn = pages.trends(session, _by_kind(tests), since=since, slot_s=TREND.total_seconds() / slots)
    return [replace(row, spark=spark(drawn.get(row.test.id), slots)) for row in rows]


def _by_kind(found: Sequence[TestRecord]) -> dict[str, list[int]]:
    by_kind: dict[str, list[int]] = {}
    for test in found:
        by_kind.setdefault(test.kind, []).append(test.id)
    return by_kind


def _slots(found: Sequence[TestRecord]) -> int:
    """Return so few slots that the slowest of the usual tests has a run in each: gaps must be real."""
    slowest = max((test.interval_s or 0.0 for test in found), default=0.0)
    if slowest * 1.5 <= TREND.total_seconds() / _SLOTS:
        return _SLOTS
    return max(6, int(TREND.total_seconds() / (min(slowest, 300.0) * 1.5)))
