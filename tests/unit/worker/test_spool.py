"""The spool with real files: order, durability of state, limits."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from support.spools import instants_of, result_of

from streamswarm.v1 import probe_pb2
from worker.errors import StorageError
from worker.spool import ImpossibleAckError, Limits
from worker.spool.records import Entry
from worker.used import Used


async def test_results_come_out_in_the_order_of_their_numbers(open_spool: Any) -> None:
    """Also when a hundred are appended at the same time, and after a restart."""
    spool = await open_spool()
    seqs = await asyncio.gather(*(spool.append(result_of(number)) for number in range(100)))
    assert sorted(seqs) == list(range(1, 101))
    assert await instants_of(spool) == list(range(100))
    spool_id = spool.spool_id
    await spool.close()
    again = await open_spool()
    assert again.spool_id != spool_id, "a file may have been restored from a copy: its numbers are new ones"
    assert await instants_of(again) == list(range(100))
    assert await again.append(result_of(100)) == 101
    assert again.first_unacked_seq == 1


async def test_batches_are_bounded_by_number_and_size(open_spool: Any) -> None:
    """But one result always comes, however large it is."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(result_of(number, size=1000)) for number in range(10)))
    assert [record.seq for record in await spool.read(0, limit=3, max_bytes=10**6)] == [1, 2, 3]
    assert [record.seq for record in await spool.read(3, limit=10, max_bytes=3500)] == [4, 5, 6]
    assert [record.seq for record in await spool.read(9, limit=10, max_bytes=1)] == [10]
    assert await spool.read(10, limit=10, max_bytes=1000) == []


async def test_acknowledged_results_go_and_numbers_are_never_used_again(open_spool: Any) -> None:
    """An empty spool goes on counting, also after a restart."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(result_of(number)) for number in range(5)))
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
    assert await again.append(result_of(9)) == 6


async def test_acknowledgements_of_what_was_never_sent_are_refused(open_spool: Any) -> None:
    """They would delete results that nobody has."""
    spool = await open_spool()
    await spool.append(result_of(1))
    with pytest.raises(ImpossibleAckError):
        spool.acknowledge(1)
    spool_id = spool.spool_id
    await spool.become_another("test")
    assert spool.spool_id != spool_id
    assert await instants_of(spool) == [1]
    assert "new number" in spool.alarm


async def test_waiting_ends_when_a_result_is_written(open_spool: Any) -> None:
    """And not before."""
    spool = await open_spool()
    waiting = asyncio.ensure_future(spool.wait_beyond(0, spool.spool_id))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await spool.append(result_of(1))
    await asyncio.wait_for(waiting, 1)
    await asyncio.wait_for(spool.wait_beyond(0, spool.spool_id), 1)


async def test_used_instants_and_small_values_survive(open_spool: Any) -> None:
    """They are written with the result that used them."""
    spool = await open_spool()
    await spool.append(result_of(5), used=Used(((1, 2), (4, 5))))
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
        await spool.append(result_of(1, size=1000))
    assert "full" in spool.alarm
    kept, size = spool.records, spool.size_bytes
    for number in range(10_000):
        missed = result_of(1000 + number)
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
    spool._room._limits = Limits(max_bytes=0)
    for number in (10, 20):
        spool.miss(result_of(number))
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
    spool._room._limits = Limits()
    await asyncio.to_thread(entered.wait, 10)
    spool._room._limits = Limits(max_bytes=0)
    spool.miss(result_of(30))
    leave.set()
    spool._room._limits = Limits()
    told: list[tuple[int, str]] = []
    while sum(json.loads(detail or '{"missed_runs": 1}')["missed_runs"] for _, detail in told) < 3:
        await spool.wait_beyond(len(told), spool.spool_id)
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
    await spool.append(result_of(0))
    await spool.append(result_of(5))
    assert spool.refusal() == ""
    spool.now_us = lambda: 61_000_006
    assert spool.refusal() == ""  # an instant of 0 is no instant
    await spool.close()


async def test_a_disk_that_takes_nothing_is_waited_for(open_spool: Any) -> None:
    """The same error as of a full disk: no crash, no loss, an alarm meanwhile, and everything arrives afterwards."""
    spool = await open_spool()
    await spool.append(result_of(0))
    connection = spool._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [asyncio.ensure_future(spool.append(result_of(number, size=2000))) for number in range(1, 40)]
    while not spool.refusal():
        await asyncio.sleep(0.01)
    assert "full" in spool.alarm
    spool.miss(result_of(500))
    await asyncio.sleep(0.3)
    assert not any(future.done() for future in waiting)
    connection.execute("PRAGMA max_page_count = 1000000")
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    await asyncio.sleep(0.1)
    assert spool.alarm == ""
    assert await instants_of(spool) == [*range(40), 500]


async def test_what_cannot_be_written_before_the_stop_is_told(open_spool: Any) -> None:
    """`close` ends in time and says that something is lost."""
    spool = await open_spool()
    connection = spool._file._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}")
    waiting = [asyncio.ensure_future(spool.append(result_of(number, size=4000))) for number in range(20)]
    await asyncio.sleep(0.1)
    assert not await spool.close(timeout_s=0.3)
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, StorageError) for answer in answers)


async def test_an_older_copy_of_the_file_is_noticed_by_its_numbers(tmp_path: Path, open_spool: Any) -> None:
    """After a restore from a backup the controller knows more numbers than the spool."""
    spool = await open_spool()
    await asyncio.gather(*(spool.append(result_of(number)) for number in range(10)))
    await spool.close()
    with pytest.raises(ImpossibleAckError):
        (await open_spool()).acknowledge(11)
