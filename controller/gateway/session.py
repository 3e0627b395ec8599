"""One worker's session: Hello, Welcome, then jobs down, results up, acknowledgements down, until it ends.

The session ends by its own decision only, inside its handler: whoever wants it ended calls `end`, after which
nothing more is read. (Cancelling a gRPC handler from outside would leave the call open on the worker's side.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from controller.gateway import greeting, renewing
from controller.gateway.authority import Authority
from controller.gateway.batches import Batch
from controller.gateway.database import Database
from controller.gateway.ending import REASONS, Ending, Why, goodbye
from controller.gateway.identity import Peer
from controller.gateway.ingest import Ingest
from controller.gateway.intake import Intake, RuleBrokenError
from controller.gateway.jobs import Change, Jobs
from controller.gateway.outbox import Outbox, Outgoing
from controller.gateway.reception import Reception
from controller.gateway.roster import Pulse
from streamswarm.v1 import gateway_pb2
from streamswarm.v1.gateway_pb2 import GatewayMessage, WorkerMessage

_log = logging.getLogger(__name__)

#: A worker that says nothing for this long hangs: three of the longest heartbeats. A connection that is half open is
#: found by the transport's own pings, long before.
_SILENCE_S = 930.0
#: Long enough for a gateway that takes thousands in and comes late to what they have said.
_HELLO_S = 30.0
#: A session ends after anything between these, before the connection does (`listeners.py`), which could not say why.
_AGE_S = (38 * 60.0, 46 * 60.0)
_AGAIN_MS = 100
#: A worker that takes nothing from the stream for this long is gone.
_WRITE_S = 30.0
#: Results that were read before a drain are stored and acknowledged within this time, or left to the spool.
_DRAIN_S = 10.0
_GOODBYE_S = 2.0
_RENEWAL_PAUSE_S = 10.0
#: What a heartbeat tells beyond these is not believed: results on a disk, milliseconds of a clock.
_MOST_RECORDS, _MOST_OFFSET_MS = 2**40, 1e13


class Stream(Protocol):
    """The transport below a session."""

    async def read(self) -> WorkerMessage | None:
        """Return the next message, None when the worker has closed its side; raises ConnectionError."""

    async def write(self, message: Outgoing) -> None:
        """Send a message; returns when the transport has room for it; raises ConnectionError."""


class Registry(Protocol):
    """Where open sessions are known."""

    def add(self, session: Session) -> None:
        """Make the session known; an older one of the worker is ended."""

    def remove(self, session: Session) -> None:
        """Forget the session."""

    def pulse(self, pulse: Pulse) -> None:
        """Take a heartbeat to be written."""

    def heartbeat_s(self) -> int:
        """Return how often workers are to send one."""

    def may_renew(self, worker_id: uuid.UUID) -> bool:
        """Count a renewal of a worker's certificate; False when it is one too many, in whichever session."""


class Session:
    """One stream of one worker. `run` returns how it ended and never raises for what the worker does."""

    __slots__ = (
        "__weakref__",
        "_aged_at",
        "_authority",
        "_database",
        "_ended",
        "_expires_at",
        "_heard_at",
        "_ingest",
        "_intake",
        "_now_us",
        "_outbox",
        "_reception",
        "_registry",
        "_renewed_at",
        "_stream",
        "_writing_since",
        "epoch",
        "peer",
        "spool_id",
    )

    def __init__(
        self,
        peer: Peer,
        stream: Stream,
        *,
        database: Database,
        authority: Authority,
        reception: Reception,
        ingest: Ingest,
        registry: Registry,
        now_us: Callable[[], int],
    ) -> None:
        self.peer = peer
        self.epoch = 0
        self.spool_id = ""
        self._stream = stream
        self._database = database
        self._authority = authority
        self._reception = reception
        self._ingest = ingest
        self._registry = registry
        #: The controller's time as workers are told it: the database's, which all gateways share.
        self._now_us = now_us
        self._ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._outbox = Outbox("")
        self._intake = Intake()
        #: By the monotonic clock: when the last message came, and since when one is being written.
        self._heard_at = time.monotonic()
        self._writing_since = math.inf
        self._aged_at = self._heard_at + random.uniform(*_AGE_S)  # noqa: S311  spreads the workers, hides nothing
        #: The end of the certificate, by the wall clock.
        self._expires_at = peer.not_after.timestamp()
        self._renewed_at = -_RENEWAL_PAUSE_S

    @property
    def worker_id(self) -> uuid.UUID:
        """Whose session this is."""
        return self.peer.worker_id

    @property
    def comes_back(self) -> bool:
        """Whether it has ended for its age, and the worker was told to begin another one at once."""
        return self._ended.done() and self._ended.result().why is Why.AGED

    @property
    def jobs_revision(self) -> int | None:
        """Revision of the job set that the session was given; None before the first."""
        return self._outbox.jobs_revision

    @property
    def sent_jobs(self) -> Jobs | None:
        """What the worker was told to run; None before the first set."""
        return self._outbox.sent_jobs

    def end(self, why: Why, message: str, *, reconnect_after_ms: int = 0) -> None:
        """End the session for this reason, unless it is ending already."""
        if not self._ended.done():
            self._ended.set_result(Ending(why=why, message=message, reconnect_after_ms=reconnect_after_ms))

    def revoked(self) -> None:
        """End the session: the database does not list its worker or certificate as good any more."""
        self.end(Why.REVOKED, "this worker or its certificate has been revoked; enrol its host anew")

    def superseded(self) -> None:
        """End the session: the worker has a newer one."""
        self.end(Why.SUPERSEDED, "a newer session of this worker exists")

    def change_jobs(self, change: Change) -> None:
        """Bring the worker to another job set."""
        self._outbox.change_jobs(change)

    def stored(self, batch: Batch) -> None:
        """Acknowledge a committed batch and give its credit back."""
        self._intake.stored(batch)
        self._outbox.acknowledge(batch.seqs[-1])

    def look(self, now: float) -> None:
        """End the session when the worker says or takes nothing any more, or is not to be heard any longer.

        Asked for every few seconds, instead of a timer for each of many messages.
        """
        if now - self._heard_at > _SILENCE_S:
            self.end(Why.UNAVAILABLE, f"nothing was heard for {_SILENCE_S:g} s")
        elif now - self._writing_since > _WRITE_S:
            self.end(Why.UNAVAILABLE, f"the worker took nothing from the stream for {_WRITE_S:g} s")
        elif time.time() >= self._expires_at:
            self.end(Why.EXPIRED, "the certificate has expired")
        elif now > self._aged_at:
            self.end(Why.AGED, "the session has lasted for long", reconnect_after_ms=_AGAIN_MS)

    def refused(self) -> None:
        """End the session: the database no longer takes results under its epoch."""
        self.end(Why.SUPERSEDED, "a newer session of this worker exists, or the worker has been revoked")
        self._intake.settle()

    def broken(self) -> None:
        """End the session: the gateway trips over what it has sent; the worker's spool keeps it."""
        self.end(Why.UNAVAILABLE, "what was sent cannot be stored; the gateway's log tells why")
        self._intake.settle()

    async def run(self) -> Ending:
        """Hold the session until it ends."""
        greeted = False
        try:
            greeted = await self._greet()
        finally:
            if not greeted and self.epoch:
                self._registry.remove(self)  # the database knows it, the worker does not
        if not greeted:
            ending = self._ended.result()
            if ending.why in REASONS:
                await self._write_last(goodbye(ending))
            return ending
        self._registry.add(self)
        reader, writer = asyncio.ensure_future(self._read()), asyncio.ensure_future(self._write())
        endings: set[asyncio.Future[Any]] = {reader, writer, self._ended}
        try:
            await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)
            for task in (reader, writer):
                if task.done():
                    task.result()
            ending = await self._ended
            if ending.why in (Why.DRAINING, Why.AGED):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_DRAIN_S):
                        await self._intake.settled()
            _abandon(reader)
            self._outbox.finish(goodbye(ending) if ending.why in REASONS else None)
            await asyncio.wait([writer], timeout=_GOODBYE_S)
        finally:
            self._registry.remove(self)
            _abandon(reader)
            _abandon(writer)
        return ending

    async def _greet(self) -> bool:
        """Take the Hello, open the session in the database and answer; False when it has ended instead."""
        try:
            async with asyncio.timeout(_HELLO_S):
                message = await self._next()
            if message is None:
                return False
            hello = greeting.hello_of(message)
            opened = await greeting.opened(self._reception, self.peer, hello)
        except TimeoutError:
            self.end(Why.UNAVAILABLE, f"no Hello came within {_HELLO_S:g} s")
            return False
        except greeting.RefusedError as error:
            self.end(error.why, str(error))
            return False
        self.epoch, self.spool_id = opened.epoch, hello.spool_id
        self._outbox = Outbox(hello.spool_id)
        _log.info("worker %s (%s) has session %s", self.worker_id, opened.worker_name, self.epoch)
        welcome = greeting.welcome(
            self.peer, hello, opened, heartbeat_s=self._registry.heartbeat_s(), now_us=self._now_us()
        )
        if not await self._write_last(welcome):
            self.end(Why.GONE, "the worker did not take the Welcome")
            return False
        return True

    async def _read(self) -> None:
        """Take messages until the session ends."""
        while (message := await self._next()) is not None:
            kind = message.WhichOneof("message")
            try:
                wait_s = self._intake.pay(message.results if kind == "results" else None)
                if wait_s:
                    await asyncio.sleep(wait_s)
                batch = self._intake.batch(self, message.results) if kind == "results" else None
            except RuleBrokenError as error:
                self.end(Why.PROTOCOL, str(error))
                return
            if batch is not None:
                await self._ingest.submit(batch)
            elif kind == "heartbeat":
                self._take_heartbeat(message.heartbeat)
            elif kind == "renew":
                await self._renew(message.renew.csr_der)
            elif kind == "hello":
                self.end(Why.PROTOCOL, "Hello came twice on one stream")
            else:
                self.end(Why.PROTOCOL, "a message of a kind that this release does not know")

    async def _next(self) -> WorkerMessage | None:
        """Return the next message, or None once the session has ended, for whatever reason."""
        if self._ended.done():
            return None
        try:
            message = await self._stream.read()
        except ConnectionError:
            self.end(Why.GONE, "the connection broke")
            return None
        self._heard_at = time.monotonic()
        if message is None:
            self.end(Why.GONE, "the worker closed the stream")
        return None if self._ended.done() else message

    def _take_heartbeat(self, heartbeat: gateway_pb2.Heartbeat) -> None:
        offset = heartbeat.clock_offset_ms if heartbeat.HasField("clock_offset_ms") else None
        self._registry.pulse(
            Pulse(
                worker_id=self.worker_id,
                epoch=self.epoch,
                jobs_revision=heartbeat.jobs_revision,
                spool_records=min(max(heartbeat.spool_records, 0), _MOST_RECORDS),
                spool_alarm=heartbeat.spool_alarm,
                vantage_alarm=heartbeat.vantage_alarm,
                # NaN compares with nothing.
                clock_offset_ms=offset if offset is not None and abs(offset) <= _MOST_OFFSET_MS else None,
            )
        )
        self._outbox.heartbeat(
            gateway_pb2.HeartbeatReply(
                clock_us=self._now_us(),
                heartbeat_clock_us=heartbeat.clock_us,
                heartbeat_s=self._registry.heartbeat_s(),
            )
        )

    async def _renew(self, csr_der: bytes) -> None:
        """Answer a renewal: the new certificate is listed before the worker sees it."""
        now = time.monotonic()
        if now - self._renewed_at < _RENEWAL_PAUSE_S or not self._registry.may_renew(self.worker_id):
            self._outbox.renewed(
                gateway_pb2.RenewReply(error="a renewal was asked for a moment ago; wait a little")
            )
            return
        self._renewed_at = now
        reply = await renewing.renewed(
            self._database, self._authority, worker_id=self.worker_id, epoch=self.epoch, csr_der=csr_der
        )
        if reply is None:
            self.refused()
        else:
            self._outbox.renewed(reply)

    async def _write(self) -> None:
        """Send what the outbox holds until it is finished."""
        try:
            while not self._outbox.finished:
                for message in await self._outbox.take():
                    self._writing_since = time.monotonic()
                    await self._stream.write(message)
                    self._writing_since = math.inf
        except ConnectionError:
            self.end(Why.GONE, "the connection broke")

    async def _write_last(self, message: GatewayMessage) -> bool:
        """Send one message outside of the writer; False when the worker does not take it in time."""
        try:
            async with asyncio.timeout(_GOODBYE_S):
                await self._stream.write(message)
        except (TimeoutError, ConnectionError):
            return False
        return True


def _abandon(work: asyncio.Future[Any]) -> None:
    """Give work up; what it still raises is nobody's business any more."""
    work.cancel()
    work.add_done_callback(lambda done: done.cancelled() or done.exception())
