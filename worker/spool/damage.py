"""What becomes of a damaged spool: a fresh file takes its place, with everything that can still be read."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from worker.files import sync_folder
from worker.spool.file import SpoolFile, faults
from worker.spool.records import Entry

_TOGETHER = 1000
_DAMAGED_FILES_KEPT = 3
#: What a database consists of, by the ends of the names; the file itself goes last.
_PARTS = ("-wal", "-shm", "")


def replace(path: Path, reason: str) -> tuple[SpoolFile, str]:
    """Put a fresh file with what can still be read in a damaged one's place; also tells people of it.

    The damaged one stays where it is until the fresh one is whole: a stop in between, or a disk that does not take it
    (StorageError), leaves it to be read again.
    """
    # One that is whole already is what an earlier try has left: of the damaged file part may be gone by now.
    aside, told = finish(path), "what could still be read is delivered"
    if aside is None:
        with faults(path):
            filling = _beside(path, "filling")
            _remove(filling)
            told = f"{_fill(filling, path)} results could still be read and are delivered"
            filling.rename(_beside(path, "fresh"))
            sync_folder(path.parent)
        aside = finish(path)
    return SpoolFile.open(path), (
        f"the spool was damaged ({reason}); {told}, others may be lost; the damaged file is kept as {aside}"
    )


def finish(path: Path) -> Path | None:
    """Let a fresh file that is whole take the damaged one's place, which a stop may have left undone; None without one.

    Returns the name under which the damaged file is kept; raises StorageError when the disk does not take it.
    """
    with faults(path):
        return _finish(path)


def _finish(path: Path) -> Path | None:
    fresh = _beside(path, "fresh")
    if not fresh.exists():
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = _beside(path, f"damaged-{stamp}-{secrets.token_hex(2)}")
    for suffix in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    fresh.rename(path)
    sync_folder(path.parent)
    old = sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"))
    for damaged in old[:-_DAMAGED_FILES_KEPT]:
        _remove(damaged)
    return aside


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def _fill(path: Path, damaged: Path) -> int:
    """Make a file with what can be read of a damaged one, closed, so that its log is folded in; return how much it was."""
    with contextlib.closing(SpoolFile.open(path)) as file:
        saved = list(_salvage(damaged))
        for start in range(0, len(saved), _TOGETHER):
            file.commit(saved[start : start + _TOGETHER])
    return len(saved)


def _remove(path: Path) -> None:
    for suffix in _PARTS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _salvage(path: Path) -> Iterator[Entry]:
    """Yield every record of a damaged file that can still be read and is as it was written."""
    last = 0
    for query in (
        "SELECT seq, crc, body FROM record WHERE seq > ? ORDER BY seq",
        "SELECT seq, crc, body FROM record WHERE seq > ? ORDER BY seq DESC",  # from the end back to the damage
    ):
        newest = last
        with contextlib.suppress(sqlite3.Error, OverflowError), contextlib.closing(_raw(path)) as connection:
            for seq, crc, body in connection.execute(query, (last,)):
                if isinstance(body, bytes) and zlib.crc32(body) == crc:
                    newest = max(newest, seq)
                    yield Entry(body=body)
        last = newest


def _raw(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(str(path), timeout=1.0)
    connection.text_factory = bytes
    return connection
