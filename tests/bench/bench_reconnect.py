"""5,000 workers after their gateway was killed and started again, while they go on measuring.

Counted from the kill until the last worker has a session and its jobs again; meanwhile and for some seconds more, how long
results of the swarm's observers wait for their acknowledgement after they were sent. Every result must be in the database once. The peer is the
bare grpc.aio server, killed and started again under as many streams. SWARM_WORKERS sets another size.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
from bench.swarm.peer import bare_server
from bench.swarm.swarm import Swarm, percentile
from bench.swarm.world import World, cpu_s, populated

WORKERS = int(os.environ.get("SWARM_WORKERS", "5000"))
TESTS = 20
INTERVAL_S = 60.0
GOAL_S, GOAL_ACK_S = 30.0, 2.0
_CONNECT_S = 180.0
_BEFORE_S, _AFTER_S = 10.0, 5.0


def bare(world: World) -> float:
    """Seconds until every bare stream is there again."""
    folder = world.deployment.folder
    with bare_server(world) as server:
        port = server.port
        swarm = Swarm(world.members, gateways=[server.address], folder=folder, bare=True)
        swarm.__enter__()
        swarm.start()
        swarm.wait_open(_CONNECT_S)
    try:
        started = time.monotonic()
        with bare_server(world, port=port):
            while min(swarm.heard(), default=0.0) < started or swarm.open() < len(world.members):
                assert time.monotonic() - started < _CONNECT_S, "the bare streams do not come back"
                time.sleep(0.2)
            return max(swarm.heard()) - started
    finally:
        swarm.__exit__()


def measure() -> dict[str, Any]:
    """The bare server first, then the gateway."""
    with populated(WORKERS, tests=TESTS, interval_s=INTERVAL_S) as world:
        peer_s = bare(world)
        process, address = world.deployment.start_gateway()
        with Swarm(world.members, gateways=[address], folder=world.deployment.folder) as swarm:
            swarm.start()
            swarm.wait_open(_CONNECT_S)
            swarm.rate(WORKERS * TESTS / INTERVAL_S)
            time.sleep(_BEFORE_S)
            swarm.acknowledgements()
            killed_at = time.monotonic()
            process.kill()
            process.wait()
            process, _ = world.deployment.start_gateway(address=address)
            listened_at = time.monotonic()
            current = [at - killed_at for at in swarm.wait_revision(1, _CONNECT_S, since=killed_at)]
            cpu = cpu_s(psutil.Process(process.pid))
            time.sleep(_AFTER_S)
            waited = swarm.acknowledgements()
            swarm.rate(0)
            swarm.wait_delivered(_CONNECT_S)
            produced = swarm.produced()
        stored, unique = world.deployment.sql(
            "SELECT count(*), count(DISTINCT (job_id, scheduled_at)) FROM result_ping"
        )[0]
    seconds, acknowledged_s = max(current), percentile(waited, 0.99)
    return {
        "value": round(seconds, 1),
        "unit": "s until all are current",
        "peer": "bare grpc.aio server restarted",
        "peer_value": round(peer_s, 1),
        "ratio": round(seconds / peer_s, 2),
        "goal": f"<= {GOAL_S:g} s, acknowledgement p99 <= {GOAL_ACK_S:g} s, nothing lost",
        "ok": seconds <= GOAL_S and acknowledged_s <= GOAL_ACK_S and produced == stored == unique,
        "workers": WORKERS,
        "current": len(current),
        "listening_again_s": round(listened_at - killed_at, 1),
        "current_median_s": round(percentile(current, 0.5), 1),
        "ack_p50_s": round(percentile(waited, 0.5), 3),
        "ack_p99_s": round(acknowledged_s, 3),
        "acks_counted": len(waited),
        "gateway_cpu_s": round(cpu, 1),
        "results": produced,
        "lost": produced - unique,
        "doubled": stored - unique,
    }
