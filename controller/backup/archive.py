"""The file of a backup: a tar whose first member, `manifest.json`, tells what the others must be, by SHA-256.

database.dump     pg_dump's custom format
settings.yaml     settings that are not the defaults, without the data folder and the database's URL
ca/*  secrets/*   files of the data folder
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from controller.errors import ConfigurationError

DATABASE = "database.dump"
SETTINGS = "settings.yaml"
_MANIFEST = "manifest.json"
#: Grows when an older release could not read the file.
_FORMAT = 1
_NAME = re.compile(r"(database\.dump|settings\.yaml|(ca|secrets)/[A-Za-z0-9][A-Za-z0-9._-]{0,120})\Z")
_CHUNK = 1024 * 1024
_MEND = "take another backup: nothing was changed here"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a backup holds."""

    #: Release of StreamSwarm that made it.
    release: str
    #: Revision of the database's schema.
    schema: str
    #: Major version of the PostgreSQL server.
    postgres: int
    #: Instant, ISO 8601, UTC.
    made_at: str
    #: SHA-256 of each member, hexadecimal.
    members: Mapping[str, str]


def write(target: IO[bytes], manifest: Manifest, files: Mapping[str, Path]) -> None:
    """Write a backup, in one go, to something that need not be a file."""
    with tarfile.open(fileobj=target, mode="w|") as tar:
        text = json.dumps({"format": _FORMAT, **asdict(manifest)}, indent=1).encode()
        tar.addfile(_member(_MANIFEST, len(text)), io.BytesIO(text))
        for name, path in files.items():
            with path.open("rb") as file:
                tar.addfile(_member(name, os.fstat(file.fileno()).st_size), file)


def read(source: IO[bytes], folder: Path) -> Manifest:
    """Unpack a backup into an empty folder and return its manifest; ConfigurationError unless it is whole and unchanged."""
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            first = tar.next()
            if first is None or first.name != _MANIFEST or first.size > _CHUNK:
                raise ConfigurationError("this is no backup of StreamSwarm", mend=_MEND)
            manifest = _parse(_content(tar, first).read())
            found = {}
            while (member := tar.next()) is not None:
                if member.name not in manifest.members or member.name in found or not member.isfile():
                    raise ConfigurationError(
                        f"the backup holds `{member.name!r}`, of which its manifest does not tell", mend=_MEND
                    )
                found[member.name] = _unpack(_content(tar, member), folder / member.name)
    except (tarfile.TarError, EOFError) as error:
        raise ConfigurationError(
            f"this is no backup, or one that was cut short: {error}", mend=_MEND
        ) from error
    for name, digest in manifest.members.items():
        if found.get(name) != digest:
            what = "lacks" if name not in found else "has changed in"
            raise ConfigurationError(f"the backup {what} `{name}`", mend=_MEND)
    return manifest


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise ConfigurationError(f"the backup's `{member.name!r}` is no file", mend=_MEND)
    return content


def _parse(text: bytes) -> Manifest:
    try:
        values = json.loads(text)
        if values.pop("format") != _FORMAT:
            raise ConfigurationError(
                "the backup was made by a newer release", mend="restore it with that release, or a later one"
            )
        members = {str(name): str(digest) for name, digest in values["members"].items()}
        if DATABASE not in members or not all(_NAME.match(name) for name in members):
            raise ValueError("it names files that belong in no backup, or no database")
        return Manifest(
            release=str(values["release"]),
            schema=str(values["schema"]),
            postgres=int(values["postgres"]),
            made_at=str(values["made_at"]),
            members=members,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigurationError(f"the backup's manifest cannot be used: {error}", mend=_MEND) from error


def _unpack(content: IO[bytes], path: Path) -> str:
    """Write a file that only its owner can read; return its SHA-256."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
