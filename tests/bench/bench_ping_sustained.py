"""10,000 runs of `ping` at once, each to an address of its own once a second for a minute, beside fping.

How late requests left is taken from a capture on the wire: against the grid of seconds that begins with the first
request to an address. Needs root. PING_SUSTAINED_S shortens it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from typing import Any

from pings import world
from pings.capture import Seen, capturing
from pings.world import Cost

from streamswarm import collector, contract
from worker import loop

NETWORK = "10.96.0.0/18"
TARGETS = 10_000
SECONDS = int(os.environ.get("PING_SUSTAINED_S", "60"))
#: The peer's way to send does not change within a minute; more targets at that pace use its sequence numbers up.
PEER_SECONDS = min(SECONDS, 20)
PEER_TARGETS = 5000
#: Runs of a worker do not all start at the same time either; whole seconds give each instant of a second its share.
START_S = 20
GOAL_MS = 5.0


async def ours(addresses: list[str]) -> tuple[Cost, int, int]:
    """Start a run for each address, evenly in time; returns cost, requests sent and replies in time."""
    running = asyncio.get_running_loop()
    await world.ping(addresses[0], count=1)
    spec = contract.make_spec("ping", {"count": SECONDS, "interval_ms": 1000, "timeout_ms": 1000})
    cpu_s, begun = world.own_cpu_s(), time.perf_counter()
    first_s = running.time()
    runs = []
    for number, address in enumerate(addresses):
        wait_s = first_s + START_S * number / len(addresses) - running.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        runs.append(running.create_task(world.run(address, spec)))
    results = [result for result, _ in await asyncio.gather(*runs)]
    cost = Cost(wall_s=time.perf_counter() - begun, cpu_s=world.own_cpu_s() - cpu_s)
    return (
        cost,
        sum(result.packets_sent for result in results),
        sum(result.packets_received for result in results),
    )


def send_errors_ms(seen: Seen, without: str) -> list[float]:
    """Return how far each request left from its instant, from the second request to each address but one on."""
    errors = []
    for address, stamps_ns in seen.left.items():
        if address == without:
            continue
        stamps_ns.sort()
        errors += [
            abs(stamp_ns - stamps_ns[0] - number * 1_000_000_000) / 1e6
            for number, stamp_ns in enumerate(stamps_ns)
            if number
        ]
    return errors


def measure() -> dict[str, Any]:
    """A minute of ours, and some seconds of the peer."""
    hosts = list(ipaddress.ip_network(NETWORK).hosts())[:TARGETS]
    addresses = [str(address) for address in hosts]
    with world.two_hosts(NETWORK) as (near, _far), world.address_file(addresses[:PEER_TARGETS]) as file:
        collector.settle()
        with capturing(near.name, "pb0") as seen, near.entered():
            cost, sent, received = loop.run(ours(addresses))
        with capturing(near.name, "pb0") as peer_seen:
            peer, printed = world.fping(
                near, "-i", "0.1", "-p", "1000", "-C", str(PEER_SECONDS), "-q", "-f", str(file)
            )
    left = sum(map(len, seen.left.values()))
    lost_on_the_wire = left - sum(map(len, seen.came.values()))
    errors, peer_errors = send_errors_ms(seen, addresses[0]), send_errors_ms(peer_seen, "")
    value, peer_value = world.percentile(errors, 0.99), world.percentile(peer_errors, 0.99)
    false_losses = sent - received - lost_on_the_wire
    return {
        "value": round(value, 3),
        "unit": "ms (send error, p99)",
        "peer": f"fping -i 0.1 -p 1000 -C {PEER_SECONDS} -q -f FILE",
        "peer_value": round(peer_value, 3),
        "ratio": round(value / peer_value, 2),
        "goal": f"<= {GOAL_MS:g} ms, no false loss",
        "ok": value <= GOAL_MS and false_losses == 0 and sent == TARGETS * SECONDS,
        "targets": TARGETS,
        "peer_targets": PEER_TARGETS,
        "seconds": SECONDS,
        "sent": sent,
        "received": received,
        "captured": left - 1,
        "lost_on_the_wire": lost_on_the_wire,
        "false_losses": false_losses,
        "send_error_median_ms": round(world.percentile(errors, 0.5), 3),
        "send_error_max_ms": round(max(errors), 3),
        "peer_send_error_median_ms": round(world.percentile(peer_errors, 0.5), 3),
        "peer_losses": sum(
            line.split(" : ")[1].split().count("-") for line in printed.splitlines() if " : " in line
        ),
        "cpu_s_per_100k": round(cost.cpu_s * 1e5 / sent, 3),
        "peer_cpu_s_per_100k": round(peer.cpu_s * 1e5 / (PEER_TARGETS * PEER_SECONDS), 3),
        "cpu_pct": round(100 * cost.cpu_s / cost.wall_s, 1),
    }
