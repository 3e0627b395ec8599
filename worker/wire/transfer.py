"""The body of one HTTP/1.1 answer or request, read or sent until a limit.

A transfer gives way to everything else on the event loop after each piece, so that a fast one starves nobody and can
be sampled meanwhile. What has been transferred stands in `Transfer` at any time: a caller's time limit simply ends it.
All functions raise what the stream raises (OSError, ssl.SSLError), h11.RemoteProtocolError for what is not HTTP,
HeaderTooLargeError for too much of a head, and PeerClosedError when the server ended the connection too early.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import h11

from worker.wire.http1_early import EarlyAnswer
from worker.wire.http_exchange import LONGEST_HEAD, FieldLimit, HeaderTooLargeError
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.tcp_sampling import Sampler

_PIECE_BYTES = 65_536
#: What the library hints at where a section of header fields is longer than it may be (RFC 6585, section 5).
_TOO_LARGE = 431


@dataclass(kw_only=True)
class Transfer:
    """What is known so far; instants by time.perf_counter_ns, 0 before they happened."""

    #: All that was sent so far was given to the kernel.
    sent_ns: int = 0
    first_byte_ns: int = 0
    #: Status of the answer, or None.
    status: int | None = None
    location: str | None = None
    body_bytes: int = 0
    #: The body was sent, or read, to its end.
    complete: bool = False


class HttpTransfer:
    """One request over a stream: `begin`; then `head` and `download`, or `upload` and `head`."""

    def __init__(self, stream: ByteStream, transfer: Transfer) -> None:
        self._stream = stream
        self._transfer = transfer
        self._early = EarlyAnswer()
        # Long header sections are refused well before they cost memory.
        self._http = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)

    async def begin(self, request: h11.Request, *, with_body: bool) -> None:
        """Send the head of a request, or the whole of one that has no body."""
        data = self._http.send(request) or b""
        if not with_body:
            data += self._http.send(h11.EndOfMessage()) or b""
        await self._stream.send(data)
        self._transfer.sent_ns = time.perf_counter_ns()

    async def head(self) -> None:
        """Read the head of the answer."""
        fields = FieldLimit()
        interim = False
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if not self._http.trailing_data[1]:
                    if error.error_status_hint == _TOO_LARGE:
                        raise HeaderTooLargeError.by_bytes() from error
                    raise
                # The end of the stream came before that of the head.
                begun = bool(self._transfer.first_byte_ns)
                how = "before its answer was complete" if begun else "without an answer"
                raise PeerClosedError(f"closed the connection {how}") from error
            if event is h11.NEED_DATA:
                await self._feed()
            elif isinstance(event, h11.InformationalResponse):
                fields.take(event.headers)
                interim = True
                await self._stream.give_way()
            elif isinstance(event, h11.Response):
                fields.take(event.headers)
                self._transfer.status = event.status_code
                if interim:  # what came before is not the answer
                    self._transfer.first_byte_ns = self._stream.received_ns
                for name, value in event.headers:
                    if name == b"location":
                        self._transfer.location = value.decode("latin-1")
                return

    async def download(self, most_bytes: int) -> None:
        """Read the body."""
        transfer = self._transfer
        while transfer.body_bytes < most_bytes:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._feed()
            elif isinstance(event, h11.Data):
                transfer.body_bytes += len(event.data)
                await self._stream.give_way()
            elif isinstance(event, h11.EndOfMessage):
                transfer.complete = True
                return

    async def upload(self, body_bytes: int, sampler: Sampler, interval_s: float) -> None:
        """Send a body and wait until it is acknowledged; end early when the server refuses the rest, or answers all."""
        transfer = self._transfer
        piece = os.urandom(_PIECE_BYTES)
        while transfer.body_bytes < body_bytes:
            data = piece[: body_bytes - transfer.body_bytes]
            try:
                content = self._http.send(h11.Data(data=data)) or b""
                if not await self._stream.send_unless(content, self._early.refuses):
                    return
            except OSError:
                # Who refuses a body may answer and then break the connection: the answer says more.
                if self.answered():
                    return
                raise
            transfer.body_bytes += len(data)
            transfer.sent_ns = time.perf_counter_ns()
            await asyncio.sleep(0)
        transfer.complete = True
        await self._stream.send(self._http.send(h11.EndOfMessage()) or b"")
        while not self.answered():
            info = sampler.take()
            if info is None or not (info.unacked or info.notsent_bytes):
                return
            await asyncio.sleep(interval_s)

    async def _feed(self) -> None:
        data = await self._stream.receive()
        if data:
            self._transfer.first_byte_ns = self._transfer.first_byte_ns or self._stream.received_ns
        self._http.receive_data(data)
        await asyncio.sleep(0)

    def answered(self) -> bool:
        """Take in what has come; whether an answer has begun that is not interim, or the connection has ended."""
        return self.refused() or self._early.begun

    def refused(self) -> bool:
        """Take in what has come; whether the rest of the body is not wanted, or the connection has ended."""
        return self._stream.overhears(self._early.refuses)
