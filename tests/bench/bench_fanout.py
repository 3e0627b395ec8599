"""A test changed over the REST API until the last of 5,000 workers has taken it over: REST, planning, gateway, worker.

Counted from before the request is sent. The peer is the bare grpc.aio server, which writes a message of the same size to
as many streams, until the last has come. SWARM_WORKERS and SWARM_ROUNDS set other sizes.
"""

from __future__ import annotations

import os
import time
from typing import Any

import httpx
import psutil
from bench.swarm.peer import bare_server
from bench.swarm.swarm import Swarm, percentile
from bench.swarm.world import World, cpu_s, populated

from controller.gateway.jobs import Jobs, difference
from streamswarm import contract
from streamswarm.v1 import probe_pb2

WORKERS = int(os.environ.get("SWARM_WORKERS", "5000"))
ROUNDS = int(os.environ.get("SWARM_ROUNDS", "10"))
TESTS = 20
GOAL_S = 5.0
_CONNECT_S = 180.0
_APPLIED_S = 60.0


def bare(world: World) -> float:
    """Seconds until a message to every stream has come, the median of the rounds."""
    job = probe_pb2.Job(job_id=1, version=2, target="192.0.2.1", spec=contract.make_spec("ping", {}))
    message = difference(Jobs(revision=1), Jobs(revision=2, versions={1: 2}), {1: job.SerializeToString()})
    folder = world.deployment.folder
    taken = []
    with (
        bare_server(world) as server,
        Swarm(world.members, gateways=[server.address], folder=folder, bare=True) as swarm,
    ):
        swarm.start()
        swarm.wait_open(_CONNECT_S)
        for _ in range(ROUNDS):
            time.sleep(1.0)
            started = time.monotonic()
            server.say(message)
            while min(swarm.heard()) < started:
                assert time.monotonic() - started < _APPLIED_S, "the bare server's message does not come"
                time.sleep(0.2)
            taken.append(max(swarm.heard()) - started)
    return percentile(taken, 0.5)


def measure() -> dict[str, Any]:
    """The bare server first, then the whole controller, another test in each round."""
    with populated(WORKERS, tests=TESTS) as world:
        peer_s = bare(world)
        gateway, address = world.deployment.start_gateway()
        world.keeper()
        api = httpx.Client(
            base_url=f"http://{world.web()[1]}/api/v1",
            headers={"Authorization": f"Bearer {world.token()}"},
            timeout=30,
            trust_env=False,
        )
        numbers = [row[0] for row in world.deployment.sql("SELECT id FROM tests ORDER BY id")]
        lasts, all_taken = [], []
        with Swarm(world.members, gateways=[address], folder=world.deployment.folder) as swarm, api:
            swarm.start()
            swarm.wait_open(_CONNECT_S)
            cpu = cpu_s(psutil.Process(gateway.pid))
            for turn in range(ROUNDS):
                time.sleep(3.0)
                test_id = numbers[turn % TESTS]
                version = api.get(f"/tests/{test_id}").raise_for_status().json()["version"]
                started = time.monotonic()
                change = {"spec": {"count": 4 + turn}, "version": version}
                api.patch(f"/tests/{test_id}", json=change).raise_for_status()
                taken = [at - started for at in swarm.wait_revision(turn + 2, _APPLIED_S)]
                lasts.append(max(taken))
                all_taken += taken
            cpu = cpu_s(psutil.Process(gateway.pid)) - cpu
            changed = sum(version == 2 for jobs in swarm.jobs() for _, version in jobs)
    value = percentile(all_taken, 0.99)
    return {
        "value": round(value, 2),
        "unit": "s until a worker has it, p99",
        "peer": "bare grpc.aio server writing to all streams",
        "peer_value": round(peer_s, 2),
        "ratio": round(value / peer_s, 2),
        "goal": f"<= {GOAL_S:g} s",
        "ok": value <= GOAL_S and changed == WORKERS * min(ROUNDS, TESTS),
        "workers": WORKERS,
        "rounds": ROUNDS,
        "last_worker_median_s": round(percentile(lasts, 0.5), 2),
        "last_worker_worst_s": round(max(lasts), 2),
        "gateway_cpu_ms_per_job": round(cpu * 1000 / (WORKERS * ROUNDS), 3),
        "jobs_changed": changed,
    }
