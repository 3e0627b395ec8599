"""A gateway that is stopped (SIGSTOP) past all its time-outs, and goes on when another has taken its workers over."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import random
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import grpc
import psutil
import psycopg
from grpc import aio
from support.surroundings import clean_environment, free_addresses

from controller.settings import Settings
from controller.store.engine import libpq_url
from streamswarm import CONTRACT_VERSION
from streamswarm.v1 import gateway_pb2, gateway_pb2_grpc, probe_pb2
from streamswarm.v1.gateway_pb2 import GatewayMessage, WorkerMessage

#: How long the successor may wait for the worker's Hello to be answered.
WAITS_AT_MOST_S = 15.0
_BATCH, _RESULTS = 50, 1_000

#: Where a gateway stops: after it has claimed the sessions of the first results that it stores; while it hands the
#: database their rows, when the database looks at no time-out; or anywhere.
Place = Literal["claimed", "copying", "anywhere"]
PLACES: tuple[Place, ...] = ("claimed", "copying", "anywhere")
_STOPS_ITSELF = """
import os, signal, sys
{patched}
def once(*arguments, **named):
    done = whole(*arguments, **named)
    {target} = whole
    os.kill(os.getpid(), signal.SIGSTOP)
    return done
whole = {target}
{target} = once
from controller.gateway.__main__ import main
sys.exit(main())
"""
_PROGRAMS: dict[Place, list[str]] = {
    "claimed": [
        "-c",
        _STOPS_ITSELF.format(patched="from controller.gateway import storing", target="storing._claim"),
    ],
    "copying": ["-c", _STOPS_ITSELF.format(patched="import psycopg", target="psycopg.Copy.write")],
    "anywhere": ["-m", "controller.gateway"],
}


@dataclass(frozen=True, kw_only=True)
class Dialler:
    """A worker: who it is, and the job that its results are of."""

    worker_id: uuid.UUID
    credentials: grpc.ChannelCredentials
    job_id: int


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one pause has led to."""

    place: Place
    #: From the successor's first Hello to its Welcome.
    waited_s: float
    #: Rows and watermark that changed by the hand of the one that went on, while nobody else wrote.
    stale_rows: int
    stale_watermark: bool
    #: Rows that are missing or too many at the end.
    lost: int
    doubled: int

    @property
    def clean(self) -> bool:
        """Whether everything is as it must be."""
        wrong = self.stale_rows or self.stale_watermark or self.lost or self.doubled
        return not wrong and self.waited_s <= WAITS_AT_MOST_S


class Pausing:
    """Rounds of pauses on one installation. Each starts a gateway, pauses it, and lets `successor` take over."""

    def __init__(self, settings: Settings, successor: str, log: Path) -> None:
        self._settings = settings
        self._successor = successor
        self._log = log
        self._numbers = 0

    async def round(self, dialler: Dialler, rng: random.Random, place: Place) -> Round:
        """Pause a gateway while it stores, have its worker dial another, let it go on, and look at what it does."""
        sessions, enrolment = free_addresses(2)
        settings = dataclasses.replace(
            self._settings, gateway_name="paused", gateway_listen=sessions, enrolment_listen=enrolment
        )
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_PROGRAMS[place],
                env=clean_environment(**settings.environment()),
                stdout=log,
                stderr=log,
            )
        try:
            await _until(
                lambda: self._sql_one("SELECT count(*) FROM processes WHERE pid = %s", process.pid) == 1
            )
            return await self._pause(dialler, rng, process, sessions, place)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def _pause(
        self, dialler: Dialler, rng: random.Random, process: Any, address: str, place: Place
    ) -> Round:
        # Of an own day each time, so that rounds do not meet in the table.
        spool_id = uuid.uuid4().hex
        results = [self._result(dialler.job_id) for _ in range(_RESULTS)]
        async with contextlib.AsyncExitStack() as stack:
            older = await stack.enter_async_context(_stream(address, dialler))
            await _hello(older, spool_id, 1)
            sending = asyncio.ensure_future(_send(older, spool_id, results))
            if place == "anywhere":
                await asyncio.sleep(rng.uniform(0.0, 0.4))
                process.send_signal(signal.SIGSTOP)
            paused = psutil.Process(process.pid)
            await _until(lambda: paused.status() == psutil.STATUS_STOPPED)
            started = time.monotonic()
            newer, acked = await self._take_over(stack, dialler, spool_id)
            waited_s = time.monotonic() - started
            rows, watermark = self._stored(dialler)
            process.send_signal(signal.SIGCONT)
            # It has noticed when it ends the older stream, and tries what it still holds in the same second.
            await _ended(older)
            await self._settled(process)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            rows_after, watermark_after = self._stored(dialler)
            await _send(newer, spool_id, results[acked:], first=acked + 1)
            if acked < len(results):
                await _acknowledged(newer, len(results))
        instants = [result.scheduled_at_us for result in results]
        stored, unique = self._sql(
            "SELECT count(*), count(DISTINCT scheduled_at) FROM result_ping WHERE job_id = %s "
            "AND scheduled_at BETWEEN to_timestamp(%s / 1e6) AND to_timestamp(%s / 1e6)",
            dialler.job_id,
            instants[0],
            instants[-1],
        )[0]
        return Round(
            place=place,
            waited_s=waited_s,
            stale_rows=rows_after - rows,
            stale_watermark=watermark_after != watermark,
            lost=len(results) - unique,
            doubled=stored - unique,
        )

    async def _take_over(
        self, stack: contextlib.AsyncExitStack, dialler: Dialler, spool_id: str
    ) -> tuple[Any, int]:
        """Dial the successor until it answers, as workers do; return the stream and the watermark."""
        deadline = time.monotonic() + 4 * WAITS_AT_MOST_S
        while True:
            newer = await stack.enter_async_context(_stream(self._successor, dialler))
            try:
                return newer, await _hello(newer, spool_id, _RESULTS + 1)
            except (aio.AioRpcError, EOFError):
                assert time.monotonic() < deadline, "the successor never answers"

    async def _settled(self, process: Any) -> None:
        """Wait until the gateway that goes on has nothing left to store: it says so in its gauges."""
        went_on_at = self._sql_one("SELECT clock_timestamp()")
        await _until(
            lambda: (
                self._sql_one(
                    "SELECT count(*) FROM processes WHERE pid = %s AND heartbeat_at > %s + interval '2 s' "
                    "AND (gauges->>'batches_waiting')::int = 0",
                    process.pid,
                    went_on_at,
                )
                == 1
            )
        )

    def _stored(self, dialler: Dialler) -> tuple[int, tuple[Any, ...]]:
        rows = self._sql_one("SELECT count(*) FROM result_ping WHERE job_id = %s", dialler.job_id)
        return rows, self._sql("SELECT spool_id, acked_seq FROM workers WHERE id = %s", dialler.worker_id)[0]

    def _result(self, job_id: int) -> probe_pb2.Result:
        self._numbers += 1
        today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        due = int(today.timestamp()) * 1_000_000 + self._numbers * 100_000
        result = probe_pb2.Result(
            job_id=job_id, job_version=1, scheduled_at_us=due, started_at_us=due, status=probe_pb2.STATUS_OK
        )
        result.ping.packets_sent = result.ping.packets_received = 3
        result.ping.rtt_avg_ms = 1.5
        return result

    def _sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(libpq_url(self._settings), autocommit=True) as connection:
            return connection.execute(statement.encode(), values or None).fetchall()

    def _sql_one(self, statement: str, *values: Any) -> Any:
        return self._sql(statement, *values)[0][0]


@contextlib.asynccontextmanager
async def _stream(address: str, dialler: Dialler) -> AsyncIterator[Any]:
    """A session's stream on a connection of its own."""
    channel = aio.secure_channel(
        address, dialler.credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    )
    try:
        # A gateway is on record a moment before it listens.
        yield gateway_pb2_grpc.GatewayStub(channel).Session(wait_for_ready=True)
    finally:
        await channel.close()


async def _hello(stream: Any, spool_id: str, next_seq: int) -> int:
    """Open a session; return the watermark that the Welcome tells."""
    hello = gateway_pb2.Hello(
        contract_version=CONTRACT_VERSION, worker_version="test", spool_id=spool_id, next_seq=next_seq
    )
    await stream.write(WorkerMessage(hello=hello))
    async with asyncio.timeout(30):
        message = await stream.read()
    if not isinstance(message, GatewayMessage) or not message.HasField("welcome"):
        raise EOFError("no Welcome")
    return int(message.welcome.acked_seq)


async def _send(stream: Any, spool_id: str, results: Sequence[probe_pb2.Result], *, first: int = 1) -> None:
    """Send results in batches, all that the credit allows at once."""
    for start in range(0, len(results), _BATCH):
        some = results[start : start + _BATCH]
        batch = gateway_pb2.ResultBatch(
            spool_id=spool_id,
            seqs=range(first + start, first + start + len(some)),
            results=[result.SerializeToString() for result in some],
        )
        await stream.write(WorkerMessage(results=batch))


async def _acknowledged(stream: Any, seq: int) -> None:
    async with asyncio.timeout(30):
        while True:
            message = await stream.read()
            assert isinstance(message, GatewayMessage), f"the stream ended: {await stream.code()}"
            if message.HasField("ack") and message.ack.acked_seq >= seq:
                return


async def _ended(stream: Any) -> None:
    """Read a stream to its end."""
    async with asyncio.timeout(30):
        try:
            while await stream.read() is not aio.EOF:
                pass
        except aio.AioRpcError:
            return


async def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.02)
