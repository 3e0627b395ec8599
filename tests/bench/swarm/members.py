"""Workers of the swarm: the real session code of the worker, with a spool in memory and jobs that are only noted."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Sequence

from streamswarm import CONTRACT_VERSION, __version__, contract
from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.clock import ControllerTime, SystemClock
from worker.ending import SessionEnd
from worker.identity import Identity
from worker.local import Local
from worker.spool.records import OVERHEAD, Record
from worker.transport import dial
from worker.uplink import Renewal, Uplink


class MemoryQueue:
    """What a session needs of a spool, kept in memory.

    Notes how long each result waits for its acknowledgement, from when it was last read to be sent.
    """

    def __init__(self, latencies: list[float]) -> None:
        self.spool_id = uuid.uuid4().hex
        self.next_seq = 1
        self.alarm = ""
        self._latencies = latencies
        self._records: deque[Record] = deque()
        self._sent_at: dict[int, float] = {}
        self._sent = 0
        self._grown = asyncio.Event()

    @property
    def first_unacked_seq(self) -> int:
        return self._records[0].seq if self._records else 0

    @property
    def records(self) -> int:
        return len(self._records)

    @property
    def size_bytes(self) -> int:
        return sum(len(record.body) + OVERHEAD for record in self._records)

    def append(self, body: bytes) -> None:
        """Take a result."""
        self._records.append(Record(seq=self.next_seq, body=body))
        self.next_seq += 1
        self._grown.set()

    async def read(self, after_seq: int, *, limit: int, max_bytes: int) -> list[Record]:
        found: list[Record] = []
        for record in self._records:
            if record.seq > after_seq:
                max_bytes -= len(record.body) + OVERHEAD
                if len(found) == limit or (found and max_bytes < 0):
                    break
                found.append(record)
        now = time.monotonic()
        self._sent_at.update((record.seq, now) for record in found)
        return found

    async def wait_beyond(self, seq: int, spool_id: str) -> None:
        while self.next_seq <= seq + 1 and self.spool_id == spool_id:
            self._grown.clear()
            await self._grown.wait()

    def sent(self, seq: int) -> None:
        self._sent = max(self._sent, seq)

    def acknowledge(self, seq: int) -> None:
        assert seq <= self._sent, "the gateway acknowledged what was never sent"
        now = time.monotonic()
        while self._records and self._records[0].seq <= seq:
            sent_at = self._sent_at.pop(self._records.popleft().seq, None)
            if sent_at is not None:
                self._latencies.append(now - sent_at)

    async def become_another(self, reason: str) -> None:
        raise AssertionError(f"the gateway acknowledged what was never sent: {reason}")


class SwarmWorker:
    """One worker. `current_at` is when the job set of its open session was in force; 0 while it has none."""

    def __init__(
        self,
        identity: Identity,
        gateways: Sequence[str],
        hello: gateway_pb2.Hello,
        latencies: list[float],
    ) -> None:
        self.queue = MemoryQueue(latencies)
        self.revision = 0
        self.current_at = 0.0
        #: How sessions ended, newest last.
        self.ends: deque[str] = deque(maxlen=5)
        #: Versions of the jobs in force by their ids.
        self.jobs: dict[int, int] = {}
        self._identity = identity
        self._hello = hello
        self._clock = SystemClock()
        self._time = ControllerTime(self._clock)
        self._last_us = 0
        self._uplink = Uplink(
            gateways=gateways,
            identify=self._identify,
            local=self._local,
            dial=dial,
            ended=self._ended,
            clock=self._clock,
        )

    async def run(self) -> None:
        """Hold sessions until cancelled."""
        await self._uplink.run()

    def measure(self) -> None:
        """Spool one result of one of its jobs, due now."""
        if not self.jobs:
            return
        now_us = max(self._last_us + 1, time.time_ns() // 1000)
        self._last_us = now_us
        numbers = list(self.jobs)
        job_id = numbers[now_us % len(numbers)]
        self.queue.append(_result(job_id, self.jobs[job_id], now_us).SerializeToString())

    async def _identify(self) -> Identity:
        return self._identity

    def _local(self, identity: Identity) -> Local:
        renewal = Renewal(identity, lambda renewed: setattr(self, "_identity", renewed))
        return Local(
            spool=self.queue,
            clock=self._clock,
            time=self._time,
            hello=self._greeting,
            welcomed=self._welcomed,
            take_jobs=self._take_jobs,
            state=lambda: (self.revision, 0, ""),
            renew_at_us=identity.renew_at_us,
            not_after_us=identity.not_after_us,
            start_renewal=renewal.start,
            finish_renewal=renewal.finish,
        )

    def _greeting(self) -> gateway_pb2.Hello:
        hello = gateway_pb2.Hello()
        hello.CopyFrom(self._hello)
        return hello

    async def _welcomed(self, welcome: gateway_pb2.Welcome) -> None:
        pass

    async def _take_jobs(self, change: gateway_pb2.JobSet) -> None:
        if change.full:
            self.jobs = {}
        self.jobs.update((job.job_id, job.version) for job in change.jobs)
        for job_id in change.removed:
            self.jobs.pop(job_id, None)
        self.revision = change.revision
        self.current_at = time.monotonic()

    async def _ended(self, end: SessionEnd) -> None:
        self.current_at = 0.0
        self.ends.append(f"{end.end.value}: {end.reason}")


def greeting() -> gateway_pb2.Hello:
    """Return what an ordinary worker says of itself."""
    return gateway_pb2.Hello(
        worker_version=__version__,
        contract_version=CONTRACT_VERSION,
        instance_id=uuid.uuid4().hex,
        boot_id=str(uuid.uuid4()),
        kinds=[gateway_pb2.KindAvailability(kind=kind, available=True) for kind in contract.kinds()],
        facts=gateway_pb2.Facts(
            host_name="swarm",
            os="Debian GNU/Linux 12 (bookworm)",
            kernel="6.1.0-37-amd64",
            architecture="x86_64",
            python="3.11.2",
            cpu_count=4,
            memory_bytes=8 * 2**30,
            addresses=["192.0.2.17", "2001:db8::17"],
        ),
        policy_json='{"allow_loopback": false, "kinds": ["dns", "http", "ping", "system", "tcp"]}',
    )


def _result(job_id: int, version: int, scheduled_at_us: int) -> probe_pb2.Result:
    """Return a `ping` result with every metric that an ordinary run has."""
    made = probe_pb2.Result(
        job_id=job_id,
        job_version=version,
        scheduled_at_us=scheduled_at_us,
        started_at_us=scheduled_at_us + 150,
        duration_ms=402.5,
        status=probe_pb2.STATUS_OK,
    )
    ping = made.ping
    ping.packets_sent = ping.packets_received = 3
    ping.loss_pct, ping.rtt_min_ms, ping.rtt_avg_ms, ping.rtt_median_ms = 0.0, 10.1, 10.4, 10.3
    ping.rtt_max_ms, ping.rtt_stddev_ms, ping.ipdv_avg_ms, ping.rfc3550_jitter_ms = 10.8, 0.3, 0.4, 0.02
    ping.duplicates = ping.reordered = ping.late = ping.icmp_errors = 0
    ping.reply_ttl, ping.kernel_timestamps, ping.bytes_sent, ping.bytes_received = 57, True, 252, 252
    return made
