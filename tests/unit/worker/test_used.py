"""Used instants: kept as ranges, passed over, bounded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamswarm.schedules import Schedule
from worker import used
from worker.used import Used

S = 1_000_000
GRID = Schedule(anchor_us=0, interval_us=S)


def of(*seconds: int) -> Used:
    """Return these as used instants, added in this order."""
    found = Used()
    for second in seconds:
        found = found.adding(GRID, second * S)
    return found


def test_neighbours_are_one_range() -> None:
    """Ranges that have grown up to each other stay two, and what lies in one is not added again."""
    assert of(1, 2, 3, 7, 8, 2).ranges == ((1 * S, 3 * S), (7 * S, 8 * S))
    assert of(7, 5, 6, 8).ranges == ((5 * S, 6 * S), (7 * S, 8 * S))
    assert of(3).last_us == 3 * S
    assert Used().last_us is None


@given(
    added=st.lists(st.integers(0, 40), max_size=14),
    first=st.integers(0, 40),
    last=st.integers(0, 40),
)
def test_everything_agrees_with_a_set(added: list[int], first: int, last: int) -> None:
    """With few ranges they say exactly what was added."""
    found, model = of(*added), {second * S for second in added}
    instants = range(0, 42 * S, S)
    assert {instant for instant in instants if instant in found} == model
    free = [instant for instant in instants if instant not in model]
    assert found.next_unused(GRID, first * S) == next(i for i in [*free, 60 * S] if i > first * S)
    until = [instant for instant in free if instant <= first * S]
    assert found.last_unused(GRID, first * S) == (until[-1] if until else None)
    between = [instant for instant in free if first * S <= instant <= last * S]
    assert list(found.unused(GRID, first * S, last * S)) == between
    assert found.count_unused(GRID, first * S, last * S) == len(between)


def test_of_too_many_ranges_the_closest_become_one() -> None:
    """What lies between them is taken for used; nothing that was used is forgotten."""
    seconds = [10 * number for number in range(used._MOST)]
    found = of(*seconds, 153, 200)
    assert len(found.ranges) == used._MOST
    assert found.ranges[-2:] == ((150 * S, 153 * S), (200 * S, 200 * S))
    assert all(second * S in found for second in (*seconds, 153, 200))


def test_the_end_of_a_schedule_is_no_gap() -> None:
    """Without further instants there is nothing to pass over."""
    ending = Schedule(anchor_us=0, interval_us=S, ends_us=3 * S)
    found = Used(((0, 2 * S),))
    assert found.next_unused(ending, 0) is None
    assert found.last_unused(ending, 10 * S) is None
    assert list(found.unused(ending, 0, 10 * S)) == []
