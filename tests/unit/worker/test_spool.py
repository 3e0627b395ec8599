"""The spool with real files: order, durability of state, limits, damage."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.errors import StorageError
from worker.spool import ImpossibleAckError, Limits, Spool
from worker.spool.file import DamageError, SpoolFile
from worker.spool.records import Entry
from worker.used import Used


def _result(number: int, *, size: int = 0) -> probe_pb2.Result:
    return probe_pb2.Result(
        job_id=1, scheduled_at_us=number, status=probe_pb2.STATUS_OK, detail_json="x" * size
    )


@pytest.fixture
async def open_spool(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    opened: list[Spool] = []

    async def open_one(limits: Limits | None = None, name: str = "spool.sqlite") -> Spool:
        spool = Spool(tmp_path / name, clock=SystemClock(), limits=limits)
        await spool.open()
        opened.append(spool)
        return spool

    yield open_one
    for spool in opened:
        if not spool._closing:
            await spool.close()


async def _instants(spool: Spool) -> list[int]:
    records = await spool.read(0, limit=100_000, max_bytes=10**9)
    return [probe_pb2.Result.FromString(record.body).scheduled_at_us for record in records]


async def test_results_come_out_in_the_order_of_their_numbers(open_spool: Any) -> None:
    """Also when a hundred are appended at the same time, and after a restart."""
    spool = await open_spool()
    seqs = await asyncio.gather(*(spool.append(_result(number)) for number in range(100)))
    assert sorted(seqs) == list(range(1, 101))
    assert await _instants(spool) == list(range(100))
    spool_id = spool.spool_id
    await spool.close()
    again = await open_spool()
    assert again.spool_id != spool_id, "a file may have been restored from a copy: its numbers are new ones"
    assert await _instants(again) == list(range(100))
    assert await again.append(_result(100)) == 101
    assert again.first_unacked_seq == 1


async def test_batches_are_bounded_by_number_and_size(open_spool: Any) -> None:
    """But one result always comes, however large it is."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(_result(number, size=1000)) for number in range(10)))
    assert [record.seq for record in await spool.read(0, limit=3, max_bytes=10**6)] == [1, 2, 3]
    assert [record.seq for record in await spool.read(3, limit=10, max_bytes=3500)] == [4, 5, 6]
    assert [record.seq for record in await spool.read(9, limit=10, max_bytes=1)] == [10]
    assert await spool.read(10, limit=10, max_bytes=1000) == []


async def test_acknowledged_results_go_and_numbers_are_never_used_again(open_spool: Any) -> None:
    """An empty spool goes on counting, also after a restart."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(_result(number)) for number in range(5)))
    spool.sent(5)
    spool.acknowledge(3)
    await asyncio.sleep(0.5)
    assert [record.seq for record in await spool.read(0, limit=10, max_bytes=10**6)] == [4, 5]
    assert (spool.first_unacked_seq, spool.records) == (4, 2)
    spool.acknowledge(5)
    await asyncio.sleep(0.5)
    assert (spool.first_unacked_seq, spool.records, spool.size_bytes) == (0, 0, 0)
    await spool.close()
    again = await open_spool()
    assert again.next_seq == 6
    assert again.first_unacked_seq == 0
    assert await again.append(_result(9)) == 6


async def test_acknowledgements_of_what_was_never_sent_are_refused(open_spool: Any) -> None:
    """They would delete results that nobody has."""
    spool = await open_spool()
    await spool.append(_result(1))
    with pytest.raises(ImpossibleAckError):
        spool.acknowledge(1)
    spool_id = spool.spool_id
    await spool.become_another("test")
    assert spool.spool_id != spool_id
    assert await _instants(spool) == [1]
    assert "new number" in spool.alarm


async def test_waiting_ends_when_a_result_is_written(open_spool: Any) -> None:
    """And not before."""
    spool = await open_spool()
    waiting = asyncio.ensure_future(spool.wait_beyond(0))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await spool.append(_result(1))
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(spool.wait_beyond(0), 1)


async def test_used_instants_and_small_values_survive(open_spool: Any) -> None:
    """They are written with the result that used them."""
    spool = await open_spool()
    await spool.append(_result(5), used=Used(((1, 2), (4, 5))))
    await spool.remember("time", "then")
    await spool.close()
    again = await open_spool()
    assert await again.used() == {1: Used(((1, 2), (4, 5)))}
    assert await again.recall("time") == "then"
    assert await again.recall("nothing") == ""
    await again.forget_used(keep=frozenset({1}), before_us=100)
    assert await again.used() == {1: Used(((1, 2), (4, 5)))}
    await again.forget_used(keep=frozenset(), before_us=5)
    assert await again.used() == {1: Used(((1, 2), (4, 5)))}
    await again.forget_used(keep=frozenset(), before_us=6)
    assert await again.used() == {}


async def test_a_full_spool_counts_what_is_missed_and_tells_it_later(open_spool: Any) -> None:
    """Nothing is dropped, a million missed runs take one row per job, and a restart keeps the count."""
    limits = Limits(max_bytes=20_000)
    spool = await open_spool(limits)
    while not spool.refusal():
        await spool.append(_result(1, size=1000))
    assert "full" in spool.alarm
    kept, size = spool.records, spool.size_bytes
    for number in range(10_000):
        missed = _result(1000 + number)
        missed.job_id = 1 + number % 2
        missed.error = "the spool is full"
        spool.miss(missed)
    await spool.close()
    spool = await open_spool(limits)
    assert (spool.records, spool.size_bytes) == (kept, size)
    spool.sent(kept)
    spool.acknowledge(kept)
    await asyncio.sleep(0.6)
    assert spool.refusal() == ""
    told = [
        probe_pb2.Result.FromString(record.body) for record in await spool.read(0, limit=10, max_bytes=10**6)
    ]
    assert sorted((result.job_id, result.scheduled_at_us) for result in told) == [(1, 1000), (2, 1001)]
    assert all(result.error.startswith("5000 runs until") for result in told)
    assert all('"missed_runs": 5000' in result.detail_json for result in told)


@pytest.mark.parametrize("fails", [False, True], ids=["told", "not told"])
async def test_what_is_missed_while_gaps_are_told_is_told_once(open_spool: Any, fails: bool) -> None:
    """As a gap of its own, for a second record of the same instant would be taken for a repetition."""
    spool = await open_spool()
    spool.now_us = lambda: 60
    spool._limits = Limits(max_bytes=0)
    for number in (10, 20):
        spool.miss(_result(number))
    entered, leave = threading.Event(), threading.Event()
    settle = spool._file.settle_gaps

    def slowly(entries: list[Entry]) -> list[int]:
        if not entered.is_set():
            entered.set()
            assert leave.wait(10)
            if fails:
                raise StorageError("the disk is full")
        return settle(entries)

    spool._file.settle_gaps = slowly
    spool._limits = Limits()
    await asyncio.to_thread(entered.wait, 10)
    spool._limits = Limits(max_bytes=0)
    spool.miss(_result(30))
    leave.set()
    spool._limits = Limits()
    told: list[tuple[int, str]] = []
    while sum(json.loads(detail or '{"missed_runs": 1}')["missed_runs"] for _, detail in told) < 3:
        await spool.wait_beyond(len(told))
        records = await spool.read(0, limit=10, max_bytes=10**6)
        results = [probe_pb2.Result.FromString(record.body) for record in records]
        told = [(result.scheduled_at_us, result.detail_json) for result in results]
    if fails:
        assert told == [(10, '{"missed_runs": 3, "missed_until_us": 30}')]
    else:
        assert told == [(10, '{"missed_runs": 2, "missed_until_us": 20}'), (30, "")]


async def test_a_spool_whose_oldest_result_is_too_old_is_full(open_spool: Any) -> None:
    """The age counts, by the controller's time."""
    spool = await open_spool(Limits(max_age_s=60))
    spool.now_us = lambda: 59_000_000
    await spool.append(_result(0))
    await spool.append(_result(5))
    assert spool.refusal() == ""
    spool.now_us = lambda: 61_000_006
    assert spool.refusal() == ""  # an instant of 0 is no instant
    await spool.close()


async def test_a_disk_that_takes_nothing_is_waited_for(open_spool: Any) -> None:
    """The same error as of a full disk: no crash, no loss, an alarm meanwhile, and everything arrives afterwards."""
    spool = await open_spool()
    await spool.append(_result(0))
    connection = spool._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [asyncio.ensure_future(spool.append(_result(number, size=2000))) for number in range(1, 40)]
    while not spool.refusal():
        await asyncio.sleep(0.01)
    assert "full" in spool.alarm
    spool.miss(_result(500))
    await asyncio.sleep(0.3)
    assert not any(future.done() for future in waiting)
    connection.execute("PRAGMA max_page_count = 1000000")
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    await asyncio.sleep(0.1)
    assert spool.alarm == ""
    assert await _instants(spool) == [*range(40), 500]


async def test_what_cannot_be_written_before_the_stop_is_told(open_spool: Any) -> None:
    """`close` ends in time and says that something is lost."""
    spool = await open_spool()
    connection = spool._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [asyncio.ensure_future(spool.append(_result(number, size=4000))) for number in range(20)]
    await asyncio.sleep(0.1)
    assert not await spool.close(timeout_s=0.3)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, StorageError) for answer in answers)


def _fill(path: Path, count: int, *, close: bool) -> set[bytes]:
    """Write records; without closing, they are in the log, as after a crash."""
    file = SpoolFile.open(path)
    bodies = [_result(number, size=50).SerializeToString() for number in range(count)]
    for start in range(0, count, 20):
        file.commit([Entry(body=body) for body in bodies[start : start + 20]])
    if close:
        file.close()
    else:
        copies = {name: path.with_name(path.name + name).read_bytes() for name in ("", "-wal")}
        file.close()
        for name, content in copies.items():
            path.with_name(path.name + name).write_bytes(content)
    return set(bodies)


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
        seq = await spool.append(_result(10_000))
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
    middle = len(content) // 2 // 4096 * 4096
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
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM meta")
        connection.commit()

    def full(*_: Any, **__: Any) -> list[int]:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SpoolFile, "commit", full)
        for _ in range(2):
            with pytest.raises(StorageError, match="the disk is full"):
                await open_spool()
    spool = await open_spool()
    assert await _instants(spool) == list(range(500))
    assert len(list(tmp_path.glob("spool-damaged-*.sqlite"))) == 1


async def test_no_more_than_three_damaged_files_are_kept(tmp_path: Path, open_spool: Any) -> None:
    """With their logs: they would fill the disk."""
    path = tmp_path / "spool.sqlite"
    for _ in range(5):
        _fill(path, 40, close=False)
        content = bytearray(path.read_bytes())
        content[20:100] = bytes(80)
        path.write_bytes(content)
        await (await open_spool()).close()
    kept = {item.name.partition(".sqlite")[0] for item in tmp_path.glob("spool-damaged-*")}
    assert len(kept) == 3


async def test_a_file_that_goes_bad_while_it_is_used_is_replaced(tmp_path: Path, open_spool: Any) -> None:
    """What waits to be written goes to the fresh file."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(_result(number, size=500)) for number in range(50)))
    spool_id = spool.spool_id
    spool._file._connection.execute("DROP TABLE record")
    assert await asyncio.wait_for(spool.append(_result(99)), 5) >= 1
    assert spool.spool_id != spool_id
    assert await _instants(spool) == [99]
    assert "damaged" in spool.alarm


async def test_an_older_copy_of_the_file_is_noticed_by_its_numbers(tmp_path: Path, open_spool: Any) -> None:
    """After a restore from a backup the controller knows more numbers than the spool."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(_result(number)) for number in range(10)))
    await spool.close()
    with pytest.raises(ImpossibleAckError):
        (await open_spool()).acknowledge(11)


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
