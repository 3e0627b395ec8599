"""Fifty times: a gateway is stopped past its time-outs, two times of three inside a transaction, and goes on afterwards.

Meanwhile its worker dials another gateway. Passes when nothing stale is written, nothing lost or doubled, and the other has
answered within 15 s each time. SOAK_ROUNDS sets another number.
"""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

import grpc
from support.deployment import deployed
from support.pausing import PLACES, WAITS_AT_MOST_S, Dialler, Pausing

ROUNDS = int(os.environ.get("SOAK_ROUNDS", "50"))


def measure() -> dict[str, Any]:
    """Pause the same gateway again and again, each time with another spool."""
    seed = random.SystemRandom().randrange(10**6)
    rng = random.Random(seed)
    with deployed() as deployment:
        _, address = deployment.start_gateway("successor")
        (member,) = deployment.make_workers(1)
        ((job_id,),) = deployment.make_jobs([member.worker_id], tests=1).values()
        dialler = Dialler(
            worker_id=member.worker_id,
            credentials=grpc.ssl_channel_credentials(member.ca_pem, member.key_pem, member.chain_pem),
            job_id=job_id,
        )
        pausing = Pausing(deployment.settings, address, deployment.folder / "paused.log")

        async def rounds() -> list[Any]:
            return [await pausing.round(dialler, rng, PLACES[turn % len(PLACES)]) for turn in range(ROUNDS)]

        found = asyncio.run(rounds())
    return {
        "seed": seed,
        "rounds": ROUNDS,
        "inside_transactions": sum(item.place != "anywhere" for item in found),
        "stale_rows": sum(item.stale_rows for item in found),
        "stale_watermarks": sum(item.stale_watermark for item in found),
        "lost": sum(item.lost for item in found),
        "doubled": sum(item.doubled for item in found),
        "longest_wait_s": round(max(item.waited_s for item in found), 1),
        "goal": f"nothing stale, lost or doubled; the successor waits <= {WAITS_AT_MOST_S:g} s",
        "ok": all(item.clean for item in found),
    }
