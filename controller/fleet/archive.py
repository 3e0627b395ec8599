"""Packs a folder so that the same files always give the same bytes, and hashes what is in it."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
from pathlib import Path


def content_hash(folder: Path) -> str:
    """Return the SHA-256 over names, modes and contents of all files below `folder`."""
    total = hashlib.sha256()
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        total.update(f"{name}\0{_mode(path):o}\0{file_hash(path)}\n".encode())
    return total.hexdigest()


def file_hash(path: Path) -> str:
    """Return the SHA-256 of one file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def pack(folder: Path, target: Path, *, level: int = 6) -> None:
    """Write the files below `folder` into a tar.gz: sorted, without owners, names of users or times."""
    with (
        target.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=level, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in _files(folder):
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size = path.stat().st_size
            member.mode = _mode(path)
            with path.open("rb") as content:
                archive.addfile(member, content)


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.as_posix())


def _mode(path: Path) -> int:
    return 0o755 if path.stat().st_mode & 0o100 else 0o644
