"""The bare server as the benchmarks start it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from bench.swarm.world import World
from support.surroundings import clean_environment

from controller.gateway.authority import Authority

_TESTS = Path(__file__).parents[2]


class BareServer:
    """A server that holds streams and does nothing else."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self.process = psutil.Process(process.pid)
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def say(self, message: bytes) -> None:
        """Write a message to all streams."""
        assert self._process.stdin is not None
        self._process.stdin.write(message.hex() + "\n")
        self._process.stdin.flush()


@contextmanager
def bare_server(world: World, *, port: int = 0) -> Iterator[BareServer]:
    """Run one with the gateway's own certificate, until it is killed at the end."""
    authority = Authority(world.deployment.settings)
    identity = authority.server_identity()
    parts = {"key": identity.key_pem, "chain": identity.chain_pem, "ca": authority.bundle_pem}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.swarm.bare"],
        env=clean_environment(PYTHONPATH=str(_TESTS)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        first = {name: part.decode() for name, part in parts.items()}
        process.stdin.write(json.dumps({**first, "port": port}) + "\n")
        process.stdin.flush()
        yield BareServer(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()
