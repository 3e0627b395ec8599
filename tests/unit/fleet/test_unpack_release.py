"""The program that turns a bundle into a release on a host."""

from __future__ import annotations

import io
import json
import os
import platform
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import programs

from controller.fleet import archive

PROGRAM = Path(__file__).parents[3] / "playbooks/roles/worker/files/unpack_release.py"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    """The program as a module."""
    return programs.load(PROGRAM)


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    """An empty folder for releases."""
    folder = tmp_path / "install" / "releases"
    folder.mkdir(parents=True)
    return folder


def _bundle(folder: Path, version: str = "1.0+abc", /, **described: object) -> Path:
    tree = folder / f"tree-{version}"
    (tree / "lib/worker").mkdir(parents=True)
    (tree / "bin").mkdir()
    (tree / "lib/worker/__init__.py").write_text("ANSWER = 42\n")
    (tree / "bin/streamswarm-worker").write_text("print('here')\n")
    (tree / "bin/streamswarm-worker").chmod(0o755)
    here = {
        "python": platform.python_version().rstrip("+"),
        "architecture": platform.machine(),
        "libc": "glibc-2.36",
    }
    (tree / "release.json").write_text(json.dumps({"version": version} | here | described))
    packed = folder / "bundle.tar.gz"
    archive.pack(tree, packed)
    return packed


def _unpack(
    program: Any,
    packed: Path,
    releases: Path,
    *,
    version: str = "1.0+abc",
    keep: int = 2,
    sha256: str = "",
) -> Path:
    release = program.unpack(packed, sha256 or archive.file_hash(packed), releases, keep, version)
    assert isinstance(release, Path)
    return release


def test_a_bundle_becomes_a_compiled_release(program: ModuleType, releases: Path, tmp_path: Path) -> None:
    """Files and modes are as in the bundle, sources are compiled, the archive is gone and nothing half-made is left."""
    packed = _bundle(tmp_path)
    release = _unpack(program, packed, releases)
    assert release == releases / "1.0+abc"
    assert subprocess.check_output([release / "bin/streamswarm-worker"]) == b"here\n"
    assert list((release / "lib/worker/__pycache__").glob("__init__.*.pyc"))
    assert not packed.exists()
    assert [path.name for path in releases.iterdir()] == ["1.0+abc"]


@pytest.mark.parametrize(
    ("tag", "compiled"), [(sys.implementation.cache_tag, False), ("cpython-27", True), (None, True)]
)
def test_a_bundle_that_comes_compiled_for_this_python_is_not_compiled_again(
    program: ModuleType, releases: Path, tmp_path: Path, tag: str | None, compiled: bool
) -> None:
    """It is for every other."""
    release = _unpack(program, _bundle(tmp_path, compiled=tag), releases)
    assert (release / "lib/worker/__pycache__").exists() == compiled


def test_a_wrong_hash_changes_nothing(program: ModuleType, releases: Path, tmp_path: Path) -> None:
    """An archive with another hash is not unpacked, and the message names both."""
    packed = _bundle(tmp_path)
    with pytest.raises(program.UnpackError, match=f"not {'0' * 64}"):
        _unpack(program, packed, releases, sha256="0" * 64)
    assert list(releases.iterdir()) == []


@pytest.mark.parametrize("described", [{"python": "3.1.0"}, {"architecture": "vax"}])
def test_a_bundle_of_another_platform_is_refused(
    program: ModuleType, releases: Path, tmp_path: Path, described: dict[str, str]
) -> None:
    """A bundle for another Python or machine leaves nothing behind and says both platforms."""
    with pytest.raises(program.UnpackError, match="was built for"):
        _unpack(program, _bundle(tmp_path, **described), releases)
    assert list(releases.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/outside", tarfile.REGTYPE),
        ("link", tarfile.SYMTYPE),
        ("a/../../b", tarfile.REGTYPE),
    ],
)
def test_members_that_lead_outside_are_refused(
    program: ModuleType, releases: Path, tmp_path: Path, name: str, kind: bytes
) -> None:
    """Names with `..`, absolute names and links are no part of a bundle."""
    packed = tmp_path / "bundle.tar.gz"
    with tarfile.open(packed, "w:gz") as content:
        member = tarfile.TarInfo(name)
        member.type = kind
        member.linkname = "/etc/passwd"
        content.addfile(member, io.BytesIO(b""))
    with pytest.raises(program.UnpackError, match="no worker bundle has"):
        _unpack(program, packed, releases)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["install"]
    assert list(releases.iterdir()) == []


@pytest.mark.parametrize(
    "version", ["/abs", "../../kept", "..", ".", "", "1.0/../../kept", "1.0\n", "a1", None, 1]
)
@pytest.mark.parametrize("meant", ["the same", "1.0"])
def test_a_version_that_is_no_plain_name_is_refused(
    program: ModuleType, releases: Path, tmp_path: Path, version: Any, meant: str
) -> None:
    """A version that leads elsewhere, or is another than the one that was meant, neither writes nor deletes."""
    kept = tmp_path / "kept" / "file"
    kept.parent.mkdir()
    kept.touch()
    packed = _bundle(tmp_path, "1.0+abc", version=version)
    asked = str(version) if meant == "the same" else meant
    with pytest.raises(program.UnpackError, match=r"is no version of a release|holds version"):
        _unpack(program, packed, releases, version=asked)
    assert kept.exists()
    assert list(releases.iterdir()) == []
    assert sorted(path.name for path in releases.parent.iterdir()) == ["releases"]


def test_old_releases_go_but_never_the_current_one(
    program: ModuleType, releases: Path, tmp_path: Path
) -> None:
    """Of earlier releases the one in use and the newest stay, as many as asked for; abandoned halves go."""
    for number in range(4):
        release = _unpack(program, _bundle(tmp_path, f"1.{number}"), releases, version=f"1.{number}", keep=9)
        os.utime(release, (number, number))
    (releases.parent / "current").symlink_to("releases/1.0")
    (releases / ".partial-old").mkdir()
    _unpack(program, _bundle(tmp_path, "2.0"), releases, version="2.0", keep=2)
    assert sorted(path.name for path in releases.iterdir()) == ["1.0", "1.3", "2.0"]


def test_what_a_host_may_go_back_to_stays(program: ModuleType, releases: Path, tmp_path: Path) -> None:
    """The release before and that of an upgrade which was cut off, old as they are; they count among those that stay."""
    for number in range(5):
        release = _unpack(program, _bundle(tmp_path, f"1.{number}"), releases, version=f"1.{number}", keep=9)
        os.utime(release, (number, number))
    (releases.parent / "current").symlink_to("releases/1.3")
    (releases.parent / "previous").symlink_to("releases/1.0")
    (releases.parent / "switching").write_text("1.1")
    _unpack(program, _bundle(tmp_path, "2.0"), releases, version="2.0", keep=2)
    assert sorted(path.name for path in releases.iterdir()) == ["1.0", "1.1", "1.3", "2.0"]


def test_a_broken_release_of_the_same_version_is_replaced(
    program: ModuleType, releases: Path, tmp_path: Path
) -> None:
    """Unpacking the same version again makes it whole."""
    release = _unpack(program, _bundle(tmp_path), releases)
    (release / "lib/worker/__init__.py").unlink()
    _unpack(program, _repack(tmp_path), releases)
    assert (release / "lib/worker/__init__.py").exists()
    assert [path.name for path in releases.iterdir()] == ["1.0+abc"]


def test_the_command_says_what_is_wrong(
    program: Any,
    releases: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a command it ends with 1 and one plain message."""
    missing = tmp_path / "missing.tar.gz"
    arguments = ["--archive", str(missing), "--sha256", "0", "--version", "1.0"]
    arguments += ["--releases", str(releases), "--keep", "1"]
    monkeypatch.setattr(sys, "argv", ["unpack_release.py", *arguments])
    umask = os.umask(0o022)
    try:
        assert program.main() == 1
    finally:
        os.umask(umask)
    assert "missing.tar.gz" in capsys.readouterr().err


def _repack(folder: Path) -> Path:
    packed = folder / "bundle.tar.gz"
    archive.pack(folder / "tree-1.0+abc", packed)
    return packed
