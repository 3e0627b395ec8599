"""A crowd: many workers with real daemons and spools in one process, each with an account of what it has spooled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.installation import Installation
from support.spools import Ledger
from support.surroundings import clean_environment

from worker.identity import IdentityStore

_END_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """Workers that run."""

    #: What each has spooled, by its id.
    ledgers: Mapping[uuid.UUID, Ledger]
    _process: subprocess.Popen[bytes]
    _lines: Path

    def said(self) -> list[dict[str, Any]]:
        """What it has told of its acknowledgements so far; fails when it has ended by itself."""
        assert self._process.poll() is None, "the crowd has ended by itself"
        return [json.loads(line) for line in self._lines.read_text().splitlines()]

    def turn(self) -> None:
        """Let all workers end their sessions within a minute, and begin others."""
        self._process.send_signal(signal.SIGUSR1)


@contextmanager
def crowd(made: Installation, count: int, name: str = "crowd") -> Iterator[Crowd]:
    """Start so many workers that are enrolled already; they wait until there is a gateway. Each name is a process of its own."""
    folder = made.folder / name
    folder.mkdir()
    (folder / "policy.yaml").write_text("allow_loopback: true\n")
    ledgers: dict[uuid.UUID, Ledger] = {}
    for number in range(count):
        worker = f"{name}-{number}"
        identity = made.enrolled(worker)
        IdentityStore(folder / worker / "identity").save(identity)
        ledgers[uuid.UUID(identity.worker_id)] = Ledger.begin(folder / worker / "spool.sqlite")
    lines = made.folder / f"{name}.jsonl"
    with lines.open("wb") as output, (made.folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("crowd_process.py")), str(folder)],
            env=clean_environment(),
            stdout=output,
            stderr=log,
        )
    try:
        yield Crowd(ledgers=ledgers, _process=process, _lines=lines)
    finally:
        process.terminate()
        process.wait(_END_S)
