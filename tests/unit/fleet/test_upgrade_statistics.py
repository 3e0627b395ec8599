"""Difference in differences: what it finds, and how seldom it finds what is not there. Every simulation has its seed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from controller.fleet.upgrades.comparison import FALSE_ALARMS
from controller.fleet.upgrades.statistics import Series, adjusted, effect

#: Simulated upgrades of each sort.
SEEDS = 60


def _groups(
    seed: int,
    *,
    runs: int = 10,
    hosts: int = 3,
    destinations: int = 3,
    release: float = 0.0,
    network: float = 0.0,
    host_scatter: float = 0.0,
    noise: float = 0.1,
) -> tuple[list[Series], list[Series]]:
    """Make up one upgraded host and a control group: latencies of some ms with noise and now and then an outlier."""
    chance = np.random.default_rng(seed)

    def some(middle: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        outliers = (chance.random(runs) < 0.05) * chance.exponential(0.5, runs)
        return middle + chance.normal(0.0, noise, runs) + outliers

    def lines(host: str, change: float) -> list[Series]:
        own = chance.normal(0.0, host_scatter) if host_scatter else 0.0
        return [
            Series(
                destination=number,
                host=host,
                before=some(math.log(5.0 + number)),
                after=some(math.log(5.0 + number) + change + network + own),
            )
            for number in range(destinations)
        ]

    control = [line for number in range(hosts) for line in lines(f"control{number}", 0.0)]
    return lines("canary", release), control


def _probabilities(**world: Any) -> list[float]:
    return [
        effect(*_groups(seed, **world), middle="median", rng=np.random.default_rng(seed)).probability
        for seed in range(SEEDS)
    ]


def test_chance_is_not_taken_for_a_worse_release_more_often_than_is_said() -> None:
    """Over quiet networks, small fleets, networks that get twice as slow and hosts that differ by themselves."""
    worlds: list[dict[str, Any]] = [
        {},
        {"hosts": 1, "destinations": 2},
        {"network": math.log(2.0)},
        {"hosts": 6, "destinations": 1, "host_scatter": 0.03},
    ]
    found = [each for world in worlds for each in _probabilities(**world)]
    alarms = sum(each <= FALSE_ALARMS for each in found)
    # Of 240 comparisons 2.4 are to be expected; more than 6 would come by chance once in 100 such tests.
    assert alarms <= 6
    # Not by never finding anything: probabilities are spread as they should be.
    assert 0.35 <= np.mean(np.array(found) <= 0.5) <= 0.65


@pytest.mark.parametrize(
    ("world", "share"), [({"destinations": 3}, 0.85), ({"destinations": 3, "network": 0.7}, 0.85)]
)
def test_a_fifth_more_is_found_with_ten_runs(world: dict[str, Any], share: float) -> None:
    """Latency that scatters by a tenth, one canary, three destinations: 20 % more is found, also while the network changes."""
    found = _probabilities(release=math.log(1.2), **world)
    assert np.mean(np.array(found) <= FALSE_ALARMS) >= share


def test_the_effect_is_what_the_release_did_and_the_common_change_what_the_network_did() -> None:
    """Both in the middle of what was put in."""
    upgraded, control = _groups(1, runs=40, release=math.log(1.5), network=math.log(3.0))
    found = effect(upgraded, control, middle="median", rng=np.random.default_rng(1))
    assert found.size == pytest.approx(math.log(1.5), abs=0.06)
    assert found.common == pytest.approx(math.log(3.0), abs=0.06)
    assert found.probability < 0.001
    assert found.matched == 3


def test_a_change_at_one_destination_is_held_against_those_who_measure_it() -> None:
    """One destination gets slow for everybody; lines to others do not hide that it is the network."""
    upgraded, control = _groups(2, runs=20)
    slow = [
        Series(
            destination=each.destination,
            host=each.host,
            before=each.before,
            after=each.after + (each.destination == 0),
        )
        for each in (*upgraded, *control)
    ]
    ours, others = slow[: len(upgraded)], slow[len(upgraded) :]
    assert effect(ours[:1], others, middle="median", rng=np.random.default_rng(2)).probability > 0.05
    alone = [Series(destination="own", host="canary", before=ours[0].before, after=ours[0].after)]
    unmatched = effect(alone, others, middle="median", rng=np.random.default_rng(2))
    assert unmatched.matched == 0
    assert unmatched.probability < 0.01


def test_hosts_that_change_by_themselves_make_it_less_sure() -> None:
    """What is certain among hosts that stay as they are is not among hosts that come and go by as much."""
    quiet = effect(*_groups(3, hosts=6, release=0.15), middle="median", rng=np.random.default_rng(3))
    restless = effect(
        *_groups(3, hosts=6, release=0.15, host_scatter=0.15), middle="median", rng=np.random.default_rng(3)
    )
    assert quiet.probability < 0.01 < restless.probability


def test_runs_that_fail_are_compared_by_their_share() -> None:
    """Ten failures after none are found; one is not."""

    def line(host: str, failures: int) -> Series:
        after = np.array([100.0] * failures + [0.0] * (10 - failures))
        return Series(destination=1, host=host, before=np.zeros(10), after=after)

    control = [line("control", 0)]
    chance = np.random.default_rng(4)
    assert effect([line("canary", 10)], control, middle="mean", rng=chance).probability < 0.01
    assert effect([line("canary", 1)], control, middle="mean", rng=chance).probability > 0.1


def test_probabilities_are_corrected_for_being_several() -> None:
    """Holm's steps, by hand: the smallest times four, the next times three, never less than the one before."""
    assert adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjusted([]) == []
