"""Children are started, restarted with growing pauses, and stopped, also those that do not want to."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from controller.local.processes import Family, Program


def program(tmp_path: Path, code: str) -> Program:
    return Program(
        name="child",
        argv=(sys.executable, "-c", code),
        environment=dict(os.environ),
        log=tmp_path / "child.log",
    )


def watch_until(family: Family, wanted: object, within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not wanted():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not come about"
        family.watch()
        time.sleep(0.02)


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_child_that_is_killed_is_started_again(tmp_path: Path, said: list[str]) -> None:
    """A new process with the same program; the pause before it is said."""
    family = Family(say=said.append)
    family.start(program(tmp_path, "import time; time.sleep(60)"))
    child = family.children["child"]
    first = child.process.pid
    child.process.kill()
    watch_until(family, lambda: child.restarts == 1)
    assert child.process.pid != first
    assert any("by signal SIGKILL; next start in 0.5 s" in text for text in said)
    family.stop()
    assert not psutil.pid_exists(child.process.pid)


def test_pauses_grow_while_a_child_keeps_failing(tmp_path: Path, said: list[str]) -> None:
    """0.5 s, then 1 s; the log's last lines tell why."""
    family = Family(say=said.append)
    family.start(program(tmp_path, "raise SystemExit('no such thing')"))
    watch_until(family, lambda: sum("next start" in text for text in said) == 2)
    assert [text.split(";")[1] for text in said if "next start" in text] == [
        " next start in 0.5 s, log: " + str(tmp_path / "child.log"),
        " next start in 1 s, log: " + str(tmp_path / "child.log"),
    ]
    assert "no such thing" in (family.failed("child") or "")
    family.stop()


def test_pauses_start_anew_after_a_good_minute(tmp_path: Path, said: list[str]) -> None:
    """Killed again and again: the pause doubles; once the child has lived well for a minute it is half a second again."""
    family = Family(say=said.append)
    family.start(program(tmp_path, "import time; time.sleep(60)"))
    child = family.children["child"]
    for lived_s in (1.0, 59.0, 61.0, 1.0):
        child.started -= lived_s
        restarts = child.restarts
        child.process.kill()
        watch_until(family, lambda restarts=restarts: child.restarts == restarts + 1)
    family.stop()
    pauses = [text.split("next start in ")[1].split(",")[0] for text in said if "next start" in text]
    assert pauses == ["0.5 s", "1 s", "0.5 s", "1 s"]


def test_the_stubborn_are_killed(tmp_path: Path, said: list[str]) -> None:
    """SIGTERM first, SIGKILL when the patience ends."""
    family = Family(say=said.append)
    family.start(
        program(
            tmp_path,
            "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)",
        )
    )
    watch_until(family, lambda: "deaf" in (tmp_path / "child.log").read_text())
    pid = family.children["child"].process.pid
    family.stop(patience_s=0.3)
    assert not psutil.pid_exists(pid)
    assert any("is killed" in text for text in said)


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """Nothing is left behind when the supervisor itself gets kill -9."""
    code = """
import os, sys, time
from pathlib import Path
from controller.local.processes import Family, Program
family = Family(say=lambda text: None)
family.start(Program(name="child", argv=(sys.executable, "-c", "import time; time.sleep(60)"), environment=dict(os.environ), log=Path(sys.argv[1]) / "log"))
print(family.children["child"].process.pid, flush=True)
time.sleep(60)
"""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    child = psutil.Process(int(supervisor.stdout.readline()))
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
