"""Statistics of round-trip times."""

import pytest

from worker.evaluation import statistics


def test_percentiles_interpolate_between_the_closest_ranks() -> None:
    """Position share * (n - 1), as spreadsheets and numpy have it."""
    assert statistics.percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert statistics.percentile([1.0, 2.0, 3.0, 4.0], 0.25) == pytest.approx(1.75)
    assert statistics.percentile([7.0], 0.95) == 7.0
    assert statistics.percentile([3.0, 1.0], 1.0) == 3.0


def test_a_95th_percentile_needs_20_samples() -> None:
    """With 19 it would be another name for the maximum."""
    assert statistics.percentile_95([float(n) for n in range(19)]) is None
    assert statistics.percentile_95([float(n) for n in range(20)]) == pytest.approx(18.05)
    assert statistics.pdv_95([10.0 + n for n in range(19)]) is None
    assert statistics.pdv_95([10.0 + n for n in range(20)]) == pytest.approx(18.05)


def test_what_cannot_be_said_is_none_and_not_zero() -> None:
    """No sample gives no mean, one sample gives no variation."""
    for function in (
        statistics.mean,
        statistics.median,
        statistics.standard_deviation,
        statistics.ipdv_mean,
        statistics.pdv_95,
        statistics.rfc3550_jitter,
    ):
        assert function([]) is None
    assert statistics.standard_deviation([5.0]) is None
    assert statistics.ipdv_mean([5.0]) is None
    assert statistics.rfc3550_jitter([5.0]) is None


def test_the_standard_deviation_is_that_of_the_population() -> None:
    """Divided by n, not by n - 1."""
    assert statistics.standard_deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == pytest.approx(2.0)


def test_jitter_by_hand() -> None:
    """Differences 3, 1, 4: the mean is 8/3, the smoothed jitter starts at 0 and moves by a sixteenth."""
    samples = [10.0, 13.0, 12.0, 16.0]
    assert statistics.ipdv_mean(samples) == pytest.approx(8 / 3)
    first = 3 / 16
    second = first + (1 - first) / 16
    third = second + (4 - second) / 16
    assert statistics.rfc3550_jitter(samples) == pytest.approx(third)
