"""Writing small files so that after a crash there is the old content or the new one, never a mixture."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from worker.errors import StorageError


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file durably and put it in the place of the old one at once; raises StorageError."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):  # what went wrong first is what matters
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}",
            mend=f"make room or mend the rights on {path.parent}",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    if os.name == "nt":  # folders cannot be opened there, and renames are durable without
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
