"""What is saved of a damaged spool: all that can be read, whatever the disk does meanwhile."""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.spools import instants_of, result_of

from worker.clock import SystemClock
from worker.errors import StorageError
from worker.spool import Spool, damage
from worker.spool.file import DamageError, SpoolFile
from worker.spool.records import Entry

COUNT = 4000
_PAGE = 4096


def _body(number: int) -> bytes:
    return result_of(number, size=200).SerializeToString()


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """A spool of many records without which no spool is whole, and whose records can all be read."""
    path = tmp_path / "spool.sqlite"
    with contextlib.closing(SpoolFile.open(path)) as file:
        for start in range(1, COUNT + 1, 1000):
            file.commit([Entry(body=_body(number)) for number in range(start, start + 1000)])
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta")
        connection.commit()
    return path


class _Bad:
    """A connection to a disk that cannot be read everywhere."""

    def __init__(self, connection: sqlite3.Connection, fails: Callable[[int, int], str]) -> None:
        self._connection = connection
        self._fails = fails

    def execute(self, query: str, bounds: tuple[int, int]) -> Any:
        rows = self._connection.execute(query, bounds).fetchall()
        said = self._fails(rows[0][0], rows[-1][0]) if rows else ""
        if said:
            raise sqlite3.OperationalError(said)
        return self._connection.execute(query, bounds)

    def close(self) -> None:
        self._connection.close()


def _have_it_fail(patch: pytest.MonkeyPatch, fails: Callable[[int, int], str]) -> None:
    """Have reading of a damaged file fail by what is said for the first and last number that is read."""
    begin = damage._Ruin.__init__

    def broken(self: Any, path: Path) -> None:
        begin(self, path)
        self._connection = _Bad(self._connection, fails)

    patch.setattr(damage._Ruin, "__init__", broken)


async def test_all_between_damaged_places_is_saved(spoiled: Path, open_spool: Any) -> None:
    """What can be read by its number is delivered, up to the record beside the damage."""
    whole = spoiled.read_bytes()
    content = bytearray(whole)
    for number in (1, 300, 301, 2000, 3700, COUNT):
        at = whole.index(_body(number)) // _PAGE * _PAGE
        content[at : at + _PAGE] = bytes(_PAGE)
    spoiled.write_bytes(content)
    readable = []
    address = f"file:{spoiled}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        for number in range(1, COUNT + 1):
            with contextlib.suppress(sqlite3.DatabaseError):
                connection.execute("SELECT body FROM record WHERE seq = ?", (number,)).fetchone()
                readable.append(number)
    assert COUNT - 200 < len(readable) < COUNT - 50
    assert await instants_of(await open_spool()) == readable


async def test_many_wrong_check_sums_in_a_row_are_passed(spoiled: Path, open_spool: Any) -> None:
    """In a spool that is whole otherwise, they are deleted by the read that meets them."""
    spoiled.unlink()
    with contextlib.closing(SpoolFile.open(spoiled)) as file:
        file.commit([Entry(body=_body(number)) for number in range(1, 2001)])
    with contextlib.closing(sqlite3.connect(spoiled)) as connection:
        connection.execute("UPDATE record SET crc = crc + 1 WHERE seq <= 1500")
        connection.commit()
    spool = await open_spool()
    assert await instants_of(spool) == list(range(1501, 2001))
    assert "1500 damaged results" in spool.alarm
    assert spool.records == 500


@pytest.mark.parametrize(
    "said",
    ["disk I/O error", "unable to open database file", "database is locked", "database or disk is full"],
)
async def test_a_disk_that_cannot_be_read_now_costs_nothing(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """It is not taken for a file of which nothing is left."""
    with monkeypatch.context() as patch:
        _have_it_fail(patch, lambda first, last: said)
        with pytest.raises(StorageError, match=said):
            await open_spool()
    assert await instants_of(await open_spool()) == list(range(1, COUNT + 1))


async def test_a_place_that_cannot_be_read_costs_what_lies_there(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sector gone bad does not keep a worker from measuring for ever."""
    _have_it_fail(monkeypatch, lambda first, last: "disk I/O error" if first <= 77 and last >= 71 else "")
    spool = await open_spool()
    assert await instants_of(spool) == [*range(1, 71), *range(78, COUNT + 1)]


async def test_what_is_saved_does_not_hang_on_a_log(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that could not be folded in when the file was closed would stay behind under the name of before."""
    others: list[sqlite3.Connection] = []
    close = SpoolFile.close

    def close_beside(file: SpoolFile) -> None:
        if "filling" in file._path.name:
            others.append(sqlite3.connect(file._path, check_same_thread=False))
            others[-1].execute("SELECT count(*) FROM record").fetchall()
        close(file)

    monkeypatch.setattr(SpoolFile, "close", close_beside)
    spool = await open_spool()
    assert len(others) == 1
    assert await instants_of(spool) == list(range(1, COUNT + 1))
    others[0].close()


async def test_a_log_that_cannot_be_folded_in_is_told(tmp_path: Path) -> None:
    """Of a file that somebody reads, or for which the disk has no room; later it goes."""
    path = tmp_path / "spool.sqlite"
    with contextlib.closing(SpoolFile.open(path)) as file:
        file.commit([Entry(body=_body(1))])
        with contextlib.closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM record").fetchall()
            file._connection.execute("PRAGMA busy_timeout = 10")
            with pytest.raises(StorageError, match="locked"):
                file.fold()
        file.fold()
        assert path.with_name("spool.sqlite-wal").stat().st_size == 0


async def test_a_file_that_cannot_be_opened_is_held_open_by_nobody(tmp_path: Path) -> None:
    """Its lock would be in the way of saving what it holds."""
    path = tmp_path / "spool.sqlite"
    SpoolFile.open(path).close()
    content = bytearray(path.read_bytes())
    content[100:3000] = bytes(2900)
    path.write_bytes(content)
    gc.disable()
    try:
        with pytest.raises(DamageError):
            SpoolFile.open(path)
        if sys.platform.startswith("linux"):
            folder = Path("/proc/self/fd")
            assert path not in [each.readlink() for each in folder.iterdir() if each.is_symlink()]
    finally:
        gc.enable()


async def test_damaged_files_that_cannot_be_removed_hold_nothing_up(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool is whole, and is not replaced once more for them."""
    for number in range(5):
        spoiled.with_name(f"spool-damaged-2020010{number}T000000Z-aaaa.sqlite").touch()
    unlink = Path.unlink

    def refused(path: Path, missing_ok: bool = False) -> None:
        if "damaged" in path.name:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refused)
    spool = await open_spool()
    await spool.append(result_of(COUNT + 1))
    assert await instants_of(spool) == list(range(1, COUNT + 2))
    assert len(list(spoiled.parent.glob("spool-damaged-*.sqlite"))) == 6


async def test_a_replacement_that_cannot_be_opened_yet_is_not_made_again(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands there by then is whole: setting that aside too would push out what is kept of the damage."""
    opened = SpoolFile.open

    def failing(path: Path) -> SpoolFile:
        if list(path.parent.glob("spool-damaged-*.sqlite")):
            raise StorageError("out of memory")
        return opened(path)

    spool = Spool(spoiled, clock=SystemClock())
    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "open", failing)
        for _ in range(3):
            with pytest.raises(StorageError, match="out of memory"):
                await spool.open()
    await spool.open()
    assert await instants_of(spool) == list(range(1, COUNT + 1))
    assert len(list(spoiled.parent.glob("spool-damaged-*.sqlite"))) == 1
    assert "damaged" in spool.alarm
    await spool.close()


async def test_a_fresh_file_that_is_damaged_at_once_is_the_disks_fault(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker is told what it waits for, and saves what it can at the next try."""
    finish = damage.finish

    def spoil(path: Path) -> Path | None:
        aside = finish(path)
        if aside is not None:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("DELETE FROM meta")
                connection.commit()
        return aside

    with monkeypatch.context() as patch:
        patch.setattr(damage, "finish", spoil)
        with pytest.raises(StorageError, match="so is the file that took its place"):
            await open_spool()
    assert await instants_of(await open_spool()) == list(range(1, COUNT + 1))


class _Hasty(SystemClock):
    """Waits for nothing."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0.0)


async def test_a_disk_that_is_full_for_long_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of failures it is tried again."""
    spool = Spool(tmp_path / "spool.sqlite", clock=_Hasty())
    await spool.open()
    commit, failures = SpoolFile.commit, iter([StorageError("database or disk is full")] * 1100)

    def failing(file: SpoolFile, *args: Any, **more: Any) -> list[int]:
        for error in failures:
            raise error
        return commit(file, *args, **more)

    monkeypatch.setattr(SpoolFile, "commit", failing)
    assert await spool.append(result_of(1)) == 1
    assert await instants_of(spool) == [1]
    await spool.close()
