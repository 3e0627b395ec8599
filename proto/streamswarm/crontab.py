"""Cron expressions in a time zone: the instants at which they are due.

What an expression means is the library's matter (`cronsim`, which follows Debian's cron): a time of day that a change
of clocks skips is due once, right after it; one that comes twice is due the first time; what is due every so many
minutes or every hour simply goes on. Only counting is done here: on days without a change of clocks the same minutes
are due, so a year needs no walk over half a million instants.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise

from cronsim import CronSim, CronSimError

from streamswarm import zones
from streamswarm.targets import shown
from streamswarm.zones import DAY_US, ScheduleError

#: After a change of clocks a day is looked at closely that begins within so long: its hours may have come before.
_UNEASY_US = 3 * 3_600_000_000
#: How far back is looked for the last instant, in growing steps. Leap days can be eight years apart.
_LOOKS_BACK_US = tuple(days * DAY_US for days in (2, 8, 40, 400, 9 * 366))
#: So many of its days, from 2001 on, say what is usual of an expression.
_SOME_DAY, _SOME_DAYS = 31 * 365 + 8, 29
_LONGEST = 200
#: A minute that no clock shows.
_NO_MINUTE = 60


@dataclass(frozen=True)
class Cron:
    """An expression of five fields in a zone; `shift_us` is added to each of its instants."""

    text: str
    zone: str
    shift_us: int = 0

    def at_or_after(self, instant_us: int) -> int | None:
        """Return the first instant that is not before another, or None when there is none."""
        wanted = max(instant_us - self.shift_us, zones.EARLIEST_US)
        if wanted >= zones.LATEST_US:
            return None
        for found in _walk(self.text, self.zone, wanted):
            return None if found >= zones.LATEST_US else found + self.shift_us
        return None

    def at_or_before(self, instant_us: int) -> int | None:
        """Return the last instant that is not after another; None when there is none within nine years."""
        wanted = instant_us - self.shift_us
        for back_us in _LOOKS_BACK_US:
            found = None
            for base, offsets in self._chunks(wanted - back_us, wanted):
                at = bisect_right(offsets, wanted - base)
                if at:
                    found = base + offsets[at - 1] + self.shift_us
            if found is not None:
                return found
        return None

    def count(self, first_us: int, last_us: int) -> int:
        """Return how many instants lie in [first, last]."""
        first, last = first_us - self.shift_us, last_us - self.shift_us
        return sum(
            max(0, bisect_right(offsets, last - base) - bisect_left(offsets, first - base))
            for base, offsets in self._chunks(first, last)
        )

    def instants(self, first_us: int, last_us: int) -> tuple[int, ...]:
        """Return the instants in [first, last], in order: looks no further, so a stretch in which none is costs little."""
        return tuple(base + offset for base, offsets in self.chunks(first_us, last_us) for offset in offsets)

    def chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (base, offsets) in order: base plus each offset are the instants in [first, last].

        No two instants of a chunk are further apart than `longest_stride_us`.
        """
        first, last = first_us - self.shift_us, last_us - self.shift_us
        longest_us = longest_stride_us(self.text)
        for base, whole in self._chunks(first, last):
            for offsets in _split(whole, longest_us):
                some = offsets[bisect_left(offsets, first - base) : bisect_right(offsets, last - base)]
                if some:
                    yield base + self.shift_us, some

    def _chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Yield (base, offsets) in order of time; together they have every instant of [first, last], and some around."""
        first_us, last_us = max(first_us, zones.EARLIEST_US), min(last_us, zones.LATEST_US)
        if first_us > last_us:
            return
        template = _minutes(self.text)
        done: int | None = None
        for start, end, offset in zones.stretches(self.zone, first_us - 3 * DAY_US, last_us + 3 * DAY_US):
            # Whole local days in which no clock changes, and none has just changed.
            opens = -(-(start + offset + _UNEASY_US) // DAY_US)
            closes = (end + offset) // DAY_US
            if closes <= opens:
                continue
            begins = opens * DAY_US - offset
            if done is not None and done <= last_us and begins > first_us:
                yield 0, _enumerated(self.text, self.zone, done, begins)
            done = closes * DAY_US - offset
            from_day = max(opens, (first_us + offset) // DAY_US)
            to_day = min(closes - 1, (last_us + offset) // DAY_US)
            for day in _matching_days(self.text, from_day, to_day):
                yield day * DAY_US - offset, template


def check(text: str) -> str:
    """Return an expression in its plain form: five fields, single spaces. Raises ScheduleError."""
    plain = " ".join(text.split()) if len(text) <= _LONGEST else text
    fields = plain.split(" ")
    if len(plain) > _LONGEST or len(fields) != 5:
        raise ScheduleError(
            f"`{shown(plain)}` is no cron expression; it has five fields: minute, hour, day of the month, month, weekday"
        )
    try:
        found = next(CronSim(plain, datetime(2000, 1, 1)), None)
    except (CronSimError, ValueError, AssertionError) as error:
        what = str(error)[:1].lower() + str(error)[1:]
        raise ScheduleError(
            f"`{shown(plain)}` is no cron expression: {what or 'it cannot be read'}"
        ) from error
    if found is None:
        raise ScheduleError(f"`{shown(plain)}` is never due: no such day is in the calendar")
    return plain


def shortest_gap_us(text: str) -> int:
    """Return the least time between two instants on a day without a change of clocks, or over midnight."""
    minutes = _minutes(text)
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    return min([*gaps, minutes[0] + DAY_US - minutes[-1]])


def longest_gap_us(text: str) -> int:
    """Return the most time between two instants on a day without a change of clocks, or over one midnight."""
    minutes = _minutes(text)
    gaps = [later - earlier for earlier, later in pairwise(minutes)]
    return max([*gaps, minutes[0] + DAY_US - minutes[-1]])


@lru_cache(maxsize=1024)
def longest_stride_us(text: str) -> int:
    """Return how far apart two instants can be and still follow each other: half as much again as is usual.

    Usual is the middle one of all distances over the expression's next days. Every five minutes of the working hours
    it is five minutes, whatever the nights; every Monday it is a week.
    """
    minutes = _minutes(text)
    days = tuple(
        islice(_matching_days(text, _SOME_DAY, _SOME_DAY + _LOOKS_BACK_US[-1] // DAY_US), _SOME_DAYS)
    )
    inner = [later - earlier for earlier, later in pairwise(minutes)]
    over = [(later - earlier) * DAY_US + minutes[0] - minutes[-1] for earlier, later in pairwise(days)]
    gaps = sorted(inner * max(1, len(over)) + over)
    usual = gaps[len(gaps) // 2] if gaps else DAY_US
    return usual + usual // 2


def _walk(text: str, zone: str, instant_us: int) -> Iterator[int]:
    """Yield the instants from one on, each once, in order."""
    begin = zones.from_microseconds((instant_us - 1) // 1_000_000 * 1_000_000).astimezone(zones.load(zone))
    last = instant_us - 1
    simulation = CronSim(text, begin)
    if not zones.changes_by_hours(zone, instant_us):
        # With one minute only the library jumps from hour to hour, over a half hour that comes twice.
        simulation.minutes.add(_NO_MINUTE)
    for moment in simulation:
        found = zones.to_microseconds(moment)
        # Several skipped times fall on the same instant, and after a time that comes twice the library starts anew.
        if found > last:
            last = found
            yield found


@lru_cache(maxsize=1024)
def _minutes(text: str) -> tuple[int, ...]:
    """Return the microseconds after midnight at which an expression is due on each of its days."""
    minute, hour, *_ = text.split()
    day = datetime(2001, 1, 1)
    found = []
    for moment in CronSim(f"{minute} {hour} * * *", day - timedelta(seconds=1)):
        if moment >= day + timedelta(days=1):
            break
        found.append((moment - day) // timedelta(microseconds=1))
    return tuple(found)


@lru_cache(maxsize=4096)
def _split(offsets: tuple[int, ...], longest_us: int) -> tuple[tuple[int, ...], ...]:
    """Cut offsets wherever two are further apart than that."""
    cuts = [at for at in range(1, len(offsets)) if offsets[at] - offsets[at - 1] > longest_us]
    return tuple(offsets[start:end] for start, end in zip([0, *cuts], [*cuts, len(offsets)], strict=True))


def _matching_days(text: str, first: int, last: int) -> Iterator[int]:
    """Yield the days on which an expression is due, from one to another, as days since 1970."""
    if first > last:
        return
    _, _, day, month, weekday = text.split()
    epoch = datetime(1970, 1, 1)
    if day == month == weekday == "*":
        yield from range(first, last + 1)
        return
    for moment in CronSim(
        f"0 0 {day} {month} {weekday}", epoch + timedelta(days=first) - timedelta(seconds=1)
    ):
        found = (moment - epoch).days
        if found > last:
            return
        yield found


@lru_cache(maxsize=4096)
def _enumerated(text: str, zone: str, start_us: int, end_us: int) -> tuple[int, ...]:
    """Return the instants in [start, end), one by one."""
    found = []
    for instant in _walk(text, zone, start_us):
        if instant >= end_us:
            break
        found.append(instant)
    return tuple(found)
