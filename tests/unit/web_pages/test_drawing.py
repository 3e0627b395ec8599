"""Trends lift the pen at gaps; the comb has a cell for every worker."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from controller.store.queries.pages import TrendPoint
from controller.store.queries.workers import WorkerRecord
from web.pages.drawing import comb, spark

NOW = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


def point(slot: int, value: float | None, bad: int = 0) -> TrendPoint:
    """Return one slot of a trend."""
    return TrendPoint(slot=slot, value=value, bad=bad)


def worker(number: int, **more: Any) -> WorkerRecord:
    """Return a connected worker."""
    values: dict[str, Any] = {
        "id": uuid.UUID(int=number + 1),
        "name": f"w{number}",
        "host_name": f"w{number}",
        "site": "",
        "labels": {},
        "groups": (),
        "state": "connected",
        "version": "",
        "contract_version": 1,
        "facts": {},
        "policy": {},
        "kinds": {},
        "connected_at": NOW,
        "disconnected_at": None,
        "last_seen_at": NOW,
        "spool_records": 0,
        "spool_alarm": "",
        "clock_offset_ms": None,
        "jobs": 0,
        "jobs_current": True,
        "certificate_until": None,
        "created_at": NOW,
        "enrolled_at": NOW,
        "revoked_at": None,
    }
    return WorkerRecord(**(values | more))


def test_a_gap_is_never_bridged() -> None:
    """Slots without a value, or without any run, end the stroke; the next value begins another."""
    drawn = spark([point(0, 1.0), point(1, 2.0), point(2, None, bad=1), point(3, 2.0), point(4, 3.0)], 10)
    assert drawn.path.count("M") == 2
    assert drawn.path.count("L") == 2
    missing = spark([point(0, 1.0), point(1, 2.0), point(5, 2.0), point(6, 3.0)], 10)
    assert missing.path.count("M") == 2


def test_a_lone_value_is_a_dot_and_failures_are_marked() -> None:
    """A value without neighbours would be invisible as a line; runs that ended badly have marks of their own."""
    drawn = spark([point(2, 5.0), point(7, None, bad=3)], 10)
    assert drawn.path == ""
    assert len(drawn.lone) == 1
    assert drawn.fails == (90.0,)


def test_no_points_draw_nothing() -> None:
    """A test without results has an empty trend."""
    drawn = spark([], 10)
    assert (drawn.path, drawn.lone, drawn.fails) == ("", (), ())


def test_equal_values_stay_inside_the_picture() -> None:
    """A flat line is drawn within the box, at zero and anywhere else."""
    for value in (0.0, 7.0, -3.0):
        drawn = spark([point(0, value), point(1, value)], 2)
        heights = [
            float(part.split()[1])
            for part in drawn.path.replace("L", "|").replace("M", "|").split("|")
            if part
        ]
        assert all(0 <= height <= drawn.height for height in heights)


def test_every_worker_has_its_cell() -> None:
    """Cells carry the state in word and look, the legend counts them, empty cells fill the last row."""
    drawn = comb([worker(number) for number in range(20)] + [worker(21, state="offline")])
    assert len(drawn.cells) == 21
    assert drawn.cells[-1].state == "offline"
    assert ("online", "connected", 20) in drawn.legend
    assert len({cell.points for cell in drawn.cells} | set(drawn.rest)) == 21 + len(drawn.rest)


def test_an_empty_fleet_has_no_comb() -> None:
    """Without workers there is nothing to draw."""
    assert comb([]).cells == ()
