"""The role's module that brings several files of a host into their state in one go."""

from __future__ import annotations

import grp
import json
import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import programs

MODULE = Path(__file__).parents[3] / "playbooks/roles/worker/library/streamswarm_files.py"
USER, GROUP = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name


@pytest.fixture(scope="module")
def files() -> ModuleType:
    """The module."""
    return programs.load(MODULE)


def _entry(path: Path, content: str | None = None, mode: str = "0640", **more: str) -> dict[str, Any]:
    known = {"path": str(path), "content": content, "target": None}
    return known | {"owner": USER, "group": GROUP, "mode": mode, **more}


def _bring(files: Any, entry: dict[str, Any]) -> bool:
    """Do what the module does for one entry; returns whether that changed something."""
    meant, found = files.wanted(entry, check=False), files.state(entry["path"])
    if meant != found:
        files.make(entry["path"], meant, found)
    return bool(meant != found)


def test_a_second_time_changes_nothing(files: ModuleType, tmp_path: Path) -> None:
    """Folders and files are made with their modes, mended where they differ, and then left alone."""
    folder, file = tmp_path / "conf", tmp_path / "conf" / "policy.yaml"
    entries = [_entry(folder, mode="0750"), _entry(file, "deny: []\n")]
    assert [_bring(files, entry) for entry in entries] == [True, True]
    assert [_bring(files, entry) for entry in entries] == [False, False]
    assert (oct(folder.stat().st_mode), oct(file.stat().st_mode)) == ("0o40750", "0o100640")
    file.write_text("deny: [all]\n")
    folder.chmod(0o777)
    assert [_bring(files, entry) for entry in entries] == [True, True]
    assert file.read_text() == "deny: []\n"
    assert [path.name for path in folder.iterdir()] == ["policy.yaml"]


def test_line_ends_are_compared_as_they_are(files: ModuleType, tmp_path: Path) -> None:
    """A file with other line ends is another file."""
    file = tmp_path / "unit"
    file.write_bytes(b"[Unit]\r\n")
    file.chmod(0o640)
    assert _bring(files, _entry(file, "[Unit]\n"))
    assert file.read_bytes() == b"[Unit]\n"


def test_no_link_is_followed(files: ModuleType, tmp_path: Path) -> None:
    """What a link leads to stays as it is, and the link is named."""
    (tmp_path / "elsewhere").write_text("theirs")
    (tmp_path / "ca.pem").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(files.Refused, match=r"ca\.pem is a link and shall be a file"):
        _bring(files, _entry(tmp_path / "ca.pem", "ours"))
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_a_link_is_moved_and_nothing_else_is_made_one(files: ModuleType, tmp_path: Path) -> None:
    """It leads elsewhere from one moment to the next; a folder in its place stays."""
    link = tmp_path / "current"
    assert _bring(files, _entry(link, target="releases/1"))
    assert not _bring(files, _entry(link, target="releases/1"))
    assert _bring(files, _entry(link, target="releases/2"))
    assert str(link.readlink()) == "releases/2"
    assert list(tmp_path.iterdir()) == [link]
    (tmp_path / "folder").mkdir()
    with pytest.raises(files.Refused, match="is a folder and shall be a link"):
        _bring(files, _entry(tmp_path / "folder", target="releases/2"))


def test_what_is_neither_file_nor_folder_nor_link_stays(files: ModuleType, tmp_path: Path) -> None:
    """A pipe, say."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.Refused, match="neither file, folder nor link"):
        _bring(files, _entry(tmp_path / "pipe", "text"))


def test_a_folder_in_the_way_of_a_file_is_told(files: ModuleType, tmp_path: Path) -> None:
    """And the other way round; nothing is removed."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("")
    with pytest.raises(files.Refused, match="is a folder and shall be a file"):
        _bring(files, _entry(tmp_path / "a", "text"))
    with pytest.raises(files.Refused, match="is a file and shall be a folder"):
        _bring(files, _entry(tmp_path / "b"))


def test_an_account_that_is_missing_is_told_but_in_a_check_run(files: ModuleType, tmp_path: Path) -> None:
    """A check run on a fresh host only says what would change."""
    entry = _entry(tmp_path / "a", "text", owner="nobody-of-that-name")
    with pytest.raises(files.Refused, match="no account `nobody-of-that-name`"):
        files.wanted(entry, check=False)
    assert files.wanted(entry, check=True)["uid"] is None


def test_a_difference_shows_text_owner_and_mode(files: ModuleType, tmp_path: Path) -> None:
    """As `--diff` prints it, for a file that is not there yet too."""
    file = tmp_path / "policy.yaml"
    meant = files.wanted(_entry(file, "deny: []\n"), check=False)
    shown = files.difference(str(file), meant, None)
    assert shown["before"] == ""
    assert shown["after"].endswith("mode: 0640\ndeny: []\n")
    assert shown["after_header"] == str(file)


#: Makes the entry that it is given, and is killed or held up at a call of the system's.
_MAKING = """
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import streamswarm_files as files
entry = json.loads(sys.argv[2])
def cut(*_):
    if sys.argv[4] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    print("there", flush=True)
    sys.stdin.read()
where, name = {"fsync": (os, "fsync"), "replace": (Path, "replace")}[sys.argv[3]]
real = getattr(where, name)
setattr(where, name, lambda *given: (cut(), real(*given))[1])
files.make(entry["path"], files.wanted(entry, check=False), files.state(entry["path"]))
"""


def _making(entry: dict[str, Any], *, at: str, then: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _MAKING, str(MODULE), json.dumps(entry), at, then]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_run_left_is_told_and_cleared(files: ModuleType, tmp_path: Path) -> None:
    """A file that holds a secret and has no name yet, and a link; what is anybody else's stays."""
    (tmp_path / "mine.txt").write_text("theirs")
    (tmp_path / ".streamswarm-folder").mkdir()
    for entry, at in (
        (_entry(tmp_path / "worker.yaml", "responder_key: s3cret\n"), "fsync"),
        (_entry(tmp_path / "current", target="releases/1"), "replace"),
    ):
        with _making(entry, at=at, then="kill") as process:
            assert process.wait(timeout=60) == -signal.SIGKILL
    left = [str(path) for path in tmp_path.glob(".streamswarm-*") if not path.is_dir()]
    assert len(left) == 2
    assert files.abandoned(str(tmp_path)) == sorted(left)
    assert files.abandoned(str(tmp_path), clear=True) == sorted(left)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".streamswarm-folder", "mine.txt"]
    assert files.abandoned(str(tmp_path)) == []
    assert files.abandoned(str(tmp_path / "nowhere"), clear=True) == []


def test_what_is_written_at_this_moment_is_not_taken_for_abandoned(files: ModuleType, tmp_path: Path) -> None:
    """A file stays until it has its name; a link that was cleared is made again."""
    file, link = _entry(tmp_path / "worker.yaml", "url: x\n"), _entry(tmp_path / "current", target="to")
    with _making(file, at="fsync", then="wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert len(list(tmp_path.iterdir())) == 1
        assert files.abandoned(str(tmp_path), clear=True) == []
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert (tmp_path / "worker.yaml").read_text() == "url: x\n"
    with _making(link, at="replace", then="wait") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        assert len(files.abandoned(str(tmp_path), clear=True)) == 1
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["current", "worker.yaml"]
    assert str((tmp_path / "current").readlink()) == "to"


def test_what_a_service_did_not_start_with_is_not_in_force(files: ModuleType, tmp_path: Path) -> None:
    """A file that is right on the disk and that the service read as it was before, or never; of a link, the release behind it."""
    policy, link, notes = tmp_path / "policy.yaml", tmp_path / "current", tmp_path / "started-with"
    for version in ("1", "2"):
        (tmp_path / "releases" / version).mkdir(parents=True)
        (tmp_path / "releases" / version / "release.json").write_text(version)
    entries = [_entry(policy, "deny: []\n"), _entry(link, target="releases/1"), _entry(tmp_path)]
    for entry in entries[:2]:
        _bring(files, entry)
    meant = {entry["path"]: files.wanted(entry, check=False) for entry in entries}

    def outdated() -> list[str]:
        started = files.digests(str(notes))
        return [Path(path).name for path in meant if not files.in_force(path, meant[path], started)]

    assert outdated() == ["policy.yaml", "current"]
    noted = subprocess.run(["sha256sum", policy, link / "release.json"], capture_output=True, check=True)
    notes.write_bytes(noted.stdout)
    assert outdated() == []
    meant[str(policy)]["content"] = "deny: [all]\n"
    meant[str(link)]["target"] = "releases/2"
    assert outdated() == ["policy.yaml", "current"]


def test_what_stands_for_a_services_notes_is_not_followed(files: ModuleType, tmp_path: Path) -> None:
    """They lie in a folder of the service's account."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(files.Refused, match="is no file"):
        files.digests(str(tmp_path / "pipe"))
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(OSError, match="symbolic links"):
        files.digests(str(tmp_path / "link"))
