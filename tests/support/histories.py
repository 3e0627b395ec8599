"""Made-up histories of measurements around an upgrade: what workers would have measured in a network that does as networks do.

Times have a noise with heavy tails, runs resemble the ones before, ways drift with the time of day, some lose packets or
fail now and then for several runs on end, and what happens at a destination happens to everybody who measures it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controller.fleet.upgrades.samples import BASELINE_RUNS, Line, Run

START = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class World:
    """What a network is like."""

    #: Hosts without the release, and destinations that every host measures.
    controls: int = 3
    upgraded: int = 1
    destinations: int = 3
    #: Runs after the upgrade, and seconds between two.
    runs: int = 11
    interval_s: float = 30.0
    before: int = BASELINE_RUNS
    #: Deviation of a run from its middle, as a share; how often one takes much longer, by an exponential share of itself.
    noise: float = 0.1
    outliers: float = 0.05
    #: How far a line wanders by itself, as a share, and over how many runs it forgets that.
    weather: float = 0.0
    memory: float = 20.0
    #: How far the time of day moves all lines, and each by itself, as a share up and down.
    day: float = 0.0
    own_day: float = 0.0
    #: Share of packets that are lost; how often in a run an outage begins on a line, and its runs on the average.
    loss: float = 0.0
    outages: float = 0.0
    outage_runs: float = 3.0
    #: How often in a run a gap begins in which a line delivers nothing, as long as an outage.
    gaps: float = 0.0
    #: From the upgrade on, at every destination for everybody: a share more, and milliseconds more.
    change: float = 0.0
    added_ms: float = 0.0
    #: Chance that a destination changes so in the hour around the upgrade, whenever that is.
    changes: float = 0.0


#: What the release or a liar does to a line: told its host, destination and its runs since the upgrade, returns them.
Deed = Callable[[str, int, list[Run]], list[Run]]


def _untouched(host: str, destination: int, runs: list[Run]) -> list[Run]:
    return runs


@dataclass(frozen=True, kw_only=True)
class History:
    """Lines of both groups."""

    upgraded: list[Line]
    control: list[Line]


@dataclass(kw_only=True)
class Maker:
    """Makes histories of a world, each by its seed."""

    world: World
    release: Deed = field(default=_untouched)
    #: What is done to the runs of control hosts.
    liar: Deed = field(default=_untouched)

    def history(self, seed: int) -> History:
        """Return one."""
        world, chance = self.world, np.random.default_rng(seed)
        total = world.before + world.runs
        hour = chance.uniform(0, 24)
        time_s = (np.arange(total) - world.before) * world.interval_s
        day = np.sin(2 * math.pi * (hour / 24 + time_s / 86_400))
        at_all = np.zeros(total)
        destinations = [self._happenings(chance, total) for _ in range(world.destinations)]
        base = chance.uniform(2, 80, world.destinations)
        sides: tuple[list[Line], list[Line]] = ([], [])
        for number in range(world.upgraded + world.controls):
            is_ours = number < world.upgraded
            host = f"new{number}" if is_ours else f"old{number - world.upgraded}"
            near = chance.uniform(1, 40)
            for destination in range(world.destinations):
                share, milliseconds = destinations[destination]
                level = world.day * day + world.own_day * chance.normal() * day + at_all + share
                level = level + self._weather(chance, total)
                values = (near + base[destination]) * np.exp(level) + milliseconds
                line = self._line(chance, host, destination, values, is_ours=is_ours)
                sides[0 if is_ours else 1].append(line)
        return History(upgraded=sides[0], control=sides[1])

    def _happenings(self, chance: np.random.Generator, total: int) -> tuple[Values, Values]:
        """Return what happens at a destination to all who measure it: a share, and milliseconds."""
        world = self.world
        share, milliseconds = np.zeros(total), np.zeros(total)
        share[world.before :] += world.change
        milliseconds[world.before :] += world.added_ms
        if chance.random() < world.changes:
            start = int(chance.integers(total - 3 * world.runs, total))
            if chance.random() < 0.5:
                share[start:] += chance.exponential(0.5)
            else:
                milliseconds[start:] += chance.exponential(30.0)
        return share, milliseconds

    def _weather(self, chance: np.random.Generator, total: int) -> Values:
        world = self.world
        if not world.weather:
            return np.zeros(total)
        keep = math.exp(-1.0 / world.memory)
        steps = chance.normal(0.0, world.weather * math.sqrt(1 - keep * keep), total)
        level = np.empty(total)
        now = chance.normal(0.0, world.weather)
        for at, step in enumerate(steps):
            now = keep * now + step
            level[at] = now
        return level

    def _bursts(self, chance: np.random.Generator, total: int, often: float) -> NDArray[np.bool_]:
        """Return which runs are part of an outage, or of a gap."""
        found = np.zeros(total, dtype=bool)
        if often:
            for start in np.flatnonzero(chance.random(total) < often):
                found[start : start + int(chance.geometric(1.0 / self.world.outage_runs))] = True
        return found

    def _line(
        self, chance: np.random.Generator, host: str, destination: int, values: Values, *, is_ours: bool
    ) -> Line:
        world, total = self.world, values.size
        noise = world.noise * chance.standard_t(4, total) / math.sqrt(2)
        late = (chance.random(total) < world.outliers) * chance.exponential(1.0, total)
        values = values * np.exp(np.abs(noise) + late)
        lost = chance.binomial(10, world.loss, total) * 10.0
        failed, gone = self._bursts(chance, total, world.outages), self._bursts(chance, total, world.gaps)
        runs = [
            Run(
                scheduled_at=START + dt.timedelta(seconds=at * world.interval_s),
                ok=not failed[at],
                metrics=_metrics(float(values[at]), float(lost[at]), failed=bool(failed[at])),
            )
            for at in range(total)
        ]
        before = [run for run, lost_it in zip(runs[: world.before], gone, strict=False) if not lost_it]
        after = [
            run
            for run, lost_it in zip(runs[world.before :], gone[world.before :], strict=True)
            if not lost_it
        ]
        after = (self.release if is_ours else self.liar)(host, destination, after)
        return Line(
            kind="ping",
            test_id=1,
            destination_id=destination,
            host=host,
            name=f"ping to place{destination}",
            interval_s=world.interval_s,
            before=before[::-1],
            after=after[::-1],
            watched_s=world.runs * world.interval_s,
            arrived_until=START + dt.timedelta(seconds=total * world.interval_s),
        )


def _metrics(value: float, lost: float, *, failed: bool) -> dict[str, float]:
    if failed:
        return {"loss_pct": 100.0}
    return {"rtt_avg_ms": value, "rtt_min_ms": value * 0.9, "loss_pct": lost}


def broken(at: Sequence[int]) -> Deed:
    """Return what makes runs to some destinations fail, all of them."""
    return lambda host, destination, runs: (
        [changed(run, ok=False, metrics={"loss_pct": 100.0}) for run in runs] if destination in at else runs
    )


def losing(share: float, at: Sequence[int] | None = None, *, seed: int = 0) -> Deed:
    """Return what loses so large a share of the runs, here and there: to some destinations, or all."""
    chance = np.random.default_rng(seed)
    return lambda host, destination, runs: (
        [run for run in runs if chance.random() >= share] if at is None or destination in at else runs
    )


def slower(share: float, at: Sequence[int] | None = None, hosts: Sequence[str] | None = None) -> Deed:
    """Return what makes runs take so many times as long: to some destinations, or all; on some hosts, or all."""
    return lambda host, destination, runs: (
        [
            changed(
                run,
                metrics={
                    name: value * share if name.startswith("rtt") else value
                    for name, value in run.metrics.items()
                },
            )
            for run in runs
        ]
        if (at is None or destination in at) and (hosts is None or host in hosts)
        else runs
    )


def changed(run: Run, **values: Any) -> Run:
    """Return a run that is otherwise."""
    return Run(**{"scheduled_at": run.scheduled_at, "ok": run.ok, "metrics": run.metrics, **values})
