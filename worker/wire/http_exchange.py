"""One HTTP/1.1 request and its answer on a stream, with the instants that its phases are made of (RFC 9112)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import h11

from worker.wire.stream import ByteStream


class BodyTooLongError(Exception):
    """The body went beyond the limit."""


@dataclass(kw_only=True)
class Exchange:
    """What is known of an exchange so far; instants by time.perf_counter_ns, 0 before they happened."""

    sent_ns: int = 0
    first_byte_ns: int = 0
    end_ns: int = 0
    #: Status of the final answer, or None.
    status: int | None = None
    location: str | None = None
    #: Bytes of HTTP messages, below chunking and above TLS.
    bytes_sent: int = 0
    bytes_received: int = 0
    #: Bytes of body as transferred: content codings are not undone, chunk framing is not counted.
    body_bytes: int = 0
    #: Whether the text looked for was found.
    found: bool = False


async def converse(
    stream: ByteStream,
    request: h11.Request,
    exchange: Exchange,
    *,
    wants_body: Callable[[Exchange], bool],
    longest_body: int,
    needle: bytes,
) -> None:
    """Send a request and fill in `exchange` as its answer comes.

    Raises h11.RemoteProtocolError for what is not HTTP, BodyTooLongError, and OSError or ssl.SSLError of the stream.
    """
    # Long header sections are refused well before they cost memory.
    connection = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=65_536)
    message = (connection.send(request) or b"") + (connection.send(h11.EndOfMessage()) or b"")
    await stream.send(message)
    exchange.sent_ns = time.perf_counter_ns()
    exchange.bytes_sent += len(message)
    tail = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            data = await stream.receive()
            if data:
                exchange.bytes_received += len(data)
                exchange.first_byte_ns = exchange.first_byte_ns or stream.received_ns
            connection.receive_data(data)
        elif isinstance(event, h11.Response):
            exchange.status = event.status_code
            exchange.location = _header(event, b"location")
            if not wants_body(exchange):
                exchange.end_ns = stream.received_ns
                return
        elif isinstance(event, h11.Data):
            exchange.body_bytes += len(event.data)
            if exchange.body_bytes > longest_body:
                raise BodyTooLongError
            if needle and not exchange.found:
                # The text may lie across two pieces.
                window = tail + bytes(event.data)
                exchange.found = needle in window
                tail = window[-(len(needle) - 1) :] if len(needle) > 1 else b""
        elif isinstance(event, h11.EndOfMessage):
            exchange.end_ns = stream.received_ns
            return
        elif isinstance(event, h11.ConnectionClosed):
            raise h11.RemoteProtocolError("the server closed the connection without an answer")


def _header(response: h11.Response, name: bytes) -> str | None:
    for key, value in response.headers:
        if key == name:
            return value.decode("latin-1")
    return None
