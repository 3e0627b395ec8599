"""What a killed supervisor has left: children that are still on their way out."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from controller.programs import module_command
from controller.settings import PREFIX

#: Modules that the supervisor starts as programs.
PROGRAMS = ("controller.gateway", "controller.keeper", "web", "controller.local.resolver", "worker")


def find(data_dir: Path) -> list[psutil.Process]:
    """Return the supervisor's programs that run with this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            ours = any(words[1:4] == module_command(name)[1:] for name in PROGRAMS)
            if ours and process.environ().get(PREFIX + "DATA_DIR") == str(data_dir):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait(processes: list[psutil.Process], *, within_s: float) -> list[psutil.Process]:
    """Wait for processes to end; return those that have not. What has ended and waits to be reaped has ended."""
    deadline = time.monotonic() + within_s
    while alive := [process for process in processes if _runs(process)]:
        if time.monotonic() > deadline:
            return alive
        time.sleep(0.05)
    return []


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
