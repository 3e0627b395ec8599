"""The other ends of a worker's session, in memory: a stream and a queue of results."""

from __future__ import annotations

import asyncio
from typing import Any

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.clock import ControllerTime
from worker.local import Local
from worker.spool import ImpossibleAckError
from worker.spool.records import Record
from worker.transport import StreamEndedError

Down = gateway_pb2.GatewayMessage


class MemoryStream:
    """A stream whose other end is the test."""

    def __init__(self) -> None:
        self.up: list[gateway_pb2.WorkerMessage] = []
        self.down: asyncio.Queue[Down | StreamEndedError] = asyncio.Queue()
        self.closed = False
        self.takes = True

    async def send(self, message: gateway_pb2.WorkerMessage) -> None:
        if not self.takes:
            await asyncio.Event().wait()
        self.up.append(gateway_pb2.WorkerMessage.FromString(message.SerializeToString()))

    async def receive(self) -> Down:
        message = await self.down.get()
        if isinstance(message, StreamEndedError):
            raise message
        return message

    async def close(self) -> None:
        self.closed = True

    def batches(self) -> list[gateway_pb2.ResultBatch]:
        return [message.results for message in self.up if message.HasField("results")]


class MemoryQueue:
    """A spool in memory, with the same promises as the one on disk."""

    def __init__(self, count: int = 0, size: int = 10) -> None:
        self.spool_id = "a" * 32
        self.kept: dict[int, bytes] = {}
        self.next_seq = 1
        self.highest_sent = 0
        self.alarm = ""
        self._grown = asyncio.Event()
        self.add(count, size)

    def add(self, count: int, size: int = 10) -> None:
        for _ in range(count):
            result = probe_pb2.Result(job_id=1, scheduled_at_us=self.next_seq, detail_json="x" * size)
            self.kept[self.next_seq] = result.SerializeToString()
            self.next_seq += 1
        self._grown.set()
        self._grown = asyncio.Event()

    @property
    def first_unacked_seq(self) -> int:
        return min(self.kept, default=0)

    @property
    def records(self) -> int:
        return len(self.kept)

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.kept.values()))

    async def read(self, after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
        found: list[Record] = []
        size = 0
        for seq in sorted(seq for seq in self.kept if seq > after_seq)[:limit]:
            size += len(self.kept[seq])
            if found and size > max_bytes:
                break
            found.append(Record(seq, self.kept[seq]))
        return found

    async def wait_beyond(self, seq: int, spool_id: str) -> None:
        while self.next_seq <= seq + 1 and self.spool_id == spool_id:
            await self._grown.wait()

    def replace(self) -> None:
        """Become a fresh spool, in which what was kept has new numbers."""
        bodies = list(self.kept.values())
        self.spool_id = "c" * 32
        self.kept = dict(enumerate(bodies, 1))
        self.next_seq, self.highest_sent = len(bodies) + 1, 0
        self.add(0)

    def sent(self, seq: int) -> None:
        self.highest_sent = max(self.highest_sent, seq)

    def acknowledge(self, seq: int) -> None:
        if seq > self.highest_sent:
            raise ImpossibleAckError("never sent")
        self.kept = {number: body for number, body in self.kept.items() if number > seq}

    async def become_another(self, reason: str) -> None:
        self.spool_id = "b" * 32
        self.highest_sent = 0


def local_for(clock: Any, queue: MemoryQueue, time: ControllerTime, jobs: list[gateway_pb2.JobSet]) -> Local:
    async def welcomed(welcome: gateway_pb2.Welcome) -> None:
        pass

    async def take_jobs(change: gateway_pb2.JobSet) -> None:
        jobs.append(change)

    async def finish(reply: gateway_pb2.RenewReply) -> bool:
        return not reply.error

    return Local(
        spool=queue,
        clock=clock,
        time=time,
        hello=gateway_pb2.Hello,
        welcomed=welcomed,
        take_jobs=take_jobs,
        state=lambda: (3, 4, ""),
        renew_at_us=clock.wall_us() + 3_600_000_000,
        not_after_us=clock.wall_us() + 7_200_000_000,
        start_renewal=lambda: b"request",
        finish_renewal=finish,
    )
