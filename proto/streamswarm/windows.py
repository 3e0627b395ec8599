"""Weekly windows: the hours in which a schedule is due, by the reading of the clocks of a zone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from streamswarm import zones
from streamswarm.targets import shown
from streamswarm.values import InvalidInputError, Problem
from streamswarm.zones import DAY_US, MINUTE_US

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_WINDOWS = 20
MINUTES_OF_DAY = 24 * 60
_WEEK_MIN = 7 * MINUTES_OF_DAY
_WEEK_US = 7 * DAY_US
#: 1970-01-01 was a Thursday; weeks begin on Monday.
_MONDAY_US = -3 * DAY_US
_CLOCK = re.compile(r"(?:([01]?[0-9]|2[0-3]):([0-5][0-9])|24:00)\Z", re.ASCII)
FIELDS = ("days", "from", "to")


@dataclass(frozen=True, kw_only=True, order=True)
class Window:
    """Some hours on some days of the week. One that ends before it begins goes on into the next day."""

    #: Days on which it begins, 1 is Monday and 7 Sunday.
    days: tuple[int, ...]
    #: Minutes after midnight, by the clocks of the zone.
    from_min: int
    #: The first minute outside; 1440 is midnight.
    to_min: int

    def plain(self) -> dict[str, Any]:
        """Return it as JSON and YAML have it."""
        return {
            "days": [DAYS[day - 1] for day in self.days],
            "from": shown_minute(self.from_min),
            "to": shown_minute(self.to_min),
        }

    def __str__(self) -> str:
        days = "every day" if len(self.days) == 7 else ", ".join(DAYS[day - 1] for day in self.days)
        return f"{days} {shown_minute(self.from_min)}-{shown_minute(self.to_min)}"


def shown_minute(minute: int) -> str:
    """Return a minute of the day as a clock shows it."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def read(values: Any, *, path: str = "windows") -> tuple[Window, ...]:
    """Return windows as JSON, YAML or the database have them; InvalidInputError has every fault with its path."""
    problems: list[Problem] = []
    found = []
    if values is None:
        return ()
    if not isinstance(values, list | tuple):
        raise InvalidInputError([Problem(path=path, message="must be a list of windows")])
    if len(values) > MOST_WINDOWS:
        raise InvalidInputError(
            [Problem(path=path, message=f"has {len(values)} entries; {MOST_WINDOWS} is the most")]
        )
    for index, value in enumerate(values):
        window = _read_one(value, f"{path}[{index}]", problems)
        if window is not None:
            found.append(window)
    if problems:
        raise InvalidInputError(problems)
    return tuple(sorted(set(found)))


def spans(windows: tuple[Window, ...], zone: str, first_us: int, last_us: int) -> Iterator[tuple[int, int]]:
    """Yield [from, to) of every time in which a window is open and that meets [first, last], in order.

    A window is open while the clocks show a time in it: when they are set forward it is shorter, when they are set
    back it is longer. Spans may be cut where the offset changes or the week ends.
    """
    first_us, last_us = max(first_us, zones.EARLIEST_US), min(last_us, zones.LATEST_US)
    if first_us > last_us:
        return
    weekly = _weekly(windows)
    for start, end, offset in zones.stretches(zone, first_us, last_us):
        begin, until = max(start, first_us), min(end, last_us + 1)
        week = (begin + offset - _MONDAY_US) // _WEEK_US * _WEEK_US + _MONDAY_US - offset
        while week < until:
            for opens, closes in weekly:
                opened = max(start, week + opens)
                closed = min(end, week + closes)
                if opened < closed and closed > begin and opened < until:
                    yield opened, closed
            week += _WEEK_US


@lru_cache(maxsize=1024)
def _weekly(windows: tuple[Window, ...]) -> tuple[tuple[int, int], ...]:
    """Return when windows are open, in microseconds after Monday's midnight, merged and in order."""
    parts = []
    for window in windows:
        length = window.to_min - window.from_min
        length += MINUTES_OF_DAY if length <= 0 else 0
        for day in window.days:
            start = (day - 1) * MINUTES_OF_DAY + window.from_min
            parts.append((start, min(start + length, _WEEK_MIN)))
            if start + length > _WEEK_MIN:
                parts.append((0, start + length - _WEEK_MIN))
    merged: list[tuple[int, int]] = []
    for start, end in sorted(parts):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple((start * MINUTE_US, end * MINUTE_US) for start, end in merged)


def _read_one(value: Any, path: str, problems: list[Problem]) -> Window | None:
    faults = len(problems)
    if not isinstance(value, Mapping):
        problems.append(Problem(path=path, message="must be a mapping of `days`, `from` and `to`"))
        return None
    problems += (
        Problem(
            path=f"{path}.{shown(str(name))}",
            message=f"there is no such field; there are {', '.join(FIELDS)}",
        )
        for name in value
        if name not in FIELDS
    )
    days = _days(value.get("days"), f"{path}.days", problems)
    start = _minute(value.get("from"), f"{path}.from", problems)
    end = _minute(value.get("to"), f"{path}.to", problems)
    if len(problems) == faults and start == MINUTES_OF_DAY:
        problems.append(
            Problem(path=f"{path}.from", message="is the end of the day; `00:00` is its beginning")
        )
    elif len(problems) == faults and start == end:
        problems.append(
            Problem(
                path=f"{path}.to", message="makes a window of no length; a whole day is from 00:00 to 24:00"
            )
        )
    return Window(days=days, from_min=start, to_min=end) if len(problems) == faults else None


def _days(value: Any, path: str, problems: list[Problem]) -> tuple[int, ...]:
    if value is None:
        return tuple(range(1, 8))
    items: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    found = set()
    for item in items:
        word = str(item).strip().lower()[:3] if isinstance(item, str) else ""
        if word not in DAYS:
            problems.append(
                Problem(path=path, message=f"`{shown(str(item))}` is no day; there are {', '.join(DAYS)}")
            )
        else:
            found.add(DAYS.index(word) + 1)
    if not found and not any(problem.path == path for problem in problems):
        problems.append(Problem(path=path, message="names no day; leave it out for every day"))
    return tuple(sorted(found))


def _minute(value: Any, path: str, problems: list[Problem]) -> int:
    # YAML reads 17:30 without quotes as a number in base 60, which happens to be minutes after midnight.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MINUTES_OF_DAY:
        return value
    match = _CLOCK.match(value.strip()) if isinstance(value, str) else None
    if not match:
        what = "is missing" if value is None else f"`{shown(str(value))}` is no time of day"
        problems.append(Problem(path=path, message=f"{what}; write it as in `09:00`, from 00:00 to 24:00"))
        return 0
    return int(match[1]) * 60 + int(match[2]) if match[1] else MINUTES_OF_DAY
