"""When a host had a release of which it is known, or not yet known, that it is bad: that is nobody's baseline.

A bad release that is tried a second time would be held against itself otherwise, and found no worse. Which release a host had
when is told by its worker's sessions, whoever brought it there and took it away again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.fleet.api import Api

#: An upgrade takes no longer than this; and a host that was begun with goes on by itself for so long once it has ended.
_LONGEST, _STILL = dt.timedelta(days=1), dt.timedelta(minutes=10)

#: Before every measurement: where a spell begins that has no beginning.
EVER = dt.datetime.min.replace(tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A time with a beginning and an end."""

    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Held:
    """A release that a host had, and when."""

    version: str
    spell: Spell


def bad_spells(
    api: Api, host: str, worker_id: str, *, judged: str, since: dt.datetime, until: dt.datetime
) -> tuple[Spell, ...]:
    """Return what is no baseline of an upgrade that began at `until`, the newest first.

    That is when the host had the release that is `judged`, or one that was taken back: one between two times in which it had
    the same other one, and that it has not now. And a release that an upgrade brought after `since` and that nobody found good there.
    """
    held = _held(api, worker_id, until)
    taken_back = {
        place
        for place, each in enumerate(held)
        if each.version != held[0].version
        and {one.version for one in held[:place]}
        & {one.version for one in held[place + 1 :]} - {each.version}
    }
    brought = [place for place in range(len(held)) if held[place].spell.start >= since]
    operations = list(_since(api, host, held[brought[-1]].spell.start)) if brought else []
    return tuple(
        each.spell
        for place, each in enumerate(held)
        if each.version == judged
        or place in taken_back
        or (place in brought and _is_unjudged(each.spell, operations))
    )


def other_spells(api: Api, worker_id: str, *, until: dt.datetime) -> tuple[Spell, ...]:
    """Return when a host that is compared with had another release than at `until`: both its sides are to be of one."""
    held = _held(api, worker_id, until)
    return tuple(each.spell for each in held if each.version != held[0].version)


def _held(api: Api, worker_id: str, until: dt.datetime) -> list[Held]:
    """Return the releases that a worker had before the upgrade, the newest first."""
    found = []
    end = until
    for release in api.items(f"/workers/{worker_id}/releases"):
        start = dt.datetime.fromisoformat(release["since"])
        if start < until:
            found.append(Held(version=release["version"], spell=Spell(start=start, end=end)))
            end = start
    return found


def _since(api: Api, host: str, start: dt.datetime) -> Iterator[Mapping[str, Any]]:
    """Return the operations of a host that may have been under way at an instant, or began later."""
    for operation in api.items("/operations", host=host):
        if _begun(operation) < start - _LONGEST:
            return
        if not operation["check"]:
            yield operation


def _is_unjudged(spell: Spell, operations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an upgrade brought the release of a spell, and no judgement found it good before the spell ended."""
    brought = any(
        operation["kind"] == "upgrade" and _begun(operation) <= spell.start <= _ended(operation)
        for operation in operations
    )
    found_good = any(
        operation["kind"] == "judge"
        and operation["state"] == "succeeded"
        and spell.start <= _begun(operation) <= spell.end
        for operation in operations
    )
    return brought and not found_good


def _begun(operation: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(operation["started_at"] or operation["created_at"])


def _ended(operation: Mapping[str, Any]) -> dt.datetime:
    if operation["finished_at"] is None:
        return dt.datetime.max.replace(tzinfo=dt.UTC)
    return dt.datetime.fromisoformat(operation["finished_at"]) + _STILL


def windows(end: dt.datetime, reach: dt.timedelta, bad: Iterable[Spell]) -> Iterator[Spell]:
    """Return the times before `end` that are no bad spell, the newest first, as many as are so long together."""
    for spell in sorted(bad, key=lambda each: each.end, reverse=True):
        if spell.end < end:
            start = max(spell.end, end - reach)
            yield Spell(start=start, end=end)
            reach -= end - start
        if reach <= dt.timedelta():
            return
        end = min(end, spell.start)
    if end > EVER:
        yield Spell(start=end - reach, end=end)
