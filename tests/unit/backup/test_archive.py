"""A backup's file is whole and unchanged, or it is refused before anything is done with it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from controller.backup import archive
from controller.backup.archive import Manifest
from controller.backup.programs import _apart, find
from controller.errors import ConfigurationError


def _made(folder: Path, *, lie_about: str = "") -> bytes:
    """Return a small backup whose manifest may be wrong about one member."""
    files = {}
    for name in (archive.DATABASE, archive.SETTINGS, "ca/root.key", "secrets/web.key"):
        files[name] = folder / name.replace("/", "-")
        files[name].write_bytes(name.encode() * 100)
    members = {name: archive.sha256(path) for name, path in files.items()}
    if lie_about:
        members[lie_about] = "0" * 64
    manifest = Manifest(
        release="1.2.3", schema="0001", postgres=18, made_at="2030-01-01T00:00:00+00:00", members=members
    )
    target = io.BytesIO()
    archive.write(target, manifest, files)
    return target.getvalue()


def _read(content: bytes, folder: Path) -> Manifest:
    folder.mkdir()
    return archive.read(io.BytesIO(content), folder)


def _tar(members: dict[str, bytes], **more: object) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w|") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in more.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Every file with its content, for its owner alone."""
    manifest = _read(_made(tmp_path), tmp_path / "out")
    assert (manifest.release, manifest.schema, manifest.postgres) == ("1.2.3", "0001", 18)
    found = {
        str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert found == set(manifest.members)
    for name in found:
        path = tmp_path / "out" / name
        assert path.read_bytes() == name.encode() * 100
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_member_that_has_changed_is_named(tmp_path: Path) -> None:
    """By the hash in the manifest."""
    with pytest.raises(ConfigurationError, match=r"has changed in `ca/root\.key`"):
        _read(_made(tmp_path, lie_about="ca/root.key"), tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"lacks `ca/other\.pem`"):
        _read(_made(tmp_path, lie_about="ca/other.pem"), tmp_path / "out2")


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 1000, _tar({"database.dump": b"x"})])
def test_something_else_is_no_backup(content: bytes, tmp_path: Path) -> None:
    """Empty, noise, and a tar of something else."""
    with pytest.raises(ConfigurationError, match="no backup"):
        _read(content, tmp_path / "out")


@pytest.mark.parametrize(
    "values",
    [
        {"format": 2},
        {"members": {}},
        {"members": {"database.dump": "0", "../evil": "0"}},
        {"members": {"database.dump": "0", "ca/../../evil": "0"}},
        {"members": {"database.dump": "0", "/etc/passwd": "0"}},
        {"members": ["database.dump"]},
        {"postgres": "many"},
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(values: dict[str, object], tmp_path: Path) -> None:
    """Names that lead out of the folder above all."""
    good = {
        "format": 1, "release": "1", "schema": "1", "postgres": 18, "made_at": "x", "members": {"database.dump": "0"},
    }  # fmt: skip
    with pytest.raises(ConfigurationError):
        _read(_tar({"manifest.json": json.dumps(good | values).encode()}), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_members_that_are_no_files_or_not_announced_are_refused(tmp_path: Path) -> None:
    """A link could lead anywhere."""
    manifest = json.dumps(
        {
            "format": 1, "release": "1", "schema": "1", "postgres": 18, "made_at": "x",
            "members": {"database.dump": "0"},
        }
    ).encode()  # fmt: skip
    with pytest.raises(ConfigurationError, match="does not tell"):
        _read(_tar({"manifest.json": manifest, "ca/root.key": b"x"}), tmp_path / "out")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w|") as tar:
        first = tarfile.TarInfo("manifest.json")
        first.size = len(manifest)
        tar.addfile(first, io.BytesIO(manifest))
        link = tarfile.TarInfo("database.dump")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(ConfigurationError, match="does not tell"):
        _read(target.getvalue(), tmp_path / "out2")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=strategies.data())
def test_no_damage_goes_unnoticed(
    data: strategies.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A byte flipped in a file's content, or an end that is missing, is always refused."""
    folder = tmp_path_factory.mktemp("backup")
    content = bytearray(_made(folder))
    start = content.index(b"ca/root.keyca/root.key")
    if data.draw(strategies.booleans()):
        content[start + data.draw(strategies.integers(0, 1099))] ^= data.draw(strategies.integers(1, 255))
    else:
        del content[data.draw(strategies.integers(0, start + 1099)) :]
    with pytest.raises(ConfigurationError):
        _read(bytes(content), folder / "out")


@pytest.mark.parametrize(
    ("url", "address", "password"),
    [
        ("postgresql://u:p%40w@h:5432/d?sslmode=require", "postgresql://u@h:5432/d?sslmode=require", "p@w"),
        ("postgresql://u:pw@/d?host=%2Ftmp%2Fx", "postgresql://u@/d?host=%2Ftmp%2Fx", "pw"),
        ("postgresql:///d?host=%2Ftmp", "postgresql:///d?host=%2Ftmp", ""),
    ],
)
def test_no_password_goes_into_arguments(url: str, address: str, password: str) -> None:
    """Everybody on the machine can read those."""
    assert _apart(url) == (address, password)


def test_programs_of_another_version_are_refused(tmp_path: Path) -> None:
    """With the package that has the right ones."""
    for name in ("pg_dump", "pg_restore"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 16.3'\n")
        (tmp_path / name).chmod(0o755)
    assert find(16, tmp_path) == tmp_path
    with pytest.raises(ConfigurationError, match="no programs of PostgreSQL 17") as caught:
        find(17, tmp_path)
    assert "postgresql-client-17" in caught.value.mend
