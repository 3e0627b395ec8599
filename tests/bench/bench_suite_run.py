"""`streamswarm run` from process start to exit, four kinds, beside the classic tools for the same targets in turn.

What counts is the time beside the probes' own: start, checks, one worker process, the verdict. 0.34 s when this was
written; the goal is 2 s.
"""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

ROUNDS = 7
GOAL_S = 2.0

SUITE = """\
tests:
  - {{name: Ping, kind: ping, destinations: [127.0.0.1], spec: {{count: 1}}, assert: loss_pct == 0}}
  - {{name: Port, kind: tcp, destinations: ["127.0.0.1:{web}"], assert: connect_ms < 1000}}
  - name: Name
    kind: dns
    destinations: ["127.0.0.1:{names}"]
    spec: {{query_name: streamswarm.test}}
    assert: rcode == 0
  - {{name: Page, kind: http, destinations: ["http://127.0.0.1:{web}/"], assert: status == 200}}
"""


@contextmanager
def peers() -> Iterator[tuple[int, int]]:
    """A web server and a name server on loopback; yields their ports."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *words: Any) -> None:
            pass

    from support.surroundings import free_addresses, wait_for

    [address] = free_addresses(1)
    names = subprocess.Popen([sys.executable, "-m", "controller.local.resolver", *address.split(":")])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.05,))
        thread.start()
        try:
            port = address.rpartition(":")[2]
            asked = ["dig", "+short", "+tries=1", "+time=1", "-p", port, "@127.0.0.1", "streamswarm.test"]
            wait_for(
                "the name server",
                lambda: subprocess.run(asked, capture_output=True).stdout == b"127.0.0.1\n",
                20,
            )
            yield web.server_address[1], int(port)
        finally:
            web.shutdown()
            thread.join()
            names.terminate()
            names.wait()


def ours(folder: Path) -> float:
    """Seconds of one call beside its longest probe."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "controller.cli", "run", "suite.yaml", "--allow-loopback", "--json", "-"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    elapsed = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    outcomes = json.loads(done.stdout)["suites"][0]["outcomes"]
    return elapsed - max(outcome["duration_ms"] for outcome in outcomes) / 1000


def classic(web: int, names: int) -> float:
    """Seconds of the classic tools, one after the other."""
    started = time.perf_counter()
    for command in (
        ["fping", "-c1", "-q", "127.0.0.1"],
        ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{web}"],
        ["dig", "+short", "-p", str(names), "@127.0.0.1", "streamswarm.test"],
        ["curl", "-sSf", f"http://127.0.0.1:{web}/"],
    ):
        subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def measure() -> dict[str, Any]:
    """Medians of both, in turns."""
    with tempfile.TemporaryDirectory() as name, peers() as (web, names):
        folder = Path(name)
        (folder / "suite.yaml").write_text(SUITE.format(web=web, names=names))
        rounds = [(ours(folder), classic(web, names)) for _ in range(ROUNDS)]
    value, peer = (median(column) for column in zip(*rounds, strict=True))
    return {
        "value": round(value, 3),
        "unit": "s",
        "peer": "fping, bash, dig and curl in turn",
        "peer_value": round(peer, 3),
        "ratio": round(value / peer, 2),
        "goal": f"<= {GOAL_S:g} s",
        "ok": value <= GOAL_S,
    }
