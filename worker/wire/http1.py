"""HTTP/1.1 on one stream (RFC 9112), by the library h11."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import h11

from worker.wire.http_body import Body
from worker.wire.http_exchange import (
    LONGEST_HEAD,
    BadAnswerError,
    Exchange,
    Request,
    closed_early,
    headers_of,
)
from worker.wire.stream import ByteStream, PeerClosedError

_BEGINNING = b"HTTP/1."


class Http1Session:
    """One connection; see Session."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._connection = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        self.reusable = True

    async def converse(
        self,
        request: Request,
        exchange: Exchange,
        body: Body,
        *,
        last: bool,
        wants_body: Callable[[Exchange], bool],
    ) -> None:
        """Send a request and read its answer."""
        self.reusable = False
        try:
            await self._stream.send(self._message(request, last=last))
            exchange.sent_ns = time.perf_counter_ns()
            if await self._read(exchange, body, wants_body):
                self._end(last=last)
        except h11.RemoteProtocolError as error:
            if self._connection.trailing_data[1]:  # the end of the stream came before the end of the answer
                raise PeerClosedError(closed_early(exchange)) from error
            raise BadAnswerError(str(error)) from error

    def _message(self, request: Request, *, last: bool) -> bytes:
        head = self._connection.send(_head(request, last=last)) or b""
        if request.body:
            head += self._connection.send(h11.Data(data=request.body)) or b""
        return head + (self._connection.send(h11.EndOfMessage()) or b"")

    async def _read(self, exchange: Exchange, body: Body, wants_body: Callable[[Exchange], bool]) -> bool:
        """Read until the answer is complete; False when its body was left unread."""
        connection, stream = self._connection, self._stream
        data = await stream.receive()
        if data:
            exchange.first_byte_ns = stream.received_ns
            _check_beginning(data)
        connection.receive_data(data)
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive())
            elif isinstance(event, h11.Data):
                await body.feed(event.data)
                await stream.give_way()
            elif isinstance(event, h11.EndOfMessage):
                exchange.end_ns = stream.received_ns
                body.finish()
                return True
            elif isinstance(event, h11.Response):
                exchange.version = 1.0 if event.http_version == b"1.0" else 1.1
                exchange.status = event.status_code
                exchange.headers = headers_of(event.headers)
                if not wants_body(exchange):
                    exchange.end_ns = stream.received_ns
                    return False
                body.begin(exchange.headers.get("content-encoding", ""))
            elif isinstance(event, h11.InformationalResponse):
                await stream.give_way()
            elif isinstance(event, h11.ConnectionClosed):
                raise PeerClosedError(closed_early(exchange))

    def _end(self, *, last: bool) -> None:
        connection = self._connection
        if not last and connection.our_state is h11.DONE and connection.their_state is h11.DONE:
            connection.start_next_cycle()
            self.reusable = True


def _check_beginning(data: bytes) -> None:
    """Raise BadAnswerError for what is no answer in HTTP/1, without waiting for the rest of it."""
    if not data.startswith(_BEGINNING[: len(data)]):
        raise BadAnswerError(f"the answer begins with {data[:20]!r}")


@functools.lru_cache(maxsize=512)
def _head(request: Request, *, last: bool) -> h11.Request:
    """Return the head of a request, checked once: a test sends the same one over and over."""
    headers = [("Host", request.authority), *request.headers]
    if request.says_length:
        headers.append(("Content-Length", str(len(request.body))))
    if last:
        headers.append(("Connection", "close"))
    return h11.Request(method=request.method, target=request.path, headers=headers)
