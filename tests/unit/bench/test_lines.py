"""The lines of the benchmark of pages have as many results as were asked for, in whole buckets of roll-ups."""

from __future__ import annotations

import datetime as dt

import pytest
from bench.pages.lines import Line, beginnings

TODAY = dt.datetime(2026, 3, 29, tzinfo=dt.UTC)
END = TODAY + dt.timedelta(hours=18, minutes=20)


def line(number: int, interval_s: int = 300, **more: bool) -> Line:
    """Return a line that runs every so many seconds."""
    return Line(
        job_id=number,
        kind="ping",
        pattern=1,
        place=0,
        interval_us=interval_s * 1_000_000,
        phase_us=0,
        until=None,
        **more,
    )


LINES = [line(number, 60 if number % 10 == 0 else 300) for number in range(1000)]


@pytest.mark.parametrize("rows", [400_000, 1_000_000, 3_333_333])
def test_there_are_as_many_results_as_asked_for(rows: int) -> None:
    """All lines go back equally far, by whole days, some by one more."""
    since = beginnings(LINES, rows=rows, today=TODAY, end=END)
    assert all(begin.timestamp() % 86_400 == 0 for begin in since.values())
    assert len(set(since.values())) <= 2
    stored = sum(each.per_day * ((END - since[each.job_id]) / dt.timedelta(days=1)) for each in LINES)
    assert stored == pytest.approx(rows, rel=0.02)


def test_few_results_begin_today() -> None:
    """At a full hour, and not so late that nothing is there."""
    since = beginnings(LINES, rows=100_000, today=TODAY, end=END)
    assert {begin - TODAY for begin in since.values()} == {dt.timedelta(hours=12)}
    since = beginnings(LINES, rows=1, today=TODAY, end=END)
    assert {begin - TODAY for begin in since.values()} == {dt.timedelta(hours=15)}


def test_lines_without_results_count_for_nothing() -> None:
    """What is not due yet leaves the results to the others."""
    blank = [line(number, blank=True) for number in range(1000, 2000)]
    alone = beginnings(LINES, rows=1_000_000, today=TODAY, end=END)
    beside = beginnings([*LINES, *blank], rows=1_000_000, today=TODAY, end=END)
    assert max(beside.values()) == max(alone.values())
    assert min(beside.values()) == min(alone.values())
