"""What `ping` and fping add to the round-trip time, packet by packet, against a capture on the same interface.

1,022 addresses, a millisecond apart, behind a host that answers after 5 ms; both processors are kept busy by others.
What counts is what is added to the capture's time. The capture sees a request before the kernel stamps it on its way
out, and on a busy host something may come between the two: ours may be shorter than the capture's then, which
`added_min_us` and the sizes of the errors (`error_p99_us`) show. Needs root.
"""

from __future__ import annotations

import ipaddress
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from integration.probes.peers import Namespace
from pings import world
from pings.capture import Seen, capturing

from worker import loop

NETWORK = "10.95.0.0/22"
ROUNDS = 5
DELAY_MS = 5
GOAL_MEDIAN_US = 5.0
_RESPONDER = Path(__file__).parent / "pings" / "responder.py"


@contextmanager
def responder(far: Namespace) -> Iterator[None]:
    """Have a host answer for the network after the delay."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", far.name, sys.executable, str(_RESPONDER), NETWORK, str(DELAY_MS)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise AssertionError("the responder did not start")
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def busy() -> Iterator[None]:
    """Keep every processor busy."""
    hogs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def truth_us(seen: Seen) -> dict[str, float]:
    """Return the round-trip times on the wire by address."""
    return {
        key[0]: (seen.replies[key] - sent_ns) / 1000
        for key, sent_ns in seen.requests.items()
        if key in seen.replies
    }


def ours(near: Namespace) -> dict[str, float]:
    """Return what `ping` tells, in microseconds by address."""
    with near.entered():
        result, _ = loop.run(world.ping(NETWORK, count=1, interval_ms=1022, timeout_ms=1000))
    if not result.kernel_timestamps:
        raise AssertionError("not every time is the kernel's")
    return {row.address: row.rtt_avg_ms * 1000 for row in result.by_address}


def fping(near: Namespace, file: Path) -> dict[str, float]:
    """Return what fping tells, in microseconds by address."""
    _, printed = world.fping(near, "-i", "1", "-C", "1", "-q", "-f", str(file))
    lines = (line.split(" : ") for line in printed.splitlines() if " : " in line)
    return {address.strip(): float(time_ms) * 1000 for address, time_ms in lines if time_ms.strip() != "-"}


def measure() -> dict[str, Any]:
    """Rounds in alternation; the errors of all rounds together."""
    addresses = [str(address) for address in ipaddress.ip_network(NETWORK).hosts()]
    errors: list[float] = []
    peer_errors: list[float] = []
    with (
        world.two_hosts(NETWORK, answering=False) as (near, far),
        world.address_file(addresses) as file,
        responder(far),
    ):
        far.run("ip", "route", "add", "default", "via", "10.97.0.1")
        ours(near)
        with busy():
            for _ in range(ROUNDS):
                for found, ask in ((errors, lambda: ours(near)), (peer_errors, lambda: fping(near, file))):
                    with capturing(near.name, "pb0") as seen:
                        told = ask()
                    true = truth_us(seen)
                    found += [told[address] - true[address] for address in told if address in true]
    median, p99 = statistics.median(errors), world.percentile(errors, 0.99)
    peer_median, peer_p99 = statistics.median(peer_errors), world.percentile(peer_errors, 0.99)
    return {
        "value": round(median, 2),
        "unit": "us (added, median)",
        "peer": "fping -i 1 -C 1 -q -f FILE",
        "peer_value": round(peer_median, 2),
        "ratio": round(median / peer_median, 2) if peer_median else None,
        "goal": f"median <= {GOAL_MEDIAN_US:g} us, p99 <= the peer's",
        "ok": median <= GOAL_MEDIAN_US and p99 <= peer_p99 and len(errors) >= 0.99 * len(addresses) * ROUNDS,
        "added_p99_us": round(p99, 2),
        "peer_added_p99_us": round(peer_p99, 2),
        "added_max_us": round(max(errors), 2),
        "peer_added_max_us": round(max(peer_errors), 2),
        "added_min_us": round(min(errors), 2),
        "peer_added_min_us": round(min(peer_errors), 2),
        "error_p99_us": round(world.percentile([abs(each) for each in errors], 0.99), 2),
        "peer_error_p99_us": round(world.percentile([abs(each) for each in peer_errors], 0.99), 2),
        "packets": len(errors),
        "peer_packets": len(peer_errors),
        "rounds": ROUNDS,
    }
