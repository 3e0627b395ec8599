"""Which gateway is dialled, and when again."""

from __future__ import annotations

import asyncio
import itertools
import random
from typing import Any

from support.sessions import Down, MemoryQueue, MemoryStream, local_for

from streamswarm.v1 import gateway_pb2
from worker.clock import ControllerTime
from worker.ending import SessionEnd
from worker.identity import Identity
from worker.transport import Dial, Stream, StreamEndedError
from worker.uplink import Backoff, Uplink


async def test_waiting_times_have_full_jitter_and_a_cap() -> None:
    """Anything between nothing and a bound that doubles up to 15 s, and back to the start after a reset."""
    backoff = Backoff(random.Random(1))
    waits = [[backoff.next_s() for _ in range(12)] for _ in range(200) if backoff.reset() is None]
    for position in range(12):
        column = [row[position] for row in waits]
        bound = min(15.0, 0.5 * 2**position)
        assert max(column) <= bound
        assert max(column) > bound * 0.9
        assert min(column) < bound * 0.1


async def test_the_workers_of_a_large_gateway_spread_at_once() -> None:
    """Already the first wait goes up to what the lost gateway's size asks for, and two of three are in its first half.

    In its first moments nobody is there.
    """
    backoff = Backoff(random.Random(1))
    waits = [[backoff.next_s(20.0) for _ in range(8)] for _ in range(1000) if backoff.reset() is None]
    for column in zip(*waits, strict=True):
        assert 3.0 <= min(column) < 3.3
        assert 18.0 < max(column) <= 20.0
        assert 0.6 < sum(wait < 10.0 for wait in column) / len(column) < 0.7


async def test_the_workers_of_a_large_gateway_are_all_back_by_the_end_of_its_spread(clock: Any) -> None:
    """Or 15 s after it is there again: who was early and found nobody does not begin the wait of up to 21 s anew."""
    began_us, away_s = clock.steady_us(), 15.0
    returned: dict[int, float] = {}
    streams: dict[int, MemoryStream] = {}

    def away() -> bool:
        return bool((clock.steady_us() - began_us) / 1e6 < away_s)

    def uplink(number: int) -> Uplink:
        queue = MemoryQueue()

        async def dial(_address: str, _identity: Identity) -> Stream:
            stream = MemoryStream()
            if number not in streams:
                streams[number] = stream
                welcome = gateway_pb2.Welcome(credit_results=1, credit_bytes=1, heartbeat_s=300)
                stream.down.put_nowait(Down(welcome=welcome))
                stream.down.put_nowait(StreamEndedError("UNAVAILABLE"))
            elif away():
                stream.down.put_nowait(StreamEndedError("UNAVAILABLE"))
            else:
                returned[number] = (clock.steady_us() - began_us) / 1e6
            return stream

        return _uplink(clock, queue, dial, number, "g:1")

    running = [asyncio.ensure_future(uplink(number).run()) for number in range(400)]
    await clock.advance(60)
    for each in running:
        each.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    assert len(returned) == 400
    assert max(returned.values()) < away_s + 15.5
    assert min(returned.values()) < 15.2


async def test_who_comes_back_to_a_large_gateway_spares_it_for_twice_its_spread(clock: Any) -> None:
    """42 s after 5,000 workers have lost theirs, results are sent as they come again; before, in tens."""
    queue = MemoryQueue()
    streams: list[MemoryStream] = []

    async def dial(_address: str, _identity: Identity) -> Stream:
        stream = MemoryStream()
        streams.append(stream)
        stream.down.put_nowait(
            Down(welcome=gateway_pb2.Welcome(credit_results=1000, credit_bytes=10**6, heartbeat_s=300))
        )
        if len(streams) == 1:
            stream.down.put_nowait(StreamEndedError("UNAVAILABLE"))
        return stream

    running = asyncio.ensure_future(_uplink(clock, queue, dial, 5, "g:1").run())
    sizes: list[tuple[float, int]] = []
    for second in range(1, 51):
        await clock.advance(1)
        queue.add(1)
        sent = [len(batch.seqs) for stream in streams for batch in stream.batches()]
        sizes += [(second, size) for size in sent[len(sizes) :]]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(streams) == 2
    assert [size for second, size in sizes[1:] if second <= 42][:2] == [11, 11]
    later = [size for second, size in sizes if second > 44]
    assert len(later) >= 5
    assert set(later) == {1}


def _identity(clock: Any, *gateways: str) -> Identity:
    return Identity(
        worker_id="w",
        trust_domain="d",
        key_pem=b"",
        chain_pem=b"",
        ca_pem=b"",
        not_before_us=clock.wall_us(),
        not_after_us=clock.wall_us() + 86_400_000_000,
        gateways=gateways,
    )


def _uplink(clock: Any, queue: MemoryQueue, dial: Dial, seed: int, *gateways: str) -> Uplink:
    async def identify() -> Identity:
        return _identity(clock, *gateways)

    async def ended(_end: SessionEnd) -> None:
        pass

    return Uplink(
        gateways=(),
        identify=identify,
        local=lambda _identity: local_for(clock, queue, ControllerTime(clock), []),
        dial=dial,
        ended=ended,
        clock=clock,
        rng=random.Random(seed),
    )


async def _dialled(clock: Any, answers: dict[str, Down | StreamEndedError], seconds: float) -> list[str]:
    """Return the addresses that an uplink dials in some time, in order."""
    queue = MemoryQueue()
    dialled: list[str] = []

    async def dial(address: str, identity: Identity) -> Stream:
        dialled.append(address)
        stream = MemoryStream()
        stream.down.put_nowait(answers[address])
        return stream

    uplink = _uplink(clock, queue, dial, 3, *answers)
    running = asyncio.ensure_future(uplink.run())
    await clock.advance(seconds)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return dialled


async def test_every_gateway_is_tried_in_turn(clock: Any) -> None:
    """In random order, and none twice before all have been tried."""
    answers: dict[str, Down | StreamEndedError] = {
        f"g{n}:1": StreamEndedError("UNAVAILABLE") for n in range(4)
    }
    dialled = await _dialled(clock, answers, 600)
    rounds = [dialled[start : start + 4] for start in range(0, len(dialled) // 4 * 4, 4)]
    assert len(rounds) >= 5
    assert all(sorted(one) == sorted(answers) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


async def test_a_draining_gateway_is_not_dialled_next(clock: Any) -> None:
    """Another one is, where there is one."""
    draining = Down(goodbye=gateway_pb2.Goodbye(reason=gateway_pb2.Goodbye.REASON_DRAINING))
    dialled = await _dialled(clock, {"g1:1": draining, "g2:1": draining, "g3:1": draining}, 300)
    assert len(dialled) > 10
    assert all(one != other for one, other in itertools.pairwise(dialled))
    assert len(await _dialled(clock, {"g1:1": draining}, 300)) > 5


async def test_a_refused_worker_dials_every_five_minutes(clock: Any) -> None:
    """Not faster, and not never."""
    dialled = await _dialled(clock, {"g:1": StreamEndedError("PERMISSION_DENIED", refused=True)}, 3000)
    assert 8 <= len(dialled) <= 14


async def test_a_lost_gateway_is_dialled_within_half_a_minute(clock: Any) -> None:
    """However long it has been away."""
    dialled = await _dialled(clock, {"g:1": StreamEndedError("UNAVAILABLE")}, 3600)
    assert len(dialled) >= 120
