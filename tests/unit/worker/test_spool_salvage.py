"""What is saved of a damaged spool: all that can be read, whatever the disk does meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import random
import sqlite3
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support.spools import instants_of, result_of

from worker.clock import SystemClock
from worker.errors import StorageError
from worker.spool import Spool, damage, pages
from worker.spool.file import DamageError, SpoolFile
from worker.spool.gaps import telling
from worker.spool.pages import PAGE
from worker.spool.records import Entry, Gap
from worker.spool.room import Limits
from worker.used import Used

COUNT = 4000
#: The results of these tests are of 1970.
_ANY_AGE = Limits(max_age_s=1e12)


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


def _zero(path: Path, *pages: int, size: int = PAGE) -> None:
    """Destroy pages of a file, counted from 1."""
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(bytes(size))


def _readable(path: Path) -> list[int]:
    """Return the numbers of the records that SQLite can read one by one."""
    found = []
    address = f"file:{path}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as connection:
        for number in range(1, COUNT + 1):
            with contextlib.suppress(sqlite3.DatabaseError):
                if connection.execute("SELECT body FROM record WHERE seq = ?", (number,)).fetchone():
                    found.append(number)
    return found


def _in_log(path: Path, bodies: list[bytes]) -> None:
    """Make a spool whose records are in its log alone, as a crash leaves it."""
    path.unlink(missing_ok=True)
    with contextlib.closing(SpoolFile.open(path)) as file:
        file._connection.execute("PRAGMA wal_autocheckpoint = 0")
        file.commit([Entry(body=body) for body in bodies])
        copies = {part: path.with_name(path.name + part).read_bytes() for part in ("", "-wal")}
    for part, content in copies.items():
        path.with_name(path.name + part).write_bytes(content)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.7])
async def test_all_between_damaged_places_is_saved(spoiled: Path, open_spool: Any, share: float) -> None:
    """What SQLite could read by its number is delivered, up to the records beside the damage, each once."""
    leaves = [page for page, kind in enumerate(spoiled.read_bytes()[::PAGE], 1) if kind == 13 and page > 6]
    _zero(spoiled, *random.Random(share).sample(leaves, round(share * len(leaves))))
    readable = _readable(spoiled)
    assert abs(len(readable) - COUNT * (1 - share)) < 0.05 * COUNT
    assert sorted(await instants_of(await open_spool())) == readable


@pytest.mark.parametrize("what", ["schema", "root", "inner"])
async def test_records_are_found_without_the_pages_above_them(
    spoiled: Path, open_spool: Any, what: str
) -> None:
    """A leaf of the tree is whole without what leads to it."""
    with contextlib.closing(sqlite3.connect(spoiled)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'record'").fetchone()
    inner = [page for page, kind in enumerate(spoiled.read_bytes()[::PAGE], 1) if kind == 5]
    _zero(spoiled, *{"schema": [1], "root": [root], "inner": inner}[what])
    assert sorted(await instants_of(await open_spool())) == list(range(1, COUNT + 1))


async def test_what_a_broken_tree_hides_without_a_word_is_found(spoiled: Path, open_spool: Any) -> None:
    """SQLite comes to the end of a page that has lost half of its cells as if there were no more."""
    with contextlib.closing(sqlite3.connect(spoiled)) as connection:
        (root,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'record'").fetchone()
    content = bytearray(spoiled.read_bytes())
    at = (root - 1) * PAGE + 3
    cells = int.from_bytes(content[at : at + 2], "big")
    content[at : at + 2] = (cells // 2).to_bytes(2, "big")
    spoiled.write_bytes(content)
    assert len(_readable(spoiled)) < COUNT
    assert sorted(await instants_of(await open_spool())) == list(range(1, COUNT + 1))


def test_mangled_rows_are_no_records(tmp_path: Path) -> None:
    """A chain of pages that leads back to itself, a header longer than any, a row cut off behind its header."""
    path = tmp_path / "spool.sqlite"
    cut = bytes((4, 9, 4, 0, 4, 14 * 2 - 12))
    chain = (
        bytes((0x84, 0x80, 0x80, 0x00, 8)) + bytes((0x87, 0xFF, 0x7F)) + bytes(400) + (2).to_bytes(4, "big")
    )
    for cell in (cut, chain):
        leaf = bytearray(PAGE)
        leaf[0], leaf[3:5], leaf[8:10] = 13, (1).to_bytes(2, "big"), (PAGE - 600).to_bytes(2, "big")
        leaf[PAGE - 600 : PAGE - 600 + len(cell)] = cell
        path.write_bytes(bytes(PAGE) + bytes(leaf))
        assert list(pages.records(path, all_readable=True)) == []


async def test_a_log_of_two_rounds_is_read_by_its_newest(tmp_path: Path, open_spool: Any) -> None:
    """Frames of the round before stand behind its end."""
    path = tmp_path / "spool.sqlite"
    with contextlib.closing(SpoolFile.open(path)) as file:
        file._connection.execute("PRAGMA wal_autocheckpoint = 0")
        old = [result_of(number, size=9_000).SerializeToString() for number in range(1, 41)]
        file.commit([Entry(body=body) for body in old])
        file._connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        new = [result_of(number, size=9_500).SerializeToString() for number in range(41, 51)]
        file.commit([Entry(body=body) for body in new], delete_to=40)
        copies = {part: path.with_name(path.name + part).read_bytes() for part in ("", "-wal")}
    path.with_name("spool.sqlite-wal").write_bytes(copies["-wal"])
    path.unlink()
    found = {body for _, body in pages.records(path, all_readable=True)}
    assert set(new) <= found


async def test_a_file_that_cannot_be_read_at_all_is_given_up_in_the_end(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first page lies where the disk is bad: what stands in others is delivered."""
    opened = SpoolFile.open

    def failing(path: Path) -> SpoolFile:
        if path == spoiled and not list(path.parent.glob("spool-damaged-*")):
            try:
                raise sqlite3.OperationalError("disk I/O error")
            except sqlite3.OperationalError as error:
                raise StorageError("disk I/O error") from error
        return opened(path)

    monkeypatch.setattr(SpoolFile, "open", failing)
    with pytest.raises(StorageError, match="I/O error"):
        await open_spool()
    monkeypatch.setattr("worker.spool.spool._PATIENCE_S", 0.0)
    assert sorted(await instants_of(await open_spool())) == list(range(1, COUNT + 1))


@pytest.mark.parametrize("size", [0, 4_000, 4_080, 9_000, 200_000])
@pytest.mark.parametrize("where", ["file", "log"])
async def test_long_results_are_found_too(tmp_path: Path, open_spool: Any, size: int, where: str) -> None:
    """They go on in pages of their own, some of which may be in the log."""
    path = tmp_path / "spool.sqlite"
    bodies = [result_of(number, size=size).SerializeToString() for number in range(1, 41)]
    last = 0 if where == "file" else 1
    with contextlib.closing(SpoolFile.open(path)) as file:
        file.commit([Entry(body=body) for body in bodies[: len(bodies) - last]])
        file.fold()
        file.commit([Entry(body=body) for body in bodies[len(bodies) - last :]])
        (root,) = file._connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'record'"
        ).fetchone()
        copies = {part: path.with_name(path.name + part).read_bytes() for part in ("", "-wal")}
    for part, content in copies.items():
        path.with_name(path.name + part).write_bytes(content)
    _zero(path, 1)
    if copies[""][(root - 1) * PAGE] != 13:  # few short ones stand in the root itself
        _zero(path, root)
    spool = await open_spool()
    records = await spool.read(0, limit=1000, max_bytes=10**9)
    assert sorted(record.body for record in records) == sorted(bodies)


@pytest.mark.parametrize("left", ["nothing", "no byte"])
async def test_a_log_is_read_though_its_file_is_gone(tmp_path: Path, open_spool: Any, left: str) -> None:
    """SQLite deletes the log of a file that it finds empty."""
    path = tmp_path / "spool.sqlite"
    _in_log(path, [_body(number) for number in range(1, 601)])
    if left == "nothing":
        path.unlink()
    else:
        path.write_bytes(b"")
    assert sorted(await instants_of(await open_spool())) == list(range(1, 601))


async def test_a_damaged_number_hides_no_others(spoiled: Path, open_spool: Any) -> None:
    """A bit that flips in the number of a record costs nothing, and with another damage what lies there."""
    whole = spoiled.read_bytes()
    at = whole.index(_body(300))
    content = bytearray(whole)
    place = whole.rindex(bytes((0x82, 0x2C)), at - 20, at)  # 300
    content[place] = 0xC2
    other = whole.index(_body(3700)) // PAGE * PAGE
    content[other : other + PAGE] = bytes(PAGE)
    spoiled.write_bytes(content)
    found = sorted(await instants_of(await open_spool()))
    assert 300 in found
    assert len(found) > COUNT - 30


async def test_a_damaged_name_in_the_schema_ends_nothing(spoiled: Path, open_spool: Any) -> None:
    """What SQLite says of it is no text then."""
    whole = spoiled.read_bytes()
    for word in (b"CREATE TABLE record", b"sqlite_sequence", b"AUTOINCREMENT", b"tablerecord"):
        content = bytearray(whole)
        content[whole.index(word) + 6] ^= 0x80
        spoiled.write_bytes(content)
        spool = await open_spool()
        assert sorted(await instants_of(spool)) == list(range(1, COUNT + 1))
        await spool.close()


async def test_gaps_and_used_instants_of_a_damaged_spool_are_kept(spoiled: Path, open_spool: Any) -> None:
    """Missed runs are told of, and no instant is used once more."""
    gap = Gap(7, 500, 9_000, result_of(8_000).SerializeToString())
    with contextlib.closing(sqlite3.connect(spoiled)) as connection:
        file = SpoolFile(connection, spoiled)
        connection.isolation_level = None
        file.adopt([gap], {3: Used(((1, 5),))}, {"time": "told"})
    spool = await open_spool(limits=_ANY_AGE)
    await asyncio.sleep(0.3)
    assert await spool.used() == {3: Used(((1, 5),))}
    assert await spool.recall("time") == "told"
    records = await spool.read(COUNT, limit=10, max_bytes=10**6)
    assert [record.body for record in records] == [telling(gap).body]


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
@pytest.mark.parametrize("after", [0, 1500])
async def test_a_disk_that_cannot_be_read_now_costs_nothing(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch, said: str, after: int
) -> None:
    """It is not taken for a file of which nothing more is left."""
    rows = damage._Ruin._rows

    def failing(self: Any) -> Iterator[tuple[int, int, object]]:
        yield from islice(rows(self), after)
        raise sqlite3.OperationalError(said)

    with monkeypatch.context() as patch:
        patch.setattr(damage._Ruin, "_rows", failing)
        with pytest.raises(StorageError, match=said):
            await open_spool()
    assert not list(spoiled.parent.glob("spool-f*"))
    assert await instants_of(await open_spool()) == list(range(1, COUNT + 1))


class _BadSector:
    """A file that cannot be read from one place on."""

    def __init__(self, file: Any, bad: int) -> None:
        self._file = file
        self._bad = bad
        self._at = 0

    def seek(self, at: int, whence: int = 0) -> int:
        self._at = at if whence == 0 else -1
        return int(self._file.seek(at, whence))

    def read(self, count: int) -> bytes:
        if self._at == self._bad:
            raise OSError(errno.EIO, "Input/output error")
        return bytes(self._file.read(count))


async def test_a_place_that_cannot_be_read_for_long_costs_what_lies_there(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sector gone bad does not keep a worker from measuring for ever."""
    bad = spoiled.read_bytes().index(_body(70)) // PAGE * PAGE
    copy = spoiled.with_name("copy.sqlite")
    copy.write_bytes(spoiled.read_bytes())
    _zero(copy, bad // PAGE + 1)
    rows, begin = damage._Ruin._rows, pages._Pages.__init__

    def rows_up_to(self: Any) -> Iterator[tuple[int, int, object]]:
        yield from islice(rows(self), 40)
        raise sqlite3.OperationalError("disk I/O error")

    def begin_beside(self: Any, file: Any, *args: Any, **more: Any) -> None:
        begin(self, _BadSector(file, bad), *args, **more)

    monkeypatch.setattr(damage._Ruin, "_rows", rows_up_to)
    monkeypatch.setattr(pages._Pages, "__init__", begin_beside)
    with pytest.raises(StorageError, match="I/O error"):
        await open_spool()
    monkeypatch.setattr("worker.spool.spool._PATIENCE_S", 0.0)
    assert sorted(await instants_of(await open_spool())) == _readable(copy)


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

    def spoil(path: Path) -> bool:
        finished = finish(path)
        if finished:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                connection.execute("DELETE FROM meta")
                connection.commit()
        return finished

    with monkeypatch.context() as patch:
        patch.setattr(damage, "finish", spoil)
        with pytest.raises(StorageError, match="so is the file that takes its place"):
            await open_spool()
    assert await instants_of(await open_spool()) == list(range(1, COUNT + 1))


async def test_a_file_that_is_damaged_while_it_is_filled_ends_no_worker(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits, and takes what comes once the disk keeps what is written."""
    spool = await open_spool(limits=_ANY_AGE)
    await spool.append(result_of(1))
    commit = SpoolFile.commit

    def damaged(file: SpoolFile, *args: Any, **more: Any) -> list[int]:
        if "filling" in file._path.name:
            raise DamageError("a page")
        return commit(file, *args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "commit", damaged)
        await spool._in_thread(lambda: spool._file._connection.execute("DROP TABLE meta"))
        waiting = asyncio.ensure_future(spool.append(result_of(2)))
        async with asyncio.timeout(10):
            while "so is the file that takes its place" not in spool.refusal():
                await asyncio.sleep(0.05)
    await asyncio.wait_for(waiting, 5)
    assert await instants_of(spool) == [1, 2]


async def test_what_became_of_a_damaged_file_is_told_after_a_stop_too(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However late it came; and once."""
    with monkeypatch.context() as patch:
        patch.setattr(damage, "_tidy", _stop)
        with pytest.raises(KeyboardInterrupt):
            await open_spool()
    spool = await open_spool()
    (aside,) = spoiled.parent.glob("spool-damaged-*.sqlite")
    assert f"{COUNT} results could still be read" in spool.alarm
    assert str(aside) in spool.alarm
    await spool.close()
    assert "damaged" not in (await open_spool()).alarm


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


async def test_the_newest_damaged_file_is_kept_whatever_the_clock_says(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the one that people are told of."""
    for number in range(3):
        spoiled.with_name(f"spool-damaged-2020010{number}T000000Z-aaaa.sqlite").touch()
    monkeypatch.setattr(time, "strftime", lambda *_: "19700101T000000Z")
    spool = await open_spool()
    kept = sorted(path.name for path in spoiled.parent.glob("spool-damaged-*.sqlite"))
    assert kept[0].startswith("spool-damaged-19700101T000000Z")
    assert kept[1:] == [f"spool-damaged-2020010{number}T000000Z-aaaa.sqlite" for number in (1, 2)]
    assert kept[0] in spool.alarm


async def test_nothing_half_made_is_left(
    spoiled: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by a try that the disk refused, whose room the next one needs, nor by a stop."""
    spoiled.with_name(".spool-filling.sqlite.0badcafe").write_bytes(b"half")

    def full(*_: Any, **__: Any) -> list[int]:
        raise StorageError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "commit", full)
        with pytest.raises(StorageError, match="full"):
            await open_spool()
    assert {path.name for path in spoiled.parent.iterdir()} <= {
        spoiled.name + part for part in ("", "-wal", "-shm")
    }


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
