"""Charts on paper: gaps stay gaps, axes are round, a single bad run is seen."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, strategies

from controller.planning.gaps import Gap
from controller.reports.drawing import LEFT, RIGHT, WIDTH, chart, time_ticks, value_ticks
from controller.store.queries.report_figures import Period
from streamswarm.zones import to_microseconds

START = dt.datetime(2026, 5, 12, tzinfo=dt.UTC)
STEP = dt.timedelta(minutes=10)


def period(index: int, mean: float | None = 10.0, **more: Any) -> Period:
    """A period with ten runs that were ok."""
    low, high = (None, None) if mean is None else (mean - 1, mean + 1)
    values = {"ok": 10, "failed": 0, "error": 0, "missed": 0, "min": low, "max": high, "loss": 0.0}
    return Period(start=START + index * STEP, mean=mean, median=mean, **(values | more))


def draw(periods: list[Period], **more: Any) -> Any:
    """Draw them over a day."""
    return chart(
        periods,
        start=START,
        end=START + dt.timedelta(days=1),
        width=STEP,
        headline=("RTT", "ms"),
        **{"gaps": (), **more},
    )


def gap(index: int, end: int, reason: Any = "missing") -> Gap:
    """A gap of some periods."""
    start_us, end_us = (to_microseconds(START + each * STEP) for each in (index, end))
    return Gap(start_us=start_us, end_us=end_us, reason=reason)


def test_a_line_is_never_drawn_over_missing_runs() -> None:
    """Where the schedule had a gap, or nothing was measured, the pen is lifted: line and area alike."""
    whole = draw([period(index) for index in range(20)]).panels[0]
    assert whole.line.count("M") == whole.band.count("M") == 1
    lacking = [period(index) for index in range(20) if index not in (5, 6)]
    for reason in ("missing", "rest", "unknown"):
        missing = draw(lacking, gaps=[gap(5, 7, reason)]).panels[0]
        assert missing.line.count("M") == missing.band.count("M") == 2
    empty = draw([period(index, None if index == 5 else 10.0) for index in range(20)]).panels[0]
    assert empty.line.count("M") == 2
    alone = draw([period(0), period(5), period(9), period(10)], gaps=[gap(1, 5), gap(6, 9)]).panels[0]
    assert len(alone.lone) == 2


def test_periods_that_follow_each_other_are_joined() -> None:
    """Runs that are rarer than periods are no gaps, and what lacks in one metric breaks no other."""
    rare = draw([period(index) for index in (0, 3, 6, 9)]).panels[0]
    assert (rare.line.count("M"), rare.lone) == (1, ())
    lost = [period(index, loss=None if index == 2 else 0.0) for index in range(5)]
    rtt, loss = draw(lost, loss=("Loss", "%")).panels
    assert (rtt.line.count("M"), loss.line.count("M")) == (1, 2)


def test_a_chart_without_a_value_is_still_a_chart() -> None:
    """Nothing measured draws axes, an empty strip and no line."""
    picture = draw([], loss=("Loss", "%"))
    assert [panel.line for panel in picture.panels] == ["", ""]
    assert picture.cells == ()
    assert picture.ticks


def test_the_strip_shows_the_worst_and_how_much_of_it() -> None:
    """One failed run of a thousand takes a quarter of the height, all failed take all of it."""
    picture = draw(
        [
            period(0),
            period(1, ok=999, failed=1),
            period(2, None, ok=0, failed=10),
            period(3, ok=5, error=5),
            period(4, None, ok=0, missed=2),
        ]
    )
    assert [(cell.state, cell.share) for cell in picture.cells] == [
        ("ok", 1.0),
        ("failed", 0.25),
        ("failed", 1.0),
        ("error", 0.5),
        ("missed", 1.0),
    ]


def test_everything_lies_within_the_drawing() -> None:
    """Periods that reach over the edges of the range are cut there."""
    picture = draw([period(-1), *(period(index) for index in range(145))])
    for cell in picture.cells:
        assert LEFT <= cell.x <= cell.x + cell.width <= WIDTH - RIGHT + 0.7
    for tick in picture.ticks:
        assert LEFT <= tick.at <= WIDTH - RIGHT


@pytest.mark.parametrize("hours", [0.1, 1, 6, 24, 72, 24 * 7, 24 * 30, 24 * 92])
def test_marks_of_time_are_few_and_round(hours: float) -> None:
    """From minutes to a quarter there are some marks, not too many, in order."""
    ticks = time_ticks(START, START + dt.timedelta(hours=hours))
    assert 2 <= len(ticks) <= 10
    assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)


def test_marks_of_time_name_the_day_where_it_begins() -> None:
    """Within a day they are hours with the date at midnight; over weeks they are dates."""
    day = [tick.label for tick in time_ticks(START, START + dt.timedelta(days=1))]
    assert day[:3] == ["12 May", "03:00", "06:00"]
    weeks = [tick.label for tick in time_ticks(START, START + dt.timedelta(days=7))]
    assert weeks == ["12 May", "13 May", "14 May", "15 May", "16 May", "17 May", "18 May"]


@example(low=0.0, room=5e-324)
@example(low=1e6, room=1e-9)
@given(
    low=strategies.floats(-1e6, 1e6, allow_nan=False),
    room=strategies.floats(0, 1e6, allow_nan=False),
)
def test_marks_of_values_enclose_them(low: float, room: float) -> None:
    """The axis reaches at least as far as the values, in equal steps."""
    high = low + room
    marks = value_ticks(low, high)
    slack = 1e-6 * max(1.0, abs(low), abs(high))
    assert marks[0] <= low + slack
    assert marks[-1] >= high - slack
    assert 2 <= len(marks) <= 8
    steps = [after - before for before, after in pairwise(marks)]
    assert max(steps) - min(steps) <= 1e-6 * max(map(abs, marks)) + 1e-9
