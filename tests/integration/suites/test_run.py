"""`streamswarm run` as its users call it: real probes of real peers, exit codes, files."""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest
from support import mmdb
from support.surroundings import clean_environment

from worker.clock import SystemClock
from worker.policy import Policy
from worker.responders.answering import Answering
from worker.responders.marks import listening

SUITE = """\
suite: This machine
tests:
  - name: Web
    kind: http
    destinations: ["http://127.0.0.1:{port}/"]
    assert: [status == 200, body_bytes == 5, total_ms < 5 s]
  - name: Port
    kind: tcp
    destinations: ["127.0.0.1:{port}"]
    assert: connect_ms < 5000
  - name: Closed
    kind: tcp
    destinations: ["127.0.0.1:1"]
    expect: failed
  - name: Host
    kind: system
    spec: {{window_ms: 100}}
    assert: cpu_count >= 1
"""


@dataclass
class Site:
    """A web server that counts the connections that it was asked for."""

    port: int
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server on loopback."""
    found = Site(port=0)

    class Handler(http.server.BaseHTTPRequestHandler):
        def setup(self) -> None:
            found.seen.append("connection")
            super().setup()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *words: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


def run(
    folder: Path, text: str, *options: str, stdin: bool = False, wrapped: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Write a suite and run it there."""
    (folder / "suite.yaml").write_text(text)
    return subprocess.run(
        [*wrapped, sys.executable, "-m", "controller.cli", "run", "-" if stdin else "suite.yaml", *options],
        cwd=folder,
        env=clean_environment(),
        input=text if stdin else None,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_suite_that_passes(tmp_path: Path, site: Site) -> None:
    """Four kinds of outcome, all as asked: exit 0, a table, and the same in JUnit XML, Markdown and JSON."""
    files = ("--junit", "j.xml", "--markdown", "m.md", "--json", "r.json")
    done = run(tmp_path, SUITE.format(port=site.port), "--allow-loopback", *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This machine  4 passed in" in done.stdout
    for name in ("Web → http://127.0.0.1", "Port → ", "Closed → ", "Host"):
        assert f"✓ passed  {name}" in done.stdout
    root = ElementTree.fromstring((tmp_path / "j.xml").read_text())  # noqa: S314  our own text
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("4", "0", "0")
    assert "4 passed" in (tmp_path / "m.md").read_text()
    [told] = json.loads((tmp_path / "r.json").read_text())["suites"]
    web = told["outcomes"][0]
    assert web["metrics"]["status"] == 200
    assert web["metrics"]["tls_ms"] is None
    assert 0 < web["metrics"]["connect_ms"] <= web["metrics"]["total_ms"]
    assert told["outcomes"][2]["failure_source"] == "target"


def test_a_suite_that_fails(tmp_path: Path, site: Site) -> None:
    """An assertion that does not hold and a port that refuses: exit 1, each with the reason and what was measured."""
    text = (
        SUITE.format(port=site.port)
        .replace("status == 200", "status == 204")
        .replace("    expect: failed\n", "")
    )
    done = run(tmp_path, text, "--allow-loopback")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 passed, 2 failed" in done.stdout
    assert "status == 204: status was 200" in done.stdout
    assert "127.0.0.1:1 refused the connection" in done.stdout


def test_standard_input_and_output(tmp_path: Path, site: Site) -> None:
    """A suite may come through a pipe, and JSON alone may go into the next one; the table then goes to the other stream."""
    done = run(tmp_path, SUITE.format(port=site.port), "--allow-loopback", "--json", "-", stdin=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["suites"][0]["passed"] == 4
    assert "4 passed" in done.stderr


FAULTS = {
    "unknown kind": ("kind: http", "kind: htp", "suite.yaml:4: tests[0].kind: `htp` is not a probe kind"),
    "wrong unit": ("total_ms < 5 s", "total_ms < 5 %", "suite.yaml:6: tests[0].assert[2]: `total_ms < 5 %`: the unit `%`"),
    "bad expression": ("status == 200", "status = 200", "suite.yaml:6: tests[0].assert[0]: `status = 200`: `=` is no operator"),
    "bad target": ("http://127", "file://127", "suite.yaml:5: tests[0].destinations[0]:"),
    "not YAML": ("kind: system", "kind: [system", "suite.yaml:"),
    "bomb": (
        "suite: This machine",
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
            f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "unfolds to more than",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_suite_sends_nothing(tmp_path: Path, site: Site, fault: str) -> None:
    """One message with file and line, exit 2, and not one connection, not even of the tests that are right."""
    old, new, message = FAULTS[fault]
    started = time.monotonic()
    done = run(tmp_path, SUITE.format(port=site.port).replace(old, new), "--allow-loopback")
    assert done.returncode == 2, done.stdout
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert site.seen == []
    assert time.monotonic() - started < 20


def test_a_forbidden_target_sends_nothing(tmp_path: Path, site: Site) -> None:
    """Cloud metadata is forbidden whatever else is allowed: file and line, exit 2, and the other tests do not start."""
    text = (
        SUITE.format(port=site.port) + "  - {name: Meta, kind: tcp, destinations: ['169.254.169.254:80']}\n"
    )
    done = run(tmp_path, text, "--allow-loopback", "--json", "r.json")
    assert done.returncode == 2, done.stdout
    assert "suite.yaml:19: `Meta → 169.254.169.254:80` could not be run: 169.254.169.254 is" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert site.seen == []
    [told] = json.loads((tmp_path / "r.json").read_text())["suites"]
    assert {outcome["state"] for outcome in told["outcomes"]} == {"not_run"}


def test_loopback_needs_a_word(tmp_path: Path, site: Site) -> None:
    """Without leave, addresses of this machine are refused, and the message says how to allow them."""
    done = run(tmp_path, SUITE.format(port=site.port))
    assert done.returncode == 2
    assert "--allow-loopback" in done.stderr
    assert site.seen == []


KEY = "a text that all workers of a fleet share"
GIVEN = """\
tests:
  - {{name: Way, kind: traceroute, destinations: 127.0.0.1, spec: {{rounds: 1}}, assert: as_count == 1}}
  - name: Marks
    kind: qos
    destinations: 127.0.0.1
    spec: {{classes: [EF], count: 2, interval_ms: 10, trace: false, ecn: false, far_end_port: {port}}}
    assert: survived_pct == 100
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which may send what these kinds send")
async def test_databases_and_key_are_given_as_a_worker_has_them(tmp_path: Path) -> None:
    """Systems of hops are told, and a worker at the destination answers; a key that is too short is refused."""
    mmdb.write(tmp_path / "own.mmdb", {"127.0.0.0/8": {"autonomous_system_number": 64_500}})
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "short").write_text("short\n")
    clock = SystemClock()
    answering = Answering(
        (KEY,), Policy.parse({"allow_loopback": True}), steady_us=clock.steady_us, now_us=clock.wall_us
    )
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
        free.bind(("::", 0))
        port = free.getsockname()[1]
    text = GIVEN.format(port=port)
    given = ["--allow-loopback", "--databases-dir", ".", "--responder-key-file"]
    with listening(port, answering):
        done = await asyncio.to_thread(run, tmp_path, text, *given, "key", "--json", "r.json")
        wrong = await asyncio.to_thread(run, tmp_path, text, *given, "short")
    assert done.returncode == 0, done.stdout + done.stderr
    [told] = json.loads((tmp_path / "r.json").read_text())["suites"]
    assert [outcome["state"] for outcome in told["outcomes"]] == ["passed", "passed"]
    assert wrong.returncode == 2
    assert "the responder key in" in wrong.stderr
    assert "32 characters or more" in wrong.stderr
    for name in ("none", "key"):
        nothing = run(tmp_path, text, "--databases-dir", name)
        assert nothing.returncode == 2
        assert "--databases-dir" in nothing.stderr


def test_a_policy_file_is_kept(tmp_path: Path, site: Site) -> None:
    """A policy that allows no http: the suite does not run; a missing or broken one is told."""
    (tmp_path / "policy.yaml").write_text("allow_loopback: true\nkinds: [tcp, system]\n")
    done = run(tmp_path, SUITE.format(port=site.port), "--policy", "policy.yaml")
    assert done.returncode == 2
    assert "suite.yaml:3: `Web" in done.stderr
    assert "kind `http`" in done.stderr
    for name, text, message in (("none", None, "cannot be read"), ("broken", "allow: 5", "is wrong")):
        if text:
            (tmp_path / name).write_text(text)
        done = run(tmp_path, SUITE.format(port=site.port), "--policy", name)
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert site.seen == []


def test_a_missing_file_and_a_folder_that_is_not_there(tmp_path: Path, site: Site) -> None:
    """Both are told before anything is sent."""
    (tmp_path / "x").mkdir()
    done = run(tmp_path / "x", SUITE.format(port=site.port), "../other.yaml", "--allow-loopback")
    assert (done.returncode, site.seen) == (2, [])
    assert "other.yaml: there is no such file" in done.stderr
    done = run(tmp_path, SUITE.format(port=site.port), "--allow-loopback", "--junit", "no/such/j.xml")
    assert (done.returncode, site.seen) == (2, [])
    assert "no/such/j.xml: its folder is not there" in done.stderr


@pytest.mark.parametrize("where", ["/dev/full", "a closed pipe"])
def test_output_that_cannot_be_written_is_no_failed_test(tmp_path: Path, site: Site, where: str) -> None:
    """The code is that of something that could not be done, with one message and no traceback."""
    (tmp_path / "suite.yaml").write_text(SUITE.format(port=site.port))
    command = [sys.executable, "-m", "controller.cli", "run", "suite.yaml", "--allow-loopback"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") if where != "/dev/full" else Path(where).open("wb") as output:
        done = subprocess.run(
            command, cwd=tmp_path, env=clean_environment(), stdout=output, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr.decode().startswith("streamswarm: standard output cannot be written: ")
    assert b"Traceback" not in done.stderr


def test_check_sends_nothing(tmp_path: Path, site: Site) -> None:
    """--check reads and says so."""
    done = run(tmp_path, SUITE.format(port=site.port), "--check")
    assert (done.returncode, site.seen) == (0, [])
    assert "suite.yaml: `This machine` is right, with 4 tests" in done.stdout


def test_a_folder_named_worker_is_not_taken_for_the_program(tmp_path: Path, site: Site) -> None:
    """What lies in the user's folder is never imported."""
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text("raise SystemExit('taken')")
    (tmp_path / "worker" / "__main__.py").write_text("raise SystemExit('taken')")
    program = Path(sys.executable).with_name("streamswarm")
    (tmp_path / "suite.yaml").write_text(SUITE.format(port=site.port))
    done = subprocess.run(
        [program, "run", "suite.yaml", "--allow-loopback"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["the process that measures is killed", "the user stops the command"])
def test_a_run_that_does_not_end_has_no_verdict(tmp_path: Path, how: str) -> None:
    """A killed process ends the command with 2, Ctrl-C with 130; either says so, nothing hangs and nothing stays."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        (tmp_path / "suite.yaml").write_text(
            f"tests: [{{name: a, kind: http, destinations: ['http://127.0.0.1:{port}/']}}]"
        )
        with subprocess.Popen(
            [sys.executable, "-m", "controller.cli", "run", "suite.yaml", "--allow-loopback"],
            cwd=tmp_path,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as command:
            connection, _ = silent.accept()
            [child] = psutil.Process(command.pid).children()
            if how.startswith("the process"):
                child.kill()
            else:
                command.send_signal(signal.SIGINT)
            out, err = command.communicate(timeout=30)
            connection.close()
    if how.startswith("the process"):
        assert command.returncode == 2, out
        assert "the process that measures was killed by signal 9" in err
    else:
        assert command.returncode == 130, out
        assert "Stopped; there is no verdict." in err
    assert "Traceback" not in err
    assert not child.is_running()


@pytest.mark.namespaces
def test_no_network_is_needed_beyond_the_targets(tmp_path: Path) -> None:
    """In a namespace without any interface but loopback a suite runs as it does elsewhere."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        if os.environ.get("CI"):
            pytest.fail("in CI this must run as root")
        pytest.skip("a network namespace of its own needs root")
    text = "tests: [{name: Ping, kind: ping, destinations: [127.0.0.1], spec: {interval_ms: 20}, assert: loss_pct == 0}]"
    inside = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    done = run(tmp_path, text, "--allow-loopback", wrapped=inside)
    assert done.returncode == 0, done.stdout + done.stderr
