"""Asks the worker at a destination with which marks packets came to it; see `worker.wire.mark_messages` (Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Iterator

from streamswarm.v1 import probe_pb2
from worker.failures import NO_ROOM, error_text
from worker.probing import IPAddress
from worker.wire import mark_messages
from worker.wire.addresses import endpoint, family_of, set_octet, socket_address
from worker.wire.mark_messages import MarkMessage, Sort
from worker.wire.readiness import readable
from worker.wire.source import Source
from worker.wire.turns import Turn

#: Packets of each mark, and how often those without an answer are sent once more.
PACKETS = 3
TRIES = 2
#: UDP and the longer of the IP headers.
_HEADERS = {4: 28, 6: 48}
#: Bytes of the longest packet of either side.
PACKET_BYTES = mark_messages.SIZE + _HEADERS[6]


class NoFarEndError(Exception):
    """Nobody at the destination tells how packets come to it; the message says what is known of that.

    `failure_reason` is what a run that cannot be judged without says to machines.
    """

    def __init__(self, message: str, failure_reason: probe_pb2.FailureReason) -> None:
        super().__init__(message)
        self.failure_reason = failure_reason


class FarEnd:
    """The worker at the destination, once it has answered."""

    def __init__(self, sock: socket.socket, key: bytes, *, where: str, timeout_s: float) -> None:
        self._sock = sock
        #: Address and port, for messages.
        self._where = where
        self._key = key
        self._timeout_s = timeout_s
        self._nonce = secrets.token_bytes(mark_messages.NONCE_BYTES)
        self._challenge = mark_messages.NO_CHALLENGE
        self._sequence = 0
        self._headers = _HEADERS[4 if sock.family == socket.AF_INET else 6]
        self.packets_sent = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    async def find(self) -> None:
        """Ask for a challenge; raises NoFarEndError when none comes."""
        answers = await self._ask(Sort.OPEN, Sort.OPENED, 1)
        if not answers:
            raise NoFarEndError(
                f"{self._where} did not answer: no worker answers there, or its `responder_key` is another",
                probe_pb2.FAILURE_REASON_TIMED_OUT,
            )
        self._challenge = answers[0].challenge

    async def octets(self, octet: int) -> list[int]:
        """Send packets with an octet of DSCP and ECN; return the octet with which each came that was answered."""
        set_octet(self._sock, octet)
        return [answer.octet for answer in await self._ask(Sort.MARKED, Sort.SEEN, PACKETS)]

    async def _ask(self, sort: Sort, answered_by: Sort, count: int) -> list[MarkMessage]:
        """Send so many requests, those without an answer once more; return the answers in the order of sending."""
        waiting = range(self._sequence, self._sequence + count)
        self._sequence += count
        answers: dict[int, MarkMessage] = {}
        for _ in range(TRIES):
            for sequence in waiting:
                if sequence not in answers:
                    self._send(MarkMessage(
                        sort=sort, nonce=self._nonce, sequence=sequence, challenge=self._challenge
                    ))  # fmt: skip
            deadline = time.monotonic() + self._timeout_s
            over = False
            while len(answers) < count and not over:
                # Whatever comes meanwhile: the wait ends at its time.
                over = not await self._readable(deadline)
                for answer in self._received():
                    if answer.sort is answered_by and answer.sequence in waiting:
                        answers[answer.sequence] = answer
        return [answers[sequence] for sequence in sorted(answers)]

    def _send(self, message: MarkMessage) -> None:
        self._sock.send(mark_messages.packed(message, self._key))
        self.packets_sent += 1
        self.bytes_sent += mark_messages.SIZE + self._headers

    async def _readable(self, deadline: float) -> bool:
        """Wait until something has come; False when the time is over."""
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        try:
            await readable(self._sock, left_s)
        except asyncio.TimeoutError:
            return False
        return True

    def _received(self) -> Iterator[MarkMessage]:
        """Yield what has come to our requests, for a turn."""
        turn = Turn()
        while turn.goes_on():
            try:
                data = self._sock.recv(mark_messages.SIZE + 1)
            except BlockingIOError:
                return
            self.bytes_received += len(data) + self._headers
            message = mark_messages.read(data, self._key)
            if message is not None and message.nonce == self._nonce:
                yield message


@contextlib.contextmanager
def far_end(
    address: IPAddress, port: int, *, secret: str, source: Source, timeout_s: float
) -> Iterator[FarEnd]:
    """Open what asks the worker at an address; raises NoFarEndError where this host cannot, here and inside."""
    where = endpoint(address, port)
    if not secret:
        raise NoFarEndError(
            f"{where} was not asked: the worker's configuration here has no `responder_key`",
            probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        )
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            source.bind(sock)
            sock.connect(socket_address(address, port))
            yield FarEnd(sock, mark_messages.derived(secret), where=where, timeout_s=timeout_s)
    except ConnectionRefusedError as error:
        raise NoFarEndError(
            f"nobody listens on UDP port {port} of {address}", probe_pb2.FAILURE_REASON_REFUSED
        ) from error
    except OSError as error:
        room = error.errno in NO_ROOM
        raise NoFarEndError(
            f"{where} cannot be asked: {error_text(error)}",
            probe_pb2.FAILURE_REASON_NO_ROOM if room else probe_pb2.FAILURE_REASON_CANNOT_SEND,
        ) from error
