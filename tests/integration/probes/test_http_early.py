"""Answers that come while the request is still being sent, to a server that reads no more of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from integration.probes.peers import Probe
from integration.probes.webserver import make_certificate

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire.http1 import Http1Session
from worker.wire.http2 import Http2Session
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange, Request
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.transfer import HttpTransfer, Transfer
from worker.wire.volume import Volume

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
            # What is still to be sent is thrown away, so that the server learns of the end at once.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
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


def _hang(connection: socket.socket, over: threading.Event | None = None) -> None:
    """Wait until the client has closed, or a test is over, without reading what it sent."""
    over = over or threading.Event()
    until = time.monotonic() + 10
    while time.monotonic() < until and not over.wait(0.02):
        # TCP_CLOSE_WAIT and what follows it: the first byte of TCP_INFO.
        if connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1:
            return


async def converse(
    sock: socket.socket, stream: ByteStream | None = None
) -> tuple[Exchange, Http1Session, ByteStream]:
    stream = stream or ByteStream(sock, Volume(1_000_000_000))
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
        stream = ByteStream(sock, Volume(1_000_000_000))
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
        upload = HttpTransfer(ByteStream(sock, Volume(1_000_000_000)), transfer)
        await upload.begin(
            h11.Request(
                method="PUT", target="/", headers=[("Host", "a"), ("Content-Length", str(len(BODY)))]
            ),
            with_body=True,
        )
        await asyncio.wait_for(upload.upload(len(BODY), Unsampled(), 0.1), 5)  # type: ignore[arg-type]  # never asked
        await asyncio.wait_for(upload.head(), 5)
    assert (transfer.status, transfer.complete) == (413, False)


def h2_refuses(connection: socket.socket) -> None:
    """Refuse the body in HTTP/2, read nothing more, and wait."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    # Whatever there is room for may be sent: it is the server that does not read.
    server.increment_flow_control_window(2**30)
    server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**30})
    connection.sendall(server.data_to_send())
    asked = False
    while not asked:
        events = server.receive_data(connection.recv(65_536))
        asked = any(isinstance(event, h2.events.RequestReceived) for event in events)
        connection.sendall(server.data_to_send())
    time.sleep(0.3)  # until the client waits for room
    server.send_headers(1, [(":status", "413")])
    server.send_data(1, b"no", end_stream=True)
    answer = server.data_to_send()
    for piece in (answer[:5], answer[5:12], answer[12:]):
        connection.sendall(piece)
        time.sleep(0.05)
    _hang(connection)


async def test_a_refusal_in_http2_ends_the_request() -> None:
    """The server reads no more: its answer is read while the client cannot send, however it comes in pieces."""
    with served_by(h2_refuses) as sock:
        session, exchange, body = (
            Http2Session(ByteStream(sock, Volume(10**9))),
            Exchange(),
            Body(longest=100, keep=True),
        )
        await asyncio.wait_for(
            session.converse(REQUEST, exchange, body, last=False, wants_body=lambda _: True), 5
        )
    assert (exchange.status, body.content) == (413, b"no")
    assert not session.reusable, "the rest of the body is owed"


async def test_what_comes_in_two_parts_is_heard_once() -> None:
    """An interim answer, then a refusal whose head is cut in the middle, while the client waits for room."""

    def server(connection: socket.socket) -> None:
        _head(connection)
        for piece in (
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.1 4",
            b"13 Content Too Large\r\nContent-Length: 2\r\n\r\nno",
        ):
            time.sleep(0.1)
            connection.sendall(piece)
        _hang(connection)

    with served_by(server) as sock:
        exchange, session, _ = await converse(sock)
    assert (exchange.status, session.reusable) == (413, False)


def _reads_no_more(connection: socket.socket, window: int, over: threading.Event) -> None:
    """Take a request in HTTP/2, give room for so many bytes of its body, and say nothing more."""
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    server.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})
    connection.sendall(server.data_to_send())
    data = b""
    while b"PRI * HTTP/2.0" not in data:
        data += connection.recv(1000)
    _hang(connection, over)


@pytest.mark.parametrize(
    ("version", "window"), [("2", 1_000), ("2", 2**30), ("1.1", 0)], ids=["no-window", "not-read", "http1"]
)
async def test_a_server_that_takes_no_more_is_told_as_such(probe: Probe, version: str, window: int) -> None:
    """Not as a network without an answer: all that was sent was acknowledged, and no more may be sent."""
    body = "x" * 65_000
    over = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            if version == "2":
                _reads_no_more(connection, window, over)
            else:
                _hang(connection, over)

    serving = threading.Thread(target=serve)
    serving.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
    try:
        with pytest.raises(ProbeFailure, match="while sending the request to") as caught:
            await probe("http", url, method="POST", body=body, version=version, timeout_ms=1500)
    finally:
        over.set()
        serving.join()
        listener.close()
    failure = caught.value
    assert re.search(r"has acknowledged what came and has taken nothing more for \d+ ms", failure.message)
    assert (failure.source, failure.reason) == (
        probe_pb2.FAILURE_SOURCE_TARGET,
        probe_pb2.FAILURE_REASON_TIMED_OUT,
    )
