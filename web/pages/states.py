"""What state things are shown in: one word and one look each, derived from records alone."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

from controller.planning.schedule import LONGEST_PHASE_US
from controller.store.queries.standings import Standing
from controller.store.queries.tests import TestRecord
from controller.store.queries.workers import WorkerLook
from streamswarm.zones import from_microseconds, to_microseconds

#: Icons of states: shape tells them apart where colour does not.
ICONS = {
    "ok": "ok",
    "online": "ok",
    "failed": "failed",
    "offline": "failed",
    "error": "error",
    "revoked": "error",
    "missed": "missed",
    "stale": "missed",
    "attention": "failed",
    "paused": "paused",
    "drained": "drained",
    "waiting": "waiting",
}
#: A test is silent when its newest result is older than this many intervals and this long.
_SILENT_INTERVALS = 3
_SILENT_AT_LEAST = dt.timedelta(seconds=15)

_WORKER_STATES = {
    "connected": ("online", "connected"),
    "offline": ("offline", "offline"),
    "drained": ("drained", "drained"),
    "pending": ("waiting", "not enrolled yet"),
    "revoked": ("revoked", "revoked"),
}
_RUN_WORDS = {"ok": "ok", "failed": "failed", "error": "not measured", "missed": "missed"}
SOURCES = {
    "none": "",
    "target": "destination",
    "network": "network",
    "resolver": "name resolution",
    "policy": "worker's policy",
    "vantage": "worker's host",
    "schedule": "schedule",
    "internal": "worker itself",
}


@dataclass(frozen=True, kw_only=True)
class TestLook:
    """A test's state as lists show it."""

    __test__ = False  # keeps pytest from taking it for a test class

    #: One of `ICONS`.
    state: str
    word: str
    #: Instant of the newest run of any line.
    last_at: dt.datetime | None
    #: Mean of the newest values of its lines; None where nothing was measured.
    value: float | None
    #: How many lines that mean is of.
    measured: int


def run_state(status: str) -> tuple[str, str]:
    """Return look and word of how a run ended."""
    return status, _RUN_WORDS[status]


def worker_state(look: WorkerLook) -> tuple[str, str]:
    """Return look and word of a worker."""
    if look.state == "connected" and look.spool_alarm:
        return "attention", "spool alarm"
    if look.state == "connected" and look.spool_stuck:
        return "attention", "spool stuck"
    if look.state == "connected" and look.vantage_alarm:
        return "attention", "network access"
    return _WORKER_STATES[look.state]


def test_look(test: TestRecord, standing: Standing | None, now: dt.datetime) -> TestLook:
    """Return the state of a test from how it stands; None before its first run."""
    state, word = _state(test, standing, now)
    if standing is None:
        return TestLook(state=state, word=word, last_at=None, value=None, measured=0)
    return TestLook(
        state=state,
        word=word,
        last_at=standing.last_at,
        value=standing.value,
        measured=standing.measured,
    )


def test_progress(test: TestRecord, now: dt.datetime) -> float | None:
    """Return how much of a test that ends is over, 0 to 1; None for one that has no end, or runs once."""
    begin, end = test.starts_at or test.created_at, test.ends_at
    if test.repeats and test.max_runs is not None:
        counted = replace(test.schedule, starts_us=to_microseconds(begin), ends_us=None)
        last_us = counted.end_after(test.max_runs)
        if last_us is not None:
            last = from_microseconds(last_us)
            end = last if end is None else min(end, last)
    if end is None or end <= begin or not test.repeats:
        return None
    return min(1.0, max(0.0, (now - begin) / (end - begin)))


test_progress.__test__ = False  # type: ignore[attr-defined]  # a function of the product, not a test
test_look.__test__ = False  # type: ignore[attr-defined]  # a function of the product, not a test


def _state(test: TestRecord, standing: Standing | None, now: dt.datetime) -> tuple[str, str]:
    planned = test.state(now)
    if planned == "paused":
        return "paused", "paused"
    if planned == "ended" and not (test.finished and standing):
        return "waiting", "ended"
    if planned == "waiting":
        return "waiting", "not started yet"
    if test.recurrence == "new_test":
        return "waiting", "a test per run"
    if standing is None:
        return ("waiting", "no worker runs it") if not test.jobs else ("waiting", "no results yet")
    if _is_silent(test, standing.last_at, now):
        if test.jobs and test.jobs_drained == test.jobs:
            return "drained", "workers drained"
        return "stale", "silent"
    counted = (("failed", standing.failed), ("error", standing.error), ("missed", standing.missed))
    for status, count in counted:
        if count:
            word = _RUN_WORDS[status]
            return status, word if standing.runs == 1 else f"{count} of {standing.runs} {word}"
    return "ok", "ok"


def _is_silent(test: TestRecord, last_at: dt.datetime, now: dt.datetime) -> bool:
    """Whether results should have come since the newest one and have not."""
    if not test.repeats:
        return False
    wait = _SILENT_AT_LEAST
    if test.interval_s is not None:
        wait = max(wait, dt.timedelta(seconds=test.interval_s * _SILENT_INTERVALS))
    if test.interval_s is not None and not test.windows:
        return now - last_at > wait
    # Nights and the time between two cron instants are no silence. Each job is due a little after its test.
    due_us = test.schedule.last_until(to_microseconds(now - wait) - LONGEST_PHASE_US)
    return due_us is not None and to_microseconds(last_at) < due_us
