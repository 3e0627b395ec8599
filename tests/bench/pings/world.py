"""What the benchmarks of `ping` share: a network in namespaces of their own, the call that a job makes, the peer."""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.probes.peers import Namespace, namespaces

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.policy import Policy
from worker.probing import ProbeContext
from worker.resolving import system_resolver

_RESOLVE = system_resolver()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What something took."""

    wall_s: float
    #: Of processors, by user and system.
    cpu_s: float


@contextmanager
def two_hosts(network: str, *, answering: bool = True) -> Iterator[tuple[Namespace, Namespace]]:
    """Make two namespaces with a link; the far one has every address of the network when it is to answer itself."""
    with namespaces("near", "far") as (near, far):
        near.run("ip", "link", "add", "pb0", "type", "veth", "peer", "name", "pb1", "netns", far.name)
        for side, device, address in ((near, "pb0", "10.97.0.1/30"), (far, "pb1", "10.97.0.2/30")):
            side.run("ip", "address", "add", address, "dev", device)
            side.run("ip", "link", "set", device, "up")
        near.run("ip", "route", "add", network, "via", "10.97.0.2")
        if answering:
            far.run("ip", "route", "add", "local", network, "dev", "lo")
        far.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        near.run("sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
        near.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", "10.97.0.2")
        yield near, far


async def ping(target: str, **values: Any) -> tuple[Any, Mapping[str, Any]]:
    """Run `ping` as a job does, with the result built; returns its metrics and its detail."""
    return await run(target, contract.make_spec("ping", values))


async def run(target: str, spec: probe_pb2.Spec) -> tuple[Any, Mapping[str, Any]]:
    """Run `ping` with parameters that were checked before, as those of a job are."""
    guard = Policy().guard(_RESOLVE)
    parsed = contract.parse_target(contract.kind("ping"), target)
    context = ProbeContext(guard=guard, resolve=guard.resolve)
    outcome = await probes.load("ping").run(parsed, spec.ping, context)
    result = probe_pb2.Result()
    result.ping.CopyFrom(outcome.metrics)
    result.SerializeToString()
    return result.ping, outcome.detail


@contextmanager
def address_file(addresses: list[str]) -> Iterator[Path]:
    """Write addresses into a file, one a line."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(addresses) + "\n")
        file.flush()
        yield Path(file.name)


def fping(near: Namespace, *words: str) -> tuple[Cost, str]:
    """Run fping in a namespace; returns what it took and what it printed for each address."""
    with near.entered():
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.run(["fping", *words], capture_output=True, text=True, timeout=280, check=False)
        wall_s = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 1):
        raise AssertionError(f"fping ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return Cost(wall_s=wall_s, cpu_s=_cpu(after) - _cpu(before)), done.stderr


def own_cpu_s() -> float:
    """Return what this process has used of processors."""
    return _cpu(resource.getrusage(resource.RUSAGE_SELF))


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of values, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _cpu(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime
