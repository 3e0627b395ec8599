"""What one HTTP probe costs: GET, checked, result built, beside prometheus-blackbox-exporter for the same URL.

Both ask an nginx in a network namespace of the benchmark's own, each over a fresh connection for every probe, with as
many at a time. Ours goes through the call that a job makes, under a policy, on the loop that a worker has and with its garbage
collector set likewise, and its result is made into the message that a worker keeps; the exporter is asked for its page by a client whose own cost does not count. Rounds of the two
alternate, and the median of each counts. Needs root. `ROUNDS` and `PROBES` (of a round) shorten it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil

FOLDER = Path(__file__).parent
ROUNDS = int(os.environ.get("ROUNDS", "5"))
PROBES = int(os.environ.get("PROBES", "2000"))
AT_A_TIME = 16
GOAL = 0.4
URL = "http://127.0.0.1:8080/"
EXPORTER_PORT = 9115

_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  server {{ listen 127.0.0.1:8080; location / {{ default_type text/plain; return 200 "all is well here\\n"; }} }}
}}
"""
_EXPORTER = """
modules:
  get:
    prober: http
    timeout: 5s
    http: {method: GET, preferred_ip_protocol: ip4, fail_if_body_not_matches_regexp: ["all is well"]}
"""


async def ours(probes: int) -> dict[str, float]:
    """Make that many probes and return milliseconds of a processor for each."""
    from streamswarm import collector, contract
    from streamswarm.v1 import probe_pb2
    from worker import probes as kinds
    from worker.policy import Policy
    from worker.probing import ProbeContext
    from worker.resolving import system_resolver

    policy = Policy.parse({"allow_loopback": True})
    resolve = system_resolver()
    spec = contract.make_spec("http", {"body_contains": "all is well"}).http
    target = contract.parse_target(contract.kind("http"), URL)
    module = kinds.load("http")

    async def one() -> None:
        guard = policy.guard(resolve)
        outcome = await module.run(target, spec, ProbeContext(guard=guard, resolve=guard.resolve))
        result = probe_pb2.Result(job_id=1, status=probe_pb2.STATUS_OK, http=outcome.metrics)
        result.detail_json = json.dumps(outcome.detail)
        if outcome.metrics.status != 200 or not result.SerializeToString():
            raise AssertionError(f"the probe did not end well: {outcome}")

    async def several(count: int) -> None:
        left = iter(range(count))

        async def some() -> None:
            for _ in left:
                await one()

        await asyncio.gather(*(some() for _ in range(AT_A_TIME)))

    await several(200)
    collector.settle()
    began, began_cpu = time.perf_counter(), time.process_time()
    await several(probes)
    return {
        "cpu_ms": (time.process_time() - began_cpu) * 1000 / probes,
        "per_s": probes / (time.perf_counter() - began),
    }


def theirs(probes: int, exporter: psutil.Process) -> dict[str, float]:
    """Ask the exporter for that many probes and return milliseconds of a processor for each. Runs in the namespace."""
    left = iter(range(probes))
    lock = threading.Lock()
    failures: list[str] = []

    def some() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", EXPORTER_PORT, timeout=10)
        while True:
            with lock:
                if next(left, None) is None:
                    break
            connection.request("GET", f"/probe?module=get&target={quote(URL, safe='')}")
            page = connection.getresponse().read().decode()
            if "\nprobe_success 1\n" not in page:
                failures.append(page)
        connection.close()

    before, began = exporter.cpu_times(), time.perf_counter()
    threads = [threading.Thread(target=some) for _ in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    after = exporter.cpu_times()
    if failures:
        raise AssertionError(f"the exporter's probe did not end well: {failures[0]}")
    spent_s = after.user + after.system - before.user - before.system
    return {"cpu_ms": spent_s * 1000 / probes, "per_s": probes / (time.perf_counter() - began)}


@contextlib.contextmanager
def started(*command: str, port: int) -> Iterator[psutil.Process]:
    """Start a server and wait until it listens."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def inside() -> list[dict[str, Any]]:
    """Measure both in rounds; runs in the namespace."""
    from worker import loop

    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder))
        (folder / "exporter.yml").write_text(_EXPORTER)
        exporter = [
            "prometheus-blackbox-exporter",
            f"--config.file={folder}/exporter.yml",
            f"--web.listen-address=127.0.0.1:{EXPORTER_PORT}",
            "--log.level=error",
        ]
        with (
            started("nginx", "-c", f"{folder}/nginx.conf", "-p", name, port=8080),
            started(*exporter, port=EXPORTER_PORT) as peer,
        ):
            theirs(200, peer)
            for _ in range(ROUNDS):
                rounds.append({"ours": loop.run(ours(PROBES)), "theirs": theirs(PROBES, peer)})
            plain = asyncio.run(ours(PROBES))
    rounds[0]["plain"] = plain
    return rounds


def measure() -> dict[str, Any]:
    """Rounds in a namespace, in a process of its own."""
    from integration.probes.peers import namespaces

    with namespaces("bench") as (namespace,):
        command = ["ip", "netns", "exec", namespace.name, sys.executable, __file__]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise AssertionError(f"the rounds did not end well: {done.stderr}")
    rounds = json.loads(done.stdout)
    value = statistics.median(one["ours"]["cpu_ms"] for one in rounds)
    peer = statistics.median(one["theirs"]["cpu_ms"] for one in rounds)
    return {
        "value": round(value, 4),
        "unit": "ms of a processor per probe",
        "peer": "prometheus-blackbox-exporter, its process",
        "peer_value": round(peer, 4),
        "ratio": round(value / peer, 3),
        "goal": f"<= {GOAL} x",
        "ok": value <= GOAL * peer,
        "rounds": ROUNDS,
        "probes": PROBES,
        "at_a_time": AT_A_TIME,
        "best_ms": round(min(one["ours"]["cpu_ms"] for one in rounds), 4),
        "worst_ms": round(max(one["ours"]["cpu_ms"] for one in rounds), 4),
        "peer_best_ms": round(min(one["theirs"]["cpu_ms"] for one in rounds), 4),
        "peer_worst_ms": round(max(one["theirs"]["cpu_ms"] for one in rounds), 4),
        "plain_loop_ms": round(rounds[0]["plain"]["cpu_ms"], 4),
        "per_s": round(statistics.median(one["ours"]["per_s"] for one in rounds)),
        "peer_per_s": round(statistics.median(one["theirs"]["per_s"] for one in rounds)),
    }


if __name__ == "__main__":
    print(json.dumps(inside()))  # noqa: T201  read by the process that started this one
