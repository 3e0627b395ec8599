"""Processes as the laboratory remembers them: by number and start time, so that a reused number is never taken."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class ProcessMark:
    """One process of one boot of the machine."""

    #: The process number.
    pid: int
    #: When it started, in clock ticks since the machine booted.
    started: int
    #: Which boot of the machine that was.
    boot: str

    @classmethod
    def of(cls, pid: int) -> ProcessMark | None:
        """Return the mark of a living process, or None when there is none of that number."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        if fields[0] in "ZX":
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return cls(pid=pid, started=int(fields[19]), boot=boot)

    @classmethod
    def load(cls, path: Path) -> ProcessMark | None:
        """Return the mark that was saved at `path`, or None when nothing (whole) was."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def save(self, path: Path) -> None:
        """Write the mark to `path`."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def alive(self) -> bool:
        """Say whether this very process still runs."""
        return ProcessMark.of(self.pid) == self

    def kill(self) -> None:
        """End this very process at once, if it still runs."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


def init_of_container(pid: int) -> ProcessMark | None:
    """Return the mark of a process that is the first of a process namespace of its own; None for any other."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    [numbers] = [line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")]
    return ProcessMark.of(pid) if len(numbers) > 1 and numbers[-1] == "1" else None


def end_all(pids: Iterable[int], *, patience: float) -> None:
    """Ask the processes to end, and end those that have not done so after `patience` seconds."""
    marks = [mark for mark in map(ProcessMark.of, pids) if mark is not None]
    for mark in marks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(mark.pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while any(mark.alive() for mark in marks) and time.monotonic() < deadline:
        time.sleep(0.02)
    for mark in marks:
        mark.kill()
