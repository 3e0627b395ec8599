"""Runs that went by while nothing could start: each is told as missed, not all at a time.

A host that has slept for a day wakes up with thousands of them, and the spool has the results of now to take beside
them. What is too much for that is told in one row, as a number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from streamswarm.zones import DAY_US
from worker.clock import Clock
from worker.instants import shown_instant
from worker.spool import Used

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
    instants: Iterator[int]
    #: Rows that are still to be told.
    rows: int
    #: Runs that get no row of their own.
    more: int
    last_us: int
    reason: str


class PassedRuns:
    """Tells of runs that went by; `run` is its task."""

    def __init__(self, clock: Clock, tell: Tell) -> None:
        self._clock = clock
        self._tell = tell
        self._waiting: deque[_Passed] = deque()
        self._added = asyncio.Event()

    def add(
        self,
        job: probe_pb2.Job,
        grid: Schedule,
        first_us: int,
        last_us: int,
        *,
        reason: str,
        ahead: Used | None,
    ) -> None:
        """Take over the due instants from the first to the last, but those that were used ahead of time."""
        instants = (
            due_us
            for due_us in grid.instants(first_us, last_us)
            if ahead is None or not ahead.from_us <= due_us <= ahead.last_us
        )
        until_us = min(last_us, first_us + _LONGEST_US)
        count = _count(grid, first_us, last_us, ahead)
        rows = min(
            _count(grid, first_us, until_us, ahead), max(_MOST_WAITING - self._rows(), min(count, _LEAST))
        )
        if rows:
            self._waiting.append(
                _Passed(
                    job=job, instants=instants, rows=rows, more=count - rows, last_us=last_us, reason=reason
                )
            )
            self._added.set()

    async def run(self) -> None:
        """Tell what there is, until cancelled."""
        while True:
            await self._added.wait()
            room = _TOGETHER
            while self._waiting and room:
                passed = self._waiting[0]
                asked = min(room, passed.rows)
                told = self._tell_some(passed, asked)
                room -= asked
                if not passed.rows or told < asked:
                    self._waiting.popleft()
            if not self._waiting:
                self._added.clear()
            await self._clock.sleep(_PAUSE_S)

    def close(self) -> None:
        """Tell the rest in one row for each job and pause: the worker ends."""
        for passed in self._waiting:
            passed.more += passed.rows - 1
            passed.rows = 1
            self._tell_some(passed, 1)
        self._waiting.clear()

    def _rows(self) -> int:
        """Return how many rows wait to be told."""
        return sum(passed.rows for passed in self._waiting)

    def _tell_some(self, passed: _Passed, most: int) -> int:
        told = 0
        for due_us in islice(passed.instants, most):
            told += 1
            last = told == passed.rows
            more = (
                f"; so did {passed.more} further due runs until {shown_instant(passed.last_us)}"
                if last and passed.more
                else ""
            )
            self._tell(passed.job, due_us, f"{passed.reason}{more}")
        passed.rows -= told
        return told


def _count(grid: Schedule, first_us: int, last_us: int, ahead: Used | None) -> int:
    """Return how many instants there are but those that were used ahead of time."""
    count = grid.count(first_us, last_us)
    if ahead is not None:
        from_us, to_us = max(first_us, ahead.from_us), min(last_us, ahead.last_us)
        if from_us <= to_us:
            count -= grid.count(from_us, to_us)
    return count
