"""The bar of states counts every test once: those in trouble as they look, the others as they are planned."""

from __future__ import annotations

from typing import Any

from support.records import NOW, a_test

from controller.store.queries.overview import Overview
from streamswarm import contract
from web.pages.overview import shares
from web.pages.states import TestLook
from web.pages.tests_rows import TestRow


def figures(**tests: int) -> Overview:
    """Return figures in which tests are in these states and nothing else is."""
    return Overview(**(dict.fromkeys(Overview.__dataclass_fields__, 0) | tests))


def row(state: str, word: str, **more: Any) -> TestRow:
    """Return a test that looks so."""
    look = TestLook(state=state, word=word, last_at=NOW, value=None, measured=0)
    return TestRow(test=a_test(**more), kind=contract.kind("ping"), look=look, spark=None)


def test_every_test_is_in_one_part() -> None:
    """Those in trouble leave the part of the running ones, or of the ended ones; parts without tests are not drawn."""
    troubled = [
        row("failed", "failed"),
        row("failed", "1 of 3 failed"),
        row("stale", "silent"),
        row("failed", "failed", finished=True, interval_s=None),
    ]
    drawn = shares(troubled, figures(tests_active=90, tests_ended=10, tests_waiting=1), NOW)
    assert [(part.state, part.word, part.count) for part in drawn] == [
        ("ok", "running", 87),
        ("waiting", "not started yet", 1),
        ("waiting", "ended", 9),
        ("failed", "failing", 3),
        ("stale", "silent", 1),
    ]
    assert drawn[0].tone == "ok"
    assert all(part.x + part.width <= 100.001 for part in drawn)


def test_without_tests_there_is_no_bar() -> None:
    """Nothing is divided by their number."""
    assert shares([], figures(), NOW) == []
