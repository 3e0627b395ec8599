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
from worker.spool.file import SpoolFile
from worker.spool.records import Entry

_TOGETHER = 1000
_DAMAGED_FILES_KEPT = 3


def replace(path: Path, reason: str) -> tuple[SpoolFile, str]:
    """Set the damaged file aside and start a fresh one with what can still be read; also tells people of it."""
    aside = _set_aside(path, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
    file = SpoolFile.open(path)
    saved = list(_salvage(aside))
    for start in range(0, len(saved), _TOGETHER):
        file.commit(saved[start : start + _TOGETHER])
    old = sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"))
    for damaged in old[:-_DAMAGED_FILES_KEPT]:
        damaged.unlink(missing_ok=True)
    return file, (
        f"the spool was damaged ({reason}); {len(saved)} results could still be read and are delivered, "
        f"others may be lost; the damaged file is kept as {aside}"
    )


def _set_aside(path: Path, stamp: str) -> Path:
    """Rename a damaged file with its log so that a fresh one can take its place; returns the new name."""
    aside = path.with_name(f"{path.stem}-damaged-{stamp}-{secrets.token_hex(2)}{path.suffix}")
    for suffix in ("-wal", "-shm", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(aside.with_name(aside.name + suffix))
    sync_folder(path.parent)
    return aside


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
