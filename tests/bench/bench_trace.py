"""What a traceroute costs: 4 hops, 4,000 destinations, beside scamper and icmplib, in the same namespaces (root).

Ours is the probe call that a job makes, with a real policy and the result built, on the worker's event loop with 256 runs at a time, in
a process whose garbage collector is set as a worker's is. The first round is a worker's first; later ones know the way.
Each trace asks each hop once, as scamper is told to (ICMP-Paris, one attempt); routers have no ICMP limits. CPU is
that of the process, user and system, which includes what the kernel forwards in its name; starting Python and loading
modules is left out of ours, and scamper's start is negligible beside 4,000 traces. The median of several rounds in
alternation counts. STREAMSWARM_BENCH_TARGETS and STREAMSWARM_BENCH_ROUNDS shorten it.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab.network import entered, within
from support.routed import Routed, routed

from streamswarm import collector, contract
from streamswarm.v1.probes.traceroute_pb2 import TracerouteResult
from worker import loop
from worker.policy import Policy
from worker.probes import traceroute
from worker.probing import ProbeContext
from worker.resolving import system_resolver

TARGETS = int(os.environ.get("STREAMSWARM_BENCH_TARGETS", "4000"))
ROUNDS = int(os.environ.get("STREAMSWARM_BENCH_ROUNDS", "15"))
ICMPLIB_TARGETS = 100
HOPS = 4
CONCURRENT = 256
GOAL = 1.3

_ICMPLIB = """
import resource, sys, icmplib
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
before = cpu()
hops = [len(icmplib.traceroute(address, count=1, interval=0, timeout=1)) for address in sys.argv[1:]]
print((cpu() - before) * 1000 / len(hops), min(hops))
"""


def targets() -> list[str]:
    """Return the addresses of the destinations."""
    return [f"198.19.{number // 250}.{number % 250 + 1}" for number in range(TARGETS)]


async def ours(policy: Policy) -> tuple[float, float, int]:
    """Return CPU milliseconds for each trace, seconds in all, and how many traces were complete."""
    spec = contract.make_spec("traceroute", {"rounds": 1}).traceroute
    kind = contract.kind("traceroute")
    resolve = system_resolver()
    jobs: Iterator[Any] = iter([contract.parse_target(kind, address) for address in targets()])
    complete = 0

    async def work() -> None:
        nonlocal complete
        for target in jobs:
            guard = policy.guard(resolve)
            outcome = await traceroute.run(target, spec, ProbeContext(guard=guard, resolve=guard.resolve))
            complete += is_complete(outcome.metrics)

    started_s, before_ms = time.monotonic(), cpu_ms()
    await asyncio.gather(*(work() for _ in range(CONCURRENT)))
    return (cpu_ms() - before_ms) / TARGETS, time.monotonic() - started_s, complete


def is_complete(metrics: TracerouteResult) -> bool:
    """Return whether every hop and the destination answered."""
    return metrics.reached and metrics.hop_count == HOPS and metrics.responding_hops == HOPS


def cpu_ms(who: int = resource.RUSAGE_SELF) -> float:
    """Return the CPU milliseconds that this process, or its children that have ended, have used."""
    used = resource.getrusage(who)
    return (used.ru_utime + used.ru_stime) * 1000


def scamper(near: str, file: Path) -> tuple[float, float, int]:
    """Return scamper's CPU milliseconds for each trace, seconds in all, and complete traces."""
    output = file.with_suffix(".json")
    started_s, before_ms = time.monotonic(), cpu_ms(resource.RUSAGE_CHILDREN)
    subprocess.run(
        within(near, ["scamper", "-O", "json", "-o", output, "-p", "10000", "-w", "1000",
                      "-c", "trace -P icmp-paris -q 1", "-f", file]),
        check=True,
    )  # fmt: skip
    used_ms, took_s = cpu_ms(resource.RUSAGE_CHILDREN) - before_ms, time.monotonic() - started_s
    traces = [json.loads(line) for line in output.read_text().splitlines()]
    complete = sum(
        trace.get("stop_reason") == "COMPLETED" and len(trace.get("hops", [])) == HOPS
        for trace in traces
        if trace["type"] == "trace"
    )
    return used_ms / TARGETS, took_s, complete


def icmplib(near: str) -> float:
    """Return icmplib's CPU milliseconds for each trace."""
    done = subprocess.run(
        within(near, [sys.executable, "-c", _ICMPLIB, *targets()[:ICMPLIB_TARGETS]]),
        check=True,
        capture_output=True,
        text=True,
    )
    used_ms, hops = done.stdout.split()
    assert int(hops) == HOPS, f"icmplib saw a path of {hops} hops"
    return float(used_ms)


def measure() -> dict[str, Any]:
    """Rounds in alternation."""
    with routed(HOPS - 1) as path, tempfile.TemporaryDirectory() as folder:
        for router in path.routers:
            path.run(
                router,
                "sysctl",
                "-qw",
                "net.ipv4.icmp_msgs_per_sec=1000000",
                "net.ipv4.icmp_msgs_burst=100000",
            )
        file = Path(folder) / "targets"
        file.write_text("\n".join(targets()) + "\n")
        return _compare(path, file)


def _compare(path: Routed, file: Path) -> dict[str, Any]:
    mine, theirs = [], []
    policy = Policy.parse({"deny": ["10.0.0.0/8"]})
    collector.settle()
    for _ in range(ROUNDS):
        with entered(path.near):
            mine.append(loop.run(ours(policy)))
        theirs.append(scamper(path.near, file))
    value = statistics.median(each[0] for each in mine)
    peer = statistics.median(each[0] for each in theirs)
    complete_pct = 100 * min(each[2] for each in mine) / TARGETS
    return {
        "value": round(value, 4),
        "unit": "CPU ms per trace",
        "peer": "scamper trace -P icmp-paris -q 1",
        "peer_value": round(peer, 4),
        "ratio": round(value / peer, 2),
        "goal": f"<= {GOAL} of the peer, 100 % complete",
        "ok": value <= GOAL * peer and complete_pct == 100,
        "cpu_ms_per_trace": round(value, 4),
        "peer_cpu_ms_per_trace": round(peer, 4),
        "icmplib_cpu_ms_per_trace": round(icmplib(path.near), 4),
        "complete_pct": round(complete_pct, 2),
        "peer_complete_pct": round(100 * min(each[2] for each in theirs) / TARGETS, 2),
        "wall_s": round(statistics.median(each[1] for each in mine), 2),
        "peer_wall_s": round(statistics.median(each[1] for each in theirs), 2),
        "targets": TARGETS,
        "hops": HOPS,
        "rounds": ROUNDS,
        "all_cpu_ms": [round(each[0], 4) for each in mine],
        "peer_all_cpu_ms": [round(each[0], 4) for each in theirs],
    }
