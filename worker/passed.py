"""Runs that went by while nothing could start: each is told as missed, not all at a time.

A host that has slept for a day wakes up with thousands of them, and the spool has the results of now to take beside
them. What is too much for that is told in one row, as a number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from streamswarm.zones import DAY_US
from worker.clock import Clock
from worker.instants import shown_instant
from worker.used import Used

#: Rows that are told together, and the time until the next ones: a day of a run every two seconds takes 90 s.
_TOGETHER, _PAUSE_S = 50, 0.1
#: Of a longer pause, the time from its beginning that is told run by run.
_LONGEST_US = DAY_US
#: Rows of all jobs that may wait to be told, and what each job may tell even so.
_MOST_WAITING, _LEAST = 100_000, 20

Tell = Callable[[probe_pb2.Job, int, str], None]


@dataclass(kw_only=True)
class _Passed:
    """What is still to be told of one job and one pause."""

    job: probe_pb2.Job
    grid: Schedule
    #: What the job had used when the pause was over: nothing of it is told.
    used: Used
    first_us: int
    last_us: int
    #: Rows that are still to be told.
    rows: int
    reason: str

    @property
    def count(self) -> int:
        """Runs that are still to be told, with a row of their own or without."""
        return self.used.count_unused(self.grid, self.first_us, self.last_us)


class PassedRuns:
    """Tells of runs that went by; `run` is its task."""

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._waiting: deque[_Passed] = deque()
        self._added = asyncio.Event()

    def add(
        self, job: probe_pb2.Job, grid: Schedule, used: Used, first_us: int, last_us: int, *, reason: str
    ) -> None:
        """Take over the due instants from the first to the last, but those that are used."""
        until_us = min(last_us, first_us + _LONGEST_US)
        passed = _Passed(
            job=job, grid=grid, used=used, first_us=first_us, last_us=last_us, rows=0, reason=reason
        )
        passed.rows = min(
            used.count_unused(grid, first_us, until_us),
            max(_MOST_WAITING - self._rows(), min(passed.count, _LEAST)),
        )
        if passed.rows:
            self._waiting.append(passed)
            self._added.set()

    def forget_after(self, instant_us: int) -> None:
        """Do not tell of what was due later: time was set back, and it will be due again."""
        for passed in self._waiting:
            passed.last_us = min(passed.last_us, instant_us)
            passed.rows = min(passed.rows, passed.count)
        self._waiting = deque(passed for passed in self._waiting if passed.rows)

    async def run(self) -> None:
        """Tell what there is, until cancelled."""
        while True:
            await self._added.wait()
            room = _TOGETHER
            while self._waiting and room:
                passed = self._waiting[0]
                asked = min(room, passed.rows)
                self._tell_some(passed, asked)
                room -= asked
                if not passed.rows:
                    self._waiting.popleft()
            if not self._waiting:
                self._added.clear()
            await self._clock.sleep(_PAUSE_S)

    def close(self) -> None:
        """Tell the rest in one row for each job and pause: the worker ends."""
        for passed in self._waiting:
            passed.rows = 1
            self._tell_some(passed, 1)
        self._waiting.clear()

    def _rows(self) -> int:
        """Return how many rows wait to be told."""
        return sum(passed.rows for passed in self._waiting)

    def _tell_some(self, passed: _Passed, most: int) -> None:
        told = list(islice(passed.used.unused(passed.grid, passed.first_us, passed.last_us), most))
        if len(told) < most:
            # There are no more, whatever was counted, and those behind are not to wait for them.
            passed.rows = len(told)
        for due_us in told:
            passed.first_us = due_us + 1
            passed.rows -= 1
            more = 0 if passed.rows else passed.count
            further = (
                f"; so did {more} further due runs until {shown_instant(passed.last_us)}" if more else ""
            )
            self._tell(passed.job, due_us, f"{passed.reason}{further}")
