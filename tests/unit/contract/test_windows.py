"""Windows of the week: what is due in them, their faults, and how they are written down."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.due import HOUR_US, MINUTE_US, MOMENTS, ZONES, at, cron, shown

from streamswarm import windows
from streamswarm.schedules import Schedule
from streamswarm.v1 import probe_pb2
from streamswarm.values import InvalidInputError
from streamswarm.windows import DAYS, Window
from streamswarm.zones import DAY_US, ScheduleError, from_microseconds

times = st.integers(0, 1439)
some_windows = st.lists(
    st.builds(
        Window,
        days=st.sets(st.integers(1, 7), min_size=1).map(lambda days: tuple(sorted(days))),
        from_min=times,
        to_min=st.integers(1, 1440),
    ).filter(lambda window: window.from_min != window.to_min),
    min_size=1,
    max_size=3,
).map(tuple)


def is_open(window: Window, local: dt.datetime) -> bool:
    """Return whether a window is open while clocks show this."""
    minute = local.hour * 60 + local.minute
    if window.from_min < window.to_min:
        return local.isoweekday() in window.days and window.from_min <= minute < window.to_min
    yesterday = (local.isoweekday() - 2) % 7 + 1
    return (local.isoweekday() in window.days and minute >= window.from_min) or (
        yesterday in window.days and minute < window.to_min
    )


@settings(max_examples=150, deadline=None)
@given(
    chosen=some_windows,
    zone=st.sampled_from(ZONES),
    moment=st.sampled_from(MOMENTS),
    interval_min=st.sampled_from((1, 7, 60, 90, 1440, 3000)),
    phase_us=st.integers(0, MINUTE_US - 1),
    days=st.integers(1, 9),
)
def test_windows_agree_with_the_slow_model(
    chosen: tuple[Window, ...], zone: str, moment: str, interval_min: int, phase_us: int, days: int
) -> None:
    """Of the grid there stay exactly the instants at which the clocks show a time within a window."""
    first = at(moment)
    last = first + days * DAY_US
    anchor = first - 40 * DAY_US + phase_us
    schedule = Schedule(anchor_us=anchor, interval_us=interval_min * MINUTE_US, windows=chosen, zone=zone)
    info = ZoneInfo(zone)
    wanted = [
        instant
        for instant in range(anchor, last + 1, interval_min * MINUTE_US)
        if instant >= first
        and any(is_open(window, from_microseconds(instant).astimezone(info)) for window in chosen)
    ]
    assert list(schedule.instants(first, last)) == wanted
    assert schedule.count(first, last) == len(wanted)
    if wanted:
        assert schedule.last_until(last) == wanted[-1]
        runs = len(wanted)
        begun = Schedule(
            anchor_us=anchor,
            interval_us=interval_min * MINUTE_US,
            windows=chosen,
            zone=zone,
            starts_us=first,
        )
        assert begun.end_after(runs) == wanted[-1] + 1


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    """From Friday evening into Saturday morning, and not on Sunday night although the week ends there."""
    friday = Window(days=(5,), from_min=22 * 60, to_min=2 * 60)
    sunday = Window(days=(7,), from_min=23 * 60, to_min=60)
    hourly = Schedule(anchor_us=0, interval_us=HOUR_US, windows=(friday, sunday))
    assert shown(hourly, "2026-11-26T00:00Z", "2026-12-01T00:00Z") == [
        "2026-11-27T22:00+00:00",
        "2026-11-27T23:00+00:00",
        "2026-11-28T00:00+00:00",
        "2026-11-28T01:00+00:00",
        "2026-11-29T23:00+00:00",
        "2026-11-30T00:00+00:00",
    ]


def test_what_no_window_ever_meets_is_never_due() -> None:
    """Looking for it ends."""
    office = (Window(days=(1, 2, 3, 4, 5), from_min=540, to_min=1020),)
    nightly = cron("0 3 * * *", "Europe/Berlin", windows=office)
    assert nightly.next_after(at("2026-01-01T00:00Z")) is None
    assert nightly.last_until(at("2026-01-01T00:00Z")) is None
    assert nightly.count(at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z")) == 0


def test_the_pace_knows_the_night() -> None:
    """Within a window it is the interval, between two the time until the next one opens."""
    office = (Window(days=(1, 2, 3, 4, 5), from_min=540, to_min=1020),)
    hourly = Schedule(anchor_us=0, interval_us=HOUR_US, windows=office)
    assert hourly.pace_us(at("2026-11-25T12:30Z")) == HOUR_US
    assert hourly.pace_us(at("2026-11-25T20:00Z")) == 17 * HOUR_US
    assert hourly.pace_us(at("2026-11-28T12:00Z")) == (17 + 48) * HOUR_US
    assert cron("0 9 * * *").pace_us(at("2026-11-25T20:00Z")) == DAY_US
    assert cron("*/5 * * * *").pace_us(at("2026-11-25T20:01Z")) == 5 * MINUTE_US
    assert Schedule(anchor_us=0, interval_us=HOUR_US, ends_us=1).pace_us(DAY_US) == HOUR_US
    assert Schedule(anchor_us=0).pace_us(DAY_US) == 0
    ended = cron("*/5 * * * *", ends_us=at("2026-01-01T00:00Z"))
    assert ended.pace_us(at("2026-11-25T00:00Z")) == 5 * MINUTE_US


@pytest.mark.parametrize(
    ("value", "path", "message"),
    [
        ([{"from": "09:00", "to": "09:00"}], "windows[0].to", "no length"),
        ([{"from": "24:00", "to": "09:00"}], "windows[0].from", "end of the day"),
        ([{"from": "9", "to": "10:00"}], "windows[0].from", "no time of day"),
        ([{"from": "24:01", "to": "10:00"}], "windows[0].from", "no time of day"),
        ([{"from": "09:00"}], "windows[0].to", "missing"),
        ([{"days": ["someday"], "from": "09:00", "to": "10:00"}], "windows[0].days", "no day"),
        ([{"days": [], "from": "09:00", "to": "10:00"}], "windows[0].days", "names no day"),
        ([{"from": "09:00", "to": "10:00", "zone": "UTC"}], "windows[0].zone", "no such field"),
        (["09:00-10:00"], "windows[0]", "mapping"),
        ("always", "windows", "list"),
        ([{"from": "09:00", "to": "10:00"}] * 21, "windows", "20 is the most"),
    ],
)
def test_faults_of_windows_have_their_path(value: object, path: str, message: str) -> None:
    """So that a form and a file can show each where it is."""
    with pytest.raises(InvalidInputError) as raised:
        windows.read(value)
    assert [(problem.path, message in problem.message) for problem in raised.value.problems] == [(path, True)]


@given(some_windows)
def test_windows_read_back(chosen: tuple[Window, ...]) -> None:
    """What is shown is what was meant; numbers are minutes, as YAML reads 17:30 without quotes."""
    assert windows.read([window.plain() for window in chosen]) == tuple(sorted(set(chosen)))
    numbers = [
        {"days": [DAYS[day - 1] for day in window.days], "from": window.from_min, "to": window.to_min}
        for window in chosen
    ]
    assert windows.read(numbers) == tuple(sorted(set(chosen)))


def _messages() -> Iterator[tuple[probe_pb2.Schedule, str]]:
    yield probe_pb2.Schedule(interval_us=-1), "interval"
    yield probe_pb2.Schedule(interval_us=1), "interval"
    yield probe_pb2.Schedule(cron="61 * * * *", zone="UTC"), "minute"
    yield probe_pb2.Schedule(interval_us=1_000_000, zone="Nowhere"), "time zone"
    yield probe_pb2.Schedule(interval_us=1_000_000, windows=[probe_pb2.Window(days=[9], to_min=9)]), "window"
    yield probe_pb2.Schedule(interval_us=1_000_000, windows=[probe_pb2.Window(days=[1])]), "window"


@pytest.mark.parametrize(("message", "word"), list(_messages()))
def test_messages_that_cannot_be_kept_are_refused(message: probe_pb2.Schedule, word: str) -> None:
    """A worker says why instead of running something else."""
    with pytest.raises(ScheduleError, match=word):
        Schedule.of(message)


@given(chosen=some_windows, phase=st.integers(0, 59_999_999), start=st.none() | st.integers(0, 2**50))
def test_messages_carry_a_schedule_whole(chosen: tuple[Window, ...], phase: int, start: int | None) -> None:
    """From the database to a worker and back."""
    for made in (
        cron("5 4 * * SUN", "Pacific/Chatham", windows=chosen, anchor_us=phase, starts_us=start),
        Schedule(anchor_us=phase, interval_us=10_000_000, ends_us=start),
        Schedule(anchor_us=phase),
    ):
        assert Schedule.of(made.message()) == made.__class__(
            **{**made.__dict__, "windows": tuple(sorted(made.windows))}
        )
