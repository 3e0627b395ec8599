"""Ports, environments and patience for tests that start whole installations."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack


def free_port() -> int:
    """A port of loopback that nobody holds now."""
    return int(free_addresses(1)[0].rpartition(":")[2])


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback whose ports nobody holds now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{sock.getsockname()[1]}" for sock in sockets]


def clean_environment(**more: str) -> dict[str, str]:
    """Return this process's environment without what belongs to the tests' own installation."""
    foreign = ("STREAMSWARM_", "PYTEST", "VIRTUAL_ENV", "COV_", "MAKE", "MFLAGS", "GRPC_")
    return {**{name: value for name, value in os.environ.items() if not name.startswith(foreign)}, **more}


def wait_for(what: str, check: Callable[[], object], within_s: float) -> float:
    """Wait until `check` holds; returns the seconds that it took. Fails with `what` when it does not come about."""
    started = time.monotonic()
    while not check():
        assert time.monotonic() - started < within_s, f"{what} did not come about within {within_s:g} s"
        time.sleep(0.05)
    return time.monotonic() - started
