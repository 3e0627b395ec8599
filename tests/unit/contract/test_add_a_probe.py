"""The page that shows how a kind is added is true: its files, added to a copy of the sources, make a kind that runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/add-a-probe.md").read_text(encoding="utf-8")
ENVELOPE = "proto/streamswarm/v1/probe.proto"
#: What the page shows, by the file that it belongs to.
SHOWN = dict(re.findall(r"^`([\w./]+)`\n\n```\w+\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
#: Runs the new kind against an echo service, a silent one and a closed port, and asks everybody else what they know of it.
USE = """
import asyncio, json, socket, sys, threading
from pathlib import Path
root = sys.argv[1]
sys.path[:0] = [root, root + "/proto"]
from streamswarm import contract, manual
from streamswarm.v1 import probe_pb2
from controller.store import results
from controller.store.rollups import tables
from controller.suites import schema
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.resolving import system_resolver
from worker.runner import Runner
for module in (contract, results, probes):
    assert module.__file__.startswith(root), module.__file__
def serve(sock):
    data, peer = sock.recvfrom(2048)
    sock.sendto(b"not this one", peer)
    sock.sendto(data, peer)
echo, silent, closed = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3))
for sock in (echo, silent, closed):
    sock.bind(("127.0.0.1", 0))
ports = [sock.getsockname()[1] for sock in (echo, silent, closed)]
closed.close()
threading.Thread(target=serve, args=(echo,), daemon=True).start()
clock = SystemClock()
runner = Runner(policy=Policy(allow_loopback=True), clock=clock, controller_time=ControllerTime(clock),
                load=probes.load, resolve=system_resolver())
def job(port, **values):
    spec = contract.make_spec("echo", {"timeout_ms": 200, **values})
    return probe_pb2.Job(job_id=1, version=1, target=f"127.0.0.1:{port}", spec=spec)
jobs = [*(job(port) for port in ports), job(ports[1], must_be_unreachable=True)]
found = [asyncio.run(runner.run(each, 1)) for each in jobs]
invalid = probe_pb2.Job(job_id=1, target="127.0.0.1", spec=probe_pb2.Spec(echo={"port": 70000}))
print(json.dumps({
    "statuses": [probe_pb2.Status.Name(each.status) for each in found],
    "reasons": [probe_pb2.FailureReason.Name(each.failure_reason) for each in found],
    "rtt_ms": [each.echo.rtt_ms if each.echo.HasField("rtt_ms") else None for each in found],
    "refused": runner.refusal(invalid).error,
    "available": {each.kind: each.available for each in runner.availabilities()}["echo"],
    "columns": [column.name for column in results.table("echo").columns],
    "tables": [table.name for table in tables.all_tables() if "_echo_" in table.name],
    "manual": manual.page(contract.kind("echo")).paragraphs,
    "suites": "echo" in json.dumps(schema.suite_schema()),
}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with the kind of the page in them, generated."""
    root = tmp_path_factory.mktemp("copy")
    for folder in ("proto", "worker", "controller", "docs/reference/kinds"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in SHOWN.items():
        if name != ENVELOPE:
            assert not (root / name).exists(), name
            (root / name).write_text(text, encoding="utf-8")
    _add_lines(root / ENVELOPE, *SHOWN[ENVELOPE].splitlines())
    subprocess.run([sys.executable, "-I", str(root / "proto/generate.py")], check=True, timeout=120, cwd=root)
    return root


def _add_lines(path: Path, imported: str, spec: str, result: str) -> None:
    """Put the import behind the last one, and the others at the end of their oneofs."""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r'(?s)(.*\nimport "[^"]+";\n)', lambda match: f"{match[1]}{imported}\n", text, count=1)
    for oneof, line in (("kind", spec), ("metrics", result)):
        text, count = re.subn(rf"(\n  oneof {oneof} {{\n[^}}]*\n)(  }})", rf"\g<1>{line}\n\g<2>", text)
        assert count == 1, oneof
    path.write_text(text, encoding="utf-8")


def test_the_page_names_every_file_that_changes(copy: Path) -> None:
    """What is written by hand, and what `make proto` writes: no other file differs."""
    names = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    names = {name for name in names if "__pycache__" not in name}
    different = {
        name
        for name in names
        if not (ROOT / name).exists() or (copy / name).read_bytes() != (ROOT / name).read_bytes()
    }
    written = set(re.findall(r"^- `((?:proto|docs/reference)/[\w./]+)`$", PAGE, re.MULTILINE))
    assert different == written | set(SHOWN)


def test_the_kind_of_the_page_runs_and_everybody_knows_it(copy: Path) -> None:
    """Validated, measured, told as what it is, stored in columns of the contract, explained."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", USE, str(copy)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["statuses"] == ["STATUS_OK", "STATUS_FAILED", "STATUS_FAILED", "STATUS_OK"]
    assert found["reasons"][1:3] == ["FAILURE_REASON_TIMED_OUT", "FAILURE_REASON_REFUSED"]
    assert 0 < found["rtt_ms"][0] < 200
    assert found["rtt_ms"][1:] == [None, None, None]
    assert "spec.port: 70000" in found["refused"]
    assert found["available"]
    assert {"job_id", "status", "rtt_ms", "bytes_sent", "bytes_received"} <= set(found["columns"])
    assert {"rollup_echo_5m", "rollup_echo_1h", "rollup_echo_1d"} == set(found["tables"])
    assert found["manual"][0] == "One datagram to a UDP echo service, which sends it back."
    assert found["suites"]


def test_the_migration_of_the_page_is_what_the_contract_says(copy: Path) -> None:
    """The page's program prints the new kind's tables and no others."""
    (code,) = re.findall(r"<<'END' > \S+\n(.*?)^END$", PAGE, re.MULTILINE | re.DOTALL)
    paths = f"import sys; sys.path[:0] = [{str(copy)!r}, {str(copy / 'proto')!r}]\n"
    printed = subprocess.run(
        [sys.executable, "-I", "-c", paths + code, "echo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    made = re.findall(r"^CREATE TABLE (\w+) \($", printed, re.MULTILINE)
    assert made == ["result_echo", "rollup_echo_5m", "rollup_echo_1h", "rollup_echo_1d"]
    assert re.search(r"^\s*rtt_ms DOUBLE PRECISION", printed, re.MULTILINE)
