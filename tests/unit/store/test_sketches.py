"""Sketches: what is read from one is off by no more than it states."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from controller.store.rollups import sketches

VALUES = st.lists(
    st.floats(-1e300, 1e300).filter(lambda x: x == 0 or abs(x) > 1e-300), min_size=1, max_size=50
)


def sketch(values: list[float]) -> list[int]:
    """Make a sketch as `key_sql` does."""
    log_gamma = math.log(sketches.GAMMA)
    keys = Counter(
        0 if x == 0 else int(math.copysign(100_000 + math.ceil(math.log(abs(x)) / log_gamma), x))
        for x in values
    )
    return [number for key in sorted(keys) for number in (key, keys[key])]


def exact(values: list[float], share: float) -> tuple[float, float, float]:
    """Return the two values between which a percentile lies, and how far it is from the first."""
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    return ordered[math.floor(rank)], ordered[math.ceil(rank)], rank - math.floor(rank)


@given(VALUES, st.sampled_from([0.0, 0.05, 0.5, 0.95, 0.99, 1.0]))
def test_percentiles_are_within_the_stated_error(values: list[float], share: float) -> None:
    """Each of the two values that a percentile lies between is off by one percent of itself at the most."""
    count, (found,) = sketches.percentiles(sketch(values), [share])
    assert count == len(values)
    low, high, part = exact(values, share)
    most = sketches.ERROR * 1.000001 * (abs(low) * (1 - part) + abs(high) * part)
    assert abs(found - (low * (1 - part) + high * part)) <= most + 1e-9 * max(abs(low), abs(high))


def test_an_empty_sketch_has_no_percentile() -> None:
    """Nothing measured gives nothing, not zero."""
    assert sketches.percentiles([], [0.5]) == (0, ())


@given(VALUES, VALUES)
def test_merging_is_exact(some: list[float], more: list[float]) -> None:
    """Two sketches merged are the one of all values together."""
    assert list(sketches.merged([sketch(some), sketch(more)])) == sketch([*some, *more])
    assert sketches.merged([sketch(some)]) == sketch(some)
