"""Requests of HTTP/1.1: what is kept of them when their exchange is over."""

from __future__ import annotations

import tracemalloc
from typing import Any

from streamswarm import contract
from worker.http import requests
from worker.wire import http1
from worker.wire.http1 import Http1Session
from worker.wire.http_body import Body
from worker.wire.http_exchange import Exchange

KIND = contract.kind("http")
TARGET = contract.parse_target(KIND, "http://127.0.0.1:80/")


class Stream:
    """Takes a request in and answers it."""

    received_ns = 1

    def __init__(self) -> None:
        self.sent = b""

    async def send(self, data: bytes) -> None:
        self.sent = data

    async def send_unless(self, data: bytes, _refused: object) -> bool:
        self.sent = data
        return True

    async def receive(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def post(body: str, *, headers: str = "") -> bytes:
    """Return what a test of that body sends."""
    stream: Any = Stream()
    spec = contract.make_spec("http", {"method": "POST", "body": body, "headers": headers}).http
    request = requests.message(requests.order(TARGET, spec))
    await Http1Session(stream).converse(
        request, Exchange(), Body(longest=100), last=True, wants_body=lambda _: True
    )
    sent: bytes = stream.sent
    return sent


async def test_no_body_outlives_its_request() -> None:
    """Heads are kept ready, and no more of them than a few."""
    await post("x")
    tracemalloc.start()
    try:
        for number in range(2 * http1.HEADS):
            await post(f"{number:065536}", headers=f"Authorization: Bearer {number}")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1_000_000


async def test_bodies_of_one_length_have_one_head() -> None:
    """It states the length, whatever the body says."""
    first, second, longer = await post("a=1"), await post("b=2"), await post("b=22")
    assert first.removesuffix(b"a=1") == second.removesuffix(b"b=2")
    assert b"\r\nContent-Length: 3\r\n" in first
    assert b"\r\nContent-Length: 4\r\n" in longer
