"""How the controller starts modules of its own environment as programs."""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def module_command(name: str, *arguments: str, python: str | None = None) -> list[str]:
    """Return the command that runs a module of this environment, wherever one stands.

    Without `-P` a folder `web` or `worker` in which somebody happens to stand would be run instead of ours.
    """
    return [python or sys.executable, "-P", "-m", name, *arguments]


def end_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel end this process when the thread that started it ends; Linux only, OSError where it refuses."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(by), 0, 0, 0):
            raise OSError(ctypes.get_errno(), "to end with the parent is refused")


def ending(code: int) -> str:
    """Return how a process ended, in words, from the code that `subprocess` gives."""
    return f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
