"""Answers that come while the request is still being sent, to a server that reads no more of it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from integration.probes.webserver import make_certificate

from worker.wire.http1 import Http1Session
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange, Request
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.transfer import HttpTransfer, Transfer

#: More than the buffers of two sockets hold.
BODY = b"x" * 4_000_000
REQUEST = Request(method="POST", scheme="http", authority="www.example.org", path="/", body=BODY)
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno"

Server = Callable[[socket.socket], None]


@contextlib.contextmanager
def served_by(server: Server) -> Iterator[socket.socket]:
    """Yield a connected socket whose other end a server of the test has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(10)
    with near, far:
        near.setblocking(False)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        serving = threading.Thread(target=server, args=(far,))
        serving.start()
        try:
            yield near
        finally:
            near.close()
            serving.join()


def _head(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1000)


def refuses(connection: socket.socket) -> None:
    """Refuse the body, read nothing more, and wait."""
    _head(connection)
    connection.sendall(REFUSAL)
    _hang(connection)


def _hang(connection: socket.socket) -> None:
    """Wait until the client has closed, without reading what it sent."""
    poll = threading.Event()
    until = time.monotonic() + 10
    while time.monotonic() < until and not poll.wait(0.02):
        # TCP_CLOSE_WAIT and what follows it: the first byte of TCP_INFO.
        if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:
            return


async def converse(
    sock: socket.socket, stream: ByteStream | None = None
) -> tuple[Exchange, Http1Session, ByteStream]:
    stream = stream or ByteStream(sock)
    session, exchange = Http1Session(stream), Exchange()
    await asyncio.wait_for(
        session.converse(REQUEST, exchange, Body(longest=100), last=False, wants_body=lambda _: True), 5
    )
    return exchange, session, stream


async def test_a_refusal_ends_the_request() -> None:
    """The server keeps the connection open and reads no more: its answer is told at once."""
    with served_by(refuses) as sock:
        exchange, session, stream = await converse(sock)
    assert exchange.status == 413
    assert exchange.begun_ns < exchange.first_byte_ns <= exchange.end_ns
    assert stream.bytes_sent < len(BODY)
    assert not session.reusable, "the rest of the body is owed"


async def test_a_refusal_under_tls_ends_the_request(tmp_path: Path) -> None:
    """What the server sends of its own accord after the handshake is no answer."""
    _certificate, context = make_certificate(tmp_path, days=30)

    def server(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            refuses(secured)

    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with served_by(server) as sock:
        stream = ByteStream(sock)
        await asyncio.wait_for(stream.start_tls(trusting, "localhost"), 5)
        exchange, _, _ = await converse(sock, stream)
    assert exchange.status == 413


async def test_a_good_answer_does_not_end_the_request() -> None:
    """Interim answers and the beginning of a good one come first; the server reads on, and the connection can be used again."""
    taken: list[int] = []

    def server(connection: socket.socket) -> None:
        _head(connection)
        connection.sendall(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 "
        )
        time.sleep(0.1)
        connection.sendall(b"OK\r\nContent-Length: 2\r\n\r\n")
        count = 0
        while count < len(BODY) - 1000:
            count += len(connection.recv(1_000_000))
        taken.append(count)
        connection.sendall(b"ok")

    with served_by(server) as sock:
        exchange, session, stream = await converse(sock)
    assert (exchange.status, taken[0] > 0, session.reusable) == (200, True, True)
    assert stream.bytes_sent > len(BODY)


async def test_a_server_that_says_no_more_ends_the_request() -> None:
    """It closes its side without an answer and reads nothing."""

    def server(connection: socket.socket) -> None:
        _head(connection)
        connection.shutdown(socket.SHUT_WR)
        _hang(connection)

    with served_by(server) as sock, pytest.raises(PeerClosedError, match="without an answer"):
        await converse(sock)


async def test_a_refusal_ends_an_upload() -> None:
    """Of the kind `tcp_window`, long before its time is over."""

    class Unsampled:
        def take(self) -> None:
            return None

    import h11

    with served_by(refuses) as sock:
        transfer = Transfer()
        upload = HttpTransfer(ByteStream(sock), transfer)
        await upload.begin(
            h11.Request(
                method="PUT", target="/", headers=[("Host", "a"), ("Content-Length", str(len(BODY)))]
            ),
            with_body=True,
        )
        await asyncio.wait_for(upload.upload(len(BODY), Unsampled(), 0.1), 5)  # type: ignore[arg-type]  # never asked
        await asyncio.wait_for(upload.head(), 5)
    assert (transfer.status, transfer.complete) == (413, False)
