"""What was due in a stretch of time: worked out once for each schedule, however many jobs keep it. Pure."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache

from controller.planning.schedule import LONGEST_PHASE_US
from streamswarm import windows
from streamswarm.crontab import Cron
from streamswarm.schedules import Schedule
from streamswarm.windows import Window

_HOUR_US = 3_600_000_000


class Stretch:
    """All instants from one to another, and what of cron and windows lies in them."""

    def __init__(self, first_us: int, last_us: int) -> None:
        self.first_us = first_us
        self.last_us = last_us
        self._instants: dict[tuple[str, str, tuple[Window, ...]], list[int]] = {}
        self._open: dict[tuple[str, tuple[Window, ...]], list[tuple[int, int]]] = {}

    def may_be_due(self, schedule: Schedule) -> bool:
        """Return whether a job of a test can be due here, whatever its phase; of the test's own schedule."""
        begin = self.first_us - LONGEST_PHASE_US
        if schedule.starts_us is not None and schedule.starts_us > self.last_us:
            return False
        if schedule.ends_us is not None and schedule.ends_us + LONGEST_PHASE_US <= self.first_us:
            return False
        if schedule.cron:
            return bool(self._of_cron(schedule))
        if schedule.windows and not self._spans(schedule):
            return False
        if schedule.interval_us <= LONGEST_PHASE_US:
            return schedule.anchor_us <= self.last_us
        due = Schedule(anchor_us=schedule.anchor_us, interval_us=schedule.interval_us).last_until(
            self.last_us
        )
        return due is not None and due >= begin

    def last_due(self, schedule: Schedule) -> int | None:
        """Return the last instant here at which a job is due, or None."""
        first = self.first_us if schedule.starts_us is None else max(self.first_us, schedule.starts_us)
        last = self.last_us if schedule.ends_us is None else min(self.last_us, schedule.ends_us - 1)
        if schedule.cron:
            # Instants of cron and the edges of windows are whole minutes and phases are shorter: each lies in the
            # same window with its phase as without.
            instants = self._of_cron(schedule)
            at = bisect_right(instants, last - schedule.anchor_us)
            due = instants[at - 1] + schedule.anchor_us if at else None
            return due if due is not None and due >= first else None
        grid = Schedule(anchor_us=schedule.anchor_us, interval_us=schedule.interval_us)
        if not schedule.windows:
            due = grid.last_until(last)
            return due if due is not None and due >= first else None
        for start, end in reversed(self._spans(schedule)):
            due = grid.last_until(min(last, end - 1))
            if due is not None and due >= max(first, start):
                return due
        return None

    def _of_cron(self, schedule: Schedule) -> list[int]:
        """Return the instants of cron, without phases, that can be due here with one."""
        key = (schedule.cron, schedule.zone, schedule.windows)
        if key not in self._instants:
            begin = self.first_us - LONGEST_PHASE_US
            self._instants[key] = [
                instant
                for hour in range(begin // _HOUR_US, self.last_us // _HOUR_US + 1)
                for instant in _in_hour(*key, hour)
                if begin <= instant <= self.last_us
            ]
        return self._instants[key]

    def _spans(self, schedule: Schedule) -> list[tuple[int, int]]:
        key = (schedule.zone, schedule.windows)
        if key not in self._open:
            self._open[key] = list(
                windows.spans(schedule.windows, schedule.zone, self.first_us, self.last_us)
            )
        return self._open[key]


# Looks follow each other and lie in the same hour; an expression that is seldom due takes milliseconds to look up.
@lru_cache(maxsize=4096)
def _in_hour(cron: str, zone: str, hours: tuple[Window, ...], hour: int) -> tuple[int, ...]:
    first, last = hour * _HOUR_US, (hour + 1) * _HOUR_US - 1
    instants = Cron(cron, zone).instants(first, last)
    if not hours or not instants:
        return instants
    spans = list(windows.spans(hours, zone, first, last))
    return tuple(instant for instant in instants if any(start <= instant < end for start, end in spans))
