"""The picture of a judgement: where its marks lie, and what stands beside it."""

from __future__ import annotations

from typing import Any

import pytest

from controller.store.operation_notes import Figure
from web.pages.judging import picture


def figure(before: float, after: float, *others: float, unit: str = "ms") -> Figure:
    """Return a figure; the others' two numbers where there are others."""
    theirs: dict[str, Any] = (
        {"others": 3, "others_before": others[0], "others_after": others[1]} if others else {}
    )
    return Figure(kind="ping", quantity="RTT average", unit=unit, before=before, after=after, **theirs)


def test_both_groups_are_drawn_on_one_scale_from_nothing() -> None:
    """Twice the value lies twice as far from the margin; the greatest reaches the other one."""
    drawn = picture(figure(10, 20, 10, 40))
    assert drawn.others is not None
    assert (drawn.ours.before, drawn.ours.after) == (49.0, 90.0)
    assert (drawn.others.before, drawn.others.after) == (49.0, 172.0)
    assert (drawn.before, drawn.after, drawn.others_before, drawn.others_after) == (
        "10 ms",
        "20 ms",
        "10 ms",
        "40 ms",
    )


def test_values_far_from_nothing_are_told_apart() -> None:
    """Of a hundred and a hundred and ten nothing would be seen on a scale from nothing; of shares it is."""
    near = picture(figure(100, 130, 100, 101))
    assert (near.ours.before, near.ours.after) == (8.0, 172.0)


def test_a_small_change_looks_small() -> None:
    """Of a fiftieth more nobody is to think that it is a lot, nor of one failure in a hundred."""
    steady, one = picture(figure(80, 81.5)), picture(figure(0, 1, unit="%"))
    assert steady.ours.after - steady.ours.before < 20
    assert one.ours.after - one.ours.before < 20


@pytest.mark.parametrize(("before", "after", "unit"), [(0, 0, "%"), (5, 5, "ms"), (-3, -1, "ms")])
def test_every_mark_is_within_the_picture(before: float, after: float, unit: str) -> None:
    """Also where nothing changed, nothing happened, or values are negative; others that are not there are told."""
    drawn = picture(figure(before, after, unit=unit))
    assert 0 <= drawn.ours.before <= drawn.width
    assert 0 <= drawn.ours.after <= drawn.width
    assert (drawn.others, drawn.others_before) == (None, "\N{EN DASH}")
