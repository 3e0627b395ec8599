"""The programs that run jobs in a folder of their own on a host, and clear it away."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "playbooks/roles/worker/files"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's folder, with something in it."""
    made = tmp_path / "streamswarm-once-ab-x1"
    made.mkdir()
    (made / "bundle.tar.gz").touch()
    return made


def _once(
    folder: Path, *command: str, jobs: str = "", key: str = "", previous: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", (FILES / "once.sh").read_text(), "sh", str(folder), *command],
        env={
            "PATH": "/usr/bin:/bin",
            "STREAMSWARM_ONCE_POLICY": '{"deny": ["192.0.2.0/24"]}',
        },
        input=f"{key}\n{previous}\n{jobs}",
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def _end(folder: Path, account: int | None = None) -> subprocess.CompletedProcess[str]:
    start = folder.parent / "streamswarm-once-ab-"
    whose = str(os.getuid() if account is None else account)
    return subprocess.run(
        ["sh", "-c", (FILES / "end_once.sh").read_text(), "sh", str(start), whose],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_jobs_go_in_and_results_come_out_and_the_folder_is_gone(folder: Path) -> None:
    """The command works in the folder, with the policy there, its input and output untouched, its status kept."""
    seen = 'cat policy.yaml; stat -c %a policy.yaml; echo "$TMPDIR $STREAMSWARM_ONCE_POLICY"; cat; exit 1'
    done = _once(folder, "sh", "-c", seen, jobs="{}\n")
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == ['{"deny": ["192.0.2.0/24"]}', "600", f"{folder} ", "{}"]
    assert not folder.exists()


def test_the_key_of_responders_is_handed_on_as_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is added to the command; no process has the key in its environment or among its words."""
    seen = 'shift; echo "$*"; cat "$2"; stat -c %a "$2"; env'
    done = _once(folder, "sh", "-c", seen, "sh", "--policy", key="a key that all workers share")
    words, key, mode, *environment = done.stdout.splitlines()
    assert words == f"--responder-key-file {folder}/responder.key"
    assert (key, mode) == ("a key that all workers share", "600")
    assert not any("a key" in line for line in environment)


def test_the_previous_key_stands_below_it(folder: Path) -> None:
    """While a key is being replaced; the jobs begin after both."""
    done = _once(
        folder, "sh", "-c", 'shift; cat "$2"; cat', "sh", "-", jobs="{}\n", key="new", previous="old"
    )
    assert done.stdout.splitlines() == ["new", "old", "{}"]


def test_a_folder_that_is_gone_runs_nothing(tmp_path: Path) -> None:
    """It was cleared away meanwhile: nothing is started."""
    done = _once(tmp_path / "gone", "echo", "started")
    assert done.returncode == 120
    assert "started" not in done.stdout


def test_clearing_ends_what_works_there_and_nothing_else(folder: Path) -> None:
    """Processes in the folder, one of them deaf to SIGTERM, are ended; neighbours and their folders stay."""
    other = folder.parent / "streamswarm-once-cd-x1"
    other.mkdir()
    deaf = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], cwd=folder, stdout=-1
    )
    quick = subprocess.Popen(["sleep", "60"], cwd=folder)
    neighbour = subprocess.Popen(["sleep", "60"], cwd=other)
    try:
        assert deaf.stdout is not None
        deaf.stdout.readline()
        started = time.monotonic()
        done = _end(folder)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert time.monotonic() - started < 15
        assert not folder.exists()
        assert other.exists()
        assert (deaf.wait(5), quick.wait(5)) == (-9, -15)
        assert neighbour.poll() is None
    finally:
        for process in (deaf, quick, neighbour):
            process.kill()
            process.wait()
        if deaf.stdout is not None:
            deaf.stdout.close()


def test_clearing_follows_no_link(folder: Path) -> None:
    """A link of that name goes, and what it leads to stays."""
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    link = folder.parent / "streamswarm-once-ab-link"
    link.symlink_to(elsewhere)
    assert _end(folder).returncode == 0
    assert not link.is_symlink()
    assert (elsewhere / "file").exists()


def test_where_there_is_nothing_clearing_does_nothing(tmp_path: Path) -> None:
    """As on a host that the run never came to."""
    assert _end(tmp_path / "streamswarm-once-ab-none").returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["||;1e touch ran;#", "$(touch ran)", "[a-z]* .\\", "a b\n"])
def test_names_of_folders_are_text(tmp_path: Path, name: str) -> None:
    """Whoever may write beside the run's folder names theirs as a program, of sed's or the shell's: nothing runs."""
    folder = tmp_path / f"streamswarm-once-ab-{name}"
    folder.mkdir()
    working = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        done = _end(folder)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert working.wait(5) == -15
        assert list(tmp_path.iterdir()) == []
    finally:
        working.kill()
        working.wait()


def test_processes_are_in_a_folder_only_by_its_exact_path(folder: Path) -> None:
    """Neither in one whose name goes on, nor in one whose name has the other's path after a line's end."""
    others = [
        folder.with_name(f"{folder.name}2"),
        folder.with_name(f"{folder.name}\n"),
        folder.parent / f"a\nl 0 /proc/1/cwd -> {str(folder)[1:]}",
    ]
    for other in others:
        other.mkdir(parents=True)
    beside = [subprocess.Popen(["sleep", "60"], cwd=other) for other in others]
    within = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        # The other two begin as the run's do, so only this one is asked for.
        program = (FILES / "end_once.sh").read_text().replace('"$1"*', '"$1"')
        done = subprocess.run(["sh", "-c", program, "sh", folder, str(os.getuid())], check=False, timeout=20)
        assert done.returncode == 0
        assert within.wait(5) == -15
        assert [process.poll() for process in beside] == [None, None, None]
    finally:
        for process in (*beside, within):
            process.kill()
            process.wait()


def test_folders_of_other_accounts_are_left_alone(folder: Path) -> None:
    """Of that name, but made by somebody else: it stays, and what works there goes on."""
    working = subprocess.Popen(["sleep", "60"], cwd=folder)
    try:
        assert _end(folder, account=os.getuid() + 1).returncode == 0
        assert folder.exists()
        assert working.poll() is None
    finally:
        working.kill()
        working.wait()
