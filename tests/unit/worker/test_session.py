"""The session protocol on a stream in memory: credit, size, damage to the protocol, silence."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from support.sessions import Down, MemoryQueue, MemoryStream, local_for

from streamswarm.v1 import gateway_pb2
from worker.clock import ControllerTime
from worker.ending import End, SessionEnd
from worker.session import Session
from worker.spool.records import Record
from worker.transport import StreamEndedError


class Bench:
    """A session between a queue and the test."""

    def __init__(
        self, clock: Any, queue: MemoryQueue, time: ControllerTime | None = None, *, busy_s: float = 0.0
    ) -> None:
        self.clock = clock
        self.queue = queue
        self.stream = MemoryStream()
        self.jobs: list[gateway_pb2.JobSet] = []
        self.time = time or ControllerTime(clock)
        self.local = local_for(clock, queue, self.time, self.jobs)
        self.running: asyncio.Future[SessionEnd] = asyncio.ensure_future(
            Session(
                self.stream,
                self.local,
                busy_until_us=clock.steady_us() + round(busy_s * 1e6),
            ).run()
        )

    def say(self, **message: Any) -> None:
        self.stream.down.put_nowait(Down(**message))

    def welcome(self, **more: Any) -> None:
        values = {
            "session_epoch": 1,
            "spool_id": self.queue.spool_id,
            "credit_results": 1000,
            "credit_bytes": 1024 * 1024,
            "heartbeat_s": 10,
            "clock_us": self.clock.wall_us(),
            **more,
        }
        self.say(welcome=gateway_pb2.Welcome(**values))

    def ack(self, seq: int, spool_id: str | None = None) -> None:
        self.say(ack=gateway_pb2.Ack(spool_id=spool_id or self.queue.spool_id, acked_seq=seq))

    async def end(self) -> SessionEnd:
        await self.clock.advance(0.1)
        assert self.running.done()
        assert self.stream.closed
        return self.running.result()


async def test_hello_tells_where_the_spool_stands(clock: Any) -> None:
    """First, before anything else is sent."""
    bench = Bench(clock, MemoryQueue(5))
    await clock.advance(0.1)
    (message,) = bench.stream.up
    assert (message.hello.first_unacked_seq, message.hello.next_seq) == (1, 6)
    assert message.hello.spool_id == "a" * 32
    assert message.hello.clock_us == clock.wall_us() - 100_000
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


@pytest.mark.parametrize(("credit_results", "credit_bytes"), [(1, 1), (7, 10**6), (1000, 3000), (500, 2**20)])
async def test_credit_is_never_exceeded(clock: Any, credit_results: int, credit_bytes: int) -> None:
    """Neither in results nor in bytes, whatever part of them is acknowledged; and everything arrives in order."""
    queue = MemoryQueue(100, size=200)
    bench = Bench(clock, queue)
    bench.welcome(credit_results=credit_results, credit_bytes=credit_bytes)
    rng = random.Random(5)
    acked = 0
    seen: list[int] = []
    for _ in range(2000):
        await clock.advance(0.06)
        seen = [seq for batch in bench.stream.batches() for seq in batch.seqs]
        on_the_way = [len(queue.kept[seq]) for seq in seen if seq > acked]
        assert len(on_the_way) <= credit_results
        assert sum(on_the_way) <= credit_bytes or len(on_the_way) == 1
        if len(seen) == 100 and acked == 100:
            break
        if seen and seen[-1] > acked:
            acked = rng.randint(acked + 1, seen[-1])
            bench.ack(acked)
            await clock.advance(0.01)
    assert seen == list(range(1, 101))
    assert queue.kept == {}
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_messages_stay_small(clock: Any) -> None:
    """At most 500 results and less than 512 KiB, but a large result goes alone."""
    queue = MemoryQueue(1200, size=10)
    queue.add(20, size=100_000)
    bench = Bench(clock, queue)
    bench.welcome(credit_results=10_000, credit_bytes=10**8)
    await clock.advance(3)
    batches = bench.stream.batches()
    assert sum(len(batch.seqs) for batch in batches) == 1220
    assert all(len(batch.seqs) <= 500 for batch in batches)
    assert all(batch.ByteSize() < 512 * 1024 for batch in batches)
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_results_gather_while_the_gateway_takes_others_in(clock: Any) -> None:
    """What has waited for the session goes out at once, later results ten seconds apart; and as usual when that time is over."""
    queue = MemoryQueue(3)
    bench = Bench(clock, queue, busy_s=15.0)
    bench.welcome()
    sent_at: list[tuple[float, int]] = []
    for tenths in range(1, 221):
        if tenths % 10 == 5:
            queue.add(1)
        await clock.advance(0.1)
        sent = sum(len(batch.seqs) for batch in bench.stream.batches())
        if not sent_at or sent > sent_at[-1][1]:
            sent_at.append((tenths / 10, sent))
    assert sent_at[0] == (0.1, 3)
    (first, count), (second, more), *later = sent_at[1:]
    assert 10.4 <= first <= 10.7
    assert count == 3 + 11
    assert 15.0 <= second <= 15.6
    assert more == count + 4
    assert [sent for _, sent in later] == list(range(more + 1, more + len(later) + 1))
    assert len(later) >= 6
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_what_comes_while_a_message_is_on_its_way_gathers_too(clock: Any) -> None:
    """A busy gateway takes messages slowly: results of that time would go one by one otherwise."""
    queue = MemoryQueue(3)
    bench = Bench(clock, queue, busy_s=15.0)
    send = bench.stream.send

    async def slowly(message: gateway_pb2.WorkerMessage) -> None:
        if message.HasField("results"):
            queue.add(1)
        await send(message)

    bench.stream.send = slowly  # type: ignore[method-assign]
    bench.welcome()
    await clock.advance(9.0)
    assert [len(batch.seqs) for batch in bench.stream.batches()] == [3]
    await clock.advance(2.0)
    assert [len(batch.seqs) for batch in bench.stream.batches()] == [3, 1]
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_full_message_waits_for_no_more_results(clock: Any) -> None:
    """However busy the gateway is."""
    queue = MemoryQueue(1)
    bench = Bench(clock, queue, busy_s=60.0)
    bench.welcome(credit_results=10_000, credit_bytes=10**8)
    await clock.advance(0.2)
    queue.add(499)
    await clock.advance(1.0)
    assert [len(batch.seqs) for batch in bench.stream.batches()] == [1]
    queue.add(1)
    await clock.advance(0.1)
    assert [len(batch.seqs) for batch in bench.stream.batches()] == [1, 500]
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


@pytest.mark.parametrize(
    ("count", "size", "credit"),
    [(450, 5_000, 1_000), (700, 10, 1_000), (6, 10, 1)],
    ids=["bytes", "results", "credit"],
)
async def test_nothing_gathers_while_more_is_there_than_a_message_takes(
    clock: Any, count: int, size: int, credit: int
) -> None:
    """However busy the gateway is: messages full by size, by number or by credit follow each other."""
    queue = MemoryQueue(count, size=size)
    bench = Bench(clock, queue, busy_s=60.0)
    bench.welcome(credit_results=credit, credit_bytes=10**8)
    for _ in range(20):
        await clock.advance(0.1)
        if queue.highest_sent:
            bench.ack(queue.highest_sent)
    assert queue.highest_sent == count
    assert queue.kept == {}
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_what_is_written_during_an_empty_read_is_sent(clock: Any) -> None:
    """It was not there to be damaged: a later acknowledgement would delete it unsent."""
    queue = MemoryQueue(5)
    queue.kept.clear()
    read = queue.read

    async def late(after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
        found = await read(after_seq, limit=limit, max_bytes=max_bytes)
        if queue.next_seq == 6:
            queue.add(1)
        return found

    queue.read = late  # type: ignore[method-assign]
    bench = Bench(clock, queue)
    bench.welcome()
    await clock.advance(0.3)
    queue.add(1)
    await clock.advance(0.3)
    assert [seq for batch in bench.stream.batches() for seq in batch.seqs] == [6, 7]
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_worker_that_ends_gathers_no_more(clock: Any) -> None:
    """What the last runs have left is delivered in the moment that there is."""
    queue = MemoryQueue(1)
    bench = Bench(clock, queue, busy_s=60.0)
    bench.welcome()
    await clock.advance(0.2)
    queue.add(2)
    await clock.advance(1)
    assert queue.highest_sent == 1
    bench.local.hurry.set()
    await clock.advance(0.2)
    assert queue.highest_sent == 3
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


@pytest.mark.parametrize("when", ["idle", "gathering", "reading", "acknowledged"])
async def test_a_spool_that_is_replaced_ends_the_session(clock: Any, when: str) -> None:
    """Numbers begin anew in it: they are announced by another session, and nobody waits for the old ones to be passed."""
    queue = MemoryQueue(40)
    bench = Bench(clock, queue, busy_s=60.0 if when == "gathering" else 0.0)
    bench.welcome()
    await clock.advance(0.2)
    if when != "acknowledged":
        bench.ack(40)
        await clock.advance(0.1)
    if when == "reading":
        read = queue.read

        async def damaged(after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
            queue.replace()
            queue.read = read
            return []

        queue.read = damaged
    if when in ("gathering", "reading"):
        queue.add(1)
        await clock.advance(0.03)
    if when != "reading":
        old = queue.spool_id
        queue.replace()
        if when == "acknowledged":
            bench.ack(40, spool_id=old)
    end = await bench.end()
    assert end.end is End.RETRY
    assert "another one" in end.reason
    assert queue.spool_id == "c" * 32
    assert len(queue.kept) == (40 if when == "acknowledged" else 0 if when == "idle" else 1)


async def test_after_welcome_only_what_is_not_acknowledged_is_sent(clock: Any) -> None:
    """The gateway's word counts, if it is for this spool."""
    queue = MemoryQueue(10)
    queue.sent(10)
    bench = Bench(clock, queue)
    bench.welcome(acked_seq=6)
    await clock.advance(0.2)
    assert [list(batch.seqs) for batch in bench.stream.batches()] == [[7, 8, 9, 10]]
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_watermark_of_another_spool_means_nothing(clock: Any) -> None:
    """Everything is sent."""
    queue = MemoryQueue(3)
    bench = Bench(clock, queue)
    bench.welcome(acked_seq=2, spool_id="other")
    await clock.advance(0.2)
    assert [list(batch.seqs) for batch in bench.stream.batches()] == [[1, 2, 3]]
    bench.ack(3, spool_id="other")
    await clock.advance(0.2)
    assert len(queue.kept) == 3
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_spool_that_is_replaced_behind_hello_is_announced_anew(clock: Any) -> None:
    """The watermark in Welcome is one of the file before: it is no impossible one of this."""
    queue = MemoryQueue(5)
    bench = Bench(clock, queue)
    await clock.advance(0.1)
    old = queue.spool_id
    queue.replace()
    bench.welcome(spool_id=old, acked_seq=3)
    assert (await bench.end()).end is End.RETRY
    assert queue.spool_id == "c" * 32
    assert len(queue.kept) == 5


async def test_an_impossible_watermark_makes_the_spool_another(clock: Any) -> None:
    """And the session ends, to begin again with the new number."""
    queue = MemoryQueue(3)
    bench = Bench(clock, queue)
    bench.welcome(acked_seq=3)
    assert (await bench.end()).end is End.RETRY
    assert queue.spool_id == "b" * 32
    assert len(queue.kept) == 3


@pytest.mark.parametrize(
    ("reason", "end"),
    [
        (gateway_pb2.Goodbye.REASON_UNSPECIFIED, End.RETRY),
        (gateway_pb2.Goodbye.REASON_SUPERSEDED, End.RETRY),
        (gateway_pb2.Goodbye.REASON_DRAINING, End.ELSEWHERE),
        (gateway_pb2.Goodbye.REASON_REVOKED, End.REVOKED),
        (gateway_pb2.Goodbye.REASON_CONTRACT_NEWER, End.REFUSED),
        (gateway_pb2.Goodbye.REASON_EXPIRED, End.RETRY),
        (gateway_pb2.Goodbye.REASON_PROTOCOL, End.RETRY),
        (77, End.RETRY),
    ],
)
@pytest.mark.parametrize("greeted", [True, False])
async def test_goodbyes_are_understood(clock: Any, reason: Any, end: End, greeted: bool) -> None:
    """Before and after Welcome, reasons of the future too; the text comes out safe."""
    bench = Bench(clock, MemoryQueue())
    if greeted:
        bench.welcome()
    bench.say(goodbye=gateway_pb2.Goodbye(reason=reason, message="bye\n", reconnect_after_ms=2500))
    outcome = await bench.end()
    assert outcome.end is end
    assert outcome.wait_s == 2.5
    assert outcome.welcomed is greeted
    assert "bye\\n" in outcome.reason


@pytest.mark.parametrize(
    "first", [Down(ack=gateway_pb2.Ack()), Down(), Down(welcome=gateway_pb2.Welcome(credit_bytes=5))]
)
async def test_a_gateway_that_breaks_the_protocol_is_left(clock: Any, first: Down) -> None:
    """A first message that is no Welcome, or one without credit."""
    bench = Bench(clock, MemoryQueue())
    bench.stream.down.put_nowait(first)
    outcome = await bench.end()
    assert (outcome.end, outcome.welcomed) == (End.RETRY, False)


async def test_messages_of_the_future_are_left_aside(clock: Any) -> None:
    """The session goes on."""
    bench = Bench(clock, MemoryQueue(1))
    bench.welcome()
    bench.say()
    bench.say(jobs=gateway_pb2.JobSet(revision=9))
    await clock.advance(0.1)
    assert [change.revision for change in bench.jobs] == [9]
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_gateway_that_never_answers_is_left(clock: Any) -> None:
    """After Hello, and later when three heartbeats bring nothing."""
    silent = Bench(clock, MemoryQueue())
    await clock.advance(44)
    assert not silent.running.done()
    await clock.advance(1.1)
    assert (await silent.end()).end is End.RETRY

    muted = Bench(clock, MemoryQueue())
    muted.welcome()
    await clock.advance(29)
    assert not muted.running.done()
    beats = [message.heartbeat for message in muted.stream.up if message.HasField("heartbeat")]
    assert len(beats) == 2
    assert (beats[0].jobs_revision, beats[0].running) == (3, 4)
    await clock.advance(1.2)
    assert "silent" in (await muted.end()).reason


async def test_a_gateway_that_does_not_read_is_left(clock: Any) -> None:
    """A write that never ends does not hold the worker: not that of Hello, nor a later one while others are taken."""
    deaf = Bench(clock, MemoryQueue(5))
    deaf.stream.takes = False
    await clock.advance(46)
    assert (await deaf.end()).end is End.RETRY

    stuck = Bench(clock, MemoryQueue(5))
    stuck.welcome(heartbeat_s=60)
    await clock.advance(20)
    stuck.stream.takes = False
    stuck.queue.add(1)
    await clock.advance(29)
    assert not stuck.running.done()
    await clock.advance(2)
    assert "took nothing" in (await stuck.end()).reason


async def test_who_loses_a_gateway_of_many_comes_back_later(clock: Any) -> None:
    """As seldom as heartbeats are, so widely do its workers spread; a gateway that says when to come decides itself."""
    for heartbeat_s, spread_s in ((25, 1.75), (300, 21.0)):
        bench = Bench(clock, MemoryQueue())
        bench.welcome(heartbeat_s=heartbeat_s)
        await clock.advance(1)
        bench.stream.down.put_nowait(StreamEndedError("UNAVAILABLE"))
        assert (await bench.end()).spread_s == pytest.approx(spread_s)
    bench = Bench(clock, MemoryQueue())
    bench.welcome(heartbeat_s=240)
    bench.say(goodbye=gateway_pb2.Goodbye(reconnect_after_ms=1_500))
    assert (await bench.end()).spread_s == 0.0
    # Nobody else has lost the gateway when a session ends for a reason of this worker's.
    bench = Bench(clock, MemoryQueue(3))
    bench.welcome(heartbeat_s=240)
    await clock.advance(1)
    bench.say(renewed=gateway_pb2.RenewReply(certificate_chain_pem=b"new"))
    renewed = await bench.end()
    assert (renewed.end, renewed.spread_s) == (End.RENEWED, 0.0)
    bench = Bench(clock, MemoryQueue(3))
    bench.welcome(heartbeat_s=240)
    await clock.advance(1)
    bench.queue.replace()
    assert (await bench.end()).spread_s == 0.0
    refused = Bench(clock, MemoryQueue())
    refused.stream.down.put_nowait(StreamEndedError("UNAVAILABLE"))
    assert (await refused.end()).spread_s == 0.0


async def test_heartbeats_tell_the_time(clock: Any) -> None:
    """A reply corrects the controller's time by half of its round trip."""
    bench = Bench(clock, MemoryQueue())
    bench.welcome(clock_us=clock.wall_us() + 60_000_000)
    await clock.advance(0.1)
    assert bench.time.now_us() == pytest.approx(clock.wall_us() + 60_000_000, abs=1000)
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_a_late_welcome_moves_no_time(clock: Any) -> None:
    """Its stamp is of the moment when it was made; a first contact that is slow is followed by a quick heartbeat."""
    bench = Bench(clock, MemoryQueue())
    bench.time.observe(sent_steady_us=0, received_steady_us=0, controller_us=0)  # a clock that is far off
    await clock.advance(14)
    bench.welcome(heartbeat_s=240)
    await clock.advance(0.1)
    (beat,) = _told(bench)
    bench.say(
        heartbeat=gateway_pb2.HeartbeatReply(heartbeat_clock_us=beat.clock_us, clock_us=clock.wall_us())
    )
    await clock.advance(0.1)
    assert bench.time.now_us() == pytest.approx(clock.wall_us(), abs=60_000)
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()

    again = Bench(clock, MemoryQueue(), bench.time)
    before_us = bench.time.now_us() - clock.wall_us()
    await clock.advance(14)
    again.welcome(heartbeat_s=240)
    await clock.advance(20)
    assert not _told(again)
    assert bench.time.now_us() - clock.wall_us() == before_us
    again.say(goodbye=gateway_pb2.Goodbye())
    await again.end()


def _told(bench: Bench) -> list[gateway_pb2.Heartbeat]:
    return [message.heartbeat for message in bench.stream.up if message.HasField("heartbeat")]


async def test_heartbeats_come_as_often_as_the_gateway_says(clock: Any) -> None:
    """First as the Welcome says, then as the answers do; an answer without a word on it changes nothing."""
    bench = Bench(clock, MemoryQueue())
    bench.welcome(heartbeat_s=10)
    await clock.advance(0.1)
    for heartbeat_s in (0, 60):
        bench.say(heartbeat=gateway_pb2.HeartbeatReply(heartbeat_s=heartbeat_s))
        await clock.advance(10)
    assert len(_told(bench)) == 2
    await clock.advance(119)
    assert len(_told(bench)) == 3
    assert not bench.running.done()
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()


async def test_the_gateway_is_told_of_jobs_before_the_next_heartbeat(clock: Any) -> None:
    """Within a tenth of the time between two, so that pages soon show who runs what; those that follow are not in step."""
    waited = set()
    for _ in range(5):
        waited.add(await _until_second_heartbeat(clock))
    assert len(waited) > 1


async def _until_second_heartbeat(clock: Any) -> int:
    """Return for how many microseconds after the first one it was waited."""
    bench = Bench(clock, MemoryQueue())
    bench.welcome(heartbeat_s=60)
    await clock.advance(1)
    assert not _told(bench)
    bench.say(jobs=gateway_pb2.JobSet(revision=3, full=True))
    await clock.advance(6.1)
    first, *later = (heartbeat.clock_us for heartbeat in _told(bench))
    while not later:
        await clock.advance(1)
        later = [heartbeat.clock_us for heartbeat in _told(bench)[1:]]
    assert later[0] - first <= 60_000_000
    await clock.advance(61)
    third = _told(bench)[2].clock_us
    assert third - later[0] == 60_000_000
    bench.say(goodbye=gateway_pb2.Goodbye())
    await bench.end()
    return later[0] - first


async def test_renewal_is_asked_for_at_half_life_and_again_when_refused(clock: Any) -> None:
    """A certificate that came ends the session, so that the next one uses it."""
    bench = Bench(clock, MemoryQueue())
    bench.welcome(heartbeat_s=3600)
    await clock.advance(3599)
    assert not any(message.HasField("renew") for message in bench.stream.up)
    await clock.advance(5)
    assert [message.renew.csr_der for message in bench.stream.up if message.HasField("renew")] == [b"request"]
    bench.say(renewed=gateway_pb2.RenewReply(error="not now"))
    await clock.advance(200)
    assert sum(message.HasField("renew") for message in bench.stream.up) == 2
    bench.say(renewed=gateway_pb2.RenewReply())
    assert (await bench.end()).end is End.RENEWED
