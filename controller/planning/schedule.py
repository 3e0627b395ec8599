"""The schedules of tests: where their grids begin and where they end, and each job's own phase, which spreads load."""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from controller.planning.records import PlannedTest
from streamswarm.schedules import Schedule
from streamswarm.windows import Window
from streamswarm.zones import MINUTE_US, from_microseconds, to_microseconds

#: Seconds between two runs of a job. Below a second, a run and its bookkeeping would crowd out the next.
SHORTEST_INTERVAL_S = 1.0
LONGEST_INTERVAL_S = 31 * 86_400.0
#: Jobs of one test are spread over its interval, but over no more than this, so that the first result of a
#: rare test does not wait for most of an interval.
LONGEST_PHASE_US = 60_000_000
#: A one-shot test is still started this long after its instant.
ONE_SHOT_GRACE = dt.timedelta(minutes=10)
#: A "run now" is dropped when it could not start within this time.
RUN_NOW_GRACE = dt.timedelta(minutes=1)


def least_run_s(spec: Mapping[str, Any]) -> float:
    """Return how long a run with these parameters takes at least: its packets and the pauses between them."""
    packets, pause_ms = int(spec.get("count") or 1), float(spec.get("interval_ms") or 0)
    return ((packets - 1) * pause_ms + float(spec.get("window_ms") or 0)) / 1000


def too_long(spec: Mapping[str, Any], interval_s: float | None) -> str:
    """Return why runs with these parameters cannot come that often, or the empty text.

    A run never overlaps the one before it, so a test like that would mostly be missed.
    """
    least_s = least_run_s(spec)
    if interval_s is None or least_s < interval_s:
        return ""
    return f"a run takes at least {least_s:g} s by its parameters, so it cannot come every {interval_s:g} s"


def phase_us(test_id: int, worker_id: uuid.UUID, destination_id: int | None, interval_us: int) -> int:
    """Return the job's offset on the grid: the same for ever, spread evenly over jobs, below the interval."""
    identity = f"{test_id}/{worker_id}/{destination_id or 0}".encode()
    digest = int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big")
    return digest % min(interval_us, LONGEST_PHASE_US)


def grid_origin(starts_at: dt.datetime | None, created_at: dt.datetime) -> dt.datetime:
    """Return where a test's grid begins: at its start, or when it was made. Changes of the test do not move it."""
    return starts_at if starts_at is not None else created_at


def make_schedule(
    *,
    interval_us: int | None,
    cron: str,
    zone: str,
    hours: tuple[Window, ...],
    starts_at: dt.datetime | None,
    ends_at: dt.datetime | None,
    created_at: dt.datetime,
) -> Schedule:
    """Return when a test is due, without the phases of its jobs and without the end that its count makes."""
    origin = to_microseconds(grid_origin(starts_at, created_at))
    return Schedule(
        anchor_us=0 if cron else origin,
        interval_us=interval_us or 0,
        cron=cron,
        zone=zone,
        windows=hours,
        starts_us=None if starts_at is None else origin,
        ends_us=None if ends_at is None else to_microseconds(ends_at),
    )


def schedule_of(test: PlannedTest) -> Schedule:
    """Return when a test is due, as `make_schedule` does."""
    return make_schedule(
        interval_us=test.interval_us,
        cron=test.cron,
        zone=test.zone,
        hours=test.windows,
        starts_at=test.starts_at,
        ends_at=test.ends_at,
        created_at=test.created_at,
    )


def end_of(test: PlannedTest, schedule: Schedule) -> dt.datetime | None:
    """Return where a test or one of its jobs ends: at the test's end, or before that behind so many due instants.

    They are counted from the test's start, or else from when it was made, so a worker need not count, and one that
    joins later ends with the others.
    """
    if test.max_runs is None:
        return test.ends_at
    origin = to_microseconds(grid_origin(test.starts_at, test.created_at))
    shift_us = 0
    if schedule.cron:
        # Counted without the job's phase, so that it is done once and not for each of thousands of jobs. Instants of
        # cron and the edges of windows are whole minutes and phases are shorter, so each lies in the same window.
        shift_us = schedule.anchor_us
        origin = -(-(origin - shift_us) // MINUTE_US) * MINUTE_US
    counted_us = replace(schedule, anchor_us=schedule.anchor_us - shift_us, starts_us=origin).end_after(
        test.max_runs
    )
    if counted_us is None:
        return test.ends_at
    counted_us += shift_us
    counted = from_microseconds(counted_us)
    return counted if test.ends_at is None else min(counted, test.ends_at)
