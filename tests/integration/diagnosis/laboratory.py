"""A worker's host and a destination, each in a namespace, with a wire between them on which faults are injected.

The destination answers pings, listens on a port, serves a page and is the name server. Probes are the worker's own,
run as `python -m worker --once` runs them, one after another, in the worker's namespace.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dns.message
import dns.rrset
from google.protobuf import json_format
from integration.probes.peers import Namespace, allow_datagram_pings, namespaces
from support.priority import before_all_others

from streamswarm import contract
from streamswarm.v1 import probe_pb2

NEAR, FAR = "10.93.0.1", "10.93.0.2"
NAME = "www.lab.test"
PORT, WEB_PORT = 8080, 8081
#: What is measured: target and parameters by kind. Short, so that many runs take little time.
MEASURED: dict[str, tuple[str, dict[str, Any]]] = {
    "ping": (FAR, {"count": 10, "interval_ms": 10, "timeout_ms": 300}),
    "tcp": (f"{FAR}:{PORT}", {"timeout_ms": 500}),
    "dns": (FAR, {"query_name": NAME, "timeout_ms": 300}),
    "http": (f"http://{NAME}:{WEB_PORT}/", {"timeout_ms": 3000}),
    "system": ("", {"window_ms": 100, "disks": False, "interfaces": False}),
}
_PROBE = """
import sys
from worker.once import run_lines
from worker.policy import Policy
sys.exit(run_lines(sys.stdin, sys.stdout, policy=Policy(), places=1))
"""


@dataclass
class Laboratory:
    """What tests turn and measure."""

    near: Namespace
    far: Namespace
    wire: subprocess.Popen[str]
    #: How long the web server thinks, and whether the name server answers.
    think_s: float = 0.0
    names_answered: bool = True
    listener: socket.socket | None = None
    burning: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def impair(self, *, delay_ms: float = 0.0, lose_every: int = 0) -> None:
        """Change the wire; `delay_ms` is added to round trips."""
        assert self.wire.stdin is not None
        assert self.wire.stdout is not None
        settings = {"delay_ms": delay_ms / 2, "lose_every": lose_every}
        self.wire.stdin.write(json.dumps(settings) + "\n")
        self.wire.stdin.flush()
        assert self.wire.stdout.readline() == "set\n"

    def listen(self) -> None:
        """Open the port of the destination."""
        with self.far.entered():
            # Nobody takes the connections: there must be room for all of them.
            self.listener = socket.create_server((FAR, PORT), backlog=2000)

    def refuse(self) -> None:
        """Close the port of the destination."""
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    def burn(self) -> None:
        """Keep every CPU of this machine busy, for a minute at most."""
        for _ in range(2 * (os.cpu_count() or 1)):
            loop = "import time; end = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
            self.burning.append(subprocess.Popen([sys.executable, "-c", loop]))
        time.sleep(0.5)

    def calm(self) -> None:
        """End every fault."""
        self.impair()
        self.think_s, self.names_answered = 0.0, True
        for process in self.burning:
            process.kill()
            process.wait(10)
        self.burning.clear()
        if self.listener is None:
            self.listen()

    def measure(self, kind: str, count: int) -> list[probe_pb2.Result]:
        """Run a kind so many times, one after another, and return the results in their order."""
        target, values = MEASURED[kind]
        jobs = [
            probe_pb2.Job(job_id=number + 1, version=1, target=target, spec=contract.make_spec(kind, values))
            for number in range(count)
        ]
        lines = "\n".join(json.dumps(json_format.MessageToDict(job)) for job in jobs)
        done = subprocess.run(
            ["ip", "netns", "exec", self.near.name, sys.executable, "-c", _PROBE],
            input=lines,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        results = [json_format.Parse(line, probe_pb2.Result()) for line in done.stdout.splitlines()]
        assert len(results) == count, done.stderr
        return sorted(results, key=lambda result: result.job_id)


@contextlib.contextmanager
def laboratory() -> Iterator[Laboratory]:
    """Make the network and its peers, and take everything down afterwards."""
    with contextlib.ExitStack() as stack:
        near, far = stack.enter_context(namespaces("near", "far"))
        ends = [_tun(near, NEAR), _tun(far, FAR)]
        for end in ends:
            stack.callback(os.close, end)
        allow_datagram_pings(near, "dgram")
        stack.enter_context(_names_from(near, FAR))
        wire = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("link.py")), *map(str, ends)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=ends,
        )
        stack.callback(_end, wire)
        lab = Laboratory(near=near, far=far, wire=wire)
        stack.callback(lab.refuse)
        stack.callback(lambda: [process.kill() for process in lab.burning])
        lab.calm()
        stack.enter_context(_web_server(lab))
        stack.enter_context(_name_server(lab))
        yield lab


@contextlib.contextmanager
def prompt_laboratory(*, delay_ms: float) -> Iterator[Laboratory]:
    """Make one with a path that delays, whose wire is served before all else."""
    with contextlib.ExitStack() as stack:
        with before_all_others():
            made = stack.enter_context(laboratory())
        made.impair(delay_ms=delay_ms)
        yield made


def _tun(namespace: Namespace, address: str) -> int:
    """Make a TUN device in a namespace and return the descriptor of its other side."""
    with namespace.entered():
        descriptor = os.open("/dev/net/tun", os.O_RDWR)
        # TUNSETIFF with IFF_TUN | IFF_NO_PI
        fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH14x", b"swlab", 0x1001))
    namespace.run("ip", "address", "add", f"{address}/24", "dev", "swlab")
    namespace.run("ip", "link", "set", "swlab", "up")
    return descriptor


@contextlib.contextmanager
def _names_from(namespace: Namespace, server: str) -> Iterator[None]:
    """Have programs that are run in a namespace ask a name server, once, for a second."""
    folder = Path("/etc/netns") / namespace.name
    folder.mkdir(parents=True)
    try:
        resolv = folder / "resolv.conf"
        resolv.write_text(f"nameserver {server}\noptions timeout:1 attempts:1\n", encoding="utf-8")
        yield
    finally:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@contextlib.contextmanager
def _web_server(lab: Laboratory) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(lab.think_s)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with lab.far.entered():
        server = ThreadingHTTPServer((FAR, WEB_PORT), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def _name_server(lab: Laboratory) -> Iterator[None]:
    with lab.far.entered():
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((FAR, 53))
    server.settimeout(0.2)
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                data, address = server.recvfrom(4096)
            except TimeoutError:
                continue
            if lab.names_answered:
                query = dns.message.from_wire(data)
                answer = dns.message.make_response(query)
                if query.question[0].rdtype == dns.rdatatype.A:
                    answer.answer = [dns.rrset.from_text(query.question[0].name, 60, "IN", "A", FAR)]
                server.sendto(answer.to_wire(), address)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        server.close()


def _end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)
    assert process.stdout is not None
    process.stdout.close()


def columns_of(results: Sequence[probe_pb2.Result], kind: str) -> list[dict[str, Any]]:
    """Return results as a gateway stores them: envelope and the metrics that were measured."""
    from controller.store.results import metric_column

    rows = []
    for result in results:
        message = getattr(result, kind)
        rows.append(
            {
                "duration_ms": result.duration_ms,
                "status": result.status,
                "failure_source": result.failure_source,
                "error": result.error or None,
                "clock_offset_ms": None,
                **{
                    metric_column(kind, metric.name).name: getattr(message, metric.name)
                    if message.HasField(metric.name)
                    else None
                    for metric in contract.kind(kind).metrics
                },
            }
        )
    return rows
