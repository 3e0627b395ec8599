"""Difference in differences, and how likely chance alone makes it so large.

Each line (a test from one worker to one destination) is compared with itself: what its runs tell after the upgrade
against those before. From that goes what the control group's lines to the same destination changed by in the same
time: what changed for everybody is the network. The middle of what is left over all upgraded lines is the effect.

How much of such an effect is chance is found by permutation. Once the common change and the effect are taken off, it
makes no difference for a line whether a run was before or after; so the labels are shuffled within each line, thousands of
times, and each time the whole effect is worked out again. Hosts also differ by themselves: how much more the control hosts'
changes scatter than shuffling explains is added to every shuffled effect (DerSimonian and Laird's way, 1986).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Shuffles; what is rarer than one by this is told by the tail of a normal distribution.
SHUFFLES = 2000
#: How many times as likely as such a tail says the rarest effects are taken to be: shuffled ones have heavier tails.
_TAIL = 10.0
#: Shuffled effects are a little too small where runs are few, as what was taken off came from the same runs: for 10 on each
#: side by an eighth. Found by simulation, see the tests.
_FEW = 2.7
#: Control hosts from which on their scatter is known well enough to be counted.
_HOSTS_FOR_SCATTER = 3

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line's values of one quantity on a scale on which differences can be compared."""

    #: What it measures; the control group's lines of the same destination are its best control.
    destination: Hashable
    host: str
    before: Values
    after: Values


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How much more the upgraded hosts changed than the control group."""

    #: Middle of the differences in differences.
    size: float
    #: How the control group's lines changed, in the middle.
    common: float
    #: Chance of an effect so large in this direction when the release changes nothing.
    probability: float
    #: Lines that were compared with lines to the same destination.
    matched: int


def effect(
    upgraded: Sequence[Series],
    control: Sequence[Series],
    *,
    middle: str,
    rng: np.random.Generator,
    shuffles: int = SHUFFLES,
) -> Effect:
    """Return the effect in the direction of larger values; `middle` of a line's runs is `median` or `mean`.

    Both groups have at least one line, and each line at least one value before and after.
    """
    centre = np.median if middle == "median" else np.mean
    keys = {line.destination for line in control}
    matched = [line for line in upgraded if line.destination in keys]
    # A line that nobody else measures says little: what changed on its way cannot be told from the release.
    judged = matched or list(upgraded)
    lines = [*judged, *control]
    shifts = np.array([centre(line.after) - centre(line.before) for line in lines])
    groups = _Groups(judged, control)
    size, common = groups.effect(shifts[np.newaxis, :])
    expected = groups.expected(shifts, size[0])
    shuffled = np.stack(
        [
            _shuffled(line, removed, middle=middle, rng=rng, shuffles=shuffles)
            for line, removed in zip(lines, expected, strict=True)
        ],
        axis=1,
    )
    by_chance, _ = groups.effect(shuffled)
    scatter = groups.scatter(shifts, shuffled)
    fewest = min(min(line.before.size, line.after.size) for line in lines)
    by_chance *= np.sqrt(1.0 + _FEW / fewest)
    by_chance = by_chance + rng.normal(0.0, 1.0, by_chance.size) * scatter
    return Effect(
        size=float(size[0]),
        common=float(common[0]),
        probability=_probability(float(size[0]), by_chance),
        matched=len(matched),
    )


def _probability(size: float, by_chance: Values) -> float:
    """Return the chance of an effect of at least this size among those by chance."""
    as_large = int(np.count_nonzero(by_chance >= size - 1e-12))
    counted = (1 + as_large) / (1 + by_chance.size)
    spread = float(np.std(by_chance))
    if as_large or spread == 0.0:
        return counted
    tail = 0.5 * math.erfc((size - float(np.mean(by_chance))) / spread / math.sqrt(2.0))
    return min(counted, _TAIL * tail)


class _Groups:
    """Which columns of a table of shifts belong together: judged lines first, then the control group's."""

    def __init__(self, judged: Sequence[Series], control: Sequence[Series]) -> None:
        self._judged = len(judged)
        columns: dict[Hashable, list[int]] = {}
        for column, line in enumerate(control, start=len(judged)):
            columns.setdefault(line.destination, []).append(column)
        self._all = list(range(len(judged), len(judged) + len(control)))
        #: The columns that each line is held against.
        self._against = [columns.get(line.destination, self._all) for line in (*judged, *control)]
        self._hosts: dict[str, list[int]] = {}
        for column, line in enumerate(control, start=len(judged)):
            self._hosts.setdefault(line.host, []).append(column)
        self._upgraded_hosts = len({line.host for line in judged})

    def effect(self, shifts: Values) -> tuple[Values, Values]:
        """Return the effect and the common change for each row of shifts."""
        common = {
            key: np.median(shifts[:, list(key)], axis=1)
            for key in {tuple(columns) for columns in self._against[: self._judged]}
        }
        over = np.stack(
            [shifts[:, column] - common[tuple(self._against[column])] for column in range(self._judged)],
            axis=1,
        )
        return np.median(over, axis=1), np.median(shifts[:, self._all], axis=1)

    def expected(self, shifts: Values, size: float) -> Values:
        """Return what each line changed by if the effect were the same for all and chance did nothing."""
        common = np.array([np.median(shifts[columns]) for columns in self._against])
        common[: self._judged] += size
        return common

    def scatter(self, shifts: Values, shuffled: Values) -> float:
        """Return by how much hosts differ beyond what shuffling explains, as it bears on the effect (a deviation)."""
        if len(self._hosts) < _HOSTS_FOR_SCATTER:
            return 0.0
        hosts = list(self._hosts.values())
        over = shifts - np.array([np.median(shifts[columns]) for columns in self._against])
        seen = np.var([np.median(over[columns]) for columns in hosts], ddof=1)
        by_chance = np.mean([np.var(np.median(shuffled[:, columns], axis=1)) for columns in hosts])
        between = max(0.0, float(seen - by_chance))
        return float(np.sqrt(between * (1.0 / self._upgraded_hosts + 1.0 / len(hosts))))


def _shuffled(
    line: Series, removed: float, *, middle: str, rng: np.random.Generator, shuffles: int
) -> Values:
    """Return the line's shift for each shuffle of its runs, once `removed` is taken off those after."""
    pooled = np.concatenate([line.before, line.after - removed])
    order = np.argsort(rng.random((shuffles, pooled.size)), axis=1)
    mixed = pooled[order]
    centre = np.median if middle == "median" else np.mean
    count = line.before.size
    shift: Values = centre(mixed[:, count:], axis=1) - centre(mixed[:, :count], axis=1)
    return shift


def adjusted(probabilities: Sequence[float]) -> list[float]:
    """Return probabilities corrected for there being several (Holm, 1979), in their order."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    found = [0.0] * len(probabilities)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, probabilities[index] * (len(probabilities) - rank)))
        found[index] = largest
    return found
