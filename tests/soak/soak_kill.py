"""200 kills with signal 9, at random, over workers, two gateways, the keeper and PostgreSQL under load: about 10 minutes.

Each worker's spool keeps an account of everything that was ever written into it, in the same transactions. In the end
every account must be in the database, each run once and nothing else. Killed workers find results of past days in their
spools when they come back, and these days are rewritten all the while, beside a day that is detached and dropped. SOAK_KILLS sets another number of kills, SOAK_RESULTS the least number of results, and
SOAK_SEED repeats the order of the victims.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

from support.installation import installation
from support.killing import DRAINED_WITHIN_S, KillLoop, Load, tell
from support.upkeep import RestlessUpkeep

LOAD = Load(workers=4, destinations=80, interval_s=1.0, late=250)


def measure() -> dict[str, Any]:
    """Kill, drain, compare."""
    kills, least = int(os.environ.get("SOAK_KILLS", "200")), int(os.environ.get("SOAK_RESULTS", "100000"))
    seed = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
    tell(f"seed {seed}")
    with installation(gateways=2) as made:
        loop = KillLoop(made, LOAD, random.Random(seed))
        loop.begin()
        started = time.monotonic()
        with RestlessUpkeep(made.settings) as upkeep:
            loop.run(kills, pause_s=(0.3, 2.5), between=lambda: _tell_progress(loop, kills))
        killing_s = time.monotonic() - started
        while sum(worker.ledger.newest() for worker in made.workers) < least:
            time.sleep(1)
        drained_s = loop.drain()
        found = loop.compare()
        worked = upkeep.done["rewritten"] > 0 and upkeep.done["removed"] > 0
        figure = {
            "kills": sum(loop.kills.values()),
            "killed": dict(loop.kills),
            "results": found.spooled,
            "late": loop.late,
            "upkeep": dict(upkeep.done),
            "lost": len(found.lost),
            "duplicate": found.doubled,
            "invented": len(found.invented),
            "repeated": len(found.repeated),
            "quarantined": len(found.quarantined),
            "drained_s": round(drained_s, 1),
            "killing_s": round(killing_s, 1),
            "ended_by_themselves": sum(part.failures for part in made.all_parts()),
            "seed": seed,
            "ok": worked and found.clean and drained_s <= DRAINED_WITHIN_S and found.spooled >= least,
        }
        assert figure["ok"], (figure, found.lost[:10], found.invented[:10], found.quarantined)
        return figure


def _tell_progress(loop: KillLoop, kills: int) -> None:
    done = sum(loop.kills.values())
    if done % 20 == 0:
        tell(f"{done} of {kills} kills")
