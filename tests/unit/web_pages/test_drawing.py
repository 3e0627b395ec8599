"""Trends lift the pen at gaps; the comb has a cell for every worker."""

from __future__ import annotations

import uuid

from controller.store.queries.glances import Alike, Glance
from controller.store.queries.pages import Trend, TrendPoint
from controller.store.queries.workers import WorkerLook, WorkerState
from web.pages.drawing import comb, spark


def point(slot: int, value: float | None, bad: int = 0) -> TrendPoint:
    """Return one slot of a trend."""
    return TrendPoint(slot=slot, value=value, bad=bad)


def trend(*points: TrendPoint, jobs: int = 1, among: int = 1) -> Trend:
    """Return a trend."""
    return Trend(points=points, jobs=jobs, among=among)


def look(state: WorkerState = "connected") -> WorkerLook:
    """Return how a worker without alarms is."""
    return WorkerLook(state=state, spool_alarm=False, spool_stuck=False, vantage_alarm=False)


def worker(number: int, state: WorkerState = "connected") -> Glance:
    """Return a worker."""
    return Glance(id=uuid.UUID(int=number + 1), name=f"w{number}", look=look(state))


def test_a_gap_is_never_bridged() -> None:
    """Slots without a value, or without any run, end the stroke; the next value begins another."""
    drawn = spark(
        trend(point(0, 1.0), point(1, 2.0), point(2, None, bad=1), point(3, 2.0), point(4, 3.0)), 10
    )
    assert drawn.path.count("M") == 2
    assert drawn.path.count("L") == 2
    missing = spark(trend(point(0, 1.0), point(1, 2.0), point(5, 2.0), point(6, 3.0)), 10)
    assert missing.path.count("M") == 2


def test_a_lone_value_is_a_dot_and_failures_are_marked() -> None:
    """A value without neighbours would be invisible as a line; runs that ended badly have marks of their own."""
    drawn = spark(trend(point(2, 5.0), point(7, None, bad=3)), 10)
    assert drawn.path == ""
    assert len(drawn.lone) == 1
    assert drawn.fails == (90.0,)


def test_no_points_draw_nothing() -> None:
    """A test without results has an empty trend."""
    drawn = spark(None, 10)
    assert (drawn.path, drawn.lone, drawn.fails) == ("", (), ())


def test_a_trend_of_some_of_the_jobs_says_so() -> None:
    """How many of how many; nothing where it is of all."""
    some, every = (spark(trend(point(0, 1.0), jobs=20, among=among), 10) for among in (2352, 20))
    assert (some.jobs, some.among) == (20, 2352)
    assert (every.jobs, every.among) == (0, 0)


def test_equal_values_stay_inside_the_picture() -> None:
    """A flat line is drawn within the box, at zero and anywhere else."""
    for value in (0.0, 7.0, -3.0):
        drawn = spark(trend(point(0, value), point(1, value)), 2)
        heights = [
            float(part.split()[1])
            for part in drawn.path.replace("L", "|").replace("M", "|").split("|")
            if part
        ]
        assert all(0 <= height <= drawn.height for height in heights)


def test_every_worker_has_its_cell() -> None:
    """Cells carry the state in word and look, the legend counts the fleet, empty cells fill the last row."""
    fleet = [Alike(look=look(), count=20), Alike(look=look("offline"), count=1)]
    drawn = comb([worker(number) for number in range(20)] + [worker(21, "offline")], fleet)
    assert len(drawn.cells) == 21
    assert drawn.cells[-1].state == "offline"
    assert ("online", "connected", 20) in drawn.legend
    assert len({cell.points for cell in drawn.cells} | set(drawn.rest)) == 21 + len(drawn.rest)
    assert drawn.left_out == 0


def test_a_fleet_that_is_larger_than_the_comb_is_counted_whole() -> None:
    """Workers without a cell are in the legend, looks of one word together, and it is told how many they are."""
    damaged = WorkerLook(state="connected", spool_alarm=True, spool_stuck=True, vantage_alarm=False)
    full = WorkerLook(state="connected", spool_alarm=True, spool_stuck=False, vantage_alarm=False)
    fleet = [
        Alike(look=look(), count=4000),
        Alike(look=damaged, count=2),
        Alike(look=full, count=5),
    ]
    drawn = comb([worker(number) for number in range(20)], fleet)
    assert drawn.legend == (("online", "connected", 4000), ("attention", "spool alarm", 7))
    assert drawn.left_out == 3987


def test_an_empty_fleet_has_no_comb() -> None:
    """Without workers there is nothing to draw."""
    assert comb([], []).cells == ()
