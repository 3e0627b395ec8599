"""What is worked out once for many jobs is what each job's own schedule says."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.planning import due
from controller.planning.due import Stretch
from streamswarm.crontab import Cron
from streamswarm.schedules import Schedule
from streamswarm.windows import Window
from streamswarm.zones import to_microseconds

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000
#: A day before clocks are set forward in Berlin, and a leap day ahead.
BEGIN_US = to_microseconds(dt.datetime(2028, 2, 27, 23, 30, tzinfo=dt.timezone.utc))

schedules = st.builds(
    Schedule,
    anchor_us=st.integers(0, MINUTE_US - 1),
    interval_us=st.sampled_from([1_000_000, 30_000_000, 60_000_000, 300_000_000, DAY_US, 7 * DAY_US]),
    cron=st.sampled_from(["", "", "* * * * *", "*/7 3 * * *", "0 12 29 2 *", "30 2 * * SUN", "5 * 1 * *"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"]),
    windows=st.sampled_from(
        [
            (),
            (),
            (Window(days=(1, 2, 3, 4, 5), from_min=540, to_min=1020),),
            (Window(days=(6,), from_min=1380, to_min=60), Window(days=(2,), from_min=0, to_min=1440)),
        ]
    ),
    starts_us=st.none() | st.integers(BEGIN_US, BEGIN_US + 60 * DAY_US),
    ends_us=st.none() | st.integers(BEGIN_US, BEGIN_US + 60 * DAY_US),
)


@settings(max_examples=80, deadline=None)
@given(
    schedule=schedules,
    begin=st.integers(0, 40 * DAY_US),
    length=st.sampled_from([1, 30_000_000, 90_000_000, 3_600_000_000, 26 * 3_600_000_000]),
    phase=st.integers(0, MINUTE_US - 1),
)
def test_a_stretch_knows_what_a_schedule_does(
    schedule: Schedule, begin: int, length: int, phase: int
) -> None:
    """The last instant in it is the last at all if that lies in it; a test is passed over only if no phase is due."""
    if schedule.cron:
        schedule = replace(schedule, anchor_us=0, interval_us=0)
    else:
        schedule = replace(schedule, anchor_us=BEGIN_US - DAY_US + schedule.anchor_us)
    first = BEGIN_US + begin
    stretch = Stretch(first, first + length - 1)
    if not schedule.cron:
        phase %= schedule.interval_us
    job = replace(
        schedule,
        anchor_us=schedule.anchor_us + phase,
        ends_us=None if schedule.ends_us is None else schedule.ends_us + phase,
    )
    last = job.last_until(stretch.last_us)
    assert stretch.last_due(job) == (last if last is not None and last >= first else None)
    if stretch.last_due(job) is not None:
        assert stretch.may_be_due(schedule)


@pytest.mark.parametrize(
    ("schedule", "may"),
    [
        (Schedule(anchor_us=0, cron="0 12 29 2 *"), False),
        (Schedule(anchor_us=0, cron="29 23 * * *"), True),
        (Schedule(anchor_us=0, cron="28 23 * * *"), False),
        (Schedule(anchor_us=BEGIN_US + MINUTE_US, interval_us=DAY_US), False),
        (Schedule(anchor_us=BEGIN_US - MINUTE_US, interval_us=DAY_US), True),
        (Schedule(anchor_us=BEGIN_US - 2 * MINUTE_US, interval_us=DAY_US), False),
        (Schedule(anchor_us=0, interval_us=1_000_000, starts_us=BEGIN_US + DAY_US), False),
        (Schedule(anchor_us=0, interval_us=1_000_000, ends_us=BEGIN_US - DAY_US), False),
        (
            Schedule(anchor_us=0, interval_us=1_000_000, windows=(Window(days=(2,), from_min=0, to_min=60),)),
            False,
        ),
        (Schedule(anchor_us=0, interval_us=1_000_000), True),
    ],
)
def test_tests_of_which_nothing_is_due_are_passed_over(schedule: Schedule, may: bool) -> None:
    """Before and behind their instants by more than a phase, outside of start, end and windows."""
    assert Stretch(BEGIN_US, BEGIN_US + MINUTE_US // 2).may_be_due(schedule) is may


def test_a_rare_expression_is_looked_up_once_for_all_jobs_and_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand jobs in a hundred looks within an hour: the calendar is walked through once or twice."""
    asked: list[int] = []
    really = Cron.instants

    def counted(self: Cron, first_us: int, last_us: int) -> tuple[int, ...]:
        asked.append(first_us)
        return really(self, first_us, last_us)

    monkeypatch.setattr(Cron, "instants", counted)
    due._in_hour.cache_clear()
    for look in range(100):
        stretch = Stretch(BEGIN_US + look * 30_000_000, BEGIN_US + (look + 1) * 30_000_000 - 1)
        for phase in range(0, MINUTE_US, MINUTE_US // 10):
            assert stretch.last_due(Schedule(anchor_us=phase, cron="0 12 29 2 *")) is None
    assert len(asked) == 2
