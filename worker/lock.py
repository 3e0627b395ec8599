"""Keeps two daemons from sharing one data folder."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from streamswarm import __version__
from worker.errors import StorageError, WorkerError

_TRIES = 4
_PAUSE_S = 0.05


class DataLock:
    """Holds the lock of a data folder until `release` or the end of the process, however that comes."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    def take(cls, folder: Path) -> DataLock:
        """Take the lock; raises WorkerError when another process has it."""
        path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Opened without truncation: the text in it is that of the daemon that runs.
            file = os.fdopen(
                os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii", errors="replace"
            )
        except OSError as error:
            raise StorageError(
                f"the data folder {folder} cannot be used: {error.strerror or error}",
                mend="make it and give it to the worker's user, or name another `data_dir`",
            ) from error
        try:
            _lock_soon(file)
        except OSError as error:
            holder = _noted(file.read())
            file.close()
            raise WorkerError(
                f"another worker daemon (process {holder.pid or 'unknown'}) uses the data folder {folder}",
                mend="stop it, or give this one another `data_dir`",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} {__version__}\n")
        file.flush()
        return cls(file)

    def release(self) -> None:
        self._file.close()


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock, as the lock's file tells."""

    #: None when the file does not tell.
    pid: int | None
    #: Release of the daemon; empty when the file does not tell.
    version: str


def holder_of(folder: Path) -> Holder | None:
    """Return who holds the lock of a data folder, None for nobody; raises StorageError when that cannot be seen.

    The lock is tried for an instant, which a daemon that starts just then waits out.
    """
    try:
        with (folder / "lock").open(
            "r+" if sys.platform == "win32" else "r", encoding="ascii", errors="replace"
        ) as file:
            try:
                _try(file)
            except OSError:
                return _noted(file.read())
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(
            f"whether a daemon uses the data folder {folder} cannot be seen: {error.strerror or error}",
            mend="look as root or as the worker's user",
        ) from error


def _noted(text: str) -> Holder:
    pid, _, version = text.strip().partition(" ")
    return Holder(pid=int(pid) if pid.isdecimal() else None, version=version)


def _lock_soon(file: IO[str]) -> None:
    """Lock a file, again and again for a moment: somebody may only be looking whether it is locked."""
    for _ in range(_TRIES - 1):
        try:
            _lock(file)
        except OSError:
            time.sleep(_PAUSE_S)
        else:
            return
    _lock(file)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _try(file: IO[str]) -> None:
        _lock(file)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _try(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
