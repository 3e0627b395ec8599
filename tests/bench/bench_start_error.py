"""How late runs start on an otherwise idle worker: 500 jobs, beside asyncio's own timers for the same instants.

The worker's scheduler, runner and spool are the real ones, each run is a real TCP connection over loopback to a peer in
another process, and each result is made durable on disk. What is reported is `start_error_us` as the results carry it:
due instant to start, by the monotonic clock. The bare timers do nothing when they fire. On a machine that others keep
busy both measure those others; put in front of them (`chrt -f 1`), 99 of 100 runs started within 1.7 ms, and timers
fired within 1.1 ms, when this was written.
"""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.resolving import system_resolver
from worker.runner import Runner
from worker.scheduler import Scheduler
from worker.spool import Spool

JOBS = 500
INTERVAL_S = 10.0
MEASURED_S = 30.0
#: Goal of the 99th percentile.
GOAL_MS = 10.0

#: Accepts and closes, so that a probe measures one connection; says its port first.
_PEER = """
import socket
server = socket.create_server(("127.0.0.1", 0), backlog=512)
print(server.getsockname()[1], flush=True)
while True:
    server.accept()[0].close()
"""


def jobs(port: int, begin_us: int) -> list[probe_pb2.Job]:
    """Return jobs whose phases are spread evenly over the interval."""
    interval_us = round(INTERVAL_S * 1e6)
    return [
        probe_pb2.Job(
            job_id=number + 1,
            version=1,
            target=f"127.0.0.1:{port}",
            spec=contract.make_spec("tcp", {}),
            schedule=probe_pb2.Schedule(
                interval_us=interval_us, anchor_us=begin_us + number * interval_us // JOBS
            ),
        )
        for number in range(JOBS)
    ]


async def ours(folder: Path, port: int) -> list[float]:
    """Return how late each run started, in milliseconds."""
    clock = SystemClock()
    time = ControllerTime(clock)
    now_us = clock.steady_us()
    time.observe(sent_steady_us=now_us, received_steady_us=now_us, controller_us=clock.wall_us())
    policy = Policy.parse({"allow_loopback": True})
    spool = Spool(folder / "spool.sqlite", clock=clock)
    await spool.open()
    runner = Runner(
        policy=policy, clock=clock, controller_time=time, load=probes.load, resolve=system_resolver()
    )
    late: list[float] = []

    async def deliver(result: probe_pb2.Result, used: Any) -> None:
        if result.status != probe_pb2.STATUS_OK:
            raise AssertionError(f"a run did not end well: {result.error}")
        late.append(result.start_error_us / 1000)
        await spool.append(result, used=used)

    missed: list[probe_pb2.Result] = []
    scheduler = Scheduler(
        clock=clock,
        controller_time=time,
        execute=runner.run,
        deliver=deliver,
        miss=missed.append,
        refusal=spool.refusal,
        used={},
    )
    scheduler.set_jobs(jobs(port, time.now_us() + 1_000_000))
    running = asyncio.ensure_future(scheduler.run())
    await asyncio.sleep(1 + MEASURED_S)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await scheduler.stop(grace_s=5)
    await spool.close()
    if missed:
        raise AssertionError(f"{len(missed)} runs were missed: {missed[0].error}")
    return late


async def bare() -> list[float]:
    """Return how late asyncio's timers fire for the same instants, in milliseconds."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    begin = loop.time() + 1
    wanted = [begin + number * INTERVAL_S / JOBS for number in range(round(JOBS * MEASURED_S / INTERVAL_S))]
    for due in wanted:
        loop.call_at(due, lambda due=due: late.append((loop.time() - due) * 1000))
    await asyncio.sleep(1 + MEASURED_S)
    return late


def percentile(values: list[float], share: float) -> float:
    """Return a percentile of values, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure() -> dict[str, Any]:
    """One stretch of each."""
    process = subprocess.Popen([sys.executable, "-c", _PEER], stdout=subprocess.PIPE, text=True)
    try:
        port = int(process.stdout.readline())  # type: ignore[union-attr]
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5),
            tempfile.TemporaryDirectory() as folder,
        ):
            late = asyncio.run(ours(Path(folder), port))
    finally:
        process.kill()
        process.communicate()
    timers = asyncio.run(bare())
    value, peer = percentile(late, 0.99), percentile(timers, 0.99)
    return {
        "value": round(value, 3),
        "unit": "ms (p99)",
        "peer": "asyncio call_at, nothing run",
        "peer_value": round(peer, 3),
        "ratio": round(value / peer, 2),
        "goal": f"<= {GOAL_MS:g} ms",
        "ok": value <= GOAL_MS,
        "jobs": JOBS,
        "runs": len(late),
        "median_ms": round(percentile(late, 0.5), 3),
        "max_ms": round(max(late), 3),
        "early": sum(error < 0 for error in late),
        "peer_median_ms": round(percentile(timers, 0.5), 3),
        "peer_max_ms": round(max(timers), 3),
    }
