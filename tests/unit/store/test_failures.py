"""What is said when the embedded server cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.store.embedded.failures import failure

LOG = Path("/data/logs/postgres.log")


@pytest.mark.parametrize(
    "said",
    [
        'FATAL: could not write lock file "postmaster.pid": No space left on device',
        "PANIC: could not write to file: wrote only 4096 of 8192 bytes at offset 0",
        "HINT: Check free disk space.",
        "could not extend file: Disk quota exceeded",
    ],
)
def test_a_full_disk_is_told_as_one(said: str) -> None:
    """However PostgreSQL puts it, the message names the folder and says what to do."""
    error = failure("the database could not be made", said, log_file=LOG)
    assert error.message == "the database could not be made: the disk of /data is full"
    assert "free space" in error.mend


def test_anything_else_is_told_with_its_last_lines() -> None:
    """And with the place of the whole log."""
    error = failure("it did not start", "\n".join(f"line {number}" for number in range(20)), log_file=LOG)
    assert "line 19" in error.message
    assert "line 3\n" not in error.message
    assert str(LOG) in error.mend
