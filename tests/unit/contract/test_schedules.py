"""Due instants by examples, and against a slow and obvious walk over every minute of the calendar."""

from __future__ import annotations

import datetime as dt
from calendar import monthrange
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.due import HOUR_US, MINUTE_US, MOMENTS, ZONES, at, cron, shown

from streamswarm import crontab, zones
from streamswarm.schedules import LONGEST_COUNT_US, Schedule
from streamswarm.windows import Window
from streamswarm.zones import DAY_US, ScheduleError, from_microseconds, to_microseconds

# -- the slow model ------------------------------------------------------------------------------------------------


@st.composite
def expressions(draw: st.DrawFn) -> tuple[str, tuple[set[int], ...]]:
    """Return an expression and the numbers that each of its fields allows."""
    fields, sets = [], []
    for whole in (range(60), range(24), range(1, 32), range(1, 13), range(7)):
        if draw(st.booleans()) and whole != range(60):
            fields.append("*")
            sets.append(set(whole))
        else:
            chosen = draw(st.sets(st.sampled_from(whole), min_size=1, max_size=4))
            fields.append(",".join(map(str, sorted(chosen))))
            sets.append(chosen)
    # The days that no chosen month has are refused where a test is made.
    assume(min(sets[2]) <= max(monthrange(2024, month)[1] for month in sets[3]))
    return " ".join(fields), tuple(sets)


def slow(text: str, sets: tuple[set[int], ...], zone: str, first: int, last: int) -> list[int]:
    """Return the instants in [first, last] by looking at every minute that clocks could show."""
    minutes, hours, days, months, weekdays = sets
    fields = text.split()
    both = fields[2] == "*" or fields[4] == "*"
    info = ZoneInfo(zone)

    def matches(local: dt.datetime) -> bool:
        day, weekday = local.day in days, local.isoweekday() % 7 in weekdays
        return (
            local.minute in minutes
            and local.hour in hours
            and local.month in months
            and ((day and weekday) if both else (day or weekday))
        )

    found = set()
    if fields[0] == "*" or fields[1] == "*":
        for instant in range(first // MINUTE_US * MINUTE_US, last + 1, MINUTE_US):
            if matches(from_microseconds(instant).astimezone(info)):
                found.add(instant)
    else:
        local = from_microseconds(first - 2 * DAY_US).replace(tzinfo=None, second=0, microsecond=0)
        while local <= from_microseconds(last + 2 * DAY_US).replace(tzinfo=None):
            if matches(local):
                real = local
                while (
                    real.replace(tzinfo=info)
                    .astimezone(dt.timezone.utc)
                    .astimezone(info)
                    .replace(tzinfo=None)
                    != real
                ):
                    real += dt.timedelta(minutes=1)  # clocks skip it
                found.add(to_microseconds(real.replace(tzinfo=info)))
            local += dt.timedelta(minutes=1)
    return sorted(instant for instant in found if first <= instant <= last)


@settings(max_examples=150, deadline=None)
@given(
    made=expressions(),
    zone=st.sampled_from(ZONES),
    moment=st.sampled_from(MOMENTS),
    lead=st.integers(0, 2 * 24 * 60),
    days=st.integers(1, 3),
)
def test_cron_agrees_with_the_slow_model(
    made: tuple[str, tuple[set[int], ...]], zone: str, moment: str, lead: int, days: int
) -> None:
    """Walking forward, looking back and counting all see the same instants, over every change of clocks."""
    text, sets = made
    first = at(moment) + lead * MINUTE_US
    last = first + days * DAY_US
    wanted = slow(text, sets, zone, first, last)
    schedule = cron(text, zone)
    assert list(schedule.instants(first, last)) == wanted
    assert schedule.count(first, last) == len(wanted)
    chunks = [[base + offset for offset in offsets] for base, offsets in schedule.chunks(first, last)]
    assert [instant for chunk in chunks for instant in chunk] == wanted
    for chunk in chunks:
        assert all(later - earlier <= schedule.longest_stride_us for earlier, later in pairwise(chunk))
    for earlier, later in pairwise(wanted):
        assert schedule.last_until(later - 1) == earlier
        assert schedule.last_until(later) == later
    if wanted:
        assert schedule.last_until(last) == wanted[-1]


# -- named cases -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "zone", "first", "last", "wanted"),
    [
        pytest.param(
            "30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-30T12:00Z",
            ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"], id="skipped: once, right after the change",
        ),
        pytest.param(
            "0,15,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", "2026-03-29T12:00Z",
            ["2026-03-29T03:00+02:00"], id="several skipped times are one instant",
        ),
        pytest.param(
            "30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", "2026-10-26T12:00Z",
            ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"], id="twice on the clock: the first time",
        ),
        pytest.param(
            "30 * * * *", "Australia/Lord_Howe", "2024-04-06T14:00Z", "2024-04-06T16:10Z",
            ["2024-04-07T01:30+11:00", "2024-04-07T01:30+10:30", "2024-04-07T02:30+10:30"], id="hourly, a half hour comes twice",
        ),
        pytest.param(
            "15 * * * *", "Europe/Berlin", "2026-10-25T00:00Z", "2026-10-25T02:00Z",
            ["2026-10-25T02:15+02:00", "2026-10-25T02:15+01:00"], id="hourly goes on",
        ),
        pytest.param(
            "15 2 * * *", "Australia/Lord_Howe", "2026-10-02T14:00Z", "2026-10-05T00:00Z",
            ["2026-10-03T02:15+10:30", "2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"], id="half an hour skipped",
        ),
        pytest.param(
            "50 2 * * *", "Pacific/Chatham", "2026-09-26T00:00Z", "2026-09-27T20:00Z",
            ["2026-09-27T03:45+13:45", "2026-09-28T02:50+13:45"], id="skipped at a quarter to",
        ),
        pytest.param(
            "0 9 * * *", "Asia/Kathmandu", "2026-01-01T00:00Z", "2026-01-02T00:00Z",
            ["2026-01-01T09:00+05:45"], id="45 minutes",
        ),
        pytest.param(
            "0 12 29 2 *", "UTC", "2026-01-01T00:00Z", "2033-01-01T00:00Z",
            ["2028-02-29T12:00+00:00", "2032-02-29T12:00+00:00"], id="leap days",
        ),
        pytest.param(
            "59 23 31 12 *", "Asia/Kolkata", "2026-01-01T00:00Z", "2027-12-31T23:00Z",
            ["2026-12-31T23:59+05:30", "2027-12-31T23:59+05:30"], id="years end",
        ),
    ],
)  # fmt: skip
def test_changes_of_clocks_leap_days_and_turns_of_the_year(
    text: str, zone: str, first: str, last: str, wanted: list[str]
) -> None:
    """What people expect of each."""
    assert shown(cron(text, zone), first, last) == wanted


def test_an_interval_knows_no_clocks() -> None:
    """A grid goes on over both changes of clocks; in a window it follows them."""
    hourly = Schedule(anchor_us=at("2026-01-01T00:00Z"), interval_us=HOUR_US, zone="Europe/Berlin")
    for change in ("2026-03-29T00:00Z", "2026-10-25T00:00Z"):
        found = list(hourly.instants(at(change), at(change) + DAY_US))
        assert {later - earlier for earlier, later in pairwise(found)} == {HOUR_US}
    night = Window(days=tuple(range(1, 8)), from_min=60, to_min=240)
    limited = Schedule(
        anchor_us=at("2026-01-01T00:00Z"), interval_us=HOUR_US, zone="Europe/Berlin", windows=(night,)
    )
    by_day = [
        limited.count(at(f"{day}T00:00+01:00"), at(f"{day}T20:00Z"))
        for day in ("2026-03-28", "2026-03-29", "2026-10-25")
    ]
    assert by_day == [3, 2, 4]


def test_a_year_is_counted_without_walking_over_it() -> None:
    """Every minute of a leap year in office hours, against whole weeks by hand; every second of a year."""
    always = cron("* * * * *", "Europe/Berlin")
    first, last = at("2028-01-01T00:00+01:00"), at("2029-01-01T00:00+01:00") - 1
    assert always.count(first, last) == 366 * 24 * 60
    office = (Window(days=(1, 2, 3, 4, 5), from_min=9 * 60, to_min=17 * 60),)
    working = sum((dt.date(2028, 1, 1) + dt.timedelta(days=day)).weekday() < 5 for day in range(366))
    assert cron("* * * * *", "Europe/Berlin", windows=office).count(first, last) == working * 8 * 60
    every_second = Schedule(anchor_us=first - 1, interval_us=1_000_000, windows=office, zone="Europe/Berlin")
    assert every_second.count(first, last) == working * 8 * 3600


@pytest.mark.parametrize(
    ("text", "longest_min"),
    [
        ("* * * * *", 1.5),
        ("*/5 8-17 * * *", 7.5),
        ("*/10 22-23,0-5 * * 1-5", 15),
        ("0,5 8-17 * * *", 82.5),
        ("0 8,17 * * *", 22.5 * 60),
        ("0 9 * * 1-5", 36 * 60),
        ("0 3 * * 0", 10.5 * 24 * 60),
        ("0 0 1 * *", 46.5 * 24 * 60),
        ("30 12 29 2 *", 1.5 * 1461 * 24 * 60),
    ],
)
def test_runs_that_follow_each_other(text: str, longest_min: float) -> None:
    """Half as much again as is usual: neither the nights of working hours count, nor how few the days are."""
    assert cron(text).longest_stride_us == longest_min * MINUTE_US


def test_a_long_range_is_cut_into_few_chunks() -> None:
    """An interval is one whatever its length; cron is cut by days and rests, windows by when they are open."""
    first, last = at("2026-03-25T00:00Z"), at("2026-04-01T00:00Z") - 1
    every_second = Schedule(anchor_us=0, interval_us=1_000_000)
    ((base, offsets),) = every_second.chunks(first, last)
    assert (base, len(offsets)) == (first, 7 * 86_400)
    office = cron("*/5 8-11,14-17 * * *", "Europe/Berlin")
    assert [len(offsets) for _, offsets in office.chunks(first, last)] == [48] * 14
    assert list(every_second.chunks(first, first - 1)) == []
    mornings = (Window(days=(1, 2), from_min=8 * 60, to_min=9 * 60),)
    opened = Schedule(anchor_us=0, interval_us=60_000_000, windows=mornings, zone="Europe/Berlin")
    assert [len(offsets) for _, offsets in opened.chunks(first, last)] == [60, 60]
    assert list(Schedule(anchor_us=first).chunks(first, last)) == [(first, (0,))]


def test_the_phase_moves_cron() -> None:
    """Jobs of one test do not all start at once; looking and counting know it."""
    moved = cron("0 9 * * *", "Europe/Berlin", anchor_us=7_000_001)
    [due] = moved.instants(at("2026-06-01T00:00Z"), at("2026-06-01T12:00Z"))
    assert due == at("2026-06-01T09:00+02:00") + 7_000_001
    assert moved.next_after(due - 1) == moved.last_until(due) == due
    assert moved.last_until(due - 1) == due - DAY_US
    assert (moved.count(due, due), moved.count(due + 1, due + HOUR_US)) == (1, 0)


def test_the_end_after_so_many_runs() -> None:
    """The last of them is due, the next is not, whatever the schedule."""
    start = at("2026-11-27T12:00Z")
    weekend = (Window(days=(6, 7), from_min=0, to_min=1440),)
    for schedule in (
        Schedule(anchor_us=start, interval_us=7_000_000),
        Schedule(anchor_us=start, interval_us=HOUR_US, windows=weekend, starts_us=start),
        cron("17 3 * * *", "America/New_York", starts_us=start, anchor_us=5),
        cron("*/20 * * * *", "Australia/Lord_Howe", starts_us=start, windows=weekend),
    ):
        for runs in (1, 2, 75):
            end = schedule.end_after(runs)
            assert end is not None
            assert schedule.count(start, end - 1) == runs
            assert schedule.last_until(end - 1) == end - 1
    assert Schedule(anchor_us=start).end_after(1) == start + 1
    assert cron("0 0 29 2 *", starts_us=start).end_after(1000) is None
    rare = Schedule(anchor_us=start, interval_us=31 * DAY_US)
    assert rare.end_after(LONGEST_COUNT_US // DAY_US) is None


# -- text ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "61 * * * *", "a * * * *", "* * 31 2 *", "*/0 * * * *", "1-  * * * *", "L/2 * * * *",
     "@daily", "* * * * 9", "0 0 L/2 * L#2 ", "1 " * 200],
)  # fmt: skip
def test_bad_cron_is_refused_with_what_is_wrong(text: str) -> None:
    """Whatever is typed: a message, no other error, and no search without end."""
    with pytest.raises(ScheduleError, match=r"cron expression|never due"):
        crontab.check(text)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LWSUNMON abc\t\n\0", max_size=40))
def test_any_text_is_either_cron_or_refused(text: str) -> None:
    """What is accepted is due some time, and gives no other error later."""
    try:
        plain = crontab.check(text)
    except ScheduleError:
        return
    assert crontab.shortest_gap_us(plain) >= MINUTE_US
    assert cron(plain, "Pacific/Chatham").next_after(at("2026-01-01T00:00Z")) is not None
    assert cron(plain).count(at("2026-01-01T00:00Z"), at("2026-02-01T00:00Z")) >= 0


@pytest.mark.parametrize(
    "name", ["", "Europe/Nowhere", "../../etc/passwd", "posixrules", "localtime", "Europe", "CEST"]
)
def test_a_zone_that_is_none_is_refused(name: str) -> None:
    """Only names of the database of zones are opened."""
    with pytest.raises(ScheduleError, match="no time zone"):
        zones.load(name)


def test_every_zone_can_be_read() -> None:
    """All names that are offered have data."""
    for name in zones.zone_names():
        assert zones.load(name).utcoffset(dt.datetime(2026, 1, 1)) is not None


@pytest.mark.parametrize("instant", ["2500-01-01T00:00Z", "9998-12-31T23:59Z", "9999-12-31T23:59Z"])
def test_beyond_the_calendar_nothing_is_due(instant: str) -> None:
    """Also where the next year has no number any more: a start date that far away stops no schedule."""
    schedule = Schedule(anchor_us=0, cron="*/5 * * * *", zone="Europe/Berlin", starts_us=at(instant))
    assert schedule.next_after(0) is None
