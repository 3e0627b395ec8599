"""What becomes of a damaged spool: a fresh file takes its place, with everything that can still be read."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import time
import zlib
from collections.abc import Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from worker.errors import StorageError
from worker.files import sync_folder
from worker.spool.file import DamageError, SpoolFile, faults, is_unreadable
from worker.spool.records import Entry

log = logging.getLogger(__name__)

_TOGETHER = 1000
_DAMAGED_FILES_KEPT = 3
_LARGEST_SEQ = 1 << 62
#: What a database consists of, by the ends of the names; the file itself goes last.
_PARTS = ("-wal", "-shm", "")


def replace(path: Path, reason: str) -> str:
    """Put a fresh file with what can still be read in a damaged one's place; returns what people are told of it.

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
    return (
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
    _tidy(path)
    return aside


def _tidy(path: Path) -> None:
    """Make the change of names durable and let go of the oldest damaged files; the spool is whole without either.

    SQLite makes the names durable with its first commit too.
    """
    try:
        sync_folder(path.parent)
        for damaged in sorted(path.parent.glob(f"{path.stem}-damaged-*{path.suffix}"))[:-_DAMAGED_FILES_KEPT]:
            _remove(damaged)
    except OSError as error:
        log.warning("what is left of damaged spools in %s could not be tidied up: %s", path.parent, error)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def _fill(path: Path, damaged: Path) -> int:
    """Make a file with what can be read of a damaged one, closed and without a log; return how much it was."""
    count = 0
    with contextlib.closing(SpoolFile.open(path)) as file, contextlib.closing(_salvage(damaged)) as salvaged:
        while together := list(islice(salvaged, _TOGETHER)):
            file.commit(together)
            count += len(together)
        file.fold()
    return count


def _remove(path: Path) -> None:
    for suffix in _PARTS:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _salvage(path: Path) -> Generator[Entry, None, None]:
    """Yield every record of a damaged file that can still be read and is as it was written.

    Where a disk cannot be read at some places, only what lies there is left; raises StorageError when it cannot at all.
    """
    with contextlib.closing(_Ruin(path)) as ruin:
        for crc, body in ruin.records():
            if isinstance(body, bytes) and zlib.crc32(body) == crc:
                yield Entry(body=body)


class _Ruin:
    """A damaged file, open to be read wherever that goes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unreadable: StorageError | None = None
        with faults(path):
            self._connection = sqlite3.connect(str(path), timeout=1.0)
        self._connection.text_factory = bytes

    def close(self) -> None:
        self._connection.close()

    def records(self) -> Iterator[tuple[Any, Any]]:
        """Yield check sum and body of every record that can be read; raises StorageError for a disk that cannot be."""
        read, at, most = False, 0, _TOGETHER
        while True:
            rows = self._read(at, most)
            if rows:
                read, at = True, max(at, max(row[0] for row in rows)) + 1
                yield from (row[1:] for row in rows)
                most = min(2 * most, _TOGETHER)
            elif rows is None and most > 1:
                most //= 2
            elif rows is None and (behind := self._behind(at)) is not None:
                at = behind
            else:
                break
        if self._unreadable is not None and not read:
            raise self._unreadable

    def _behind(self, at: int) -> int | None:
        """Return the number from which records can be read again behind one from which they cannot; None without one."""
        near, far = 0, 1
        while self._read(at + far, 1) is None:
            near, far = far, 2 * far
            if at + far > _LARGEST_SEQ:
                return None
        while far - near > 1:
            middle = (near + far) // 2
            if self._read(at + middle, 1) is None:
                near = middle
            else:
                far = middle
        return at + far

    def _read(self, at: int, most: int) -> list[tuple[Any, ...]] | None:
        """Return the next records from a number on; None when not all of them can be read."""
        try:
            with faults(self._path):
                return self._connection.execute(
                    "SELECT seq, crc, body FROM record WHERE seq >= ? ORDER BY seq LIMIT ?", (at, most)
                ).fetchall()
        except DamageError:
            return None
        except StorageError as error:
            if not is_unreadable(error):
                raise
            self._unreadable = error
            return None
