"""One worker's oddities cost the others nothing: its portion alone takes the slower ways, its results alone are set aside."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from support.peers import Peer

from controller.gateway import ingest, ownership, plain, preparing, storing
from controller.gateway.batches import Batch
from controller.gateway.ingest import Ingest


class Ways:
    """Counts which ways loads take into the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken: list[str] = []
        copied, singly = storing.store_copied, storing.store_singly

        def store_copied(*args: Any, positions: Any, wary: Any, **rest: Any) -> Any:
            self.taken.append(f"copied {len(positions)} wary {len(wary)}")
            return copied(*args, positions=positions, wary=wary, **rest)

        def store_singly(*args: Any, **rest: Any) -> Any:
            self.taken.append("singly")
            return singly(*args, **rest)

        monkeypatch.setattr(ingest, "store_copied", store_copied)
        monkeypatch.setattr(ingest, "store_singly", store_singly)

    def take(self) -> list[str]:
        """Return what was taken since the last time."""
        taken, self.taken = self.taken, []
        return taken


@pytest.fixture
async def peers(deployment: Any) -> list[tuple[Peer, int]]:
    """Three workers in their first sessions, each with a job."""
    made = []
    for number in range(3):
        worker = await deployment.enrol(f"host-{number}")
        made.append((Peer(worker.worker_id), deployment.job(worker.worker_id)))
    deployment.sql("UPDATE workers SET session_epoch = 1, spool_id = 'spool'")
    return made


async def _store(deployment: Any, lane: ingest.Lane, batches: Sequence[Batch]) -> None:
    for batch in batches:
        lane.queue.put_nowait(batch)
    running = asyncio.create_task(lane.run())
    try:
        async with asyncio.timeout(20):
            while any(
                not set(batch.seqs) <= set(batch.source.stored_seqs) and not batch.source.endings  # type: ignore[attr-defined]
                for batch in batches
            ):
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.fixture
def lane(deployment: Any) -> Any:
    """A lane of its own beside the gateway's."""
    pipeline = Ingest(deployment.gateway.database, deployment.gateway._make_partitions, lanes=1)
    yield pipeline._lanes[0]
    pipeline._lanes[0].close()


async def test_who_repeats_results_is_looked_up_and_the_others_are_copied(
    deployment: Any, tools: Any, peers: Any, lane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first repetition costs its load a second COPY; after that its worker's portions alone are looked up."""
    ways = Ways(monkeypatch)
    results = [[tools.make_result(job, number) for number in range(90)] for _, job in peers]
    await _store(
        deployment,
        lane,
        [peer.batch(some[:30]) for (peer, _), some in zip(peers, results, strict=True)],
    )
    assert ways.take() == ["copied 3 wary 0"]
    # One that is stored, one alike and one with text that come twice in the batch itself.
    text = tools.make_result(peers[0][1], 80, error="first")
    again = [results[0][3], *results[0][30:58], results[0][30], text, tools.make_result(peers[0][1], 80)]
    await _store(
        deployment,
        lane,
        [
            peers[0][0].batch(again, 31),
            peers[1][0].batch(results[1][30:60], 31),
            peers[2][0].batch(results[2][30:60], 31),
        ],
    )
    assert ways.take() == ["copied 3 wary 0", "copied 3 wary 3"]
    await _store(
        deployment,
        lane,
        [
            peers[0][0].batch([results[0][3], *results[0][60:80]], 63),
            peers[1][0].batch(results[1][60:90], 61),
            peers[2][0].batch(results[2][60:90], 61),
        ],
    )
    assert ways.take() == ["copied 3 wary 1"]
    stored = deployment.sql("SELECT job_id, count(*) FROM result_ping GROUP BY 1 ORDER BY 1")
    assert stored == [(peers[0][1], 30 + 28 + 1 + 20), (peers[1][1], 90), (peers[2][1], 90)]
    assert deployment.sql("SELECT count(*) FROM result_ping WHERE error = 'first'") == [(1,)]
    assert deployment.sql("SELECT count(*) FROM quarantine") == [(0,)]


async def test_who_sends_what_the_database_refuses_is_stored_apart(
    deployment: Any, tools: Any, peers: Any, lane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first refusal sends its load portion by portion; after that its worker's portions alone."""
    monkeypatch.setattr(plain, "finite", float)
    ways = Ways(monkeypatch)
    for number in range(2):
        bad = tools.make_result(peers[1][1], 10 + number, detail_json='{"huge": 1e200000}')
        await _store(
            deployment,
            lane,
            [
                peers[0][0].batch([tools.make_result(peers[0][1], number)], 1 + number),
                peers[1][0].batch([tools.make_result(peers[1][1], number), bad], 1 + 2 * number),
                peers[2][0].batch([tools.make_result(peers[2][1], number)], 1 + number),
            ],
        )
        taken = ways.take()
        if number == 0:
            assert taken[:1] == ["copied 3 wary 0"]
            assert taken.count("copied 1 wary 1") == 3
            assert taken.count("singly") == 1
        else:
            assert taken == ["copied 2 wary 0", "copied 1 wary 1", "singly"]
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(6,)]
    assert deployment.sql("SELECT seq FROM quarantine ORDER BY seq") == [(2,), (4,)]


async def test_portions_that_are_stored_apart_mark_their_own_late_results(
    deployment: Any, tools: Any, peers: Any, lane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bucket once, of few results as of many alike, and none of a session that is no longer the newest."""
    monkeypatch.setattr(plain, "finite", float)
    deployment.sql("UPDATE workers SET session_epoch = 2 WHERE id = %s", peers[2][0].worker_id)
    early = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=5)).replace(minute=0, second=0, microsecond=0)
    batches = []
    for position, (peer, job) in enumerate(peers):
        # Sixty runs, two seconds apart, lie in one bucket; those with a text are looked at one by one.
        results = [tools.make_result(job, number, at=early) for number in range(60)]
        results.append(tools.make_result(job, 150, at=early, error="alone"))
        if position == 1:
            results.append(tools.make_result(job, 151, at=early, detail_json='{"huge": 1e200000}'))
        batches.append(peer.batch(results))
    await _store(deployment, lane, batches)
    assert [peer.endings for peer, _ in peers] == [[], [], ["refused"]]
    marks = deployment.sql("SELECT job_id, bucket FROM dirty_buckets ORDER BY 1, 2")
    buckets = (early, early + dt.timedelta(minutes=5))
    assert marks == [(job, bucket) for _, job in peers[:2] for bucket in buckets]


@pytest.mark.parametrize("alike", [1, 60])
async def test_a_result_that_preparing_trips_over_is_set_aside_alone(
    deployment: Any,
    tools: Any,
    peers: Any,
    lane: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    alike: int,
) -> None:
    """A fault of ours in one result, among few or among many alike, holds up nobody; its traceback is logged once."""
    marked = tools.make_result(peers[0][1], 5, error="trip over me").SerializeToString()
    parse, pack_alike = preparing._parse, preparing.pack_alike

    def parse_or_trip(text: bytes) -> Any:
        if text == marked:
            raise KeyError("nobody foresaw it")
        return parse(text)

    def pack_or_trip(wire: Sequence[bytes]) -> Any:
        if marked in wire:
            raise KeyError("nobody foresaw it")
        return pack_alike(wire)

    # What is remembered of jobs is old at every look: what the portions before have found out must not go with it.
    monkeypatch.setattr(ownership, "OLDEST_S", -1.0)
    monkeypatch.setattr(preparing, "_parse", parse_or_trip)
    monkeypatch.setattr(preparing, "pack_alike", pack_or_trip)
    batches = []
    for position, (peer, job) in enumerate(peers):
        results = [tools.make_result(job, number) for number in range(alike + 6)]
        if position == 0:
            results[5].error = "trip over me"
        batches.append(peer.batch(results))
    with caplog.at_level(logging.WARNING):
        await _store(deployment, lane, batches)
    assert [peer.endings for peer, _ in peers] == [[], [], []]
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(3 * (alike + 6) - 1,)]
    ((worker_id, seq, reason, payload),) = deployment.sql(
        "SELECT worker_id, seq, reason, payload FROM quarantine"
    )
    assert (worker_id, seq, payload) == (peers[0][0].worker_id, 6, marked)
    assert "nobody foresaw it" in reason
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_a_result_that_storing_trips_over_is_set_aside_alone(
    deployment: Any, tools: Any, peers: Any, lane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others of its portion, and other portions, are stored."""
    bad = tools.make_result(peers[0][1], 5, error="trip over me")
    copy = storing._copy

    def copy_or_trip(connection: Any, table: str, target: Any, rows: Sequence[bytes]) -> None:
        if any(b"trip over me" in row for row in rows):
            raise KeyError("nobody foresaw it")
        copy(connection, table, target, rows)

    monkeypatch.setattr(storing, "_copy", copy_or_trip)
    await _store(
        deployment,
        lane,
        [
            peers[0][0].batch([tools.make_result(peers[0][1], 4), bad, tools.make_result(peers[0][1], 6)]),
            peers[1][0].batch([tools.make_result(peers[1][1], 0)]),
        ],
    )
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(3,)]
    ((seq, reason),) = deployment.sql("SELECT seq, reason FROM quarantine")
    assert (seq, "nobody foresaw it" in reason) == (2, True)


async def test_what_cannot_even_be_set_aside_ends_its_session_and_loses_nothing(
    deployment: Any, tools: Any, peers: Any, lane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged, and later batches of that session do not push the watermark past it; others go on."""
    claim = storing._claim

    def claim_or_trip(connection: Any, load: Any, positions: Any) -> Any:
        if any(load.portions[position].worker_id == peers[0][0].worker_id for position in positions):
            raise KeyError("nobody foresaw it")
        return claim(connection, load, positions)

    monkeypatch.setattr(storing, "_claim", claim_or_trip)
    await _store(
        deployment,
        lane,
        [
            peers[0][0].batch([tools.make_result(peers[0][1], 0)]),
            peers[1][0].batch([tools.make_result(peers[1][1], 0)]),
        ],
    )
    monkeypatch.setattr(storing, "_claim", claim)
    await _store(
        deployment,
        lane,
        [
            peers[0][0].batch([tools.make_result(peers[0][1], 1)], 2),
            peers[1][0].batch([tools.make_result(peers[1][1], 1)], 2),
        ],
    )
    assert (peers[0][0].endings, peers[0][0].stored_seqs) == (["broken"], [])
    assert (peers[1][0].endings, peers[1][0].stored_seqs) == ([], [1, 2])
    acked = dict(deployment.sql("SELECT id, acked_seq FROM workers"))
    assert (acked[peers[0][0].worker_id], acked[peers[1][0].worker_id]) == (0, 2)
