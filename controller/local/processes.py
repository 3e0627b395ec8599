"""Child processes that are started, watched, restarted with growing pauses, and stopped."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from controller.programs import end_with_parent, ending

_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAP_NET_RAW = 13

#: Pause before a restart grows from the first to the second figure, seconds; it shrinks back after a steady minute.
_PAUSES = (0.5, 15.0)
_STEADY_S = 60.0
#: A log that is longer is begun anew; one older part is kept.
LOG_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class Program:
    """What to run."""

    name: str
    argv: tuple[str, ...]
    environment: dict[str, str]
    #: Standard output and error go to the end of this file.
    log: Path
    #: Keeps CAP_NET_RAW when the supervisor has it.
    raw_sockets: bool = False


@dataclass
class Child:
    """A program with its process, if it runs."""

    program: Program
    process: subprocess.Popen[bytes]
    started: float
    pause: float = _PAUSES[0]
    restart_at: float | None = None
    restarts: int = 0


@dataclass
class Family:
    """All children of a supervisor. Not thread-safe: one thread watches."""

    #: Told what happened, for the supervisor's log.
    say: Callable[[str], None]
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, program: Program) -> None:
        """Start a program; it is restarted when it ends by itself."""
        self.children[program.name] = Child(
            program=program, process=_spawn(program), started=time.monotonic()
        )
        self.say(f"{program.name} started with process id {self.children[program.name].process.pid}")

    def watch(self) -> None:
        """Look after every child once; call it several times a second."""
        now = time.monotonic()
        for child in self.children.values():
            if child.restart_at is not None:
                if now >= child.restart_at:
                    child.process = _spawn(child.program)
                    child.started, child.restart_at = now, None
                    child.restarts += 1
                    self.say(f"{child.program.name} restarted with process id {child.process.pid}")
                continue
            code = child.process.poll()
            if code is None:
                continue
            if now - child.started > _STEADY_S:
                child.pause = _PAUSES[0]
            child.restart_at = now + child.pause
            self.say(
                f"{child.program.name} ended {ending(code)}; next start in {child.pause:g} s, log: {child.program.log}"
            )
            child.pause = min(child.pause * 2, _PAUSES[1])

    def restart(self, names: set[str]) -> None:
        """End the named children; `watch` starts them again at once."""
        for name in names & self.children.keys():
            self._end([self.children[name]], 10.0)
            self.children[name].restart_at = time.monotonic()

    def failed(self, name: str) -> str | None:
        """Return the last lines of a child's log when it has ended, else None."""
        child = self.children[name]
        if child.restart_at is None and child.process.poll() is None:
            return None
        try:
            lines = child.program.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            return str(error)
        return "\n".join(lines[-5:])

    def stop(self, names: tuple[str, ...] = (), *, patience_s: float = 15.0) -> None:
        """End the named children, or all in reverse order of their start; the stubborn are killed."""
        chosen = [child for name, child in self.children.items() if not names or name in names]
        self._end(list(reversed(chosen)), patience_s)
        for child in chosen:
            del self.children[child.program.name]

    def _end(self, children: list[Child], patience_s: float) -> None:
        for child in children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + patience_s
        for child in children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{child.program.name} did not end within {patience_s:g} s and is killed")
                child.process.kill()
                child.process.wait()


def rotate(folder: Path, *, limit: int = LOG_LIMIT) -> None:
    """Begin every log in the folder anew that has grown beyond the limit, keeping one older part.

    The processes go on writing to the same files, which they have opened for appending.
    """
    for path in folder.glob("*.log"):
        if path.stat().st_size > limit:
            shutil.copyfile(path, path.with_suffix(".log.1"))
            os.truncate(path, 0)


def _spawn(program: Program) -> subprocess.Popen[bytes]:
    program.log.parent.mkdir(parents=True, exist_ok=True)
    with program.log.open("ab") as log:
        return subprocess.Popen(
            program.argv,
            env=program.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=_in_child_with_raw_sockets if program.raw_sockets else _in_child,
        )


def keep_rights_to_myself() -> None:
    """See to it that no child inherits CAP_NET_RAW, unless its program asks for it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _in_child() -> None:
    """End with the supervisor, also when that is killed; have an own group, so that ^C reaches the supervisor only."""
    os.setpgid(0, 0)
    end_with_parent(signal.SIGTERM)


def _in_child_with_raw_sockets() -> None:
    """Hand CAP_NET_RAW on; where the supervisor has it not, the kernel refuses and the child does without."""
    _in_child()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_NET_RAW, 0, 0)
