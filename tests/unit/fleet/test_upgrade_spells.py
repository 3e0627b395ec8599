"""When a host had a release that was taken back, and which times before an upgrade are left as its baseline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from controller.fleet.upgrades import samples
from controller.fleet.upgrades.spells import EVER, Spell, bad_spells, other_spells, windows

NOON = dt.datetime(2030, 1, 1, 12, tzinfo=dt.UTC)


def at(minutes: float) -> dt.datetime:
    """Return an instant so many minutes before noon."""
    return NOON - dt.timedelta(minutes=minutes)


class History:
    """What the controller knows of one host: its operations and its worker's releases, both the newest first."""

    def __init__(
        self, releases: Sequence[tuple[str, float]], *operations: tuple[str, float, float | None]
    ) -> None:
        self._releases, self._operations = releases, operations
        self.read = 0

    def items(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        if path == "/workers/w/releases":
            for version, since in self._releases:
                yield {"version": version, "since": at(since).isoformat()}
            return
        assert (path, query) == ("/operations", {"host": "a"})
        for kind, start, end in self._operations:
            self.read += 1
            yield {
                "kind": kind.rstrip("?!"),
                "check": kind.endswith("?"),
                "state": "failed" if kind.endswith("!") else "succeeded",
                "started_at": at(start).isoformat(),
                "finished_at": None if end is None else at(end).isoformat(),
            }

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        raise AssertionError

    def patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError

    def delete(self, path: str, **query: Any) -> None:
        raise AssertionError

    def bad(self, judged: str = "9", until: float = 0) -> tuple[Spell, ...]:
        """Return what is no baseline of an upgrade that began then."""
        return bad_spells(self, "a", "w", judged=judged, since=at(600), until=at(until))


def test_what_was_taken_back_is_no_baseline_whoever_did_it() -> None:
    """One release, or two after each other, between times with the same other one; there is no operation of any."""
    history = History([("1", 20), ("2", 30), ("1", 40), ("3", 50), ("2", 60), ("1", 900)])
    assert History([("2", 20), ("1", 900)]).bad() == ()
    assert history.bad() == (
        Spell(start=at(30), end=at(20)),
        Spell(start=at(50), end=at(40)),
        Spell(start=at(60), end=at(50)),
    )
    # Where it stayed, it was brought back for good; what lay between was not.
    assert history.bad(until=25) == (Spell(start=at(40), end=at(30)), Spell(start=at(50), end=at(40)))


def test_a_release_is_no_baseline_of_itself() -> None:
    """Also where it made way for a third one; what came with the upgrade or later does not count."""
    history = History([("2", -1), ("3", 10), ("2", 30), ("1", 900)])
    assert history.bad("2") == (Spell(start=at(30), end=at(10)),)


def test_what_an_upgrade_brought_and_nobody_found_good_is_no_baseline() -> None:
    """It was stopped or paused. One that passed is one, and so is what was brought without an upgrade, or long ago."""
    releases = [("4", 20), ("3", 40), ("2", 60), ("1", 900)]
    passed = (("judge", 33, 33), ("upgrade", 41, 39))
    assert History(
        releases, ("judge!", 15, 15), ("upgrade?", 21, 21), ("upgrade", 21, 19), *passed
    ).bad() == (Spell(start=at(20), end=at(0)),)
    assert History(releases, *passed).bad() == ()
    killed = History(releases, ("provision", 61, 59), ("upgrade", 45, 43))
    assert killed.bad() == (Spell(start=at(40), end=at(20)),)
    assert History([("2", 700), ("1", 900)], ("upgrade", 701, 699)).bad() == ()


def test_not_all_of_the_history_is_read() -> None:
    """What began long before a release came did not bring it."""
    history = History(
        [("2", 60), ("1", 9000)], ("upgrade", 61, 59), ("upgrade", 4000, 3999), ("upgrade", 5000, 4999)
    )
    assert history.bad() == (Spell(start=at(60), end=at(0)),)
    assert history.read == 2


def test_both_sides_of_a_host_that_is_compared_with_are_of_one_release() -> None:
    """Of that which it has when the upgrade begins; nothing is known of one without sessions."""
    history = History([("3", -5), ("2", 20), ("1", 30), ("2", 40), ("1", 50)])
    assert other_spells(history, "w", until=at(0)) == (
        Spell(start=at(30), end=at(20)),
        Spell(start=at(50), end=at(40)),
    )
    assert other_spells(History([]), "w", until=at(0)) == ()


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


def test_nothing_counts_from_before_a_spell_without_a_beginning() -> None:
    """As when each host to compare with has its release since a moment ago: the window is no longer than that."""
    hour = dt.timedelta(minutes=60)
    since = Spell(start=EVER, end=at(40))
    assert list(windows(at(10), hour, (since,))) == [Spell(start=at(40), end=at(10))]
    bad = Spell(start=at(30), end=at(20))
    assert list(windows(at(10), hour, (since, bad))) == [
        Spell(start=at(20), end=at(10)),
        Spell(start=at(40), end=at(30)),
    ]


def test_what_no_host_of_a_group_can_be_asked_for_is_the_latest_beginning_that_all_share() -> None:
    """A host that always had its release leaves everything to be compared; so does a group without hosts."""
    early, late = Spell(start=at(90), end=at(60)), Spell(start=at(30), end=at(20))
    assert samples._in_all([(early,), (late, early)]) == (Spell(start=EVER, end=at(60)),)
    assert samples._in_all([(late,), ()]) == ()
    assert samples._in_all([]) == ()
