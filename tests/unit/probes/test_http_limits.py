"""How much of a header a server may send: of every version, and by fields as by bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from worker.wire.http1 import Http1Session
from worker.wire.http2 import Http2Session
from worker.wire.http_body import Body
from worker.wire.http_exchange import (
    LONGEST_HEAD,
    MOST_FIELDS,
    Exchange,
    HeaderTooLargeError,
    Request,
    headers_of,
)
from worker.wire.transfer import HttpTransfer, Transfer

REQUEST = Request(method="GET", scheme="http", authority="www.example.org", path="/")
Fields = Sequence[tuple[str, str]]


class Answers:
    """A stream with an answer, of which the library may read as much at a time as from a socket."""

    received_ns = 1
    heard = False

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def send(self, data: bytes, *, asks: bool = True) -> None:
        """Take the request."""

    async def send_unless(self, data: bytes, refused: object) -> bool:
        await self.send(data)
        return True

    async def give_way(self) -> None:
        """Nobody else is there."""

    def receive_now(self) -> bytes:
        piece, self._data = self._data[:16_384], self._data[16_384:]
        return piece

    async def receive(self) -> bytes:
        return self.receive_now()


class Http2Answers(Answers):
    """Answers in HTTP/2 by h2's own hand."""

    def __init__(self, fields: Fields) -> None:
        super().__init__(b"")
        self._server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._server.initiate_connection()
        self._fields = fields

    async def send(self, data: bytes, *, asks: bool = True) -> None:
        for event in self._server.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._server.send_headers(
                    event.stream_id, [(":status", "200"), *self._fields], end_stream=True
                )
        self._data += self._server.data_to_send()


def http1(fields: Fields, *, interim: int = 0, trailer: Fields = ()) -> Any:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    ends = "".join(f"{name}: {value}\r\n" for name, value in trailer)
    early = "HTTP/1.1 103 Early Hints\r\n\r\n" * interim
    text = f"{early}HTTP/1.1 200 OK\r\n{lines}Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{ends}\r\n"
    return Http1Session(Answers(text.encode()))  # type: ignore[arg-type]  # as much of a stream as is used


def http2(fields: Fields) -> Any:
    return Http2Session(Http2Answers(fields))  # type: ignore[arg-type]  # as much of a stream as is used


async def ask(session: Any) -> Exchange:
    exchange = Exchange()
    await session.converse(REQUEST, exchange, Body(longest=100), last=True, wants_body=lambda _: True)
    return exchange


def some(count: int) -> Fields:
    """Fields of one name: the longest value that they are joined to."""
    return [("a", "b")] * count


@pytest.mark.parametrize("make", [http1, http2])
async def test_as_many_fields_as_may_be_are_read(make: Any) -> None:
    """And one more is not."""
    exchange = await ask(make(some(MOST_FIELDS - 1)))
    assert exchange.headers["a"] == ", ".join(["b"] * (MOST_FIELDS - 1))
    with pytest.raises(HeaderTooLargeError, match="the response header is too large: more than 1,000 fields"):
        await ask(make(some(MOST_FIELDS)))


@pytest.mark.parametrize("make", [http1, http2])
async def test_a_header_may_have_64_kib(make: Any) -> None:
    """However few its fields are."""
    with pytest.raises(HeaderTooLargeError, match="the response header is too large: more than 65,536 bytes"):
        await ask(make([("a", "b" * 8_000)] * 13))


async def test_plain_answers_are_limited_too() -> None:
    """Short ones, which are whole in what is read first."""
    head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + "a:\r\n" * 1_500 + "\r\nok"
    with pytest.raises(HeaderTooLargeError, match="fields"):
        await ask(Http1Session(Answers(head.encode())))  # type: ignore[arg-type]  # as much of a stream as is used


async def test_interim_answers_and_trailers_count() -> None:
    """A server that never comes to its answer, and one that never ends it."""
    with pytest.raises(HeaderTooLargeError):
        await ask(http1((), interim=MOST_FIELDS + 1))
    with pytest.raises(HeaderTooLargeError):
        await ask(http1((), trailer=some(MOST_FIELDS)))
    early = "HTTP/1.1 103 Early Hints\r\nlink: " + "b" * 8_000 + "\r\n\r\n"
    answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for count, too_large in ((8, False), (9, True)):
        session = Http1Session(Answers((early * count + answer).encode()))  # type: ignore[arg-type]  # as above
        if too_large:
            with pytest.raises(HeaderTooLargeError, match="more than 65,536 bytes"):
                await ask(session)
        else:
            assert (await ask(session)).status == 200


async def test_transfers_have_the_same_limits() -> None:
    """The head of the kind `tcp_window`."""
    for head in ("HTTP/1.1 103 Wait\r\n\r\n" * 1_001, f"HTTP/1.1 200 OK\r\na: {'b' * LONGEST_HEAD}", "HTTP/1.1 200 OK\r\n" + "a:\r\n" * 1_001 + "\r\n"):  # fmt: skip
        transfer = HttpTransfer(Answers(head.encode()), Transfer())  # type: ignore[arg-type]  # as above
        await transfer.begin(_h11_request(), with_body=False)
        with pytest.raises(HeaderTooLargeError):
            await transfer.head()


def _h11_request() -> Any:
    import h11

    return h11.Request(method="GET", target="/", headers=[("Host", "a")])


def test_fields_of_one_name_are_joined_in_their_order() -> None:
    """By commas (RFC 9110, section 5.3)."""
    assert headers_of([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]) == {"a": "1, 3", "b": "2"}
