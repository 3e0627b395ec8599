"""Asks the worker at a destination with which marks packets came to it; see `worker.wire.mark_messages` (Linux)."""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import socket
import time
from collections.abc import Container, Iterator, Sequence

from streamswarm.v1 import probe_pb2
from worker.failures import NO_ROOM, error_text
from worker.probing import IPAddress
from worker.wire import mark_messages
from worker.wire.addresses import endpoint, family_of, set_octet, socket_address
from worker.wire.mark_messages import FRESH_S, MarkMessage, Sort
from worker.wire.readiness import readable
from worker.wire.source import Source
from worker.wire.turns import Turn

#: Packets of each mark, and how often those without an answer are sent.
PACKETS = 3
_TRIES = 2
#: How often somebody there is asked for a challenge, under each key.
_OPENINGS = 3
_MOST_KEYS = 2
#: Packets of each mark when marks are sent in turn, and seconds between the turns.
TURNS = 8
_TURN_S = 0.02
#: Seconds after which a new challenge is asked for, before the one at hand ends.
_RENEW_S = mark_messages.CHALLENGE_S * 0.75
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

    def __init__(
        self, sock: socket.socket, keys: Sequence[bytes], *, where: str, timeout_s: float, ahead_s: float
    ) -> None:
        self._sock = sock
        self._keys = keys
        #: The one that it has.
        self._key = keys[0]
        #: Address and port, for messages.
        self._where = where
        self._timeout_s = timeout_s
        #: How far this host's clock is ahead.
        self._ahead_s = ahead_s
        self._nonce = secrets.token_bytes(mark_messages.NONCE_BYTES)
        self._challenge = mark_messages.NO_CHALLENGE
        self._renew_s = 0.0
        self._sequence = 0
        self._headers = _HEADERS[4 if sock.family == socket.AF_INET else 6]
        self.packets_sent = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    async def find(self) -> None:
        """Ask for a challenge, under every key, by packets without a mark; raises NoFarEndError when none comes."""
        set_octet(self._sock, 0)
        asked: list[int] = []
        answers: dict[int, tuple[MarkMessage, bytes]] = {}
        for _ in range(_OPENINGS):
            renew_s = time.monotonic() + _RENEW_S
            asked += [self._send(Sort.OPEN, key) for key in self._keys]
            await self._listen(Sort.OPENED, asked, answers, 1)
            if answers:
                answer, self._key = answers[min(answers)]
                self._challenge = answer.challenge
                self._renew_s = renew_s
                return
        raise NoFarEndError(
            f"{self._where} did not answer: no worker answers there, its `responder_key` is another, its policy does not "
            f"let it send here, or the clocks of both hosts are more than {FRESH_S} s apart",
            probe_pb2.FAILURE_REASON_TIMED_OUT,
        )

    async def octets(self, octet: int) -> list[int]:
        """Send packets with an octet of DSCP and ECN, more for those without an answer.

        Return the octet with which each came that was answered.
        """
        asked: list[int] = []
        answers: dict[int, tuple[MarkMessage, bytes]] = {}
        for _ in range(_TRIES):
            await self._keep_open()
            set_octet(self._sock, octet)
            asked += [self._send(Sort.MARKED, self._key) for _ in range(PACKETS - len(answers))]
            await self._listen(Sort.SEEN, asked, answers, PACKETS)
            if len(answers) >= PACKETS:
                break
        return [answers[sequence][0].octet for sequence in sorted(answers)[:PACKETS]]

    async def in_turn(self, octets: Sequence[int]) -> list[list[int]]:
        """Send packets of several octets in turn, so that all of them meet the same moments.

        Return for each the octet with which each packet came that was answered.
        """
        await self._keep_open()
        asked: dict[int, int] = {}
        for _ in range(TURNS):
            for place, octet in enumerate(octets):
                set_octet(self._sock, octet)
                asked[self._send(Sort.MARKED, self._key)] = place
            await asyncio.sleep(_TURN_S)
        answers: dict[int, tuple[MarkMessage, bytes]] = {}
        await self._listen(Sort.SEEN, asked, answers, len(asked))
        found: list[list[int]] = [[] for _ in octets]
        for sequence in sorted(answers):
            found[asked[sequence]].append(answers[sequence][0].octet)
        return found

    async def _keep_open(self) -> None:
        """Have a challenge that does not end before what is sent now comes there."""
        if time.monotonic() >= self._renew_s:
            await self.find()

    def _send(self, sort: Sort, key: bytes) -> int:
        """Send a request and return its number."""
        self._sequence += 1
        message = MarkMessage(
            sort=sort,
            nonce=self._nonce,
            sequence=self._sequence,
            at_us=round((time.time() - self._ahead_s) * 1e6) if sort is Sort.OPEN else 0,
            challenge=self._challenge if sort is Sort.MARKED else mark_messages.NO_CHALLENGE,
        )
        self._sock.send(mark_messages.packed(message, key))
        self.packets_sent += 1
        self.bytes_sent += mark_messages.SIZE + self._headers
        return self._sequence

    async def _listen(
        self, sort: Sort, asked: Container[int], answers: dict[int, tuple[MarkMessage, bytes]], enough: int
    ) -> None:
        """Take in the first answer to each request, with the key that it is signed with, until there are enough or the time is over."""
        deadline = time.monotonic() + self._timeout_s
        over = False
        while len(answers) < enough and not over:
            # Whatever comes meanwhile: the wait ends at its time.
            over = not await self._readable(deadline)
            for answer, key in self._received():
                if answer.sort is sort and answer.sequence in asked:
                    answers.setdefault(answer.sequence, (answer, key))

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

    def _received(self) -> Iterator[tuple[MarkMessage, bytes]]:
        """Yield what has come to our requests, for a turn."""
        turn = Turn()
        while turn.goes_on():
            try:
                data = self._sock.recv(mark_messages.SIZE + 1)
            except BlockingIOError:
                return
            self.bytes_received += len(data) + self._headers
            read = mark_messages.read(data, self._keys)
            if read is not None and read[0].nonce == self._nonce:
                yield read


@contextlib.contextmanager
def far_end(
    address: IPAddress,
    port: int,
    *,
    responder_keys: Sequence[str],
    source: Source,
    timeout_s: float,
    clock_offset_ms: float | None = None,
) -> Iterator[FarEnd]:
    """Open what asks the worker at an address; raises NoFarEndError where this host cannot, here and inside.

    `clock_offset_ms` is how far this host's clock is ahead, None while that is not known.
    """
    where = endpoint(address, port)
    if not responder_keys:
        raise NoFarEndError(
            f"{where} was not asked, because there is no key here: set `responder_key` in the worker's configuration or, "
            "for runs without a daemon, name a file with it by `--responder-key-file`",
            probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        )
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            source.bind(sock)
            sock.connect(socket_address(address, port))
            keys = [mark_messages.derived(key) for key in responder_keys]
            ahead_s = (clock_offset_ms or 0.0) / 1000
            yield FarEnd(sock, keys, where=where, timeout_s=timeout_s, ahead_s=ahead_s)
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


def longest_s(classes: int, *, ecn: bool, timeout_s: float) -> float:
    """Return the longest time that asking for the marks of so many classes may take, `ecn` for its ECN, too."""
    asked_s = (_OPENINGS + _TRIES * classes * (1 + ecn) + 1) * timeout_s + TURNS * _TURN_S
    return asked_s + _renewals(asked_s) * _OPENINGS * timeout_s


def most_packets(classes: int, *, ecn: bool, timeout_s: float) -> int:
    """Return how many packets that may send."""
    asked = _TRIES * PACKETS * classes * (1 + ecn) + TURNS * classes
    renewals = _renewals(longest_s(classes, ecn=ecn, timeout_s=timeout_s))
    return asked + (1 + renewals) * _OPENINGS * _MOST_KEYS


def _renewals(asked_s: float) -> int:
    """Return how often a new challenge may be asked for within a time."""
    return math.ceil(asked_s / _RENEW_S)
