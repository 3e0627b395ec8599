"""One supervisor per data folder, and how others find it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import ConfigurationError

#: How a file that may be another account's is opened for a look.
_LOOK = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for one supervisor; its process id stands in the file meanwhile."""
    path = pid_file(data_dir)
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {data_dir} cannot be used: {error.strerror}",
                mend="make it writable, or set STREAMSWARM_DATA_DIR",
            ) from error
        try:
            if not _lock(descriptor):
                pid = os.pread(descriptor, 32, 0).decode().strip()
                raise ConfigurationError(
                    f"StreamSwarm runs already with the data in {data_dir} (process {pid})",
                    mend="stop it first: streamswarm down",
                )
            if not _is_still(descriptor, path):
                continue
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
        finally:
            os.close(descriptor)


def forget_killed(data_dir: Path) -> None:
    """Remove what a supervisor that was killed has left in the folder; nothing when one runs, or none ever did."""
    path = pid_file(data_dir)
    try:
        descriptor = os.open(path, _LOOK)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if _lock(descriptor) and _is_still(descriptor, path):
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Whether the file that was opened is the one of this name: whoever held it before has removed it on leaving."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def pid_file(data_dir: Path) -> Path:
    """Return the file that a running supervisor holds locked."""
    return data_dir / "run" / "supervisor.pid"


def running_supervisor(data_dir: Path) -> int | None:
    """Return the process id of the supervisor that holds the data folder, or None."""
    try:
        descriptor = os.open(pid_file(data_dir), _LOOK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ConfigurationError(
            f"the data in {data_dir} belong to another account", mend="ask as that account, or as root"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        text = os.pread(descriptor, 32, 0).decode().strip()
        return int(text) if text.isdigit() else None
    else:
        return None
    finally:
        os.close(descriptor)
