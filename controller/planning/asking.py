"""Reads what a user asks of a schedule, from a form, from JSON or from a suite: every fault with its path."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from controller.checking import Checker
from controller.planning.schedule import (
    LONGEST_INTERVAL_S,
    SHORTEST_INTERVAL_S,
    grid_origin,
    make_schedule,
    too_long,
)
from streamswarm import crontab, windows, zones
from streamswarm.contract import InvalidInputError
from streamswarm.schedules import Schedule
from streamswarm.zones import ScheduleError, from_microseconds, to_microseconds

FIELDS = ("interval_s", "cron", "zone", "windows", "starts_at", "ends_at", "max_runs", "recurrence")
Recurrence = Literal["continue", "new_test"]
RECURRENCES: tuple[Recurrence, ...] = ("continue", "new_test")
#: Runs after which a test may be said to end.
MOST_RUNS = 1_000_000
#: Seconds between two tests that a test makes: about a hundred a day, which people can still look through.
SHORTEST_RENEWAL_S = 900.0
LONGEST_CRON = 200
#: An end that lies back no further than this is meant to be now: forms and clocks are not so exact.
_NOW = dt.timedelta(minutes=1)
_SOME_DAY = dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc)


def read_schedule(
    checker: Checker,
    spec: Mapping[str, Any],
    *,
    before: Mapping[str, Any] | None = None,
    now: dt.datetime | None,
) -> dict[str, Any]:
    """Return the fields of a schedule, checked: from the input, else from `before`, else their defaults.

    `spec` are the test's parameters. `before` may have `created_at`, from which runs are counted without a start. Without
    `now` a schedule may be over already, as in a file that was written long ago.
    """
    old: Mapping[str, Any] = before or {}
    faults = len(checker.problems)
    given = {name for name in FIELDS if checker.given(name)}

    def field(name: str, read: Any, default: Any) -> Any:
        return read() if name in given else old.get(name, default)

    values: dict[str, Any] = {
        "interval_s": field("interval_s", lambda: _interval(checker), None),
        "cron": field("cron", lambda: _cron(checker), ""),
        "zone": field("zone", lambda: _zone(checker), "UTC"),
        "windows": field("windows", lambda: _windows(checker), []),
        "starts_at": field("starts_at", lambda: checker.instant("starts_at"), None),
        "ends_at": field("ends_at", lambda: checker.instant("ends_at"), None),
        "max_runs": field("max_runs", lambda: _max_runs(checker), None),
        "recurrence": field("recurrence", lambda: _recurrence(checker), "continue"),
    }
    sound = len(checker.problems) == faults
    if values["starts_at"] and values["ends_at"] and values["ends_at"] <= values["starts_at"]:
        checker.add("ends_at", "must lie after starts_at")
    if sound:
        _check_together(checker, values)
        pace_s = _pace_s(values)
        reason = too_long(spec, pace_s)
        if reason:
            checker.add("cron" if values["cron"] else "interval_s", reason)
        if len(checker.problems) == faults and any(values[name] != old.get(name) for name in given):
            _check_course(checker, values, created_at=old.get("created_at") or now or _SOME_DAY, now=now)
    return values


def check_end(
    checker: Checker, values: Mapping[str, Any], *, before: dt.datetime | None, now: dt.datetime
) -> None:
    """Note an end that has passed, unless it is the one from `before`, which whoever edits something else sends along."""
    end = values["ends_at"]
    if end is not None and end != before and end <= now - _NOW:
        checker.add("ends_at", "lies in the past, so nothing would ever be due; set a later end, or none")


def schedule_of_values(values: Mapping[str, Any], *, created_at: dt.datetime) -> Schedule:
    """Return the schedule that checked fields describe, without the end that a count makes."""
    return make_schedule(
        interval_us=None if values["interval_s"] is None else round(values["interval_s"] * 1_000_000),
        cron=values["cron"],
        zone=values["zone"],
        hours=windows.read(values["windows"]),
        starts_at=values["starts_at"],
        ends_at=values["ends_at"],
        created_at=created_at,
    )


def _check_together(checker: Checker, values: Mapping[str, Any]) -> None:
    """Note what does not go together."""
    repeats = bool(values["cron"]) or values["interval_s"] is not None
    if values["cron"] and values["interval_s"] is not None:
        checker.add("cron", "goes instead of an interval; clear one of them")
    if not repeats:
        for name, what in (("windows", "windows"), ("max_runs", "a number of runs")):
            if values[name]:
                checker.add(name, f"a test that runs once has no use for {what}; give it an interval or cron")
        if values["recurrence"] == "new_test":
            checker.add(
                "recurrence", "a test that runs once makes no further tests; give it an interval or cron"
            )
    elif values["recurrence"] == "new_test" and (_pace_s(values) or 0) < SHORTEST_RENEWAL_S:
        checker.add(
            "recurrence",
            f"a new test per run needs at least {SHORTEST_RENEWAL_S / 60:g} minutes from one run to the next",
        )


def _check_course(
    checker: Checker, values: Mapping[str, Any], *, created_at: dt.datetime, now: dt.datetime | None
) -> None:
    """Note when nothing would ever be due, or when the counted runs are over already."""
    schedule = schedule_of_values(values, created_at=created_at)
    if schedule.once:
        return
    forever = replace(schedule, ends_us=None)
    begin_us = max(to_microseconds(now or created_at), schedule.starts_us or 0)
    if values["windows"] and forever.next_after(begin_us - 1) is None:
        checker.add("windows", "no run of this schedule would ever lie in them")
        return
    if values["max_runs"] is None:
        return
    origin_us = to_microseconds(grid_origin(values["starts_at"], created_at))
    end_us = replace(forever, starts_us=origin_us).end_after(values["max_runs"])
    if end_us is None:
        checker.add("max_runs", "so many runs would take more than twenty years by this schedule")
    elif now is not None and end_us <= to_microseconds(now):
        last = from_microseconds(end_us - 1).isoformat(timespec="seconds").replace("+00:00", "Z")
        checker.add(
            "max_runs",
            f"by this schedule run {values['max_runs']} was due at {last} already; set a start from which to count",
        )


def _pace_s(values: Mapping[str, Any]) -> float | None:
    """Return the least time from one run to the next; None for a test that runs once."""
    if values["cron"]:
        return crontab.shortest_gap_us(values["cron"]) / 1_000_000
    interval: float | None = values["interval_s"]
    return interval


def _interval(checker: Checker) -> float | None:
    return checker.number("interval_s", smallest=SHORTEST_INTERVAL_S, largest=LONGEST_INTERVAL_S, unit="s")


def _cron(checker: Checker) -> str:
    text = checker.text("cron", longest=LONGEST_CRON)
    try:
        return crontab.check(text) if text else ""
    except ScheduleError as error:
        checker.add("cron", str(error))
        return ""


def _zone(checker: Checker) -> str:
    text = checker.text("zone", longest=64) or "UTC"
    try:
        zones.load(text)
    except ScheduleError as error:
        checker.add("zone", str(error))
    return text


def _windows(checker: Checker) -> list[dict[str, Any]]:
    try:
        return [window.plain() for window in windows.read(checker.value("windows"))]
    except InvalidInputError as error:
        checker.problems.extend(error.problems)
        return []


def _max_runs(checker: Checker) -> int | None:
    faults = len(checker.problems)
    number = checker.number("max_runs", smallest=1, largest=MOST_RUNS)
    if number is None or len(checker.problems) > faults:
        return None
    if number != int(number):
        checker.add("max_runs", "must be a whole number")
    return int(number)


def _recurrence(checker: Checker) -> Recurrence:
    return "new_test" if checker.choice("recurrence", RECURRENCES) == "new_test" else "continue"
