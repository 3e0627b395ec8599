"""Ports, folders, environments and patience for tests that start whole installations."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil

_MEMORY = Path("/dev/shm")
#: Free bytes from which on a database is kept in memory: several of them lie there beside each other.
_ROOM = 4 * 2**30


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


def database_folder(prefix: str = "streamswarm-test-") -> Path:
    """Make a folder for a PostgreSQL server, which any account may enter; the caller removes it.

    It lies in memory where there is room: servers and databases that last for one test are made several times as
    fast, and PostgreSQL does there what it does on a disk. Not below pytest's own folder, which only its user enters.
    """
    roomy = (
        os.access(_MEMORY, os.W_OK)
        and shutil.disk_usage(_MEMORY).free >= _ROOM
        and psutil.virtual_memory().available >= _ROOM
    )
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if roomy else None))
    folder.chmod(0o711)
    return folder


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
