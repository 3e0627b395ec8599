"""When a host had a release that was taken back: what it measured then is nobody's baseline.

Otherwise a bad release that is tried a second time would be held against itself, and found no worse.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controller.fleet.api import Api


@dataclass(frozen=True, kw_only=True)
class Spell:
    """A time with a beginning and an end."""

    start: dt.datetime
    end: dt.datetime


def bad_spells(api: Api, host: str, *, since: dt.datetime, now: dt.datetime) -> tuple[Spell, ...]:
    """Return when since then a host had a release that was taken back, the newest first, as the history has it."""
    spells = []
    returned: dt.datetime | None = None
    for operation in api.items("/operations", host=host):
        started = dt.datetime.fromisoformat(operation["started_at"] or operation["created_at"])
        if operation["kind"] == "rollback":
            finished = operation["finished_at"]
            # One that is tried again is several: the host was returned by the last of them at the latest.
            returned = returned or (dt.datetime.fromisoformat(finished) if finished else now)
        elif operation["kind"] == "upgrade" and not operation["check"] and returned is not None:
            spells.append(Spell(start=started, end=returned))
            returned = None
        if started < since and returned is None:
            break
    return tuple(spells)


def windows(end: dt.datetime, reach: dt.timedelta, bad: Iterable[Spell]) -> Iterator[Spell]:
    """Return the times before `end` that are no bad spell, the newest first, as many as are so long together."""
    for spell in bad:
        if spell.end < end:
            start = max(spell.end, end - reach)
            yield Spell(start=start, end=end)
            reach -= end - start
        if reach <= dt.timedelta():
            return
        end = min(end, spell.start)
    yield Spell(start=end - reach, end=end)
