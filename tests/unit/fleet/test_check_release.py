"""The program that says whether a release on a host is as it was unpacked."""

from __future__ import annotations

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support import programs

from controller.fleet import archive

FILES = Path(__file__).parents[3] / "playbooks/roles/worker/files"
ALL = ["bin/streamswarm-worker", "lib/worker/__init__.py", "lib/worker/session.py", "release.json"]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A release that was just unpacked."""
    tree = tmp_path / "tree"
    (tree / "lib/worker").mkdir(parents=True)
    (tree / "bin").mkdir()
    for name in ALL[:-1]:
        (tree / name).write_text("ANSWER = 42\n")
    described = {"python": platform.python_version().rstrip("+"), "architecture": platform.machine()}
    (tree / "release.json").write_text(json.dumps({"version": "1.0", **described}))
    packed = tmp_path / "bundle.tar.gz"
    archive.pack(tree, packed)
    releases = tmp_path / "releases"
    unpacked = programs.load(FILES / "unpack_release.py").unpack(
        packed, archive.file_hash(packed), releases, 0, "1.0"
    )
    assert isinstance(unpacked, Path)
    return unpacked


def _said(release: Path) -> dict[str, Any]:
    """Run the program as Ansible does."""
    command = ["/usr/bin/python3", "-c", (FILES / "check_release.py").read_text(), release]
    said = json.loads(subprocess.check_output(command))
    assert isinstance(said, dict)
    return said


def test_a_release_as_unpacked_is_whole(release: Path) -> None:
    """With what was compiled on the host and the first line that its programs got there; sha256sum(1) agrees."""
    assert list((release / "lib/worker/__pycache__").iterdir())
    assert _said(release) == {"damaged": [], "more": 0}
    subprocess.run(["sha256sum", "--check", "--quiet", "files.sha256"], cwd=release, check=True)


def test_a_missing_and_a_changed_file_are_named(release: Path) -> None:
    """Also one whose size is as before, and one that cannot be read as a file."""
    (release / ALL[0]).unlink()
    (release / ALL[1]).write_text("ANSWER = 43\n")
    (release / ALL[2]).unlink()
    (release / ALL[2]).mkdir()
    assert _said(release) == {"damaged": ALL[:3], "more": 0}
    (release / ALL[3]).unlink()
    assert _said(release) == {"damaged": ALL[:3], "more": 1}


@pytest.mark.parametrize("kept", [0, 1])
def test_a_list_that_is_cut_off_is_damage(release: Path, kept: int) -> None:
    """As a power cut may leave it; what it still names is right."""
    path = release / "files.sha256"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    assert _said(release) == {"damaged": ["files.sha256"], "more": 0}


def test_a_release_without_a_list_is_damage(release: Path) -> None:
    """It cannot be told what is in it."""
    (release / "files.sha256").unlink()
    assert _said(release) == {"damaged": ["files.sha256"], "more": 0}
