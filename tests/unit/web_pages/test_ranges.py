"""A range bar shows where a value lies; the ring shows health, and nothing when it is not known."""

from __future__ import annotations

import pytest

from controller.diagnosis.verdicts.records import MetricReading
from streamswarm import contract
from web.pages.ranges import range_bar, ring


def reading(low: float | None, normal: float | None, high: float | None, now: float | None) -> MetricReading:
    """Return a metric with this range."""
    return MetricReading(
        metric=contract.kind("ping").headline,
        state="normal",
        low=low,
        normal=normal,
        high=high,
        now=now,
        since=None,
    )


def test_a_value_lies_where_it_should() -> None:
    """Inside, beyond either end, and not measured; all of it within the picture."""
    inside = range_bar(reading(10, 12, 20, 15))
    assert inside is not None
    assert inside.now is not None
    assert inside.x < inside.normal < inside.now < inside.x + inside.span
    assert not inside.outside
    for now in (1.0, 400.0):
        bar = range_bar(reading(10, 12, 20, now))
        assert bar is not None
        assert bar.now is not None
        assert bar.outside
        assert 0 <= bar.now <= bar.width
        assert (bar.now < bar.x) == (now < 10)
    unmeasured = range_bar(reading(10, 12, 20, None))
    assert unmeasured is not None
    assert unmeasured.now is None
    assert not unmeasured.outside


@pytest.mark.parametrize(
    "values", [(0, 0, 0, 0), (5, 5, 5, 5), (-3, -2, -1, -2), (0, 0, 2, 9e6), (1e9, 1e9, 1e9, 0)]
)
def test_any_range_fits_into_the_picture(values: tuple[float, float, float, float]) -> None:
    """Nothing at all, a single value, negative ones, a range that is next to nothing beside the value."""
    bar = range_bar(reading(*values))
    assert bar is not None
    assert bar.now is not None
    assert 0 <= bar.now <= bar.width
    assert bar.span >= 5
    assert 0 <= bar.x <= bar.x + bar.span <= bar.width


def test_an_unknown_range_is_not_drawn() -> None:
    """While it is being learnt there is no picture."""
    assert range_bar(reading(None, None, None, 3.0)) is None


def test_the_ring() -> None:
    """Empty when nothing is known; its tone follows the figure."""
    assert (ring(None).filled, ring(None).tone) == (0.0, "missed")
    assert ring(100).filled == ring(100).whole
    assert [ring(health).tone for health in (100, 90, 89, 60, 59, 0)] == [
        "ok", "ok", "attention", "attention", "failed", "failed",
    ]  # fmt: skip
