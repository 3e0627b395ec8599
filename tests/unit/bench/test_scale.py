"""The arithmetic of scale.md: what it says follows from the costs, and nobody gets lost in its play."""

from __future__ import annotations

import dataclasses
import math

import pytest
from bench.scale import Costs, Load, come_back, gateways_for, keepers_for, look_every_s, steady, table

COSTS = Costs()


def test_costs_add_up() -> None:
    """Twice the workers on twice the gateways need the same of each, and twice the database."""
    one = steady(Load(workers=1_000), COSTS, gateways=1)
    two = steady(Load(workers=2_000), COSTS, gateways=2)
    assert two.gateway_processors == pytest.approx(one.gateway_processors)
    assert two.gateway_mib == pytest.approx(one.gateway_mib)
    assert two.database_processors == pytest.approx(2 * one.database_processors)
    assert one.results_per_s == pytest.approx(1_000 * 20 / 60)


def test_keepers_do_what_is_due_and_no_more() -> None:
    """Twice the jobs are twice the work, beside what an idle keeper costs; there are two at least."""
    idle = COSTS.idle_ms_per_s / 1000
    one = steady(Load(workers=1_000), COSTS, gateways=1)
    two = steady(Load(workers=2_000), COSTS, gateways=1)
    assert two.keeper_processors - idle == pytest.approx(2 * (one.keeper_processors - idle))
    assert steady(Load(workers=0), COSTS, gateways=1).keeper_processors == pytest.approx(idle)
    assert keepers_for(one) == 2
    crowd = steady(Load(workers=100_000), COSTS, gateways=20)
    assert crowd.keeper_processors / keepers_for(crowd) <= 0.6
    assert crowd.keeper_processors > 0.6 * (keepers_for(crowd) - 1)


def test_diagnosis_looks_as_often_as_one_keeper_can() -> None:
    """At each run while that can be done; then more seldom, at several runs a time, with all of one processor."""
    assert look_every_s(Load(workers=100), COSTS) == 60
    load = Load(workers=50_000)
    every_s = look_every_s(load, COSTS)
    assert every_s > 60
    looks = load.workers * load.jobs_each / every_s
    assert looks * COSTS.look_ms + (load.results_per_s - looks) * COSTS.run_ms == pytest.approx(1_000)
    assert look_every_s(load, dataclasses.replace(COSTS, run_ms=1.0)) == math.inf


def test_idle_workers_cost_heartbeats_and_pings_only() -> None:
    """Without jobs nothing is stored; heartbeats are the rarer the more there are."""
    idle = steady(Load(workers=5_000, jobs_each=0), COSTS, gateways=1)
    assert idle.results_per_s == idle.database_gib_per_day == 0
    assert idle.heartbeats_per_s == pytest.approx(5_000 / 300)
    assert idle.gateway_processors == pytest.approx(
        (5_000 / 300 * COSTS.heartbeat_ms + 5_000 * COSTS.keepalive_ms_per_s) / 1000
    )


@pytest.mark.parametrize("workers", [1, 100, 5_001, 100_000])
def test_there_are_as_many_gateways_as_it_takes_and_no_more(workers: int) -> None:
    """Neither too many workers nor too much work for each; one fewer would not do."""
    load = Load(workers=workers)
    count = gateways_for(load, COSTS)
    assert workers / count <= 5_000
    assert steady(load, COSTS, gateways=count).gateway_processors <= 0.6
    if count > 1:
        fewer = steady(load, COSTS, gateways=count - 1)
        assert fewer.gateway_processors > 0.6 or workers / (count - 1) > 5_000


def test_all_come_back_however_many_there_are() -> None:
    """No faster than they can be taken in; who has to wait for too long comes again, at a cost."""
    quick = come_back(Load(workers=100), COSTS, gateways=1, away_s=10)
    crowd = come_back(Load(workers=5_000), COSTS, gateways=1, away_s=10)
    assert 0 < quick.half_s < quick.all_s < crowd.all_s + 15
    assert crowd.all_s >= 5_000 * COSTS.connect_ms / 1000
    assert quick.in_vain == crowd.in_vain == 0
    slow = dataclasses.replace(COSTS, connect_ms=14.0, handshake_ms=1.0)
    overrun = come_back(Load(workers=5_000), slow, gateways=1, away_s=10)
    assert overrun.in_vain > 0
    assert overrun.all_s > 5_000 * 0.014


def test_the_table_has_a_row_for_each_size() -> None:
    """As the page shows it."""
    assert len(table([100, 100_000], COSTS).splitlines()) == 4
