"""The example name server as a process, asked by dig."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from support.surroundings import free_addresses


@pytest.mark.parametrize("transport", ["+notcp", "+tcp"])
def test_dig_gets_the_answer(transport: str) -> None:
    """Over UDP and over TCP; SIGTERM ends it at once."""
    host, _, port = free_addresses(1)[0].rpartition(":")
    server = subprocess.Popen([sys.executable, "-m", "controller.local.resolver", host, port])
    try:
        command = [
            "dig",
            f"@{host}",
            "-p",
            port,
            transport,
            "+short",
            "+tries=1",
            "+time=1",
            "streamswarm.test",
            "A",
        ]
        for _ in range(20):
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=20, check=False
            ).stdout.strip()
            if answer == "127.0.0.1":
                break
            time.sleep(0.2)
        assert answer == "127.0.0.1"
    finally:
        server.terminate()
        assert server.wait(10) == 0
