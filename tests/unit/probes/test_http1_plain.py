"""Plain answers are read as the library reads them, and the library is asked about all others."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire import http1_plain
from worker.wire.http_exchange import Exchange, headers_of

PLAIN = b"HTTP/1.1 200 OK\r\nDate: now\r\nX-A: \t1 \r\nx-a:2\r\nContent-Length: 5\r\n\r\nhello"
PARTS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 404 \r\n", b"HTTP/1.1 204 No Content\r\n", b"HTTP/1.0 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length: +5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Connection: Keep-Alive, close\r\n", b"A: b\x80\r\n", b"A : b\r\n", b" folded\r\n",
    b"Empty:\r\n", b"A: b\n", b"A: \x0b\r\n", b"\r\n", b"hello", b"5\r\n",
]  # fmt: skip


def by_library(data: bytes, method: str) -> tuple[object, ...] | None:
    """Return what the library makes of an answer that is whole: version, status, fields, body, whether it goes on."""
    connection = h11.Connection(our_role=h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    head, body = None, b""
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError:
            return None
        if isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            goes_on = connection.their_state is h11.DONE and not connection.trailing_data[0]
            return float(head.http_version), head.status_code, headers_of(head.headers), body, goes_on
        elif not isinstance(event, h11.InformationalResponse):
            return None


def agrees(data: bytes, method: str) -> bool:
    """Say whether the answer was plain; fail where the library reads it differently."""
    exchange = Exchange()
    body = http1_plain.take(data, method, exchange)
    if body is None:
        assert exchange == Exchange()
        return False
    goes_on = not http1_plain.closes(exchange)
    assert (exchange.version, exchange.status, exchange.headers, body, goes_on) == by_library(data, method)
    return True


def test_a_plain_answer_is_taken() -> None:
    """Fields of one name are joined, white space around values is none of theirs."""
    assert agrees(PLAIN, "GET")
    assert agrees(b"HTTP/1.1 503 \r\nContent-Length: 0\r\nConnection: x, CLOSE\r\n\r\n", "POST")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"HTTP/1.1 200", b"HTTP/1.0 200"),
        (b"HTTP/1.1 200", b"HTTP/1.1 204"),
        (b"Content-Length", b"X-Length"),
        (b": 5", b": 5, 5"),
        (b": 5", b": 6"),
        (b": 5", b": 4"),
        (b"X-A", b"Transfer-Encoding"),
        (b"now\r\n", b"now\n"),
        (b"now\r\n", b"now\r\n folded\r\n"),
        (b"now", b"n\xc3w"),
    ],
)
def test_what_leaves_a_question_is_for_the_library(old: bytes, new: bytes) -> None:
    """Each of these is an answer that may mean something else, or goes on."""
    assert http1_plain.take(PLAIN.replace(old, new), "GET", Exchange()) is None


def test_an_answer_to_head_has_no_body() -> None:
    """Its Content-Length tells what GET would bring."""
    assert http1_plain.take(PLAIN, "HEAD", Exchange()) is None


@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 5)
)
def test_spoiled_answers(changes: list[tuple[int, int]], cut: int) -> None:
    """What is taken is what the library would have made of it."""
    data = bytearray(PLAIN)
    for position, value in changes:
        data[position] = value
    agrees(bytes(data[: len(data) - cut]), "GET")


@given(
    st.lists(st.sampled_from(PARTS), max_size=9).map(b"".join),
    st.sampled_from(["GET", "HEAD", "POST", "PUT"]),
)
def test_answers_of_all_sorts(data: bytes, method: str) -> None:
    """The same, of heads and bodies put together from parts."""
    agrees(b"HTTP/1.1 200 OK\r\n" + data, method)
