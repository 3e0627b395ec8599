"""Where a line has no runs: due and lacking, at rest, or not known; over nights, windows, changes of clocks and of schedules."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.due import HOUR_US, MINUTE_US, at, cron

from controller.planning.accounts import Span, Version, spans_until
from controller.planning.gaps import Gap, gaps
from streamswarm.schedules import Schedule
from streamswarm.windows import Window
from streamswarm.zones import DAY_US, from_microseconds

OFFICE = cron("*/5 8-17 * * *")
EVERY_MINUTE = Schedule(anchor_us=0, interval_us=MINUTE_US)


def always(
    schedule: Schedule, first: str | int, last: str | int, *, paused: bool = False, number: int = 1
) -> Span:
    """Return the span of a version that holds from one instant to another."""
    start, end = (at(each) if isinstance(each, str) else each for each in (first, last))
    version = Version(
        number=number, valid_from_us=start, valid_until_us=None, schedule=schedule, paused=paused
    )
    return Span(version=version, start_us=start, end_us=end)


def instants(known: Sequence[Span]) -> list[int]:
    """Return every due instant."""
    return sorted(
        due
        for span in known
        if not span.version.paused
        for due in span.version.schedule.instants(span.start_us, span.end_us - 1)
    )


def found(known: Sequence[Span], runs: Sequence[int], first: str, last: str) -> list[tuple[str, str, str]]:
    """Return the gaps of single runs, readably."""
    return told(gaps(known, [(run, run + 1) for run in runs], start_us=at(first), end_us=at(last)))


def told(made: Sequence[Gap]) -> list[tuple[str, str, str]]:
    """Return gaps readably: reason, from and to by the clocks of UTC."""
    return [
        (gap.reason, *(f"{from_microseconds(edge):%d %H:%M}" for edge in (gap.start_us, gap.end_us)))
        for gap in made
    ]


def test_a_night_between_working_hours_is_a_rest() -> None:
    """By cron every five minutes from 8 to 18: what is not due at night does not lack, what is due by day does."""
    first, last = "2026-11-25T00:00Z", "2026-11-27T00:00Z"
    known = [always(OFFICE, first, last)]
    every = instants(known)
    assert len(every) == 240
    assert found(known, every, first, last) == [
        ("rest", "25 00:00", "25 08:00"),
        ("rest", "25 18:00", "26 08:00"),
        ("rest", "26 18:00", "27 00:00"),
    ]
    lacking = every[:12] + every[108:]
    assert found(known, lacking, first, last)[:3] == [
        ("rest", "25 00:00", "25 08:00"),
        ("missing", "25 09:00", "25 17:00"),
        ("rest", "25 18:00", "26 08:00"),
    ]
    assert found(known, [run for run in every if run != every[7]], first, last)[1] == (
        "missing",
        "25 08:35",
        "25 08:40",
    )


def test_an_outage_over_a_night_lacks_by_day_alone() -> None:
    """From the middle of one working day to the middle of the next, and over lunch, which is a rest too."""
    split = cron("*/5 8-11,14-17 * * *")
    first, last = "2026-11-25T00:00Z", "2026-11-27T00:00Z"
    known = [always(split, first, last)]
    before, after = at("2026-11-25T10:00Z"), at("2026-11-26T16:00Z")
    runs = [run for run in instants(known) if not before <= run < after]
    assert found(known, runs, first, last)[1:-1] == [
        ("missing", "25 10:00", "25 12:00"),
        ("rest", "25 12:00", "25 14:00"),
        ("missing", "25 14:00", "25 18:00"),
        ("rest", "25 18:00", "26 08:00"),
        ("missing", "26 08:00", "26 12:00"),
        ("rest", "26 12:00", "26 14:00"),
        ("missing", "26 14:00", "26 16:00"),
    ]


def test_rare_runs_follow_each_other() -> None:
    """Twice a day, or once a week: the time between two is no gap; a weekend is one where working days are usual."""
    first, last = "2026-11-02T00:00Z", "2026-11-30T00:00Z"
    for text in ("0 8,17 * * *", "0 3 * * 0", "0,5 8-17 * * *"):
        known = [always(cron(text), first, last)]
        every = instants(known)
        inner = [gap for gap in found(known, every, first, last) if gap[0] == "missing"]
        assert inner == []
    known = [always(cron("0 8,17 * * *"), first, last)]
    assert found(known, instants(known), first, last) == []
    known = [always(cron("0 9 * * 1-5"), first, last)]
    rests = found(known, instants(known), first, last)
    assert [gap[0] for gap in rests] == ["rest"] * 4


def test_windows_pauses_and_times_before_and_behind_are_rests() -> None:
    """Outside of the window, while it is paused, before the job was and after it had gone, nothing lacks."""
    window = (Window(days=(1, 2, 3, 4, 5), from_min=9 * 60, to_min=17 * 60),)
    schedule = Schedule(anchor_us=0, interval_us=10 * MINUTE_US, windows=window)
    known = [
        always(schedule, "2026-11-26T12:00Z", "2026-11-27T12:00Z"),
        always(schedule, "2026-11-27T12:00Z", "2026-11-27T15:00Z", paused=True),
        always(schedule, "2026-11-27T15:00Z", "2026-11-30T10:00Z"),
    ]
    runs = instants(known)
    assert found(known, runs, "2026-11-26T00:00Z", "2026-12-01T00:00Z") == [
        ("rest", "26 00:00", "26 12:00"),
        ("rest", "26 17:00", "27 09:00"),
        ("rest", "27 12:00", "27 15:00"),
        ("rest", "27 17:00", "30 09:00"),
        ("rest", "30 10:00", "01 00:00"),
    ]
    assert found(known, [], "2026-11-26T00:00Z", "2026-11-27T10:00Z") == [
        ("rest", "26 00:00", "26 12:00"),
        ("missing", "26 12:00", "26 17:00"),
        ("rest", "26 17:00", "27 09:00"),
        ("missing", "27 09:00", "27 10:00"),
    ]


def test_clocks_that_change_make_no_gap() -> None:
    """Nights in which an hour is skipped or comes twice: hourly runs follow each other, a daily one lacks nothing."""
    for first, last in (
        ("2026-03-28T00:00Z", "2026-03-31T00:00Z"),
        ("2026-10-24T00:00Z", "2026-10-27T00:00Z"),
    ):
        for text in ("0 * * * *", "30 2 * * *", "30 1,2,3 * * *"):
            known = [always(cron(text, "Europe/Berlin"), first, last)]
            every = instants(known)
            assert [gap for gap in found(known, every, first, last) if gap[0] == "missing"] == []
            for lost in every:
                made = found(known, [run for run in every if run != lost], first, last)
                (gap,) = [gap for gap in made if gap[0] == "missing"]
                assert gap[1] == f"{from_microseconds(lost):%d %H:%M}", (text, gap)


def test_an_edit_in_the_middle_is_judged_by_what_held_then() -> None:
    """From 10 s to 10 min and back: last week's lost minute lacks, ten minutes without a run now do not."""
    ten_s = Schedule(anchor_us=0, interval_us=10_000_000)
    ten_min = Schedule(anchor_us=0, interval_us=10 * MINUTE_US)
    changed = at("2026-11-20T12:00Z")
    first, last = "2026-11-20T11:00Z", "2026-11-20T14:00Z"
    for earlier, later, gone in ((ten_s, ten_min, "11:30"), (ten_min, ten_s, "12:30")):
        versions = [
            Version(number=1, valid_from_us=0, valid_until_us=changed, schedule=earlier, paused=False),
            Version(number=2, valid_from_us=changed, valid_until_us=None, schedule=later, paused=False),
        ]
        known = spans_until(versions, {}, start_us=at(first), end_us=at(last))
        lost = at(f"2026-11-20T{gone}Z")
        runs = [run for run in instants(known) if not lost + 1 <= run < lost + 5 * MINUTE_US]
        (gap,) = gaps(known, [(run, run + 1) for run in runs], start_us=at(first), end_us=at(last))
        assert gap == Gap(start_us=lost + 10_000_000, end_us=lost + 5 * MINUTE_US, reason="missing")


def test_a_worker_that_has_not_heard_of_an_edit_lacks_nothing() -> None:
    """It goes on by the old version for half an hour: until its last run by it, the old one counts."""
    changed, heard = at("2026-11-20T12:00Z"), at("2026-11-20T12:30Z")
    first, last = "2026-11-20T11:00Z", "2026-11-20T14:00Z"
    slow = Schedule(anchor_us=0, interval_us=10 * MINUTE_US)
    versions = [
        Version(number=1, valid_from_us=0, valid_until_us=changed, schedule=slow, paused=False),
        Version(number=2, valid_from_us=changed, valid_until_us=None, schedule=EVERY_MINUTE, paused=False),
    ]
    known = spans_until(versions, {1: heard - MINUTE_US}, start_us=at(first), end_us=at(last))
    assert found(known, instants(known), first, last) == []
    unheard = spans_until(versions, {}, start_us=at(first), end_us=at(last))
    assert ("missing", "20 12:01", "20 12:10") in found(unheard, instants(known), first, last)


def test_buckets_are_judged_by_what_was_due_in_those_that_lack() -> None:
    """A bucket that is there lacks nothing; of the others, those in which runs were due are missing."""
    first, last = "2026-11-25T00:00Z", "2026-11-26T00:00Z"
    known = [always(OFFICE, first, last)]
    half = HOUR_US // 2
    there = [at(first) + number * half for number in range(48) if number in (16, 17, 20, 21)]
    made = gaps(
        known, [(each, each + half) for each in there], start_us=at(first), end_us=at(last), buckets=True
    )
    assert told(made) == [
        ("rest", "25 00:00", "25 08:00"),
        ("missing", "25 09:00", "25 10:00"),
        ("missing", "25 11:00", "25 18:00"),
        ("rest", "25 18:00", "26 00:00"),
    ]


def test_what_is_not_known_is_neither_missing_nor_a_rest() -> None:
    """Versions that went with their results: single runs are joined, what lies between buckets is a gap of its own."""
    first, last = "2026-11-25T00:00Z", "2026-11-26T00:00Z"
    start, end, noon = at(first), at(last), at("2026-11-25T12:00Z")
    span = [always(EVERY_MINUTE, noon, end, number=3)]
    runs = [(start + 5 * HOUR_US, start + 5 * HOUR_US + 1), *((run, run + 1) for run in instants(span))]
    assert gaps(span, runs, start_us=start, end_us=end, unknown=[(start, noon)]) == ()
    assert gaps((), runs, start_us=start, end_us=end, unknown=[(start, end)]) == ()
    hours = [(start + 5 * HOUR_US, start + 6 * HOUR_US), (noon, end)]
    made = gaps(span, hours, start_us=start, end_us=end, unknown=[(start, noon)], buckets=True)
    assert [(reason, *edges) for reason, *edges in told(made) if reason != "rest"] == [
        ("unknown", "25 00:00", "25 05:00"),
        ("unknown", "25 06:00", "25 12:00"),
    ]


def test_nothing_is_claimed_beyond_the_end() -> None:
    """Runs of now may be under way: what is due from the end on does not lack, though later runs are known."""
    first, last = "2026-11-25T00:00Z", "2026-11-25T01:00Z"
    known = [always(EVERY_MINUTE, first, last)]
    runs = [run for run in instants(known) if run < at(last) - 10 * MINUTE_US]
    beside = at(last) + 7 * MINUTE_US
    assert found(known, [*runs, beside], first, last) == [("missing", "25 00:50", "25 01:00")]


SCHEDULES = (
    OFFICE,
    cron("30 1,2,3 * * *", "Europe/Berlin"),
    cron("*/7 * * * 1-5", "Australia/Lord_Howe", windows=(Window(days=(1, 3), from_min=600, to_min=90),)),
    Schedule(anchor_us=17, interval_us=901_000_000),
    Schedule(
        anchor_us=0,
        interval_us=600_000_000,
        zone="Asia/Kathmandu",
        windows=(Window(days=(2, 3, 7), from_min=1380, to_min=120),),
    ),
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), schedule=st.sampled_from(SCHEDULES), days=st.integers(1, 9))
def test_every_due_instant_is_there_or_missing_and_no_other(
    data: st.DataObject, schedule: Schedule, days: int
) -> None:
    """Against a walk over every instant, with any runs lost, over changes of clocks; no rest holds a due instant."""
    first = at("2026-03-26T00:00Z") + data.draw(st.integers(0, 3 * 24 * 60)) * MINUTE_US
    last = first + days * DAY_US
    known = [always(schedule, first, last)]
    every = instants(known)
    lost: set[int] = set()
    for _ in range(data.draw(st.integers(0, 4))):
        if every:
            begin = data.draw(st.integers(0, len(every) - 1))
            lost.update(every[begin : begin + data.draw(st.integers(1, len(every)))])
    made = gaps(known, [(run, run + 1) for run in every if run not in lost], start_us=first, end_us=last)
    missing = [gap for gap in made if gap.reason == "missing"]
    rests = [gap for gap in made if gap.reason == "rest"]
    assert {due for due in every for gap in missing if gap.start_us <= due < gap.end_us} == lost
    assert {gap.start_us for gap in missing} <= lost
    assert not [due for due in every for gap in rests if gap.start_us <= due < gap.end_us]
    assert all(one.end_us <= other.start_us for one, other in pairwise(made))
    assert all(gap.start_us < gap.end_us for gap in made)


def test_the_days_of_a_year_cost_little() -> None:
    """A year of every minute of the working hours, of which half of the days lack."""
    first, last = at("2026-01-01T00:00Z"), at("2027-01-01T00:00Z")
    known = [always(cron("* 8-17 * * *", "Europe/Berlin"), first, last)]
    days = [(first + day * DAY_US, first + (day + 1) * DAY_US) for day in range(0, 365, 2)]
    begun = time.process_time()
    made = gaps(known, days, start_us=first, end_us=last, buckets=True)
    assert time.process_time() - begun < 1
    assert len([gap for gap in made if gap.reason == "missing"]) == 182


def test_nothing_lacks_while_the_worker_is_drained() -> None:
    """It rests then; what lacks before and after does."""
    first, last = "2026-11-25T00:00Z", "2026-11-25T02:00Z"
    known = [always(EVERY_MINUTE, first, last)]
    runs = [at(first) + number * MINUTE_US for number in (*range(30), *range(91, 120))]
    drains = [(at("2026-11-25T00:35Z"), at("2026-11-25T01:25Z"))]
    made = gaps(known, [(run, run + 1) for run in runs], start_us=at(first), end_us=at(last), drains=drains)
    assert [reason for reason, *_ in told(made)] == ["missing", "rest", "missing"]
    assert told(made)[1][1:] == ("25 00:35", "25 01:25")
