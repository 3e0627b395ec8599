"""What is said when the embedded server cannot be used."""

from __future__ import annotations

from pathlib import Path

from controller.errors import DatabaseUnavailableError

#: How a full disk shows: a write that is cut short says nothing of the reason.
_FULL = ("No space left on device", "Disk quota exceeded", "wrote only", "Check free disk space")


def failure(what: str, said: str, *, log_file: Path) -> DatabaseUnavailableError:
    """Return the error for what a program or the server said; a full disk is told as one."""
    if any(sign in said for sign in _FULL):
        return DatabaseUnavailableError(
            f"{what}: the disk of {log_file.parent.parent} is full", mend="free space on it, then start again"
        )
    lines = "\n    ".join(said.strip().splitlines()[-8:])
    return DatabaseUnavailableError(f"{what}:\n    {lines}", mend=f"the whole log is {log_file}")


def absent(data_dir: Path) -> DatabaseUnavailableError:
    """Return the error for a data folder without a cluster."""
    return DatabaseUnavailableError(
        f"there is no embedded database in {data_dir}",
        mend="start it with `streamswarm up`, or set STREAMSWARM_DATABASE_URL",
    )
