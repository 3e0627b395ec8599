"""Dead servers whose processes fall to the caller: not running, reaped, started again at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.surroundings import database_folder

USER = "nobody" if os.geteuid() == 0 else ""

#: Runs in a process of its own, to which orphans fall as they do to process 1 of a container.
_PRELUDE = """
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path
import psutil
from controller.store.embedded import EmbeddedPostgres
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
server = EmbeddedPostgres(Path(sys.argv[1]), user=sys.argv[2] or None)
def zombies():
    found = psutil.Process().children()
    return [child.pid for child in found if child.status() == psutil.STATUS_ZOMBIE]
def kill():
    pid = server.status().pid
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while pid not in zombies():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return pid
try:
    server.start()
    assert psutil.Process(server.status().pid).ppid() == os.getpid()
{body}
finally:
    server.stop()
assert not zombies(), zombies()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's user can get at."""
    path = database_folder()
    yield path
    shutil.rmtree(path)


def run(folder: Path, body: str) -> None:
    """Run statements with `server` started, in a process to which its orphans fall."""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    done = subprocess.run(
        [sys.executable, "-c", _PRELUDE.replace("{body}", indented), str(folder), USER],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_dead_child_is_no_running_server(folder: Path) -> None:
    """Killed with kill -9, a postmaster that is the caller's child is not running, is reaped, and starts again."""
    run(
        folder,
        """
for _ in range(2):
    dead = kill()
    assert not server.status().running
    assert dead not in zombies()
    server.start()
    assert server.status().running
    assert not zombies()
kill()
server.start()
""",
    )


def test_other_children_are_left_to_who_waits_for_them(folder: Path) -> None:
    """A dead child that is no process of a server keeps its exit code for whoever started it."""
    run(
        folder,
        """
other = subprocess.Popen(["/bin/sh", "-c", "exit 7"], start_new_session=True)
named = Path(sys.argv[1]) / "postgres-like" / "postgres"
named.parent.mkdir()
named.symlink_to("/bin/false")
same_name = subprocess.Popen([str(named)])
while len(zombies()) < 2:
    time.sleep(0.01)
kill()
assert not server.status().running
server.start()
assert (other.wait(), same_name.wait()) == (7, 1)
""",
    )


def test_an_ending_process_of_a_server_is_waited_for(folder: Path) -> None:
    """While the kernel takes it apart it has no folder any more and is not yet dead; then nobody would reap it."""
    run(
        folder,
        """
from controller.store.embedded import processes
named = Path(sys.argv[1]) / "postgres-like" / "postgres"
named.parent.mkdir()
named.symlink_to("/bin/sleep")
ending = subprocess.Popen([str(named), "0.5"], start_new_session=True)
psutil.Process.cwd, cwd = lambda self: "" if self.pid == ending.pid else cwd(self), psutil.Process.cwd
processes.reap()
assert not psutil.pid_exists(ending.pid)
""",
    )


def test_looking_is_cheap(folder: Path) -> None:
    """A look takes a few milliseconds of processor time, running or not; a start of a running server starts no program."""
    run(
        folder,
        """
def cost():
    before = time.process_time()
    for _ in range(100):
        server.status()
    return (time.process_time() - before) / 100
assert cost() < 0.005
run, subprocess.run = subprocess.run, None
server.start()
subprocess.run = run
server.stop()
assert cost() < 0.005
""",
    )
