"""Whatever a server sends over HTTP is read, or refused by one of the exceptions that the probe turns into failures."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire import starttls
from worker.wire.http1 import Http1Session
from worker.wire.http2 import Http2Session
from worker.wire.http_body import Body, BodyTooLongError, BrokenBodyError
from worker.wire.http_exchange import BadAnswerError, Exchange, HeaderTooLargeError, Request
from worker.wire.stream import PeerClosedError

REQUEST = Request(method="GET", scheme="http", authority="www.example.org", path="/")
REFUSALS = (BadAnswerError, BodyTooLongError, BrokenBodyError, HeaderTooLargeError, PeerClosedError)
ANSWER = (
    b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nAge: 3\r\n\r\n"
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
)


class Script:
    """A stream that says what it was given, in pieces, and then that it is over."""

    def __init__(self, data: bytes, piece: int = 16) -> None:
        self._pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
        self.received_ns = 0
        self.heard = False
        self.sent = b""

    async def send(self, data: bytes, *, asks: bool = True) -> None:
        self.sent += data

    async def send_unless(self, data: bytes, _refused: object) -> bool:
        await self.send(data)
        return True

    async def give_way(self) -> None:
        pass

    async def receive(self) -> bytes:
        self.received_ns += 1
        return self._pieces.pop(0) if self._pieces else b""


class Http2Server(Script):
    """Answers each request by h2's own hand, spoiled as a test wants."""

    def __init__(self, changes: list[tuple[int, int]], length: int) -> None:
        super().__init__(b"")
        self._server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._server.initiate_connection()
        self._changes, self._length = changes, length

    async def send(self, data: bytes, *, asks: bool = True) -> None:
        for event in self._server.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._server.send_headers(event.stream_id, [(":status", "200"), ("age", "3")])
                self._server.send_data(event.stream_id, b"hello world", end_stream=True)
        answer = bytearray(self._server.data_to_send())
        for position, value in self._changes:
            if position < len(answer):
                answer[position] = value
        self._pieces.append(bytes(answer[: self._length]))


async def converse(session_class: Any, stream: Any) -> tuple[Exchange, Body]:
    """Make one request over a stream."""
    exchange, body = Exchange(), Body(longest=1000)
    await session_class(stream).converse(
        REQUEST, exchange, body, last=True, wants_body=lambda _exchange: True
    )
    return exchange, body


async def test_the_unspoiled_answers_are_read() -> None:
    """Of both versions: the tests below can fail."""
    for session_class, stream, version in (
        (Http1Session, Script(ANSWER), 1.1),
        (Http2Session, Http2Server([], 10_000), 2.0),
    ):
        exchange, body = await converse(session_class, stream)
        assert (exchange.status, exchange.version, exchange.headers.get("age")) == (200, version, "3")
        assert body.content_bytes == 11


@given(
    st.lists(st.tuples(st.integers(0, len(ANSWER) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(ANSWER)),
    st.integers(1, 50),
)
async def test_spoiled_answers_are_read_or_refused(
    changes: list[tuple[int, int]], length: int, piece: int
) -> None:
    """Up to six bytes changed, cut anywhere, in pieces of any size."""
    data = bytearray(ANSWER)
    for position, value in changes:
        data[position] = value
    try:
        exchange, _body = await converse(Http1Session, Script(bytes(data[:length]), piece))
    except REFUSALS:
        return
    assert 200 <= (exchange.status or 0) <= 999


@given(st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6), st.integers(0, 200))
async def test_spoiled_frames_are_read_or_refused(changes: list[tuple[int, int]], length: int) -> None:
    """The same of HTTP/2."""
    try:
        exchange, body = await converse(Http2Session, Http2Server(changes, length))
    except REFUSALS:
        return
    assert exchange.status is not None
    assert body.wire_bytes <= 1000


@given(st.binary(max_size=200), st.sampled_from([Http1Session, Http2Session]))
async def test_random_answers_are_read_or_refused(data: bytes, session_class: Any) -> None:
    """Not even the beginning of an answer."""
    try:
        await converse(session_class, Script(data))
    except REFUSALS:
        return


@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
@given(data=st.binary(max_size=100) | st.lists(st.sampled_from([b"220 ", b"250-", b"250 STARTTLS", b"* OK", b"s1 OK", b"+OK", b"\r\n"])).map(b"".join))  # fmt: skip
async def test_random_greetings_are_taken_or_refused(protocol: str, data: bytes) -> None:
    """By mail servers that were asked to begin TLS."""
    stream: Any = Script(data)
    try:
        await starttls.start(stream, protocol)
    except (starttls.StartTlsError, PeerClosedError) as error:
        assert str(error).isprintable()
