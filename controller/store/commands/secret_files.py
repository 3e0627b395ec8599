"""Secrets on disk: written whole or not at all, for their owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from controller.errors import ConfigurationError


def write_secret(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    partial = _write_partial(path, content)
    partial.rename(path)


def read_or_make_secret(path: Path, length: int) -> bytes:
    """Return the content of a file, which is made of `length` random bytes when it is not there.

    Of several processes that start at the same time one makes it, and all read the same. Raises
    ConfigurationError when others may read the file, or when it is too short to be a key.
    """
    if not path.exists():
        partial = _write_partial(path, secrets.token_hex(length).encode())
        try:
            # A link, unlike a renaming, never replaces the file that another process has just made.
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
    try:
        mode = path.stat().st_mode & 0o777
        content = path.read_bytes().strip()
    except OSError as error:
        raise ConfigurationError(
            f"the key {path} cannot be read: {error.strerror}",
            mend="run as the account that owns the data folder",
        ) from error
    if mode & 0o077:
        raise ConfigurationError(
            f"the key {path} can be read by others than its owner (mode {mode:o})",
            mend=f"if nobody has read it: chmod 600 {path}; else remove it, which logs everybody out",
        )
    if len(content) < length:
        raise ConfigurationError(
            f"the key {path} has {len(content)} bytes; {length} is the least",
            mend="remove it; another is made at the next start, and everybody must log in again",
        )
    return content


def _write_partial(path: Path, content: bytes) -> Path:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror}",
            mend="run as the account that owns the data folder, or set STREAMSWARM_DATA_DIR",
        ) from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return partial
