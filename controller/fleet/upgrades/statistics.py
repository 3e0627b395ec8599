"""How much upgraded hosts changed more than the control group, and how likely that is when the release changes nothing.

Each line (a test from one worker to one destination) is compared with itself: a block of runs after the upgrade with the
runs right before it. From that shift goes what the control group's lines to the same destination shifted by in the same
time: what changed for everybody is the network. The rest is told in units of the scatter of the line's own runs.

How far such rests wander when nothing was upgraded is taken from the past: the same differences, of the same length, at
instants before the upgrade; and, from three control hosts on, from control hosts that are held against the others. So
slow changes, runs that resemble the ones before, and ways with a weather of their own count for as much as they are. One
control host that lies or is disturbed counts for little: the middle of the control group is taken, never its mean, and no
host adds more to the scatter than three times what the middle one does.

Lines are looked at together, by host, and each by itself, as a release may break only some of them.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controller.fleet.upgrades.bursts import Bursts, chance, counted

#: Runs in a block, at the least.
FEWEST_RUNS = 10
#: Blocks into which the runs before are divided, so far as they suffice; the reference of a block are so many before it.
_BLOCKS = 5
_REFERENCE = 3
#: Past instants that are looked at.
_MOST_PAST = 8
#: By how many units a line may stand out from the middle of its group: single lines are judged by themselves.
_REACH = 4.0
#: Control hosts from which on they tell how hosts differ.
_HOSTS_FOR_SCATTER = 3
#: No control host adds more to the scatter than so many times what the middle one does.
_DISTURBED = 3.0
#: A control host in which something goes wrong so often, and so many times as often as in the middle one, is disturbed.
_OFTEN, _TIMES_AS_OFTEN = 5, 5.0
#: How much is assumed beforehand: as if so many past differences had been seen, with so many times the least variance.
_ASSUMED = 4
_ASSUMED_VARIANCE = 1.5
#: Degrees of freedom: at the most, and where tails are heavy: of single lines, and of shares, as failures come in bursts.
_MOST_FREEDOM = 16
_HEAVY = 4
#: Scatter of a median in units of that of a mean, for normal values.
_MEDIAN = 1.2533
_BY_MEDIAN_DEVIATION = 1.4826

Values = NDArray[np.float64]


class Level(enum.StrEnum):
    """What is judged together."""

    ALL = "all"
    HOST = "host"
    LINE = "line"


class Middle(enum.StrEnum):
    """How a block of runs is put into one number."""

    MEDIAN = "median"
    #: For shares in percent, such as loss.
    SHARE = "share"
    #: For what happens in a run or does not, 100 or 0, such as failures: a share too, and it comes in bursts.
    EVENT = "event"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line's values of one quantity, in the order of time, on a scale on which differences can be compared."""

    #: What it measures; the control group's lines of the same destination are its best control.
    destination: Hashable
    host: str
    before: Values
    after: Values


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How much more some upgraded lines changed than the control group."""

    level: Level
    #: Which of the upgraded lines, by their places.
    lines: tuple[int, ...]
    #: Difference in differences, and how the control group's lines changed, in the middle.
    size: float
    common: float
    #: Chance of an effect so large in this direction when the release changes nothing, for this one look.
    probability: float


def effects(upgraded: Sequence[Series], control: Sequence[Series], *, middle: Middle) -> list[Effect]:
    """Return the effects in the direction of larger values: of all upgraded lines, of each host, of each line.

    There is at least one upgraded line, and each line has at least `FEWEST_RUNS` values before and after. Hosts are left
    out where there is one, lines where there is one. Without a control group lines are compared with their past alone.
    """
    table = _Table(upgraded, control, middle)
    every = tuple(range(len(upgraded)))
    found = [table.together(Level.ALL, every)]
    hosts = dict.fromkeys(line.host for line in upgraded)
    if len(hosts) > 1:
        found += [
            table.together(Level.HOST, tuple(at for at in every if upgraded[at].host == host))
            for host in hosts
        ]
    if len(upgraded) > len(hosts) or len(hosts) == 1 < len(upgraded):
        found += [table.alone(at) for at in every]
    return found


class _Table:
    """Shifts of all lines, at the upgrade (column 0) and at instants before it (columns 1 and on; nan where unknown)."""

    def __init__(self, upgraded: Sequence[Series], control: Sequence[Series], middle: Middle) -> None:
        self._upgraded, self._control, self._middle = upgraded, control, middle
        self._freedom = _MOST_FREEDOM if middle is Middle.MEDIAN else _HEAVY
        self._lengths = lengths = _block_lengths([*upgraded, *control])
        rows = [_shifts(line, lengths[line.destination], middle) for line in (*upgraded, *control)]
        shifts = np.array([row for row, _ in rows]).reshape(len(rows), _MOST_PAST + 1)
        self._units = np.array([unit for _, unit in rows]).reshape(len(rows), _MOST_PAST + 1)
        self._mine, self._theirs = shifts[: len(upgraded)], shifts[len(upgraded) :]
        at: dict[Hashable, list[int]] = {}
        for place, line in enumerate(control):
            at.setdefault(line.destination, []).append(place)
        self._at = at
        self.common = np.array([self._common(line.destination) for line in upgraded])
        self.rests = (self._mine - self.common) / self._units[: len(upgraded)]
        self._others = self._rests_of_others()
        #: Mean square of what single lines wandered by before, as if one more had been seen with three units.
        past = self.rests[:, 1:]
        seen = past[np.isfinite(past)]
        theirs = [_mean_square(rests[:, 1:]) for rests in self._others.values()]
        known = [(value, count) for value, count in theirs if count]
        total, count = float(np.sum(np.square(seen))), seen.size
        for value, number in _tamed(known):
            total, count = total + value * number, count + number
        prior = 9.0 if middle is Middle.MEDIAN else 25.0
        self._wander = max(1.0, (total + prior) / (count + 1))

    def _common(self, destination: Hashable, *, without: str = "") -> Values:
        """Return what the control group's lines to a destination shifted by; those of all where nobody has it."""
        places: Iterable[int] = self._at.get(destination, range(len(self._control)))
        rows = [self._theirs[place] for place in places if self._control[place].host != without]
        if not rows:
            return np.zeros(_MOST_PAST + 1) if not without else np.full(_MOST_PAST + 1, np.nan)
        return _middle_of(np.array(rows))

    def _rests_of_others(self) -> dict[str, Values]:
        """Return the control hosts' rests, each held against the others; none where there are too few."""
        hosts = dict.fromkeys(line.host for line in self._control)
        if len(hosts) < _HOSTS_FOR_SCATTER:
            return {}
        wanted = {line.destination for line in self._upgraded}
        units = self._units[len(self._upgraded) :]
        found = {}
        for host in hosts:
            rows = [
                (self._theirs[place] - self._common(line.destination, without=host)) / units[place]
                for place, line in enumerate(self._control)
                if line.host == host and (line.destination in wanted or not wanted & set(self._at))
            ]
            if rows:
                found[host] = np.array(rows)
        return found

    def _now(self, rests: Sequence[float]) -> float:
        """Return the variance between control hosts at this very time, as far as so few can tell."""
        count = len(rests)
        if count < _HOSTS_FOR_SCATTER:
            return 0.0
        return (
            float(np.square(_BY_MEDIAN_DEVIATION * np.median(np.abs(rests)))) * (count - 2.0) / (count + 1.0)
        )

    def together(self, level: Level, lines: tuple[int, ...]) -> Effect:
        """Return the effect of several lines."""
        matched = tuple(at for at in lines if self._upgraded[at].destination in self._at)
        # A line that nobody else measures says little: what changed on its way cannot be told from the release.
        judged = list(matched or lines)
        if len(judged) == 1 and self._middle is Middle.EVENT:
            return self._effect(level, tuple(judged), self._by_bursts(judged[0]))
        found = _gathered(self.rests[judged])
        hosts = len({self._upgraded[at].host for at in judged})
        destinations = len({self._upgraded[at].destination for at in judged})
        others = len({line.host for line in self._control})
        least = 1.0 / len(judged) + (1.0 / (others * destinations) if others else 0.0)
        # More upgraded hosts even out what single ones do by themselves.
        share = (1.0 / hosts + 1.0 / others) / (1.0 + 1.0 / others) if others else 0.0
        theirs = {host: _gathered(rests) for host, rests in self._others.items()}
        known = [
            (value * share, count)
            for value, count in (_mean_square(each[1:]) for each in theirs.values())
            if count
        ]
        own, own_count = _mean_square(found[1:])
        total, seen = _ASSUMED * _ASSUMED_VARIANCE * least + own * own_count, own_count
        for value, count in _tamed(known):
            total, seen = total + value * count, seen + count
        now = self._now([float(each[0]) for each in theirs.values() if math.isfinite(each[0])]) * share
        variance = max(least, now, total / (_ASSUMED + seen))
        freedom = min(self._freedom, _ASSUMED + seen // 2)
        return self._effect(level, tuple(judged), beyond(float(found[0]) / math.sqrt(variance), freedom))

    def alone(self, at: int) -> Effect:
        """Return the effect of one line; how far lines wander is learned from all of them and from itself."""
        if self._middle is Middle.EVENT:
            return self._effect(Level.LINE, (at,), self._by_bursts(at))
        own, count = _mean_square(self.rests[at, 1:])
        nearby = [
            float(rest) for rests in self._others.values() for rest in rests[:, 0] if math.isfinite(rest)
        ]
        variance = max(
            1.0, (own * count + 2 * _ASSUMED * self._wander) / (count + 2 * _ASSUMED), self._now(nearby)
        )
        return self._effect(Level.LINE, (at,), beyond(float(self.rests[at, 0]) / math.sqrt(variance), _HEAVY))

    def _by_bursts(self, at: int) -> float:
        """Return the chance of what happened in the runs of one line since the upgrade, but for what did to all."""
        line = self._upgraded[at]
        since = line.after[: self._lengths[line.destination]] > 0
        if not since.any():
            return 1.0
        own = counted(line.before > 0)
        others = [counted(other.before > 0) for place, other in enumerate(self._upgraded) if place != at]
        common = max(0.0, float(self.common[at, 0]))
        return chance(
            since,
            own,
            [*others, *_undisturbed(self._control)],
            after_wrong=bool(line.before[-1] > 0),
            share=max(0.0, 1.0 - common / (100.0 * float(np.mean(since)))),
        )

    def _effect(self, level: Level, lines: tuple[int, ...], probability: float) -> Effect:
        places = list(lines)
        rests = self.rests[places, 0]
        return Effect(
            level=level,
            lines=lines,
            size=float(np.mean(_near(rests) * self._units[places, 0])),
            common=float(np.median(self.common[places, 0])),
            probability=probability,
        )


def _block_lengths(lines: Iterable[Series]) -> dict[Hashable, int]:
    """Return the runs in a block, by destination: all lines that measure it have blocks of the same length in time."""
    lengths: dict[Hashable, int] = {}
    for line in lines:
        length = min(line.after.size, max(FEWEST_RUNS, line.before.size // _BLOCKS))
        lengths[line.destination] = min(length, lengths.get(line.destination, length))
    return lengths


def _shifts(line: Series, length: int, middle: Middle) -> tuple[Values, Values]:
    """Return by how much each block differs from the runs before it, and the units to tell that in."""
    centre = np.median if middle is Middle.MEDIAN else np.mean
    shifts, units = np.full(_MOST_PAST + 1, np.nan), np.full(_MOST_PAST + 1, np.nan)
    scatter = _scatter(line.before, middle)
    for column in range(_MOST_PAST + 1):
        end = line.before.size - column * length
        reference = line.before[max(0, end - _REFERENCE * length) : max(0, end)]
        if reference.size < length and column:
            break
        block = line.before[end : end + length] if column else line.after[:length]
        shifts[column] = centre(block) - centre(reference)
        units[column] = scatter * math.sqrt(1.0 / block.size + 1.0 / reference.size)
    return shifts, units


def _scatter(values: Values, middle: Middle) -> float:
    """Return how much the middle of runs scatters, times the root of their number."""
    if middle is not Middle.MEDIAN:
        share = (float(np.sum(values)) / 100.0 + 0.5) / (values.size + 1)
        return 100.0 * math.sqrt(share * (1.0 - share))
    deviation = _BY_MEDIAN_DEVIATION * float(np.median(np.abs(values - np.median(values))))
    low, high = np.quantile(values, (0.1, 0.9))
    # Values that are mostly the same have no deviation from their middle; none at all would make all certain.
    least = max(1e-3 * abs(float(np.median(values))), 1e-9)
    return _MEDIAN * max(deviation, float(high - low) / 2.563, least)


def _middle_of(rows: Values) -> Values:
    """Return the middle of each column; of the two middle ones that which changed less: one of two may be disturbed."""
    ordered = np.sort(rows, axis=0)
    count = np.sum(np.isfinite(rows), axis=0)
    columns = np.arange(rows.shape[1])
    low = ordered[np.maximum(0, (count - 1) // 2), columns]
    high = ordered[np.maximum(0, count // 2), columns]
    middle: Values = np.where(np.abs(low) <= np.abs(high), low, high)
    return middle


def _undisturbed(control: Sequence[Series]) -> list[Bursts]:
    """Return what happened on the control hosts, before the upgrade and since; not on one where it does all the time."""
    hosts: dict[str, Bursts] = {}
    for line in control:
        since = counted(line.after > 0, after_wrong=bool(line.before[-1] > 0))
        hosts[line.host] = hosts.get(line.host, Bursts()) + counted(line.before > 0) + since
    rates = {host: (each.begun + 0.5) / (each.begun + each.stayed_well + 1.0) for host, each in hosts.items()}
    if len(hosts) < _HOSTS_FOR_SCATTER:
        return list(hosts.values())
    most = _TIMES_AS_OFTEN * float(np.median(list(rates.values())))
    return [each for host, each in hosts.items() if each.begun < _OFTEN or rates[host] <= most]


def _near(rests: Values) -> Values:
    """Return rests drawn to the middle one, where they stand out from it; of two, to that which changed less."""
    middle = min(rests, key=abs) if rests.size == 2 else np.median(rests)
    near: Values = np.clip(rests, middle - _REACH, middle + _REACH)
    return near


def _gathered(rests: Values) -> Values:
    """Return one number for each column of several lines' rests; nan where no line has any."""
    found = np.full(rests.shape[1], np.nan)
    for column in range(rests.shape[1]):
        known = rests[np.isfinite(rests[:, column]), column]
        if known.size:
            found[column] = np.mean(_near(known))
    return found


def _mean_square(values: Values) -> tuple[float, int]:
    """Return the mean square of those that are known, and their number."""
    known = values[np.isfinite(values)]
    return (float(np.mean(np.square(known))), known.size) if known.size else (0.0, 0)


def _tamed(hosts: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Return the hosts' mean squares and their numbers, none of them far above the middle one."""
    if not hosts:
        return []
    most = _DISTURBED * float(np.median([value for value, _ in hosts]))
    return [(min(value, most), count) for value, count in hosts]


def beyond(score: float, freedom: int) -> float:
    """Return the chance of at least this score by Student's distribution with so many degrees of freedom (an even number)."""
    even = max(2, freedom - freedom % 2)
    cosine = even / (even + score * score)
    term = total = 1.0
    for step in range(1, even // 2):
        term *= cosine * (2 * step - 1) / (2 * step)
        total += term
    return 0.5 * (1.0 - math.copysign(math.sqrt(1.0 - cosine) * total, score))


def adjusted(probabilities: Sequence[float]) -> list[float]:
    """Return probabilities corrected for there being several (Holm, 1979), in their order."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    found = [0.0] * len(probabilities)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, probabilities[index] * (len(probabilities) - rank)))
        found[index] = largest
    return found
