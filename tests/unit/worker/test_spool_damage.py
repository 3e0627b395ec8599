"""Damaged files of a spool, at the start and in use: it always starts, tells of a loss, and delivers what is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.spools import instants_of, result_of

from worker.errors import StorageError
from worker.spool import damage
from worker.spool.file import DamageError, SpoolFile
from worker.spool.records import Entry, Record
from worker.used import Used

_TIME = '{"boot_id": "one", "base_us": 1, "seen_us": 2}'


def _fill(path: Path, count: int, *, close: bool) -> set[bytes]:
    """Write records; without closing, they are in the log, as after a crash."""
    file = SpoolFile.open(path)
    bodies = [result_of(number, size=50).SerializeToString() for number in range(count)]
    for start in range(0, count, 20):
        used = [Used(((1000 * number, 2000 * number),)) for number in range(start, start + 20)]
        file.commit(
            [
                Entry(body=body, job_id=start + at, used=used[at])
                for at, body in enumerate(bodies[start : start + 20])
            ]
        )
    file.remember("time", _TIME)
    if close:
        file.close()
    else:
        copies = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
        file.close()
        for name, content in copies.items():
            path.with_name(path.name + name).write_bytes(content)
    return set(bodies)


def _spoil(path: Path) -> None:
    """Take something away without which no spool is whole; its records can still be read."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta")
        connection.commit()


async def _spoiled_in_use(open_spool: Any) -> Any:
    """Return an open spool with one record whose file has gone bad meanwhile."""
    spool = await open_spool()
    await spool.append(result_of(1))
    # In the spool's own thread, which may be reading.
    await spool._in_thread(lambda: spool._file._connection.execute("DROP TABLE meta"))
    return spool


def _slow_replacement(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Have a replacement tell that it has begun, and wait until it may go on."""
    entered, leave = threading.Event(), threading.Event()
    replace = damage.replace

    def slowly(path: Path, reason: str, *, patient: bool) -> None:
        entered.set()
        leave.wait(10)
        replace(path, reason, patient=patient)

    monkeypatch.setattr(damage, "replace", slowly)
    return entered, leave


def _files(path: Path) -> list[Path]:
    return [
        item for item in (path, path.with_name(path.name + "-wal")) if item.exists() and item.stat().st_size
    ]


#: Of each of six sorts of damage: more than 500 together.
_ROUNDS = 84


@pytest.mark.parametrize("close", [True, False], ids=["file", "log"])
@pytest.mark.parametrize("how", ["flip", "truncate", "zeros"])
async def test_a_damaged_spool_always_starts(tmp_path: Path, open_spool: Any, how: str, close: bool) -> None:
    """Whatever bytes are changed: it opens, takes results, gives no wrong ones, and tells of a loss."""
    rng = random.Random(f"{how}{close}")
    template = tmp_path / "template.sqlite"
    written = _fill(template, 200, close=close)
    used_before = {number: Used(((1000 * number, 2000 * number),)) for number in range(200)}
    contents = {item.name.removeprefix("template"): item.read_bytes() for item in _files(template)}
    lost_in_silence = 0
    for number in range(_ROUNDS):
        name = f"spool{number}.sqlite"
        for suffix, content in contents.items():
            (tmp_path / f"spool{number}{suffix}").write_bytes(content)
        target = rng.choice(_files(tmp_path / name))
        _damage(target, how, rng)
        spool = await open_spool(name=name)
        records = await spool.read(0, limit=1000, max_bytes=10**9)
        bodies = [record.body for record in records]
        assert set(bodies) <= written, "a result came out that was never written"
        assert len(bodies) == len(set(bodies))
        if set(bodies) != written and not spool.alarm:
            lost_in_silence += 1
            assert how == "truncate", f"round {number}: a loss was not told"
        assert (await spool.used()).items() <= used_before.items(), "instants came out that were never used"
        assert await spool.recall("time") in (_TIME, "")
        seq = await spool.append(result_of(10_000))
        assert seq > max((record.seq for record in records), default=0)
        await spool.close()
    # A log that ends at a frame's boundary is as it was a moment earlier: the controller sees that from the numbers.
    assert lost_in_silence <= _ROUNDS * (how == "truncate" and not close)


async def test_a_crash_without_damage_loses_nothing_and_raises_no_alarm(
    tmp_path: Path, open_spool: Any
) -> None:
    """Records that are in the log only are there after the start."""
    written = _fill(tmp_path / "spool.sqlite", 200, close=False)
    spool = await open_spool()
    assert {record.body for record in await spool.read(0, limit=1000, max_bytes=10**9)} == written
    assert spool.alarm == ""


def _damage(path: Path, how: str, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    position = rng.choice([rng.randrange(len(content)), rng.randrange(min(200, len(content)))])
    if how == "flip":
        content[position] ^= 1 << rng.randrange(8)
    elif how == "truncate":
        del content[position:]
    else:
        length = rng.randrange(1, 5000)
        content[position : position + length] = bytes(len(content[position : position + length]))
    path.write_bytes(content)


async def test_a_damaged_file_is_kept_and_what_can_be_read_is_delivered(
    tmp_path: Path, open_spool: Any
) -> None:
    """Under another spool number, and with an alarm that names the file."""
    path = tmp_path / "spool.sqlite"
    written = _fill(path, 500, close=True)
    with contextlib.closing(SpoolFile.open(path)) as file:
        before = file.spool_id
    content = bytearray(path.read_bytes())
    middle = content.index(result_of(250, size=50).SerializeToString()) // 4096 * 4096
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)
    spool = await open_spool()
    assert spool.spool_id != before
    bodies = {record.body for record in await spool.read(0, limit=1000, max_bytes=10**9)}
    assert bodies < written
    assert len(bodies) > 400
    (aside,) = tmp_path.glob("spool-damaged-*.sqlite")
    assert str(aside) in spool.alarm


async def test_a_damaged_file_waits_for_a_disk_that_takes_nothing(
    tmp_path: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is damage and a full disk together that come often: what can be read is delivered once there is room."""
    path = tmp_path / "spool.sqlite"
    _fill(path, 500, close=True)
    _spoil(path)

    def full(*_: Any, **__: Any) -> list[int]:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "commit", full)
        for _ in range(2):
            with pytest.raises(StorageError, match="the disk is full"):
                await open_spool()
    spool = await open_spool()
    assert await instants_of(spool) == list(range(500))
    assert len(list(tmp_path.glob("spool-damaged-*.sqlite"))) == 1


@pytest.mark.parametrize("stopped_at", range(5))
async def test_a_stop_while_a_damaged_file_is_replaced_loses_nothing(
    tmp_path: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    """Whichever of the renames it comes before, the next start delivers what can be read, once, and tells of the damage."""
    path = tmp_path / "spool.sqlite"
    _fill(path, 100, close=False)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_autocheckpoint = 0")
        connection.execute("DELETE FROM meta")
        connection.commit()
        copies = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
    for name, content in copies.items():
        path.with_name(path.name + name).write_bytes(content)
    whole, renames = Path.rename, []

    def stopping(self: Path, target: Path) -> Path:
        if self.name.startswith("spool") and "new" not in self.name:
            renames.append(self.name)
            if len(renames) > stopped_at:
                raise KeyboardInterrupt
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", stopping)
        with contextlib.suppress(KeyboardInterrupt):
            await (await open_spool()).close()
    assert len(renames) == stopped_at + 1, "there are more or fewer renames than stops are tried"
    spool = await open_spool()
    assert await instants_of(spool) == list(range(100))
    assert len(list(tmp_path.glob("spool-damaged-*.sqlite"))) == 1


async def test_no_more_than_three_damaged_files_are_kept(tmp_path: Path, open_spool: Any) -> None:
    """With their logs: they would fill the disk."""
    path = tmp_path / "spool.sqlite"
    for _ in range(5):
        _fill(path, 40, close=False)
        for item in _files(path):
            with item.open("r+b") as file:
                file.write(bytes(100))
        await (await open_spool()).close()
    kept = {item.name.partition(".sqlite")[0] for item in tmp_path.glob("spool-damaged-*")}
    assert len(kept) == 3


async def test_a_file_that_goes_bad_while_it_is_used_is_replaced(tmp_path: Path, open_spool: Any) -> None:
    """What waits to be written goes to the fresh file."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(result_of(number, size=500)) for number in range(50)))
    spool_id = spool.spool_id
    await spool._in_thread(lambda: spool._file._connection.execute("DROP TABLE record").close())
    assert await asyncio.wait_for(spool.append(result_of(99)), 5) >= 1
    assert spool.spool_id != spool_id
    assert await instants_of(spool) == [99]
    assert "damaged" in spool.alarm


def test_a_file_of_another_version_is_not_touched(tmp_path: Path) -> None:
    """It is set aside rather than misread."""
    path = tmp_path / "spool.sqlite"
    SpoolFile.open(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DamageError, match="version 99"):
        SpoolFile.open(path)


def test_a_folder_that_cannot_be_used_is_no_damage(tmp_path: Path) -> None:
    """A missing folder is the system's fault: nothing is renamed, the caller may try again."""
    with pytest.raises(StorageError, match="cannot be written"):
        SpoolFile.open(tmp_path / "nowhere" / "spool.sqlite")


@pytest.mark.parametrize("before", ["[[5", "boot_id", "tail"], ids=["used", "time", "end mark"])
async def test_a_bit_that_flips_in_a_text_does_not_stop_the_worker(
    tmp_path: Path, open_spool: Any, before: str
) -> None:
    """SQLite takes bytes that are no text for one; the check sum beside it tells."""
    path = tmp_path / "spool.sqlite"
    _fill(path, 200, close=True)
    content = bytearray(path.read_bytes())
    content[content.rindex(before.encode()) + len(before)] ^= 0x80
    path.write_bytes(content)
    for _ in range(2):
        spool = await open_spool()
        assert await instants_of(spool) == list(range(200))
        assert len(await spool.used()) == {"[[5": 199, "boot_id": 200, "tail": 200}[before]
        assert await spool.recall("time") == ("" if before == "boot_id" else _TIME)
        await spool.close()


@pytest.mark.parametrize("what", ["used", "forget_used", "remember", "recall"])
async def test_damage_that_the_housekeeping_finds_replaces_the_file(open_spool: Any, what: str) -> None:
    """It costs what is kept beside the results, not the daemon."""
    spool = await open_spool()
    await spool.append(result_of(1))
    await spool.remember("time", _TIME)
    spool_id = spool.spool_id
    for table in ("used", "meta"):
        spool._file._connection.execute(f"DROP TABLE {table}")
    arguments: dict[str, tuple[Any, ...]] = {"remember": ("time", _TIME), "recall": ("time",)}
    named = {"keep": frozenset(), "before_us": 1} if what == "forget_used" else {}
    assert not await getattr(spool, what)(*arguments.get(what, ()), **named)
    assert spool.spool_id != spool_id
    assert "damaged" in spool.alarm
    assert await instants_of(spool) == [1]
    await spool.remember("time", _TIME)
    assert await spool.recall("time") == _TIME


def _read_only(*_: Any, **__: Any) -> Any:
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("forbidden", ["rename", "unlink", "read_bytes", "mkdir"])
async def test_a_damaged_file_waits_for_a_disk_that_is_read_only(
    tmp_path: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch, forbidden: str
) -> None:
    """A file system with errors is made read-only by the kernel: the worker waits for it, and does not end."""
    path = tmp_path / "spool.sqlite"
    _fill(path, 100, close=True)
    _spoil(path)
    with monkeypatch.context() as patch:
        patch.setattr(Path, forbidden, _read_only)
        with pytest.raises(StorageError, match="Read-only"):
            await open_spool()
    assert await instants_of(await open_spool()) == list(range(100))


async def test_damage_while_the_disk_is_read_only_ends_nothing(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes meanwhile waits in memory and is written once the damaged file can be replaced."""
    spool = await _spoiled_in_use(open_spool)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _read_only)
        waiting = asyncio.ensure_future(spool.append(result_of(2)))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        assert "Read-only" in spool.refusal()
    await asyncio.wait_for(waiting, 5)
    assert await instants_of(spool) == [1, 2]
    assert "Read-only" not in spool.refusal()


async def test_a_reader_of_a_damaged_file_waits_until_it_can_be_replaced(
    tmp_path: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No records would mean that there are none; and of all that meet the damage, one replaces the file."""
    spool = await _spoiled_in_use(open_spool)
    spool_id = spool.spool_id
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _read_only)
        writing = asyncio.ensure_future(spool.append(result_of(2)))
        await asyncio.sleep(0.2)
        reading = asyncio.ensure_future(spool.read(0, limit=9, max_bytes=10**6))
        await asyncio.sleep(1.3)
        assert not reading.done()
    assert await asyncio.wait_for(reading, 5) == []
    assert spool.spool_id != spool_id
    await writing
    await asyncio.sleep(1.2)
    assert await instants_of(spool) == [1, 2]
    assert len(list(tmp_path.glob("spool-damaged-*.sqlite"))) == 1


async def test_a_replaced_file_takes_results_again_without_a_new_one(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the spool refuses no run starts, and none is to be missed only to find out that it may."""
    spool = await _spoiled_in_use(open_spool)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", _read_only)
        await spool.recall("time")
        assert "Read-only" in spool.refusal()
    await spool.recall("time")
    assert "Read-only" not in spool.refusal()


async def test_what_was_acknowledged_of_a_damaged_file_deletes_nothing_of_the_fresh_one(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers begin anew: the same ones are results that were never sent."""
    spool = await open_spool()
    for number in range(1, 11):
        await spool.append(result_of(number))
    entered, leave = _slow_replacement(monkeypatch)
    replacing = asyncio.ensure_future(spool._recover("a page of the file is lost", spool._replaced))
    await asyncio.to_thread(entered.wait, 10)
    spool.sent(5)
    spool.acknowledge(5)
    await asyncio.sleep(0.5)  # deleting waits behind the replacement by now
    leave.set()
    await replacing
    await spool.append(result_of(11))
    assert await instants_of(spool) == list(range(1, 12))
    assert (spool.records, spool.first_unacked_seq, spool.all_told) == (11, 1, False)
    spool.sent(11)
    spool.acknowledge(11)
    await asyncio.sleep(0.5)
    assert (spool.records, spool.all_told) == (0, True)


async def test_a_fresh_file_that_cannot_be_looked_into_is_not_taken_half(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers would be taken for those of the old one, and what was acknowledged of that deleted of it."""
    spool = await open_spool()
    for number in range(1, 21):
        await spool.append(result_of(number))
    spool.sent(20)
    spool.acknowledge(10)
    await asyncio.sleep(0.5)
    assert spool.records == 10
    await spool._in_thread(lambda: spool._file._connection.execute("DROP TABLE meta"))
    totals, failures = SpoolFile.totals, iter((StorageError("disk I/O error"), DamageError("a page")))

    def failing(file: SpoolFile) -> tuple[int, int, int]:
        for error in failures:
            raise error
        return totals(file)

    monkeypatch.setattr(SpoolFile, "totals", failing)
    spool.acknowledge(12)
    await asyncio.wait_for(spool.append(result_of(21)), 10)
    await asyncio.sleep(0.5)
    # The two that were acknowledged had not been deleted: they are sent again, which the key of a result makes harmless.
    assert await instants_of(spool) == list(range(11, 22))
    assert (spool.records, spool.first_unacked_seq) == (11, 1)
    assert "damaged" in spool.alarm


async def test_who_meets_damage_and_is_cancelled_leaves_no_replacement_half_told(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gaps that stood in the old file are written to the fresh one, and who waits learns of it."""
    spool = await open_spool()
    await spool.append(result_of(1))
    monkeypatch.setattr(spool, "_gaps_can_settle", lambda: False)
    spool._gaps.count(result_of(5))
    spool._wake.set()
    await asyncio.sleep(0.3)
    assert len(await spool._in_thread(lambda: spool._file.gaps())) == 1
    await spool._in_thread(lambda: spool._file._connection.execute("DROP TABLE meta"))
    entered, leave = _slow_replacement(monkeypatch)
    waiting = asyncio.ensure_future(spool.wait_beyond(1, spool.spool_id))
    meeting = asyncio.ensure_future(spool.recall("time"))
    await asyncio.to_thread(entered.wait, 10)
    meeting.cancel()
    await asyncio.gather(meeting, return_exceptions=True)
    leave.set()
    await asyncio.wait_for(waiting, 5)
    spool._wake.set()
    await asyncio.sleep(0.3)
    assert len(await spool._in_thread(lambda: spool._file.gaps())) == 1


async def test_a_result_is_announced_though_the_oldest_cannot_be_read(
    open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would wait for the next one."""
    spool = await open_spool()
    read, failures = SpoolFile.read, iter((StorageError("disk I/O error"),))

    def failing(file: SpoolFile, after: int, *, limit: int, max_bytes: int) -> list[Record]:
        for error in failures:
            raise error
        return read(file, after, limit=limit, max_bytes=max_bytes)

    waiting = asyncio.ensure_future(spool.wait_beyond(0, spool.spool_id))
    await asyncio.sleep(0)
    monkeypatch.setattr(SpoolFile, "read", failing)
    await spool.append(result_of(1))
    await asyncio.wait_for(waiting, 2)


async def test_counts_are_those_of_the_fresh_file(open_spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when a commit and the replacement follow each other while the loop is busy."""
    spool = await open_spool()
    for number in range(1, 21):
        await spool.append(result_of(number))
    loop = asyncio.get_running_loop()
    commit = SpoolFile.commit

    def damaged(file: SpoolFile, after: int, *, limit: int, max_bytes: int) -> list[Record]:
        monkeypatch.undo()
        monkeypatch.setattr(SpoolFile, "commit", slow)
        time.sleep(0.05)
        raise DamageError("a page")

    def slow(file: SpoolFile, *args: Any, **more: Any) -> list[int]:
        monkeypatch.undo()
        time.sleep(0.03)  # the loop hands in the replacement meanwhile
        seqs = commit(file, *args, **more)
        loop.call_soon_threadsafe(time.sleep, 0.3)
        return seqs

    monkeypatch.setattr(SpoolFile, "read", damaged)
    reading = asyncio.ensure_future(spool.read(0, limit=7, max_bytes=10**6))
    await asyncio.sleep(0.01)
    await spool.append(result_of(99))
    assert await reading == []
    await asyncio.sleep(0.1)
    records, size, _ = await spool._in_thread(lambda: spool._file.totals())
    assert records == 21
    assert (spool.records, spool.size_bytes) == (records, size)


async def test_counting_anew_may_meet_damage_too(open_spool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One result is damaged, and then what the others are counted by: the file is replaced, and who reads goes on."""
    spool = await open_spool()
    for number in range(1, 5):
        await spool.append(result_of(number))
    await spool._in_thread(
        lambda: spool._file._connection.execute("UPDATE record SET crc = crc + 1 WHERE seq = 2")
    )
    totals, failures = SpoolFile.totals, iter((DamageError("a page"),))

    def failing(file: SpoolFile) -> tuple[int, int, int]:
        for error in failures:
            raise error
        return totals(file)

    monkeypatch.setattr(SpoolFile, "totals", failing)
    assert await spool.read(0, limit=10, max_bytes=10**6) == []
    assert await instants_of(spool) == [1, 3, 4]
    assert spool.records == 3


async def test_a_replacement_that_stops_before_its_last_step_is_ended_by_the_next_try(
    tmp_path: Path, open_spool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The damaged file has been set aside then: reading it once more would find nothing."""
    spool = await _spoiled_in_use(open_spool)
    rename, failures = Path.rename, iter((OSError(errno.EROFS, "Read-only file system"),))

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith("spool-fresh-"):
            for error in failures:
                raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    await asyncio.wait_for(spool.append(result_of(2)), 15)
    assert next(failures, None) is None
    assert await instants_of(spool) == [1, 2]
    assert len(list(tmp_path.glob("spool-damaged-*.sqlite"))) == 1
    assert "damaged" in spool.alarm
