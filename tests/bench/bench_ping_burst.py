"""16,382 addresses of one network asked at once through `ping`, result built, beside fping with the same addresses.

Both run in a namespace of their own over a veth pair to a host that has all the addresses. Needs root.
"""

from __future__ import annotations

import asyncio
import ipaddress
import statistics
import time
from typing import Any

from pings import world
from pings.world import Cost

from streamswarm import collector

NETWORK = "10.96.0.0/18"
ROUNDS = 9
GOAL_RATIO = 1.1


async def ours() -> tuple[Cost, int]:
    """One sweep; returns what it took and how many requests were matched with both stamps."""
    cpu_s, started = world.own_cpu_s(), time.perf_counter()
    result, _ = await world.ping(NETWORK, mode="burst", count=1, timeout_ms=2000)
    cost = Cost(wall_s=time.perf_counter() - started, cpu_s=world.own_cpu_s() - cpu_s)
    return cost, result.packets_received if result.kernel_timestamps else 0


def measure() -> dict[str, Any]:
    """Rounds in alternation; medians of each."""
    addresses = [str(address) for address in ipaddress.ip_network(NETWORK).hosts()]
    own: list[Cost] = []
    peers: list[Cost] = []
    matched = 0
    peer_matched = 0
    with (
        world.two_hosts(NETWORK) as (near, _far),
        world.address_file(addresses) as file,
        asyncio.Runner() as runner,
    ):
        collector.settle()
        with near.entered():
            runner.run(ours())  # imports, tables, sockets: a worker pays for them once
        for _ in range(ROUNDS):
            with near.entered():
                cost, found = runner.run(ours())
            own.append(cost)
            matched += found
            peer, printed = world.fping(near, "-i", "0", "-C", "1", "-q", "-f", str(file))
            peers.append(peer)
            peer_matched += sum(not line.endswith(" -") for line in printed.splitlines() if " : " in line)
    count = len(addresses)
    rate = count / statistics.median(cost.wall_s for cost in own)
    peer_rate = count / statistics.median(cost.wall_s for cost in peers)
    cpu_s, peer_cpu_s = (statistics.median(cost.cpu_s for cost in costs) for costs in (own, peers))
    matched_pct = 100 * matched / (count * ROUNDS)
    ratio = rate / peer_rate
    return {
        "value": round(rate),
        "unit": "packets/s",
        "peer": "fping -i 0 -C 1 -q -f FILE",
        "peer_value": round(peer_rate),
        "ratio": round(ratio, 2),
        "goal": f">= {GOAL_RATIO:g} of the peer, no more CPU, all matched",
        "ok": ratio >= GOAL_RATIO and cpu_s <= peer_cpu_s and matched_pct == 100,
        "addresses": count,
        "rounds": ROUNDS,
        "matched_pct": round(matched_pct, 4),
        "peer_matched_pct": round(100 * peer_matched / (count * ROUNDS), 4),
        "cpu_s": round(cpu_s, 4),
        "peer_cpu_s": round(peer_cpu_s, 4),
        "cpu_ratio": round(cpu_s / peer_cpu_s, 2),
        "best_packets_per_s": round(count / min(cost.wall_s for cost in own)),
        "peer_best_packets_per_s": round(count / min(cost.wall_s for cost in peers)),
    }
