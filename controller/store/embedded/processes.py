"""Which processes of a cluster run, and what a killed server leaves behind."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import psutil

from controller.store.embedded.files import SOCKET_FILE

_ORPHAN_SECONDS = 15
_END_SECONDS = 5


def postmaster(cluster: Path) -> int | None:
    """Return the process id of the cluster's postmaster; None when it does not run, dead and not yet reaped included."""
    pid = _noted_pid(cluster)
    return pid if pid is not None and _is_of(pid, cluster) else None


def await_end(pid: int, cluster: Path) -> None:
    """Wait until a postmaster that has given up its lock file is gone, and reap it if it is the caller's child."""
    deadline = time.monotonic() + _END_SECONDS
    while _is_of(pid, cluster) and time.monotonic() < deadline:
        time.sleep(0.02)
    reap()


def reap() -> None:
    """Reap the dead processes of servers that have become the caller's children.

    That happens to process 1 of a container and to subreapers. Every process of a server leads a session of its
    own, which tells them from programs that the caller has started and waits for elsewhere. One that is ending is
    waited for: for a moment it has no folder any more, and is not yet dead.
    """
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            ending = child.status() == psutil.STATUS_ZOMBIE or not child.cwd()
            if ending and child.name() == "postgres" and os.getsid(child.pid) == child.pid:
                child.wait(_END_SECONDS)


def forget_stale_locks(cluster: Path, socket_dir: Path) -> None:
    """Remove the lock files that a killed server left behind, once the last of its processes is gone.

    PostgreSQL takes a process number that was given to another program, or that nobody has reaped yet, for a
    running server. Its other processes outlive it by a moment; all of them work in the cluster's folder. While
    any is left the files stay, because they are what keeps a second server from the same data.
    """
    deadline = time.monotonic() + _ORPHAN_SECONDS
    while _has_processes(cluster):
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
    reap()
    for lock in (cluster / "postmaster.pid", socket_dir / f"{SOCKET_FILE}.lock"):
        lock.unlink(missing_ok=True)


def _noted_pid(cluster: Path) -> int | None:
    try:
        first = (cluster / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0]
    except (FileNotFoundError, PermissionError):
        return None
    return int(first) if first.strip().isdigit() else None


def _is_of(pid: int, cluster: Path) -> bool:
    """Return whether that process is the postmaster of the cluster, and not another with a reused id."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            if process.ppid() == os.getpid():
                reap()
            return False
        return process.cwd() == str(cluster.resolve())
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _has_processes(cluster: Path) -> bool:
    folder = str(cluster.resolve())
    return any(
        process.info["cwd"] == folder and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cwd", "status"])
    )
