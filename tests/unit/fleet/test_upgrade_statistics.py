"""Effects and their probabilities: single numbers by hand. How often they are right is in `test_upgrade_comparison`."""

from __future__ import annotations

import math

import numpy as np
import pytest

from controller.fleet.upgrades.statistics import Effect, Level, Middle, Series, adjusted, beyond, effects


def _line(
    host: str, seed: int, *, change: float = 0.0, destination: object = 1, runs: int = 12, before: int = 96
) -> Series:
    """Make up a line whose values scatter by a tenth, and change at the upgrade."""
    chance = np.random.default_rng(seed)
    middle = chance.uniform(1.0, 3.0)
    return Series(
        destination=destination,
        host=host,
        before=chance.normal(middle, 0.1, before),
        after=chance.normal(middle + change, 0.1, runs),
    )


def _judged(upgraded: list[Series], control: list[Series]) -> dict[Level, list[Effect]]:
    found: dict[Level, list[Effect]] = {level: [] for level in Level}
    for each in effects(upgraded, control, middle=Middle.MEDIAN):
        found[each.level].append(each)
    return found


def test_the_effect_is_what_the_release_did_and_the_common_change_what_the_network_did() -> None:
    """Both in the middle of what was put in."""
    control = [_line(f"old{number}", number, change=1.1) for number in range(5)]
    [found] = effects([_line("new", 9, change=1.5)], control, middle=Middle.MEDIAN)
    assert found.size == pytest.approx(0.4, abs=0.1)
    assert found.common == pytest.approx(1.1, abs=0.1)
    assert found.probability < 0.001


def test_hosts_and_lines_are_looked_at_by_themselves_where_there_are_several() -> None:
    """One line alone is all there is; of two hosts with two lines each, everything is looked at."""
    control = [_line(f"old{number}", number) for number in range(3)]
    assert [each.level for each in effects(control[:1], control[1:], middle=Middle.MEDIAN)] == [Level.ALL]
    ours = [
        _line(host, seed, change=change, destination=destination)
        for host, seed, change, destination in (("a", 11, 0, 1), ("a", 12, 0, 2), ("b", 13, 1, 1), ("b", 14, 1, 2))
    ]  # fmt: skip
    others = [
        _line(f"old{number}", 20 + 2 * number + at, destination=at) for number in range(3) for at in (1, 2)
    ]
    found = _judged(ours, others)
    assert [each.lines for each in found[Level.HOST]] == [(0, 1), (2, 3)]
    assert [each.lines for each in found[Level.LINE]] == [(0,), (1,), (2,), (3,)]
    assert found[Level.HOST][0].probability > 0.01 > found[Level.HOST][1].probability
    assert [each.probability < 0.01 for each in found[Level.LINE]] == [False, False, True, True]


def test_a_change_at_one_destination_is_held_against_those_who_measure_it() -> None:
    """One destination gets slow for everybody; a line that nobody else measures is held against its past."""
    control = [_line("old0", 1, change=2.0), _line("old1", 2, change=2.0), _line("old2", 3, destination=2)]
    [same] = effects([_line("new", 4, change=2.0)], control, middle=Middle.MEDIAN)
    assert same.probability > 0.05
    [alone] = effects([_line("new", 4, change=2.0, destination="own")], control[2:], middle=Middle.MEDIAN)
    assert alone.probability < 0.001


def test_hosts_that_change_by_themselves_make_it_less_sure() -> None:
    """What is certain among hosts that stay as they are is not among hosts that come and go by as much."""
    quiet = [_line(f"old{number}", number) for number in range(6)]
    restless = [_line(f"old{number}", number, change=(-1) ** number * 0.4) for number in range(6)]
    ours = [_line("new", 9, change=0.4)]
    [sure] = effects(ours, quiet, middle=Middle.MEDIAN)
    [unsure] = effects(ours, restless, middle=Middle.MEDIAN)
    assert sure.probability < 0.01 < unsure.probability


def test_ways_that_wandered_as_far_before_make_it_less_sure() -> None:
    """Without anybody to compare with the past says how far a line goes by itself."""
    steady = _line("new", 5, change=0.4)
    waves = 0.4 * np.sign(np.sin(np.arange(96) / 12 * math.pi))
    restless = Series(destination=1, host="new", before=steady.before + waves, after=steady.after)
    [sure] = effects([steady], [], middle=Middle.MEDIAN)
    [unsure] = effects([restless], [], middle=Middle.MEDIAN)
    assert sure.probability < 0.01 < unsure.probability


def test_of_two_control_hosts_the_one_that_changed_less_is_believed() -> None:
    """In both directions, so that one that lies neither hides a release nor accuses one."""
    for lie in (3.0, -3.0):
        control = [_line("old0", 1, change=lie), _line("old1", 2)]
        [good] = effects([_line("new", 3)], control, middle=Middle.MEDIAN)
        [bad] = effects([_line("new", 3, change=1.0)], control, middle=Middle.MEDIAN)
        assert bad.probability < 0.01 < good.probability


def test_runs_that_fail_are_compared_by_their_share() -> None:
    """Ten failures after none are found; one is not."""

    def line(host: str, failures: int) -> Series:
        after = np.array([100.0] * failures + [0.0] * (10 - failures))
        return Series(destination=1, host=host, before=np.zeros(100), after=after)

    control = [line("old", 0)]
    [all_fail] = effects([line("new", 10)], control, middle=Middle.SHARE)
    [one_fails] = effects([line("new", 1)], control, middle=Middle.SHARE)
    assert all_fail.probability < 0.001 < 0.02 < one_fails.probability


@pytest.mark.parametrize(
    ("score", "freedom", "chance"),
    [(0.0, 4, 0.5), (3.747, 4, 0.01), (-3.747, 4, 0.99), (6.965, 2, 0.01), (2.583, 16, 0.01), (3.686, 16, 0.001)],
)  # fmt: skip
def test_chances_are_those_of_students_tables(score: float, freedom: int, chance: float) -> None:
    """As printed in any of them, to their digits."""
    assert beyond(score, freedom) == pytest.approx(chance, rel=1e-3)


def test_probabilities_are_corrected_for_being_several() -> None:
    """Holm's steps, by hand: the smallest times four, the next times three, never less than the one before."""
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([]) == []
