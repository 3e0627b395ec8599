"""A load that takes longer than the database allows goes into smaller transactions; an outage changes nothing."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from support.peers import Peer

from controller.gateway import database, ingest, storing
from controller.gateway.batches import Batch
from controller.gateway.ingest import Ingest, Lane

#: A COPY that brings more than so many rows, or one of this text, takes for ever.
MOST, SLOW = 20, "slow"
_TAKES_LONG = f"""
CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT count(*) > {MOST} OR bool_or(error = '{SLOW}') FROM fresh) THEN PERFORM pg_sleep(60); END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER take_long AFTER INSERT ON result_ping REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION take_long()
"""


class Measuring(Peer):
    """A worker's first session that brings results of one job."""

    def __init__(self, deployment: Any, worker_id: uuid.UUID, make_result: Any) -> None:
        super().__init__(worker_id)
        self._job = deployment.job(worker_id)
        self._make_result = make_result
        self._next_seq = 1

    def results(self, errors: Sequence[str]) -> Batch:
        """Return a batch of one result for each error text; the next sequence number says when each was due."""
        first_seq = self._next_seq
        self._next_seq += len(errors)
        made = [
            self._make_result(self._job, first_seq + index, error=error) for index, error in enumerate(errors)
        ]
        return self.batch(made, first_seq)


@pytest.fixture
async def peers(deployment: Any, tools: Any) -> list[Measuring]:
    """Three workers in their first sessions."""
    made = [
        Measuring(deployment, (await deployment.enrol(f"host-{number}")).worker_id, tools.make_result)
        for number in range(3)
    ]
    deployment.sql("UPDATE workers SET session_epoch = 1, spool_id = 'spool'")
    return made


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many portions each COPY that was tried had."""
    taken: list[int] = []

    def store_copied(*args: Any, positions: Any, **rest: Any) -> Any:
        taken.append(len(positions))
        return storing.store_copied(*args, positions=positions, **rest)

    monkeypatch.setattr(ingest, "store_copied", store_copied)
    return taken


@pytest.fixture
async def lane(
    deployment: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Lane]:
    """A lane of its own beside the gateway's; the parameter is the setting by which its time is short."""
    pipeline = Ingest(deployment.gateway.database, deployment.gateway._make_partitions, lanes=1)
    lane = pipeline._lanes[0]
    connect = lane._line._connect

    def connect_for_short() -> database.BlockingConnection:
        connection = connect()
        connection.execute(f"SET {getattr(request, 'param', 'statement_timeout')} = 500".encode())
        return connection

    monkeypatch.setattr(lane._line, "_connect", connect_for_short)
    yield lane
    lane.close()


async def _store(lane: Lane, batches: Sequence[Batch]) -> None:
    """Store the batches as one load."""
    for batch in batches:
        lane.queue.put_nowait(batch)
    running = asyncio.create_task(lane.run())
    try:
        async with asyncio.timeout(30):
            while any(
                not set(batch.seqs) <= set(batch.source.stored_seqs) and not batch.source.endings  # type: ignore[attr-defined]
                for batch in batches
            ):
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.wait([running])


@pytest.mark.parametrize("lane", ["statement_timeout", "transaction_timeout"], indirect=True)
async def test_what_takes_too_long_goes_into_smaller_transactions(
    deployment: Any, peers: list[Measuring], lane: Lane, ways: list[int]
) -> None:
    """After two attempts portion by portion, then in halves; after that only the worker whose portion was too large alone."""
    deployment.sql(_TAKES_LONG)
    # Many alike, with one in the middle that is looked at by itself.
    many = ["" if number != 13 else "alone" for number in range(39)]
    await _store(lane, [peers[0].results(many), peers[1].results([""]), peers[2].results([""])])
    assert ways == [3, 3, 1, 1, 1, 1, 1, 1]
    assert [len(peer.stored_seqs) for peer in peers] == [39, 1, 1]
    ways.clear()
    await _store(lane, [peer.results([""]) for peer in peers])
    assert ways == [2, 1]
    rows = deployment.sql(
        "SELECT rtt_avg_ms - 1.25, error FROM result_ping WHERE job_id = %s ORDER BY scheduled_at",
        peers[0]._job,
    )
    assert rows == [(seq, "alone" if seq == 14 else None) for seq in range(1, 41)]
    assert deployment.sql("SELECT acked_seq FROM workers ORDER BY host_name") == [(40,), (2,), (2,)]
    assert lane._tally.stored == deployment.sql("SELECT count(*) FROM result_ping")[0][0] == 44


async def test_no_piece_goes_in_past_a_newer_session(
    deployment: Any, peers: list[Measuring], lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two pieces the worker says Hello elsewhere: what is stored is counted, the watermark stands before the rest."""
    deployment.sql(_TAKES_LONG)
    told: list[set[int]] = []
    monkeypatch.setattr(lane, "_on_stored", lambda tests, _one_shots: told.append(tests))
    copied = storing.store_copied

    def store_and_say_hello(connection: Any, **rest: Any) -> Any:
        stored = copied(connection, **rest)
        connection.execute("UPDATE workers SET session_epoch = 2")
        return stored

    monkeypatch.setattr(ingest, "store_copied", store_and_say_hello)
    await _store(lane, [peers[0].results([""] * 50)])
    assert (peers[0].endings, peers[0].stored_seqs) == (["refused"], [])
    count = deployment.sql("SELECT count(*) FROM result_ping")[0][0]
    assert deployment.sql("SELECT max(acked_seq) FROM workers") == [(count,)] == [(lane._tally.stored,)]
    assert [len(tests) for tests in told if tests] == [1]


async def test_a_single_result_that_takes_too_long_ends_its_session_and_holds_up_nobody(
    deployment: Any, peers: list[Measuring], lane: Lane
) -> None:
    """What came before it is stored, what comes after it is not: the watermark must not pass it."""
    deployment.sql(_TAKES_LONG)
    await _store(lane, [peers[0].results(["", SLOW, ""]), peers[1].results([""])])
    assert (peers[0].endings, peers[0].stored_seqs) == (["broken"], [])
    assert (peers[1].endings, peers[1].stored_seqs) == ([], [1])
    assert deployment.sql("SELECT acked_seq FROM workers ORDER BY host_name") == [(1,), (1,), (0,)]
    assert deployment.sql("SELECT count(*) FROM result_ping") == [(2,)]
    await _store(lane, [peers[1].results([""])])
    assert peers[1].stored_seqs == [1, 2]


@pytest.mark.parametrize(("lasted_s", "divided"), [(0.0, False), (60.0, True)])
async def test_only_a_connection_that_ends_after_its_time_divides_a_load(
    deployment: Any,
    peers: list[Measuring],
    lane: Lane,
    ways: list[int],
    monkeypatch: pytest.MonkeyPatch,
    lasted_s: float,
    divided: bool,
) -> None:
    """Whoever sends rows when the transaction's time is over hears of a broken connection; an outage breaks it sooner."""
    failures = 4
    late_s = 0.0
    store = ingest.store_copied

    def break_off(*args: Any, **rest: Any) -> Any:
        nonlocal failures, late_s
        if failures == 0:
            return store(*args, **rest)
        failures -= 1
        late_s += lasted_s
        ways.append(len(rest["positions"]))
        raise psycopg.OperationalError("sending copy data failed: server closed the connection unexpectedly")

    monkeypatch.setattr(ingest, "store_copied", break_off)
    monkeypatch.setattr(ingest, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late_s))
    await _store(lane, [peer.results([""]) for peer in peers[:2]])
    # The two last attempts of a result that is alone end its session.
    assert ways == ([2, 2, 1, 1, 1] if divided else [2, 2, 2, 2, 2])
    assert [peer.endings for peer in peers[:2]] == ([["broken"], []] if divided else [[], []])


async def test_no_connection_leaves_a_load_as_it_is(
    deployment: Any, peers: list[Measuring], lane: Lane, ways: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to find out that there is none."""
    connect, failures = lane._line._connect, 6
    late_s = 0.0

    def fail_late() -> database.BlockingConnection:
        nonlocal failures, late_s
        if failures == 0:
            return connect()
        failures -= 1
        late_s += 60.0
        raise psycopg.OperationalError("connection failed: no route to host")

    monkeypatch.setattr(lane._line, "_connect", fail_late)
    monkeypatch.setattr(ingest, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + late_s))
    await _store(lane, [peer.results([""]) for peer in peers])
    assert (ways, lane._tally.retries) == ([3], 6)
    assert [peer.endings for peer in peers] == [[], [], []]
