"""Values of quiet jobs, as networks really give them, and what faults do to them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

#: A shape makes as many values of a metric as are asked for, one run a minute, from a source of chance.
Shape = Callable[[random.Random, int], list[float]]


def gaussian(chance: random.Random, count: int) -> list[float]:
    """A calm line."""
    return [max(0.1, chance.gauss(20.0, 0.8)) for _ in range(count)]


def heavy_tail(chance: random.Random, count: int) -> list[float]:
    """Queues: most runs near the floor, a Pareto tail far above it."""
    return [8.0 + chance.paretovariate(1.8) for _ in range(count)]


def log_normal(chance: random.Random, count: int) -> list[float]:
    """A mobile network."""
    return [chance.lognormvariate(3.4, 0.5) for _ in range(count)]


def quantised(chance: random.Random, count: int) -> list[float]:
    """A clock that knows whole milliseconds only."""
    return [float(round(chance.gauss(3.0, 0.6))) for _ in range(count)]


def constant(_chance: random.Random, count: int) -> list[float]:
    """Never anything else."""
    return [5.0] * count


def tiny(chance: random.Random, count: int) -> list[float]:
    """Loopback: microseconds, ten times as many when the machine is busy."""
    return [0.04 * chance.choice((1, 1, 1, 1, 2, 3, 10)) * chance.uniform(0.8, 1.3) for _ in range(count)]


def day_and_night(chance: random.Random, count: int) -> list[float]:
    """Twice as slow in the evening as in the early morning."""
    return [
        30.0 + 10.0 * math.sin(2 * math.pi * index / 1440) + chance.gauss(0.0, 1.5) for index in range(count)
    ]


def sluggish(chance: random.Random, count: int) -> list[float]:
    """Noise that remembers: a run is much like the one before."""
    values, level = [], 0.0
    for _ in range(count):
        level = 0.9 * level + chance.gauss(0.0, 0.7)
        values.append(25.0 + level)
    return values


def spiky(chance: random.Random, count: int) -> list[float]:
    """Every thirtieth run or so is ten times as slow."""
    return [chance.gauss(15.0, 0.5) * (10.0 if chance.random() < 0.03 else 1.0) for _ in range(count)]


def two_levels(chance: random.Random, count: int) -> list[float]:
    """Two paths of equal cost, one of them longer, chosen anew for each run."""
    return [chance.gauss(12.0 if chance.random() < 0.6 else 19.0, 0.4) for _ in range(count)]


SHAPES: dict[str, Shape] = {
    shape.__name__: shape
    for shape in (
        gaussian,
        heavy_tail,
        log_normal,
        quantised,
        constant,
        tiny,
        day_and_night,
        sluggish,
        spiky,
        two_levels,
    )
}


def losses(chance: random.Random, count: int, *, share: float, packets: int) -> Iterator[float]:
    """Loss of runs of so many packets, each lost with this share, in percent."""
    for _ in range(count):
        yield 100.0 * sum(chance.random() < share for _ in range(packets)) / packets
