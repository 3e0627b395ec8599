"""Twenty kills of everything under load, as `make soak NAME=kill` does two hundred: each result is stored exactly once."""

from __future__ import annotations

import random

import pytest
from support.installation import installation
from support.killing import DRAINED_WITHIN_S, KillLoop, Load
from support.upkeep import RestlessUpkeep

LOAD = Load(workers=2, destinations=40, interval_s=1.0, late=100)


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_twenty_kills_of_everything_lose_and_double_nothing() -> None:
    """Workers, two gateways, the keeper, PostgreSQL and its sessions; what every spool has ever held is in the database.

    Past days, into which late results come, are rewritten and an old one is detached meanwhile.
    """
    seed = random.SystemRandom().randrange(10**6)
    with installation(gateways=2) as made:
        loop = KillLoop(made, LOAD, random.Random(seed))
        loop.begin()
        with RestlessUpkeep(made.settings) as upkeep:
            loop.run(20, pause_s=(0.1, 0.8))
        drained_s = loop.drain()
        found = loop.compare()
    told = f"seed {seed}, kills {dict(loop.kills)}, {found}"
    assert found.clean, f"not exactly once: {told}"
    assert drained_s <= DRAINED_WITHIN_S, told
    assert sum(loop.kills.values()) >= 20, told
    assert found.spooled > 1_000, told
    assert upkeep.done["rewritten"] > 0, upkeep.done
    assert upkeep.done["removed"] > 0, upkeep.done
