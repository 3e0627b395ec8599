"""When a job is due: interval, cron or once, in weekly windows, between a start and an end. Pure.

Workers start runs by this, planning shows and limits them by it, and queries count by it what was to be expected:
one definition for all of them. All instants are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

from streamswarm import crontab, windows, zones
from streamswarm.crontab import Cron
from streamswarm.v1 import probe_pb2
from streamswarm.windows import Window
from streamswarm.zones import DAY_US, ScheduleError

#: Jobs that want to run more often are not run: nothing here is meant to be a load generator.
SHORTEST_INTERVAL_US = 100_000
#: So far ahead, and back, is looked for an instant that lies in a window.
_HORIZON_US = 9 * 366 * DAY_US
_LOOKS_BACK_US = tuple(days * DAY_US for days in (2, 9, 100, 9 * 366))
#: So far ahead is looked for the last of so many runs.
LONGEST_COUNT_US = 20 * 366 * DAY_US
_BLOCK_US = 28 * DAY_US


class _Instants(Protocol):
    """Instants without windows and ends."""

    def at_or_after(self, instant_us: int) -> int | None: ...
    def at_or_before(self, instant_us: int) -> int | None: ...
    def count(self, first_us: int, last_us: int) -> int: ...
    def chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, Sequence[int]]]: ...


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The due instants of one job or test."""

    #: The first instant that can be; for cron, what is added to each instant: the job's phase.
    anchor_us: int
    #: Distance of two instants; 0 with cron, and for what is due once, at the anchor.
    interval_us: int = 0
    #: Five fields; empty for interval and once.
    cron: str = ""
    #: IANA name of the zone in which cron and windows are meant.
    zone: str = "UTC"
    #: Instants count only while one of them is open; none means always.
    windows: tuple[Window, ...] = ()
    #: Instants before this do not count.
    starts_us: int | None = None
    #: Instants from here on do not count.
    ends_us: int | None = None

    @classmethod
    def of(cls, message: probe_pb2.Schedule) -> Schedule:
        """Return the schedule of a message; raises ScheduleError for one that cannot be kept."""
        if message.interval_us < 0 or 0 < message.interval_us < SHORTEST_INTERVAL_US:
            raise ScheduleError(
                f"its interval is {message.interval_us} µs; {SHORTEST_INTERVAL_US} µs is the shortest, 0 means once"
            )
        made = cls(
            anchor_us=message.anchor_us,
            interval_us=0 if message.cron else message.interval_us,
            cron=crontab.check(message.cron) if message.cron else "",
            zone=message.zone or "UTC",
            windows=tuple(
                sorted(
                    Window(days=tuple(window.days), from_min=window.from_min, to_min=window.to_min)
                    for window in message.windows
                )
            ),
            starts_us=message.starts_at_us if message.HasField("starts_at_us") else None,
            ends_us=message.ends_at_us if message.HasField("ends_at_us") else None,
        )
        zones.load(made.zone)
        for window in made.windows:
            if not _is_window(window):
                raise ScheduleError(f"it has a window that is none: {window!r}")
        return made

    def message(self) -> probe_pb2.Schedule:
        """Return the message that stands for it."""
        made = probe_pb2.Schedule(interval_us=self.interval_us, anchor_us=self.anchor_us, cron=self.cron)
        if self.cron or self.windows:
            made.zone = self.zone
        for window in self.windows:
            made.windows.add(days=window.days, from_min=window.from_min, to_min=window.to_min)
        if self.starts_us is not None:
            made.starts_at_us = self.starts_us
        if self.ends_us is not None:
            made.ends_at_us = self.ends_us
        return made

    @property
    def once(self) -> bool:
        """Whether it is due at one instant only."""
        return not self.cron and self.interval_us == 0

    def next_after(self, instant_us: int) -> int | None:
        """Return the first due instant later than another, or None when there is none."""
        base = self._base
        start = instant_us + 1 if self.starts_us is None else max(instant_us + 1, self.starts_us)
        due = base.at_or_after(start)
        if due is not None and self.windows:
            due = self._in_window(base, due)
        return None if due is None or (self.ends_us is not None and due >= self.ends_us) else due

    def last_until(self, instant_us: int) -> int | None:
        """Return the last due instant that is not later than another, or None when there is none."""
        base = self._base
        latest = instant_us if self.ends_us is None else min(instant_us, self.ends_us - 1)
        due = base.at_or_before(latest)
        if due is not None and self.windows:
            due = self._in_window_before(base, latest)
        return None if due is None or (self.starts_us is not None and due < self.starts_us) else due

    def count(self, first_us: int, last_us: int) -> int:
        """Return how many due instants lie in [first, last]."""
        first = first_us if self.starts_us is None else max(first_us, self.starts_us)
        last = last_us if self.ends_us is None else min(last_us, self.ends_us - 1)
        if last < first:
            return 0
        base = self._base
        if not self.windows:
            return base.count(first, last)
        return sum(
            base.count(max(first, start), min(last, end - 1))
            for start, end in windows.spans(self.windows, self.zone, first, last)
        )

    def chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Yield (base, offsets) in order: base plus each offset are the due instants in [first, last].

        Within a chunk no two are further apart than `longest_stride_us`. However many there are, it costs no more than
        the days and windows of the range: an interval's offsets are a `range`.
        """
        first = first_us if self.starts_us is None else max(first_us, self.starts_us)
        last = last_us if self.ends_us is None else min(last_us, self.ends_us - 1)
        if last < first:
            return
        base = self._base
        if not self.windows:
            yield from base.chunks(first, last)
            return
        for start, end in windows.spans(self.windows, self.zone, first, last):
            yield from base.chunks(max(first, start), min(last, end - 1))

    @property
    def shortest_stride_us(self) -> int:
        """How far apart two due instants are at least; 0 for what is due once."""
        return crontab.shortest_gap_us(self.cron) if self.cron else self.interval_us

    @property
    def longest_stride_us(self) -> int:
        """How far apart two due instants can be and still follow each other; beyond that it rests. 0 for what is due once."""
        return crontab.longest_stride_us(self.cron) if self.cron else self.interval_us + self.interval_us // 2

    def instants(self, first_us: int, last_us: int) -> Iterator[int]:
        """Yield the due instants in [first, last], in order."""
        due = self.next_after(first_us - 1)
        while due is not None and due <= last_us:
            yield due
            due = self.next_after(due)

    def pace_us(self, instant_us: int) -> int:
        """Return how far apart runs are around an instant: in a night between two windows, the whole night.

        Before the first and behind the last it is what is usual, 0 for what is due once.
        """
        usual = crontab.longest_gap_us(self.cron) if self.cron else self.interval_us
        if not (self.cron or self.windows):
            return usual
        last, following = self.last_until(instant_us), self.next_after(instant_us)
        return usual if last is None or following is None else max(self.interval_us, following - last)

    def end_after(self, runs: int) -> int | None:
        """Return the end behind so many due instants; None when that lies beyond the calendar or twenty years."""
        return _end_after(replace(self, ends_us=None), runs)

    @property
    def _base(self) -> _Instants:
        if self.cron:
            return Cron(self.cron, self.zone, self.anchor_us)
        return _Grid(self.anchor_us, self.interval_us) if self.interval_us else _Once(self.anchor_us)

    def _in_window(self, base: _Instants, instant_us: int) -> int | None:
        due: int | None = instant_us
        for start, end in windows.spans(self.windows, self.zone, instant_us, instant_us + _HORIZON_US):
            if due is not None and due < start:
                due = base.at_or_after(start)
            if due is None or (self.ends_us is not None and due >= self.ends_us):
                return None
            if due < end:
                return due
        return None

    def _in_window_before(self, base: _Instants, instant_us: int) -> int | None:
        for back_us in _LOOKS_BACK_US:
            found = list(windows.spans(self.windows, self.zone, instant_us - back_us, instant_us))
            for start, end in reversed(found):
                due = base.at_or_before(min(instant_us, end - 1))
                if due is None:
                    return None
                if due >= start:
                    return due
        return None


@dataclass(frozen=True)
class _Once:
    at_us: int

    def at_or_after(self, instant_us: int) -> int | None:
        return self.at_us if self.at_us >= instant_us else None

    def at_or_before(self, instant_us: int) -> int | None:
        return self.at_us if self.at_us <= instant_us else None

    def count(self, first_us: int, last_us: int) -> int:
        return int(first_us <= self.at_us <= last_us)

    def chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, Sequence[int]]]:
        if first_us <= self.at_us <= last_us:
            yield self.at_us, (0,)


@dataclass(frozen=True)
class _Grid:
    anchor_us: int
    interval_us: int

    def at_or_after(self, instant_us: int) -> int:
        earliest = max(instant_us, self.anchor_us)
        # Whole steps from the anchor, rounded up.
        return self.anchor_us - (self.anchor_us - earliest) // self.interval_us * self.interval_us

    def at_or_before(self, instant_us: int) -> int | None:
        if instant_us < self.anchor_us:
            return None
        return self.anchor_us + (instant_us - self.anchor_us) // self.interval_us * self.interval_us

    def count(self, first_us: int, last_us: int) -> int:
        first = max(first_us, self.anchor_us)
        if last_us < first:
            return 0
        before = (first - 1 - self.anchor_us) // self.interval_us
        return (last_us - self.anchor_us) // self.interval_us - before

    def chunks(self, first_us: int, last_us: int) -> Iterator[tuple[int, Sequence[int]]]:
        first = self.at_or_after(first_us)
        if first <= last_us:
            yield first, range(0, last_us - first + 1, self.interval_us)


@lru_cache(maxsize=50_000)
def _end_after(schedule: Schedule, runs: int) -> int | None:
    first = schedule.next_after((schedule.starts_us or 0) - 1)
    if first is None:
        return None
    if schedule.once or runs == 1:
        return first + 1
    if schedule.interval_us and not schedule.windows:
        end = first + (runs - 1) * schedule.interval_us + 1
        return end if end <= first + LONGEST_COUNT_US else None
    counted, begin = 0, first
    while begin < first + LONGEST_COUNT_US:
        more = schedule.count(begin, begin + _BLOCK_US - 1)
        if counted + more >= runs:
            break
        counted += more
        begin += _BLOCK_US
    else:
        return None
    # The run that completes the count lies in this block: halve until its instant is found.
    low, high = begin, begin + _BLOCK_US - 1
    while low < high:
        middle = (low + high) // 2
        if counted + schedule.count(begin, middle) >= runs:
            high = middle
        else:
            low = middle + 1
    return low + 1


def _is_window(window: Window) -> bool:
    return (
        bool(window.days)
        and all(1 <= day <= 7 for day in window.days)
        and 0 <= window.from_min < 1440
        and 0 <= window.to_min <= 1440
        and window.from_min != window.to_min
    )
