"""5,000 workers with 20 jobs each on one gateway, beside the least that a grpc.aio server with mutual TLS can be.

The workers are played by the worker's own session code, one TCP connection each. Memory is what the server's process
has grown by, for each session, a while after all have connected; idle CPU is what it then uses for heartbeats, keep-alive
and its look at the database every second. 110 KiB against 93 KiB a session when this was written.
What idles lasts as long as the time between two heartbeats and a little more, and no session may be lost in it.
SWARM_WORKERS and SWARM_IDLE_S set other sizes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import psutil
from bench.swarm.peer import bare_server
from bench.swarm.swarm import Swarm
from bench.swarm.world import World, cpu_s, established, memory_kib, populated

from controller.gateway.sessions import heartbeat_s

WORKERS = int(os.environ.get("SWARM_WORKERS", "5000"))
IDLE_S = float(os.environ.get("SWARM_IDLE_S", str(heartbeat_s(WORKERS) + 30)))
TESTS = 20
GOAL_RATIO, GOAL_CPU_PCT = 1.5, 5.0
#: Until memory and work of the connecting have settled, and workers have told of their first jobs.
_SETTLE_S = 30.0
_CONNECT_S = 120.0


def hold(world: World, server: psutil.Process, address: str, *, bare: bool) -> dict[str, float]:
    """Connect everybody, wait, and return what the server holds and uses; `bare` is without session code."""
    folder = world.deployment.folder
    with Swarm(world.members, gateways=[address], folder=folder, bare=bare) as swarm:
        time.sleep(1.0)
        before_kib, before_cpu_s = memory_kib(server), cpu_s(server)
        swarm.start()
        connected_s = swarm.wait_open(_CONNECT_S)
        connecting_cpu_s = cpu_s(server) - before_cpu_s
        time.sleep(_SETTLE_S)
        held_kib = (memory_kib(server) - before_kib) / len(world.members)
        idle_cpu_s, database_cpu_s, started = cpu_s(server), world.database_cpu_s(), time.monotonic()
        time.sleep(IDLE_S)
        elapsed_s = time.monotonic() - started
        return {
            "sockets": established(server, address),
            "session_kib": held_kib,
            "connected_s": connected_s,
            "connect_cpu_ms": connecting_cpu_s * 1000 / len(world.members),
            "idle_cpu_pct": 100 * (cpu_s(server) - idle_cpu_s) / elapsed_s,
            "database_cpu_pct": 100 * (world.database_cpu_s() - database_cpu_s) / elapsed_s,
        }


def measure() -> dict[str, Any]:
    """The bare server first, then the gateway, with the same workers and certificates."""
    with populated(WORKERS, tests=TESTS) as world:
        with bare_server(world) as server:
            peer = hold(world, server.process, server.address, bare=True)
        process, address = world.deployment.start_gateway()
        ours = hold(world, psutil.Process(process.pid), address, bare=False)
        # Every session has a number, one higher than the worker's last.
        ((sessions,),) = world.deployment.sql("SELECT sum(session_epoch)::bigint FROM workers")
    ratio = ours["session_kib"] / peer["session_kib"]
    return {
        "value": round(ours["session_kib"], 1),
        "unit": "KiB a session",
        "peer": "bare grpc.aio mTLS stream",
        "peer_value": round(peer["session_kib"], 1),
        "ratio": round(ratio, 3),
        "goal": f"<= {GOAL_RATIO} x in memory, idle <= {GOAL_CPU_PCT:g} % of a processor, no session lost",
        "ok": ratio <= GOAL_RATIO
        and ours["idle_cpu_pct"] <= GOAL_CPU_PCT
        and ours["sockets"] == sessions == WORKERS,
        "workers": WORKERS,
        "jobs_per_worker": TESTS,
        "sockets": ours["sockets"],
        "lost_sessions": sessions - WORKERS,
        "idle_cpu_pct": round(ours["idle_cpu_pct"], 2),
        "peer_idle_cpu_pct": round(peer["idle_cpu_pct"], 2),
        "database_idle_cpu_pct": round(ours["database_cpu_pct"], 2),
        "connect_cpu_ms": round(ours["connect_cpu_ms"], 2),
        "peer_connect_cpu_ms": round(peer["connect_cpu_ms"], 2),
        "connected_s": round(ours["connected_s"], 1),
    }
