"""Time zones: their names, their data, and the stretches of time in which a zone's offset stands still.

The data are those of the package `tzdata`, never the host's: a worker and its controller must agree on when a local
time is, and a host may have old data or none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache, lru_cache
from importlib import resources
from zoneinfo import ZoneInfo

from streamswarm.targets import shown

DAY_US = 86_400_000_000
MINUTE_US = 60_000_000
_SECOND_US = 1_000_000
_HOUR_US = 3_600 * _SECOND_US
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
#: The calendar that is looked at; beyond it nothing is due.
EARLIEST_US = 0
LATEST_US = (datetime(2500, 1, 1, tzinfo=timezone.utc) - _EPOCH) // timedelta(microseconds=1)


class ScheduleError(ValueError):
    """A schedule that cannot be kept; the message says why, for people."""


@cache
def zone_names() -> frozenset[str]:
    """Return the names of all zones."""
    text = resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8")
    return frozenset(text.split())


@lru_cache(maxsize=1024)
def load(name: str) -> ZoneInfo:
    """Return a zone; raises ScheduleError for a name that is none."""
    if name not in zone_names():
        raise ScheduleError(
            f"there is no time zone `{shown(name)}`; write it as in `Europe/Berlin`, or `UTC`"
        )
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def read_instant(text: str) -> datetime:
    """Return an instant or a time without zone as ISO 8601 writes it; raises ValueError for what is none."""
    # Python 3.10 knows offsets, but not their short form for UTC.
    return datetime.fromisoformat(f"{text[:-1]}+00:00" if text.endswith("Z") else text)


def to_microseconds(moment: datetime) -> int:
    """Return an instant as microseconds since 1970-01-01 UTC, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(instant_us: int) -> datetime:
    """Return the instant of so many microseconds since 1970-01-01 UTC, in UTC."""
    return _EPOCH + timedelta(microseconds=instant_us)


def offset_us(zone: str, instant_us: int) -> int:
    """Return by how much a zone's clocks are ahead of UTC at an instant."""
    offset = from_microseconds(instant_us).astimezone(load(zone)).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)


def stretches(zone: str, first_us: int, last_us: int) -> Iterator[tuple[int, int, int]]:
    """Yield (from, to, offset) of every stretch that meets [first, last], whole, in order of time.

    Where a zone does not change for years, a stretch may be cut at the turn of a year far outside of the range.
    """
    years = range(from_microseconds(first_us).year - 1, from_microseconds(last_us).year + 2)
    changes = [change for year in years for change in _changes(zone, year)]
    begin = _year_us(years[0])
    edges = [begin, *(change for change in changes if change > begin), _year_us(years[-1] + 1)]
    at = max(0, bisect_right(edges, first_us) - 1)
    for start, end in zip(edges[at:], edges[at + 1 :], strict=False):
        if start > last_us:
            return
        yield start, end, offset_us(zone, start)


def changes_by_hours(zone: str, instant_us: int) -> bool:
    """Return whether all changes of a zone's clocks, this year and next, are of whole hours; Lord Howe's are of half an hour."""
    year = from_microseconds(instant_us).year
    return all(_whole_hours(zone, each) for each in (year, year + 1))


@lru_cache(maxsize=4096)
def _whole_hours(zone: str, year: int) -> bool:
    return all(
        (offset_us(zone, change) - offset_us(zone, change - _SECOND_US)) % _HOUR_US == 0
        for change in _changes(zone, year)
    )


@lru_cache(maxsize=4096)
def _changes(zone: str, year: int) -> tuple[int, ...]:
    """Return the instants of a year, in UTC, at which the zone's offset changes: to the second, at most one a day."""
    found = []
    start, end = _year_us(year), _year_us(year + 1)
    before = offset_us(zone, start - DAY_US)
    for day in range(start, end, DAY_US):
        after = offset_us(zone, day)
        if after != before:
            found.append(_change_between(zone, day - DAY_US, day, before))
        before = after
    # A change on the last day belongs to the next year's first look.
    return tuple(found)


def _change_between(zone: str, low: int, high: int, before: int) -> int:
    while high - low > _SECOND_US:
        middle = (low + high) // 2 // _SECOND_US * _SECOND_US
        if offset_us(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high


def _year_us(year: int) -> int:
    return to_microseconds(datetime(year, 1, 1, tzinfo=timezone.utc))
