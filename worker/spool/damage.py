"""What becomes of a damaged spool: a fresh file takes its place, with everything that can still be read."""

from __future__ import annotations

import contextlib
import logging
import secrets
import sqlite3
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

from worker.errors import StorageError
from worker.files import sync_folder
from worker.spool import pages
from worker.spool.file import DamageError, SpoolFile, faults, is_unreadable
from worker.spool.records import Entry

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Key of the small value that tells people what has become of the file before.
TOLD = "damage"
_TOGETHER = 1000
_DAMAGED_FILES_KEPT = 3
#: What a database consists of, by the ends of the names; the file itself goes last.
_PARTS = ("-wal", "-shm", "")


def replace(path: Path, reason: str, *, patient: bool) -> None:
    """Put a fresh file with what can still be read in a damaged one's place, unless an earlier try has made one.

    The damaged one stays where it is until the fresh one is whole: a stop in between, or a disk that does not take it
    (StorageError), leaves it to be read again. While `patient` that is so too for a disk that cannot be read everywhere;
    otherwise what lies there is given up. Raises DamageError when the disk does not keep what is written.
    """
    # Of the damaged file part may be gone by now.
    if finish(path):
        return
    stamp = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(2)}"
    filling = _beside(path, "filling")
    with faults(path):
        _remove(filling)
        try:
            _fill(filling, path, reason, _beside(path, f"damaged-{stamp}"), patient=patient)
            filling.rename(_beside(path, f"fresh-{stamp}"))
            sync_folder(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):  # it would take the room that the next try needs
                _remove(filling)
            raise
    finish(path)


def finish(path: Path) -> bool:
    """Let a fresh file that is whole take the damaged one's place, which a stop may have left undone; False without one.

    Raises StorageError when the disk does not take it.
    """
    with faults(path):
        for fresh in path.parent.glob(f"{path.stem}-fresh-*{path.suffix}"):
            aside = fresh.with_name(fresh.name.replace("-fresh-", "-damaged-", 1))
            for part in _PARTS:
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + part).rename(aside.with_name(aside.name + part))
            fresh.rename(path)
            _tidy(path, aside)
            return True
    return False


def _tidy(path: Path, aside: Path) -> None:
    """Make the change of names durable and let go of the oldest damaged files; the spool is whole without either.

    SQLite makes the names durable with its first commit too.
    """
    try:
        sync_folder(path.parent)
        others = sorted({*path.parent.glob(f"{path.stem}-damaged-*{path.suffix}")} - {aside})
        for damaged in others[: 1 - _DAMAGED_FILES_KEPT]:
            _remove(damaged)
    except OSError as error:
        log.warning("what is left of damaged spools in %s could not be tidied up: %s", path.parent, error)


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.stem}-{what}{path.suffix}")


def _remove(path: Path) -> None:
    for part in _PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)


def _fill(path: Path, damaged: Path, reason: str, aside: Path, *, patient: bool) -> None:
    """Make a file with what can be read of a damaged one, closed and without a log; it says of itself what it is."""
    count = 0
    with (
        contextlib.closing(SpoolFile.open(path)) as file,
        contextlib.closing(_Ruin(damaged, patient)) as ruin,
    ):
        with contextlib.closing(ruin.records()) as records:
            while together := list(islice(records, _TOGETHER)):
                file.commit(together)
                count += len(together)
        told = (
            f"the spool was damaged ({reason}); {count} results could still be read and are delivered, others may be "
            f"lost; the damaged file is kept as {aside}"
        )
        values = ruin.beside(SpoolFile.values) or {}
        file.adopt(
            ruin.beside(SpoolFile.gaps) or (), ruin.beside(SpoolFile.used) or {}, {**values, TOLD: told}
        )
        file.fold()


class _Ruin:
    """A damaged file, open to be read as far as that goes."""

    def __init__(self, path: Path, patient: bool) -> None:
        self._path = path
        self._patient = patient
        with faults(path):
            if not path.exists() or not path.stat().st_size:
                path.write_bytes(bytes(pages.PAGE))  # or SQLite would delete the log unread
            self._connection = sqlite3.connect(str(path), timeout=1.0)
        self._connection.text_factory = lambda data: data.decode("ascii", "replace")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def records(self) -> Generator[Entry, None, None]:
        """Yield every record that can still be read and is as it was written.

        First those that SQLite comes to, then others that stand in the pages, since a broken tree may hide some without a
        word. Among them may be some that were acknowledged: their keys are known to the controller.
        """
        given: set[int] = set()
        lowest = 0
        rows = self._rows()
        while row := self._tried(lambda: next(rows, ())):
            number, check_sum, body = row
            if isinstance(body, bytes) and zlib.crc32(body) == check_sum:
                lowest = min(lowest or number, number)
                given.add(number << 32 | check_sum)
                yield Entry(body=body)
        with faults(self._path):
            for number, body in pages.records(self._path, all_readable=self._patient):
                key = number << 32 | zlib.crc32(body)
                if number >= lowest and key not in given:
                    given.add(key)
                    yield Entry(body=body)

    def _rows(self) -> Iterator[tuple[int, int, object]]:
        yield from self._connection.execute("SELECT seq, crc, body FROM record ORDER BY seq")

    def beside(self, read: Callable[[SpoolFile], T]) -> T | None:
        """Return something else than records that the file holds, None when that cannot be read."""
        return self._tried(lambda: read(SpoolFile(self._connection, self._path)))

    def _tried(self, read: Callable[[], T]) -> T | None:
        try:
            with faults(self._path):
                return read()
        except DamageError:
            return None
        except StorageError as error:
            if self._patient or not is_unreadable(error):
                raise
            return None
