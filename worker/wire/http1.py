"""HTTP/1.1 on one stream (RFC 9112), by the library h11."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import h11

from worker.wire import http1_plain
from worker.wire.http1_early import BEGINNING, EarlyAnswer
from worker.wire.http_body import Body
from worker.wire.http_exchange import (
    LONGEST_HEAD,
    BadAnswerError,
    Exchange,
    FieldLimit,
    HeaderTooLargeError,
    Request,
    closed_early,
    headers_of,
)
from worker.wire.stream import ByteStream, PeerClosedError

#: What the library hints at where a section of header fields is longer than it may be (RFC 6585, section 5).
_TOO_LARGE = 431


class Http1Session:
    """One connection; see Session."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
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
        stream = self._stream
        exchange.begun_ns = time.perf_counter_ns()
        early: bytes | None = None
        head = _head(request.method, request.path, _fields(request, last=last))
        try:
            if not request.body:
                await stream.send(head)
            elif not await stream.send_unless(head + request.body, EarlyAnswer().refuses):
                last = True
        except (ConnectionResetError, BrokenPipeError):
            # Who refuses a body may answer, and close before all of it has come (RFC 9112, section 9.6).
            early, last = stream.receive_now(), True
            if not early:
                raise
        exchange.sent_ns = time.perf_counter_ns()
        data = early or await stream.receive()
        if data:
            exchange.first_byte_ns = stream.received_ns
            _check_beginning(data)
        content = http1_plain.take(data, request.method, exchange)
        if content is None:
            goes_on = await self._read(_asked(request, last=last), data, exchange, body, wants_body)
        else:
            goes_on = await self._take(content, exchange, body, wants_body)
        self.reusable = goes_on and not last

    async def _take(
        self, content: bytes, exchange: Exchange, body: Body, wants_body: Callable[[Exchange], bool]
    ) -> bool:
        """Take the body of an answer that is there as a whole; say whether the connection can carry another."""
        wanted = wants_body(exchange)
        if wanted:
            body.begin(exchange.headers.get("content-encoding", ""))
            if content:
                await body.feed(content)
        exchange.end_ns = self._stream.received_ns
        if wanted:
            body.finish()
        return wanted and not http1_plain.closes(exchange)

    async def _read(
        self,
        connection: h11.Connection,
        data: bytes,
        exchange: Exchange,
        body: Body,
        wants_body: Callable[[Exchange], bool],
    ) -> bool:
        """Read until the answer is complete; say whether the connection can carry another."""
        stream = self._stream
        fields = FieldLimit()
        try:
            connection.receive_data(data)
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive())
                elif isinstance(event, h11.Data):
                    await body.feed(event.data)
                    await stream.give_way()
                elif isinstance(event, h11.EndOfMessage):
                    if event.headers:
                        fields.take(event.headers)
                    exchange.end_ns = stream.received_ns
                    body.finish()
                    # What comes after an answer, though nothing was asked for, must not be taken for the next one.
                    return connection.their_state is h11.DONE and connection.trailing_data == (b"", False)
                elif isinstance(event, h11.Response):
                    fields.take(event.headers)
                    exchange.version = 1.0 if event.http_version == b"1.0" else 1.1
                    exchange.status = event.status_code
                    exchange.headers = headers_of(event.headers)
                    if not wants_body(exchange):
                        exchange.end_ns = stream.received_ns
                        return False
                    body.begin(exchange.headers.get("content-encoding", ""))
                elif isinstance(event, h11.InformationalResponse):
                    fields.take(event.headers)
                    await stream.give_way()
                elif isinstance(event, h11.ConnectionClosed):
                    raise PeerClosedError(closed_early(exchange))
        except h11.RemoteProtocolError as error:
            if connection.trailing_data[1]:  # the end of the stream came before the end of the answer
                raise PeerClosedError(closed_early(exchange)) from error
            if error.error_status_hint == _TOO_LARGE and exchange.status is None:
                raise HeaderTooLargeError.by_bytes() from error
            raise BadAnswerError(str(error)) from error


def _check_beginning(data: bytes) -> None:
    """Raise BadAnswerError for what is no answer in HTTP/1, without waiting for the rest of it."""
    if not data.startswith(BEGINNING[: len(data)]):
        raise BadAnswerError(f"the answer begins with {data[:20]!r}")


#: Heads that are kept ready: no more than a few, for they may hold secrets, and never a body.
HEADS = 128


@functools.lru_cache(maxsize=HEADS)
def _head(method: str, path: str, fields: tuple[tuple[str, str], ...]) -> bytes:
    """Return the head of a request, made once: a test sends the same one over and over."""
    return _connection().send(h11.Request(method=method, target=path, headers=list(fields))) or b""


def _asked(request: Request, *, last: bool) -> h11.Connection:
    """Return a connection on which that request was sent."""
    connection = _connection()
    fields = list(_fields(request, last=last))
    connection.send(h11.Request(method=request.method, target=request.path, headers=fields))
    if request.body:
        connection.send(h11.Data(data=request.body))
    connection.send(h11.EndOfMessage())
    return connection


def _connection() -> h11.Connection:
    return h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)


def _fields(request: Request, *, last: bool) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a request as HTTP/1.1 needs them."""
    fields = (("Host", request.authority), *request.headers)
    if request.says_length:
        fields += (("Content-Length", str(len(request.body))),)
    return (*fields, ("Connection", "close")) if last else fields
