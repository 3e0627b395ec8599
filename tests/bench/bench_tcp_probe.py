"""What one TCP connect probe costs a processor, beside prometheus-blackbox-exporter's TCP prober (root).

Both measure the same port of a host in another namespace, over the same link, 32 probes at a time, in turns: a link
without delay, where a handshake is over before anybody waits for it, and one with a round trip of 10 ms. Ours is
the call that a job makes: `worker.probes.tcp.run` with the real policy and resolver, its result built as a message, on
uvloop as in the worker. Counted is the processor time of the process that probes, user and system, without that of the
server and of whoever asks the exporter for probes.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 5
#: Probes in a round: of ours; of the peer half as many.
COUNT, FAR_COUNT = 6_000, 3_000
DELAY_MS = 10.0
AT_A_TIME = 32
GOAL = 0.3
ADDRESS, PORT = "10.93.0.2", 9000
EXPORTER = "127.0.0.1:9115"
_MODULE = "modules: {tcp_connect: {prober: tcp, timeout: 5s}}"

#: Accepts and closes; says that it listens.
_SINK = f"""
import socket
server = socket.create_server(("{ADDRESS}", {PORT}), backlog=4096)
print("ready", flush=True)
while True:
    server.accept()[0].close()
"""


@contextmanager
def near_world() -> Iterator[Any]:
    """Two namespaces with a link, the server in one of them; yields the other one."""
    from integration.probes.peers import namespaces

    with namespaces("near", "far") as (near, far):
        near.run("ip", "link", "add", "swn", "type", "veth", "peer", "name", "swf", "netns", far.name)
        for namespace, device, host in ((near, "swn", 1), (far, "swf", 2)):
            namespace.run("ip", "address", "add", f"10.93.0.{host}/24", "dev", device)
            namespace.run("ip", "link", "set", device, "up")
        with sink(near, far):
            yield near


@contextmanager
def far_world() -> Iterator[Any]:
    """The same with a wire between them whose round trip takes DELAY_MS."""
    from integration.diagnosis.laboratory import laboratory

    with laboratory() as lab:
        lab.impair(delay_ms=DELAY_MS)
        with sink(lab.near, lab.far):
            yield lab.near


@contextmanager
def sink(near: Any, far: Any) -> Iterator[None]:
    """Have a server take connections, and leave enough ports for them."""
    # More connections in a minute than there are ports by default.
    near.run("sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65535", "net.ipv4.tcp_tw_reuse=1")
    process = subprocess.Popen(
        ["ip", "netns", "exec", far.name, sys.executable, "-c", _SINK], stdout=subprocess.PIPE, text=True
    )
    try:
        process.stdout.readline()  # type: ignore[union-attr]
        yield
    finally:
        process.kill()
        process.communicate()


@contextmanager
def exporter(namespace: Any, folder: Path) -> Iterator[int]:
    """Run the exporter in a namespace until it answers; yields its process id."""
    config = folder / "blackbox.yml"
    config.write_text(_MODULE)
    # `ip netns exec` becomes the program, so the id is the exporter's own.
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace.name, "prometheus-blackbox-exporter", f"--config.file={config}",
         f"--web.listen-address={EXPORTER}", "--log.level=error"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while namespace.run("curl", "-sf", f"http://{EXPORTER}/", check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError("prometheus-blackbox-exporter does not answer")
            time.sleep(0.1)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True, kw_only=True)
class Round:
    """Milliseconds of a processor for one probe, and probes in a second."""

    ms: float
    peer_ms: float
    per_s: float
    peer_per_s: float


def in_namespace(namespace: Any, part: str, count: int) -> dict[str, float]:
    """Run a part of this module in a process of the namespace, and return what it says."""
    done = namespace.run(sys.executable, __file__, part, str(count))
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


async def together(probe: Any, count: int) -> None:
    """Await `probe()` so many times, AT_A_TIME at a time."""
    left = iter(range(count))

    async def work() -> None:
        for _ in left:
            await probe()

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))


async def ours(count: int) -> dict[str, float]:
    """Return the processor time of one probe in milliseconds, and how many there were in a second."""
    from streamswarm import contract
    from streamswarm.v1 import probe_pb2
    from worker import probes
    from worker.policy import Policy
    from worker.probing import ProbeContext
    from worker.resolving import system_resolver

    spec = contract.make_spec("tcp", {}).tcp
    target = contract.parse_target(contract.kind("tcp"), f"{ADDRESS}:{PORT}")
    policy, resolve, module = Policy(), system_resolver(), probes.load("tcp")

    async def probe() -> None:
        guard = policy.guard(resolve)
        outcome = await module.run(target, spec, ProbeContext(guard=guard, resolve=guard.resolve))
        result = probe_pb2.Result(status=probe_pb2.STATUS_OK, detail_json=json.dumps(outcome.detail))
        result.tcp.CopyFrom(outcome.metrics)
        if not result.tcp.connect_ms > 0:
            raise AssertionError("a probe measured nothing")

    await together(probe, 500)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await together(probe, count)
    after, took = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - started
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_ms": cpu * 1000 / count, "per_s": count / took}


async def ask_exporter(count: int) -> dict[str, float]:
    """Have the exporter make so many probes; each must succeed."""
    host, port = EXPORTER.split(":")
    request = (
        f"GET /probe?target={ADDRESS}:{PORT}&module=tcp_connect HTTP/1.1\r\nHost: exporter\r\n\r\n"
    ).encode()
    left = iter(range(count))

    async def work() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for _ in left:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if b"probe_success 1" not in await reader.readexactly(length):
                raise AssertionError("a probe of the exporter failed")
        writer.close()

    started = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return {"per_s": count / (time.perf_counter() - started)}


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def compare(world: Callable[[], AbstractContextManager[Any]], rounds: int, count: int) -> list[Round]:
    """Measure both in turns, ours with `count` probes in a round and the peer with half of them."""
    found: list[Round] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        world() as namespace,
        exporter(namespace, Path(folder)) as pid,
    ):
        in_namespace(namespace, "ask", 500)
        for _ in range(rounds):
            mine = in_namespace(namespace, "ours", count)
            before = cpu_s(pid)
            asked = in_namespace(namespace, "ask", count // 2)
            peer_ms = (cpu_s(pid) - before) * 1000 / (count // 2)
            found.append(
                Round(ms=mine["cpu_ms"], peer_ms=peer_ms, per_s=mine["per_s"], peer_per_s=asked["per_s"])
            )
    return found


def measure() -> dict[str, Any]:
    """Medians of rounds in turns, with a host next door and with one that is far away."""
    near = compare(near_world, ROUNDS, COUNT)
    far = compare(far_world, ROUNDS, FAR_COUNT)
    ratio, far_ratio = (median(each.ms / each.peer_ms for each in rounds) for rounds in (near, far))
    ratios = [each.ms / each.peer_ms for each in (*near, *far)]
    return {
        "value": round(median(each.ms for each in near), 4),
        "unit": "ms of a processor",
        "peer": "prometheus-blackbox-exporter, module tcp",
        "peer_value": round(median(each.peer_ms for each in near), 4),
        "ratio": round(ratio, 3),
        "goal": f"<= {GOAL:g} of the peer, next door and far away",
        "ok": max(ratio, far_ratio) <= GOAL,
        "far_ms": round(median(each.ms for each in far), 4),
        "peer_far_ms": round(median(each.peer_ms for each in far), 4),
        "far_ratio": round(far_ratio, 3),
        "probes": COUNT * ROUNDS,
        "far_probes": FAR_COUNT * ROUNDS,
        "at_a_time": AT_A_TIME,
        "best_ratio": round(min(ratios), 3),
        "worst_ratio": round(max(ratios), 3),
        "per_s": round(median(each.per_s for each in near)),
        "peer_per_s": round(median(each.peer_per_s for each in near)),
    }


def main(part: str, count: int) -> None:
    """Run one part, and write what it says."""
    if part == "ask":
        answer = asyncio.run(ask_exporter(count))
    else:
        from worker import loop

        answer = loop.run(ours(count))
    print(json.dumps(answer))  # noqa: T201  what the parent reads


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
