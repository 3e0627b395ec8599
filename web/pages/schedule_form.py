"""The part of a test's form that says when: fields, and the next due instants with a picture of the windows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from werkzeug.datastructures import MultiDict

from controller.checking import Checker
from controller.planning.asking import FIELDS, read_schedule, schedule_of_values
from controller.store.queries.tests import TestRecord
from streamswarm import windows, zones
from streamswarm.values import shown_number
from streamswarm.windows import Window, shown_minute
from streamswarm.zones import from_microseconds, to_microseconds
from web.pages.entity_form import number

#: Instants that the preview shows.
_SHOWN = 5
#: Windows that can be typed beside those there are.
_SPARE = 2
_EVERY_DAY = tuple(range(1, 8))


@dataclass(frozen=True, kw_only=True)
class WindowRow:
    """One window as the form draws it; empty ones say nothing."""

    days: tuple[int, ...]
    start: str
    end: str


@dataclass(frozen=True, kw_only=True)
class Day:
    """A day of the week with the hours in which windows are open, in minutes after midnight."""

    name: str
    spans: tuple[tuple[int, int], ...]

    @property
    def words(self) -> str:
        """The hours as clocks show them."""
        hours = (f"{shown_minute(start)} to {shown_minute(end)}" for start, end in self.spans)
        return ", ".join(hours) or "closed"


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a schedule comes to."""

    #: The next due instants, by the clocks of the test's zone.
    instants: tuple[dt.datetime, ...]
    zone: str
    #: When the windows are open, day by day; empty without windows.
    week: tuple[Day, ...] = ()
    #: The checked fields; None while something is wrong.
    checked: Mapping[str, Any] | None = None


def blank() -> dict[str, Any]:
    """Return the fields of a new test."""
    return {"repeat": "interval", "zone": "UTC", "recurrence": "continue", "windows": _rows(())}


def stored(test: TestRecord) -> dict[str, Any]:
    """Return the fields of a test as it is."""
    return {
        "repeat": "interval" if test.interval_s is not None else "cron" if test.cron else "once",
        "interval_s": "" if test.interval_s is None else shown_number(test.interval_s),
        "cron": test.cron,
        "zone": test.zone,
        "windows": _rows(windows.read(test.windows)),
        "starts_at": test.starts_at.isoformat() if test.starts_at else "",
        "ends_at": test.ends_at.isoformat() if test.ends_at else "",
        "max_runs": "" if test.max_runs is None else str(test.max_runs),
        "recurrence": test.recurrence,
    }


def typed(form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the fields as they were sent, to be shown again."""
    names = ("repeat", "interval_s", "cron", "zone", "starts_at", "ends_at", "max_runs", "recurrence")
    rows = tuple(row for row in _typed_rows(form) if row.start or row.end)
    return {**{name: form.get(name, "") for name in names}, "windows": (*rows, *_rows(()))}


def submitted(form: MultiDict[str, str]) -> dict[str, Any]:
    """Return the fields as the values of a test; those of another way to repeat are left out."""
    repeat = form.get("repeat", "interval")
    count = form.get("max_runs", "").strip()
    hours = [
        {"days": [windows.DAYS[day - 1] for day in row.days], "from": row.start, "to": row.end}
        for row in _typed_rows(form)
        if row.start or row.end
    ]
    again = repeat in ("interval", "cron")
    return {
        "interval_s": number(form.get("interval_s", "")) if repeat == "interval" else None,
        "cron": form.get("cron", "") if repeat == "cron" else "",
        "zone": form.get("zone", "UTC"),
        "windows": hours if again else [],
        "starts_at": form.get("starts_at") or None,
        "ends_at": form.get("ends_at") or None,
        "max_runs": number(count) if again and count else None,
        "recurrence": form.get("recurrence", "continue") if again else "continue",
    }


def preview(values: Mapping[str, Any], *, repeat: str, created_at: dt.datetime, now: dt.datetime) -> Preview:
    """Return the next due instants of a schedule as it was typed; runs are counted from `created_at` without a start.

    `repeat` is the chosen way to repeat: `interval`, `cron` or `once`.
    """
    checker = Checker({name: values[name] for name in FIELDS}, FIELDS)
    checked = read_schedule(checker, {}, now=now)
    if checker.problems or (repeat == "cron" and not checked["cron"]):
        return Preview(instants=(), zone="")
    schedule = schedule_of_values(checked, created_at=created_at)
    origin_us = to_microseconds(checked["starts_at"] or created_at)
    counted = replace(schedule, starts_us=origin_us, ends_us=None)
    zone = zones.load(checked["zone"])
    begin_us = to_microseconds(now) - 1
    found = islice(schedule.instants(begin_us + 1, zones.LATEST_US), _SHOWN)
    last_us = counted.end_after(checked["max_runs"]) if checked["max_runs"] else None
    return Preview(
        instants=tuple(
            from_microseconds(due).astimezone(zone) for due in found if last_us is None or due < last_us
        ),
        zone=checked["zone"],
        week=week_of(windows.read(checked["windows"])),
        checked=checked,
    )


def week_of(hours: tuple[Window, ...]) -> tuple[Day, ...]:
    """Return the days from Monday on, each with the hours that are open; a window past midnight is on two days."""
    if not hours:
        return ()
    spans: list[list[tuple[int, int]]] = [[] for _ in windows.DAYS]
    for window in hours:
        for day in window.days:
            if window.to_min > window.from_min:
                spans[day - 1].append((window.from_min, window.to_min))
            else:
                spans[day - 1].append((window.from_min, windows.MINUTES_OF_DAY))
                if window.to_min:
                    spans[day % 7].append((0, window.to_min))
    return tuple(
        Day(name=name.capitalize(), spans=tuple(sorted(found)))
        for name, found in zip(windows.DAYS, spans, strict=True)
    )


def _rows(hours: tuple[Window, ...]) -> tuple[WindowRow, ...]:
    """Return windows as the form draws them, with some empty ones behind."""
    rows = [
        WindowRow(days=window.days, start=shown_minute(window.from_min), end=shown_minute(window.to_min))
        for window in hours
    ]
    empty = WindowRow(days=_EVERY_DAY, start="", end="")
    return (*rows, *[empty] * min(_SPARE, windows.MOST_WINDOWS - len(rows)))


def _typed_rows(form: MultiDict[str, str]) -> Iterator[WindowRow]:
    for row in range(windows.MOST_WINDOWS):
        start, end = form.get(f"window{row}.from", "").strip(), form.get(f"window{row}.to", "").strip()
        days = (int(day) for day in form.getlist(f"window{row}.days") if day in "1234567" and len(day) == 1)
        yield WindowRow(days=tuple(sorted(set(days))), start=start, end=end)
