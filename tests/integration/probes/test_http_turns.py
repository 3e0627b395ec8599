"""Servers that keep a run busy with many small things leave other runs their turns."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import threading
import time
from typing import Any

import h2.config
import h2.connection
import pytest

from worker.wire.http1 import Http1Session
from worker.wire.http2 import Http2Session
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange, HeaderTooLargeError, Request
from worker.wire.stream import ByteStream, PeerClosedError
from worker.wire.volume import Volume

REQUEST = Request(method="GET", scheme="http", authority="www.example.org", path="/")
#: Seconds of a processor, for others may keep this process waiting; what a run does in a row is a small part of it.
LONGEST_STALL_S = 0.05
MANY = 30_000


def _http2_head() -> bytes:
    server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    server.initiate_connection()
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.initiate_connection()
    client.send_headers(1, [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")])
    server.receive_data(client.data_to_send())
    server.send_headers(1, [(":status", "200")])
    return server.data_to_send()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY_DATA = b"\0\0\0\0\0\0\0\0\1"
PING = b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
GZIP = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
ANSWERS: dict[str, tuple[Any, bytes]] = {
    "chunks of one byte": (Http1Session, CHUNKED + b"1\r\nx\r\n" * MANY),
    "interim answers": (Http1Session, b"HTTP/1.1 100 Continue\r\n\r\n" * MANY),
    "empty members": (Http1Session, GZIP + gzip.compress(b"") * MANY),
    "empty frames": (Http2Session, _http2_head() + EMPTY_DATA * MANY),
    "pings": (Http2Session, _http2_head() + PING * MANY),
    "settings": (Http2Session, _http2_head() + SETTINGS * MANY),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_small_things_in_great_number(name: str) -> None:
    """The longest time between two turns of another task stays short."""
    kind, answer = ANSWERS[name]
    ours, theirs = _connected()
    ours.setblocking(False)

    def serve() -> None:
        with contextlib.suppress(OSError):
            theirs.sendall(answer)
            theirs.shutdown(socket.SHUT_WR)

    def listen() -> None:  # what is not read would break the connection off
        with contextlib.suppress(OSError):
            while theirs.recv(65_536):
                pass

    stalls: list[float] = []

    async def other_run() -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            stalls.append(now - last)
            last = now

    threads = [threading.Thread(target=serve), threading.Thread(target=listen)]
    for thread in threads:
        thread.start()
    other = asyncio.create_task(other_run())
    await asyncio.sleep(0.1)  # much is there already, and the other run is under way
    try:
        with contextlib.suppress(PeerClosedError, HeaderTooLargeError):  # most of the answers have no end
            await kind(ByteStream(ours, Volume(1_000_000_000))).converse(
                REQUEST, Exchange(), Body(longest=2_000_000), last=True, wants_body=lambda _: True
            )
        await asyncio.sleep(0.002)
    finally:
        other.cancel()
        ours.close()
        for thread in threads:
            thread.join()
        theirs.close()
    assert max(stalls) < LONGEST_STALL_S
