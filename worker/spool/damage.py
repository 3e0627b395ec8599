"""What becomes of a damaged spool: a fresh file takes its place, with everything that can still be read."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from worker.errors import StorageError
from worker.files import sync_folder
from worker.spool.file import SpoolFile
from worker.spool.records import Entry

_TOGETHER = 1000
_DAMAGED_FILES_KEPT = 3
#: What a database consists of, by the ends of the names; the file itself goes last.
_PARTS = ("-wal", "-shm", "")


def replace(path: Path, reason: str) -> tuple[SpoolFile, str]:
    """Set the damaged file aside and start a fresh one with what can still be read; also tells people of it.

    StorageError, when the disk does not take the fresh one: the damaged one is then where it was, to be read again.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    aside = path.with_name(f"{path.stem}-damaged-{stamp}-{secrets.token_hex(2)}{path.suffix}")
    _rename(path, aside)
    try:
        file, count = _fill(path, aside)
    except StorageError:
        _remove(path)
        _rename(aside, path)
        raise
    old = sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"))
    for damaged in old[:-_DAMAGED_FILES_KEPT]:
        _remove(damaged)
    return file, (
        f"the spool was damaged ({reason}); {count} results could still be read and are delivered, "
        f"others may be lost; the damaged file is kept as {aside}"
    )


def _fill(path: Path, aside: Path) -> tuple[SpoolFile, int]:
    file = SpoolFile.open(path)
    try:
        saved = list(_salvage(aside))
        for start in range(0, len(saved), _TOGETHER):
            file.commit(saved[start : start + _TOGETHER])
    except BaseException:
        file.close()
        raise
    return file, len(saved)


def _rename(path: Path, other: Path) -> None:
    """Give a file another name, together with its log."""
    for suffix in _PARTS:
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(other.with_name(other.name + suffix))
    sync_folder(path.parent)


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
