"""Runs that go wrong in bursts: the chance of what was seen, by hand and by going through all that could be."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from controller.fleet.upgrades.bursts import Bursts, chance, counted

#: A hundred good runs, and what other lines did: a burst in 500 runs, three long.
QUIET = Bursts(stayed_well=100.0)
OTHERS = [Bursts(begun=1.0, stayed_well=996.0, gone_on=2.0, ended=1.0)]


def _of(text: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return np.array([letter == "x" for letter in text], dtype=np.bool_)


def _seen(
    text: str, own: Bursts = QUIET, others: list[Bursts] | None = None, *, after_wrong: bool = False
) -> float:
    return chance(_of(text), own, OTHERS if others is None else others, after_wrong=after_wrong)


def test_runs_are_counted_by_what_the_one_before_did() -> None:
    """The first by what is said of the one before it."""
    assert counted(_of("..xx.x")) == Bursts(begun=2.0, stayed_well=2.0, gone_on=1.0, ended=1.0)
    assert counted(_of("xx."), after_wrong=True) == Bursts(gone_on=2.0, ended=1.0)
    assert counted(_of("")) == Bursts()


def test_failures_here_and_there_are_less_likely_than_as_many_on_end() -> None:
    """Three strokes of bad luck are rarer than one; one that began before the upgrade is none at all."""
    scattered, burst, went_on = (
        _seen("x..x....x.."),
        _seen("...xxx....."),
        _seen("xxx........", after_wrong=True),
    )
    assert scattered < 1e-4 < burst < 0.01 < went_on
    assert _seen("xxxxxxxxxxx") < burst
    assert _seen("...........") == pytest.approx(1.0)


def test_a_line_that_always_failed_now_and_then_may_do_so_again() -> None:
    """So may any where all do."""
    often = Bursts(begun=10.0, stayed_well=80.0, gone_on=0.0, ended=10.0)
    assert _seen("x..x....x..", often) > 0.05
    assert _seen("x..x....x..", QUIET, [often] * 5) > 0.05


def test_what_changed_for_all_is_not_held_against_it() -> None:
    """Of what surprises only a share counts, when the others saw as much of it."""
    runs = _of("x..x....x..")
    parts = [chance(runs, QUIET, OTHERS, after_wrong=False, share=share) for share in (1.0, 0.6, 0.0)]
    assert parts == sorted(parts)
    assert parts[-1] == pytest.approx(1.0)


@pytest.mark.parametrize("after_wrong", [False, True])
def test_the_chance_is_that_of_all_that_surprises_as_much(after_wrong: bool) -> None:
    """Each of the 128 ways in which seven runs can go, one after the other, as an urn gives them."""
    runs = 7
    rate = (1.0 + 0.5) / (1.0 + 1096.0 + 1.5)
    begin = 110.0 * rate
    begins_first, stays_on = rate, 4.0 / 6.0

    def of(way: tuple[bool, ...]) -> tuple[float, float]:
        one, last = 1.0, after_wrong
        begun, well, gone_on, ended = begin, 110.0 - begin, 4.0, 2.0
        surprise = 0.0
        for wrong in way:
            if last:
                one *= (gone_on if wrong else ended) / (gone_on + ended)
                surprise -= np.log(stays_on) if wrong else 0.0
                gone_on, ended = gone_on + wrong, ended + (not wrong)
            else:
                one *= (begun if wrong else well) / (begun + well)
                surprise -= np.log(begins_first) if wrong else 0.0
                begun, well = begun + wrong, well + (not wrong)
            last = wrong
        return one, surprise

    ways = {way: of(way) for way in itertools.product((False, True), repeat=runs)}
    assert sum(one for one, _ in ways.values()) == pytest.approx(1.0)
    for text in (".......", "..x....", "xxx....", "x.x..xx", "xxxxxxx"):
        least = ways[tuple(letter == "x" for letter in text)][1]
        expected = sum(one for one, surprise in ways.values() if surprise >= least - 1e-9)
        assert _seen(text, after_wrong=after_wrong) == pytest.approx(expected), text
