"""How likely it is that so many runs in a row of some go wrong when nothing is changed: they come in bursts.

A run goes wrong out of the blue, or because the one before it did. How often either happens is learned from the runs
before the upgrade; the chance of what was seen since is then added up over everything that could have been seen and is as
surprising, so that three failures on end are one stroke of bad luck and three here and there are three.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: What is assumed beforehand: as if half a burst had been seen in one good run more, and one that went on twice and ended.
_BURSTS, _GOOD_RUNS = 0.5, 1.0
_GONE_ON, _ENDED = 2.0, 1.0
#: As many runs of all lines together stand by those of each line.
_BORROWED_RUNS = 10.0

Values = NDArray[np.float64]
Wrong = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """What runs did, counted by what the one before each did."""

    #: After one that was well: those that went wrong, and those that did not.
    begun: float = 0.0
    stayed_well: float = 0.0
    #: After one that went wrong: those that went wrong too, and those that did not.
    gone_on: float = 0.0
    ended: float = 0.0

    def __add__(self, other: Bursts) -> Bursts:
        return Bursts(
            begun=self.begun + other.begun,
            stayed_well=self.stayed_well + other.stayed_well,
            gone_on=self.gone_on + other.gone_on,
            ended=self.ended + other.ended,
        )


def counted(wrong: Wrong, *, after_wrong: bool = False) -> Bursts:
    """Count runs in their order; `after_wrong` says what the one before the first did."""
    before = np.concatenate((np.array([after_wrong]), wrong))[:-1]
    return Bursts(
        begun=float(np.sum(wrong & ~before)),
        stayed_well=float(np.sum(~wrong & ~before)),
        gone_on=float(np.sum(wrong & before)),
        ended=float(np.sum(~wrong & before)),
    )


def chance(
    wrong: Wrong, own: Bursts, others: Iterable[Bursts], *, after_wrong: bool, share: float = 1.0
) -> float:
    """Return the chance of runs that surprise as much as `share` of what these do.

    `own` is what the line did before, `others` what other lines did: no line is taken for better than all together.
    """
    every = sum(others, own)
    rate = (every.begun + _BURSTS) / (every.begun + every.stayed_well + _BURSTS + _GOOD_RUNS)
    known = own.begun + own.stayed_well + _BORROWED_RUNS
    begin = max(rate * _BORROWED_RUNS + own.begun, rate * known)
    # What begins may begin again: the more often it does, the likelier it was from the first.
    odds = _Odds(
        begin=begin,
        stay_well=max(known - begin, 1.0),
        go_on=every.gone_on + _GONE_ON,
        end=every.ended + _ENDED,
    )
    seen = counted(wrong, after_wrong=after_wrong)
    weights = odds.surprises(wrong.size)
    chances = odds.chances(wrong.size, after_wrong=after_wrong)
    least = share * weights[int(seen.begun), int(seen.gone_on)]
    return float(min(1.0, np.sum(chances[weights >= least - 1e-9])))


@dataclass(frozen=True, kw_only=True)
class _Odds:
    """How often runs are thought to have done what, before the first that is looked at."""

    begin: float
    stay_well: float
    go_on: float
    end: float

    def surprises(self, runs: int) -> Values:
        """Return how surprising so many begun (rows) and gone on (columns) are."""
        numbers = np.arange(runs + 1.0)
        begun = np.log1p(self.stay_well / self.begin)
        gone_on = np.log1p(self.end / self.go_on)
        surprises: Values = begun * numbers[:, None] + gone_on * numbers[None, :]
        return surprises

    def chances(self, runs: int, *, after_wrong: bool) -> Values:
        """Return the chance of so many begun (rows) and gone on (columns) of these runs."""
        size = runs + 1
        well, wrong = np.zeros((size, size)), np.zeros((size, size))
        (wrong if after_wrong else well)[0, 0] = 1.0
        begun, gone_on = np.meshgrid(np.arange(float(size)), np.arange(float(size)), indexing="ij")
        for run in range(runs):
            # Bursts that have ended by now, where the last run was well, and where it went wrong.
            ended_well = begun + after_wrong
            ended_wrong = np.maximum(ended_well - 1.0, 0.0)
            good = np.maximum(run - gone_on - ended_well, begun)
            bad = gone_on + ended_wrong
            begins = (self.begin + begun) / (self.begin + self.stay_well + good)
            goes_on = (self.go_on + gone_on) / (self.go_on + self.end + bad)
            now_well = well * (1.0 - begins) + wrong * (1.0 - goes_on)
            now_wrong = np.zeros_like(wrong)
            now_wrong[1:] += (well * begins)[:-1]
            now_wrong[:, 1:] += (wrong * goes_on)[:, :-1]
            well, wrong = now_well, now_wrong
        chances: Values = well + wrong
        return chances
