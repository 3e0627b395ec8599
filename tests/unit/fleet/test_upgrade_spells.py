"""When a host had a release that was taken back, and which times before an upgrade are left as its baseline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from controller.fleet.upgrades.spells import Spell, bad_spells, windows

NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)


def at(minutes: float) -> dt.datetime:
    """Return an instant so many minutes before noon."""
    return NOON - dt.timedelta(minutes=minutes)


class History:
    """Operations of one host, the newest first."""

    def __init__(self, *operations: tuple[str, float, float | None]) -> None:
        self._operations = operations
        self.read = 0

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        assert (path, query) == ("/operations", {"host": "a"})
        for kind, start, end in self._operations:
            self.read += 1
            yield {
                "kind": kind.removesuffix("?"),
                "check": kind.endswith("?"),
                "started_at": at(start).isoformat(),
                "finished_at": None if end is None else at(end).isoformat(),
            }

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise AssertionError

    def delete(self, path: str) -> None:
        raise AssertionError


def test_a_bad_spell_is_from_the_upgrade_to_the_end_of_its_rollback() -> None:
    """Good upgrades, check runs and other operations make none; what lies too far back is not even read."""
    history = History(
        ("verify", 5, 5), ("upgrade?", 8, 8), ("rollback", 20, 19), ("verify", 25, 24), ("upgrade", 30, 29),
        ("upgrade", 40, 39), ("rollback", 50, 49), ("upgrade", 70, 69), ("upgrade", 90, 89),
        ("upgrade", 95, 94),
    )  # fmt: skip
    assert bad_spells(history, "a", since=at(60), now=NOON) == (
        Spell(start=at(30), end=at(19)),
        Spell(start=at(70), end=at(49)),
    )
    assert history.read == 8
    again = History(("rollback", 10, 9), ("rollback", 14, 12), ("upgrade", 30, 29))
    assert bad_spells(again, "a", since=at(60), now=NOON) == (Spell(start=at(30), end=at(9)),)
    running = History(("rollback", 2, None), ("upgrade", 4, 3))
    assert bad_spells(running, "a", since=at(60), now=NOON) == (Spell(start=at(4), end=NOON),)


def test_the_baseline_goes_around_bad_spells() -> None:
    """It is as long as without them."""
    bad = (Spell(start=at(30), end=at(20)), Spell(start=at(60), end=at(50)))
    hour = dt.timedelta(minutes=60)
    assert list(windows(at(10), hour, bad)) == [
        Spell(start=at(20), end=at(10)),
        Spell(start=at(50), end=at(30)),
        Spell(start=at(90), end=at(60)),
    ]
    assert list(windows(at(25), hour / 6, bad)) == [Spell(start=at(40), end=at(30))]
    assert list(windows(at(10), hour / 6, bad)) == [Spell(start=at(20), end=at(10))]
