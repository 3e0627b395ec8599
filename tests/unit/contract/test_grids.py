"""The grid of an interval, by examples and against a definition that only counts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamswarm.schedules import Schedule

small = st.integers(min_value=-50, max_value=400)
grids = st.builds(
    Schedule,
    anchor_us=small,
    interval_us=st.integers(min_value=0, max_value=40),
    starts_us=st.none() | small,
    ends_us=st.none() | small,
)


def _instants(grid: Schedule) -> list[int]:
    """All instants up to 1000, by going along the grid."""
    ticks = [grid.anchor_us] if grid.interval_us == 0 else range(grid.anchor_us, 1001, grid.interval_us)
    return [
        tick
        for tick in ticks
        if (grid.starts_us is None or tick >= grid.starts_us)
        and (grid.ends_us is None or tick < grid.ends_us)
    ]


@given(grid=grids, instant=small)
def test_the_next_instant_is_the_first_later_one(grid: Schedule, instant: int) -> None:
    """`next_after` agrees with counting along the grid."""
    later = [tick for tick in _instants(grid) if tick > instant]
    assert grid.next_after(instant) == (later[0] if later else None)


@given(grid=grids, instant=small)
def test_the_last_instant_is_the_last_not_later_one(grid: Schedule, instant: int) -> None:
    """`last_until` agrees with counting along the grid."""
    earlier = [tick for tick in _instants(grid) if tick <= instant]
    assert grid.last_until(instant) == (earlier[-1] if earlier else None)


@given(grid=grids, one=small, other=small)
def test_instants_between_two_are_counted(grid: Schedule, one: int, other: int) -> None:
    """`count` counts both ends."""
    first, last = grid.next_after(min(one, other) - 1), grid.last_until(max(one, other))
    if first is not None and last is not None and first <= last:
        assert grid.count(first, last) == sum(first <= tick <= last for tick in _instants(grid))


@given(
    grid=st.builds(Schedule, anchor_us=small, interval_us=st.integers(min_value=1, max_value=40)),
    marks=st.lists(small, min_size=1, max_size=20),
)
def test_an_instant_never_comes_twice(grid: Schedule, marks: list[int]) -> None:
    """Whoever always asks for what follows the latest mark gets growing instants, whatever the clock says."""
    mark, seen = min(marks) - 1, []
    for now in marks:
        due = grid.next_after(max(mark, now))
        assert due is not None
        seen.append(due)
        mark = due
    assert seen == sorted(set(seen))
