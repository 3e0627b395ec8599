"""A responder of marks beside somebody who repeats what he has seen of others: nobody is starved, nothing is made up."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.longer import FAR, Path4
from integration.probes.marked import PORT, responding, rows
from integration.probes.peers import Probe

pytestmark = pytest.mark.namespaces

#: Packets that are repeated each second: many times what a responder answers.
RATE = 6_000
ASKED = {
    "classes": ["EF", "AF41", "CS0"], "count": 5, "interval_ms": 20, "timeout_ms": 300, "trace": False, "ecn": False,
    "expected": ["EF=EF", "AF41=AF41", "CS0=CS0"], "far_end_port": PORT,
}  # fmt: skip


@contextlib.contextmanager
def replaying(path4: Path4, told: list[int]) -> Iterator[None]:
    """Have the last router repeat all that goes to the responder; `told` gets how much it saw, and sent."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [
        "ip", "netns", "exec", path4.second.name,
        sys.executable, str(Path(__file__).with_name("replayer.py")), "sw2b", str(PORT), str(RATE),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        try:
            yield
            process.stdin.close()
            told += map(int, process.stdout.read().split())
        finally:
            process.kill()


def answers(path4: Path4) -> int:
    """Return how many packets the responder has sent; the first call begins to count."""
    path4.far.run("nft", "add table ip c")
    path4.far.run("nft", "add counter ip c answers")
    path4.far.run("nft", "add chain ip c o { type filter hook output priority 0; }")
    if "answers" not in path4.far.run("nft", "list chain ip c o").stdout:
        path4.far.run("nft", f"add rule ip c o udp sport {PORT} counter name answers")
    listed = path4.far.run("nft", "list counter ip c answers").stdout.split()
    return int(listed[listed.index("packets") + 1])


async def test_a_flood_of_repeated_packets_starves_nobody(path4: Path4, keyed_probe: Probe) -> None:
    """Openings and what follows them, of earlier runs and of this one, repeated by thousands: each run has its answers."""
    assert answers(path4) == 0
    told: list[int] = []
    with path4.near.entered():
        async with responding(path4):
            with replaying(path4, told):
                outcomes = [await keyed_probe("qos", FAR["ipv4"], **ASKED) for _ in range(6)]
    for outcome in outcomes:
        assert "far_end" not in outcome.detail
        assert outcome.metrics.breaches == 0
        assert {(row.name, row.far_end_dscp, row.survived_pct) for row in rows(outcome.metrics).values()} == {
            ("EF", 46, 100), ("AF41", 34, 100), ("CS0", 0, 100),
        }  # fmt: skip
    seen, repeated = told
    assert repeated > 1_000
    assert answers(path4) <= seen, "what is repeated has no answer"
