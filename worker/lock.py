"""Keeps two daemons from sharing one data folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO

from worker.errors import StorageError, WorkerError


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
            _lock(file)
        except OSError as error:
            holder = file.read().strip() or "unknown"
            file.close()
            raise WorkerError(
                f"another worker daemon (process {holder}) uses the data folder {folder}",
                mend="stop it, or give this one another `data_dir`",
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return cls(file)

    def release(self) -> None:
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
