"""One session with a gateway, from Hello to the end of the stream.

The worker says who it is, learns what has been acknowledged, sends results in spool order as far as its credit
goes, deletes what is acknowledged, takes over jobs, tells that it lives, and renews its certificate.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import deque

from streamswarm.targets import shown
from streamswarm.v1 import gateway_pb2
from worker.concurrency import first_of, within
from worker.ending import End, OverError, SessionEnd, told_by
from worker.local import Local
from worker.spool import ImpossibleAckError
from worker.spool.records import OVERHEAD, Record
from worker.transport import Stream, StreamEndedError

log = logging.getLogger(__name__)

#: Long enough for a gateway to which thousands come back at once; who gives up and dials again costs it a handshake more.
_WELCOME_S = 45.0
_BATCH_RESULTS = 500
#: Of results; sequence numbers and framing come on top, and the whole stays under 512 KiB.
_BATCH_BYTES = 480 * 1024
#: How long results wait for others to share a message with.
_LINGER_S = 0.05
#: And at most while others come back to the gateway too: taking them in comes first, and a message of several results
#: costs it hardly more than one of a single result.
_GATHER_S = 10.0
_DEFAULT_HEARTBEAT_S = 10
#: Within this share of the time between two heartbeats the gateway is told of jobs that were taken over.
_TELL_JOBS_SHARE = 0.1
#: The workers of a gateway that is gone come back over this share of the time between two of their heartbeats, which
#: grows with their number: 560 a second at first, then fewer and fewer.
RETURN_SHARE = 0.07
#: So many heartbeats without a word from the gateway, and the stream is taken for dead.
_SILENT_HEARTBEATS = 3
#: A message that the stream does not take for so long ends the session.
_LONGEST_SEND_S = 30.0
_RENEWAL_ANSWER_S = 30.0
#: After a refused renewal it is tried again, after this share of the certificate's life, or so soon when it was asked for.
_RENEW_AGAIN_SHARE = 0.02
_ASKED_AGAIN_S = 5.0
_LEAST_RENEW_WAIT_S = 1.0


class Session:
    """One conversation on one stream.

    `busy_until_us`, by the steady clock, is until when the gateway is taken to be busy with other workers that come back.
    """

    def __init__(self, stream: Stream, local: Local, *, busy_until_us: int = 0) -> None:
        self._stream = stream
        self._local = local
        self._busy_until_us = busy_until_us
        self._spool = local.spool
        self._clock = local.clock
        self._spool_id = ""
        self._acked = 0
        self._credit_results = 0
        self._credit_bytes = 0
        #: Sequence number and size of what was sent and not acknowledged.
        self._unacked: deque[tuple[int, int]] = deque()
        self._unacked_bytes = 0
        self._acknowledged = asyncio.Event()
        self._heartbeat_s = float(_DEFAULT_HEARTBEAT_S)
        #: Steady times: when the last message came, and since when messages are on their way into the stream.
        self._heard_us = 0
        self._sending: list[int] = []
        #: Steady time at which each heartbeat on the way was sent, by its wall-clock stamp.
        self._heartbeats: dict[int, int] = {}
        self._welcomed = False
        self._renewal_answered = asyncio.Event()
        #: Set when jobs have been taken over that no heartbeat has told of.
        self._taken_over = asyncio.Event()

    async def run(self) -> SessionEnd:
        """Hold the session until it ends; closes the stream."""
        try:
            await self._greet()
            await first_of(self._receive(), self._deliver(), self._tell_alive(), self._renew(), self._watch())
            return self._ended(End.RETRY, "the session ended by itself")
        except StreamEndedError as error:
            end = End.REFUSED if error.refused else End.RETRY
            return self._ended(end, str(error), spread_s=self._heartbeat_s * RETURN_SHARE)
        except OverError as error:
            return self._ended(error.end, str(error), wait_s=error.wait_s)
        except ImpossibleAckError as error:
            await self._spool.become_another(str(error))
            return self._ended(End.RETRY, str(error))
        except asyncio.TimeoutError:
            return self._ended(End.RETRY, f"the gateway did not answer Hello within {_WELCOME_S:g} s")
        finally:
            await self._stream.close()

    def _ended(self, end: End, reason: str, *, wait_s: float = 0.0, spread_s: float = 0.0) -> SessionEnd:
        return SessionEnd(
            end=end,
            reason=reason,
            welcomed=self._welcomed,
            wait_s=wait_s,
            spread_s=spread_s if self._welcomed else 0.0,
        )

    # -- greeting ----------------------------------------------------------------------------------------------

    async def _greet(self) -> None:
        hello = self._local.hello()
        self._spool_id = self._spool.spool_id
        hello.spool_id = self._spool_id
        hello.first_unacked_seq = self._spool.first_unacked_seq
        hello.next_seq = self._spool.next_seq
        hello.clock_us = self._clock.wall_us()
        sent_us = self._clock.steady_us()
        message = await within(self._clock, _WELCOME_S, self._ask(gateway_pb2.WorkerMessage(hello=hello)))
        if message.HasField("goodbye"):
            raise told_by(message.goodbye)
        if not message.HasField("welcome"):
            raise OverError(
                End.RETRY, f"the gateway began with {message.WhichOneof('message')} instead of Welcome"
            )
        welcome = message.welcome
        if welcome.credit_results < 1 or welcome.credit_bytes < 1:
            raise OverError(End.RETRY, "the gateway gave no credit")
        self._check_spool()
        self._local.time.new_session()
        self._observe(sent_us, welcome.clock_us)
        if welcome.spool_id == self._spool_id:
            self._spool.acknowledge(welcome.acked_seq)
            self._acked = welcome.acked_seq
        self._credit_results, self._credit_bytes = welcome.credit_results, welcome.credit_bytes
        self._heartbeat_s = float(welcome.heartbeat_s or _DEFAULT_HEARTBEAT_S)
        self._heard_us = self._clock.steady_us()
        self._welcomed = True
        await self._local.welcomed(welcome)

    def _observe(self, sent_us: int, controller_us: int) -> None:
        correction_us = self._local.time.observe(
            sent_steady_us=sent_us, received_steady_us=self._clock.steady_us(), controller_us=controller_us
        )
        if abs(correction_us) > 1_000_000:
            log.warning("the controller's time differs by %.3f s from what was assumed", correction_us / 1e6)

    async def _ask(self, message: gateway_pb2.WorkerMessage) -> gateway_pb2.GatewayMessage:
        await self._stream.send(message)
        return await self._stream.receive()

    async def _send(self, message: gateway_pb2.WorkerMessage) -> None:
        started_us = self._clock.steady_us()
        self._sending.append(started_us)
        try:
            await self._stream.send(message)
        finally:
            self._sending.remove(started_us)

    async def _watch(self) -> None:
        """End the session when nothing comes any more, or goes: one timer for all messages, which are many."""
        while True:
            now_us = self._clock.steady_us()
            silent_us = self._heard_us + int((self._heartbeat_s * _SILENT_HEARTBEATS + _LINGER_S) * 1e6)
            if now_us >= silent_us:
                raise StreamEndedError("the gateway has been silent for three heartbeats")
            stuck_us = min(self._sending, default=now_us) + int(_LONGEST_SEND_S * 1e6)
            if now_us >= stuck_us:
                raise StreamEndedError(f"the gateway took nothing for {_LONGEST_SEND_S:g} s")
            await self._clock.sleep((min(silent_us, stuck_us) - now_us) / 1e6)

    # -- what comes down ---------------------------------------------------------------------------------------

    async def _receive(self) -> None:
        while True:
            message = await self._stream.receive()
            self._heard_us = self._clock.steady_us()
            await self._take(message)

    async def _take(self, message: gateway_pb2.GatewayMessage) -> None:
        sort = message.WhichOneof("message")
        if sort == "ack":
            self._take_ack(message.ack)
        elif sort == "jobs":
            await self._local.take_jobs(message.jobs)
            self._taken_over.set()
        elif sort == "heartbeat":
            self._take_heartbeat(message.heartbeat)
        elif sort == "renewed":
            await self._take_renewal(message.renewed)
        elif sort == "goodbye":
            raise told_by(message.goodbye)
        else:
            # A gateway newer than this worker may say more than it understands.
            log.info("a message of the gateway is not understood and left aside: %s", sort)

    def _take_ack(self, ack: gateway_pb2.Ack) -> None:
        if ack.spool_id != self._spool_id:
            log.warning("an acknowledgement for another spool is left aside: %s", shown(ack.spool_id))
            return
        self._check_spool()
        self._spool.acknowledge(ack.acked_seq)
        self._acked = max(self._acked, ack.acked_seq)
        while self._unacked and self._unacked[0][0] <= ack.acked_seq:
            self._unacked_bytes -= self._unacked.popleft()[1]
        self._acknowledged.set()

    def _take_heartbeat(self, reply: gateway_pb2.HeartbeatReply) -> None:
        sent_us = self._heartbeats.pop(reply.heartbeat_clock_us, None)
        if sent_us is not None:
            self._observe(sent_us, reply.clock_us)
        if reply.heartbeat_s > 0:
            self._heartbeat_s = float(reply.heartbeat_s)

    # -- results -----------------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        sent = self._acked
        # What has waited for the session, and what the message before had no room for, goes out at once.
        behind = self._spool.next_seq - 1 > sent
        while True:
            await self._spool.wait_beyond(sent, self._spool_id)
            if self._spool.next_seq - sent - 1 < _BATCH_RESULTS:
                await self._clock.sleep(_LINGER_S)
            if not behind:
                await self._gather(sent)
            results, size = await self._room()
            # What is written while this reads is read by the next.
            last = self._spool.next_seq - 1
            records = await self._spool.read(
                sent, limit=min(_BATCH_RESULTS, results), max_bytes=min(_BATCH_BYTES, size)
            )
            # A single result may be larger than the credit that is left.
            while self._unacked and self._unacked_bytes + _size(records) > self._credit_bytes:
                await self._next_ack()
            self._check_spool()
            if records:
                await self._send_batch(records)
            # Where nothing was read, all that was there has turned out to be damaged.
            sent = records[-1].seq if records else max(sent, last)
            behind = sent < last

    async def _gather(self, sent: int) -> None:
        """While the gateway is busy, wait until a message is full of results that were not sent yet, but not for long."""
        busy_s = (self._busy_until_us - self._clock.steady_us()) / 1e6
        if busy_s > 0:
            with contextlib.suppress(asyncio.TimeoutError):
                full = self._spool.wait_beyond(sent + _BATCH_RESULTS - 1, self._spool_id)
                await within(self._clock, min(_GATHER_S, busy_s), first_of(full, self._hurry()))

    async def _hurry(self) -> None:
        await self._local.hurry.wait()

    def _check_spool(self) -> None:
        """End the session when the spool was replaced: its numbers begin anew, and are told by another Hello."""
        if self._spool.spool_id != self._spool_id:
            raise OverError(End.RETRY, "the spool has become another one; its results are announced anew")

    async def _room(self) -> tuple[int, int]:
        """Wait for credit; returns how many results and bytes may be sent."""
        while len(self._unacked) >= self._credit_results or self._unacked_bytes >= self._credit_bytes:
            await self._next_ack()
        return self._credit_results - len(self._unacked), self._credit_bytes - self._unacked_bytes

    async def _next_ack(self) -> None:
        self._acknowledged.clear()
        await self._acknowledged.wait()

    async def _send_batch(self, records: list[Record]) -> None:
        batch = gateway_pb2.ResultBatch(
            spool_id=self._spool_id,
            seqs=[record.seq for record in records],
            results=[record.body for record in records],
        )
        # Noted before sending: a send that fails may still have arrived.
        self._spool.sent(records[-1].seq)
        for record in records:
            self._unacked.append((record.seq, len(record.body) + OVERHEAD))
        self._unacked_bytes += _size(records)
        await self._send(gateway_pb2.WorkerMessage(results=batch))

    # -- heartbeats and renewal --------------------------------------------------------------------------------

    async def _tell_alive(self) -> None:
        """Send heartbeats; none at once, since Hello has told the same a moment ago, but for a quick word on the time."""
        wait_share = 1.0
        if not self._local.time.quickly_told:
            await self._send_heartbeat()
        while True:
            try:
                # A job set that was taken over is told before the next heartbeat is due, but not at once: a change of
                # one test reaches thousands of workers in the same second.
                await within(self._clock, self._heartbeat_s * wait_share, self._taken_over.wait())
                await self._clock.sleep(random.uniform(0.0, self._heartbeat_s * _TELL_JOBS_SHARE))  # noqa: S311
                wait_share = random.random()  # noqa: S311  or all would stay in step from then on
            except asyncio.TimeoutError:
                wait_share = 1.0
            self._taken_over.clear()
            await self._send_heartbeat()

    async def _send_heartbeat(self) -> None:
        revision, running, vantage_alarm = self._local.state()
        now_us = self._clock.wall_us()
        heartbeat = gateway_pb2.Heartbeat(
            clock_us=now_us,
            jobs_revision=revision,
            spool_records=self._spool.records,
            spool_bytes=self._spool.size_bytes,
            running=running,
            clock_offset_ms=self._local.time.offset_ms(),
            spool_alarm=self._spool.alarm,
            vantage_alarm=vantage_alarm,
        )
        self._heartbeats[now_us] = self._clock.steady_us()
        while len(self._heartbeats) > _SILENT_HEARTBEATS * 2:
            del self._heartbeats[next(iter(self._heartbeats))]
        await self._send(gateway_pb2.WorkerMessage(heartbeat=heartbeat))

    async def _renew(self) -> None:
        life_us = self._local.not_after_us - self._local.renew_at_us
        next_us = self._local.renew_at_us
        asked_us = 0
        while True:
            asked = self._local.renew_now
            wait_s = ((asked_us if asked.is_set() else next_us) - self._local.time.now_us()) / 1e6
            if wait_s > 0 and asked.is_set():
                await self._clock.sleep(wait_s)
                continue
            if wait_s > 0:
                with contextlib.suppress(asyncio.TimeoutError):
                    await within(self._clock, min(wait_s, 60.0), asked.wait())
                continue
            request = gateway_pb2.RenewRequest(csr_der=self._local.start_renewal())
            self._renewal_answered.clear()
            await self._send(gateway_pb2.WorkerMessage(renew=request))
            try:
                await within(self._clock, _RENEWAL_ANSWER_S, self._wait_renewal())
            except asyncio.TimeoutError:
                log.warning(
                    "the gateway did not answer the request to renew the certificate; it is tried again"
                )
            now_us = self._local.time.now_us()
            next_us = now_us + max(int(life_us * 2 * _RENEW_AGAIN_SHARE), int(_LEAST_RENEW_WAIT_S * 1e6))
            asked_us = now_us + int(_ASKED_AGAIN_S * 1e6)

    async def _wait_renewal(self) -> None:
        await self._renewal_answered.wait()

    async def _take_renewal(self, reply: gateway_pb2.RenewReply) -> None:
        if await self._local.finish_renewal(reply):
            raise OverError(End.RENEWED, "the certificate was renewed")
        self._renewal_answered.set()


def _size(records: list[Record]) -> int:
    return sum(len(record.body) + OVERHEAD for record in records)
