"""Browsers of which only the stream of events is played: each holds one open and notes when it hears of a test."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence

from bench.viewers.asking import request

from controller.settings import split_address
from web.auth.sessions import COOKIE


class Streams:
    """Open streams, read by a thread; made by `streaming`."""

    def __init__(self, address: str, cookies: Sequence[str], test_id: int) -> None:
        self._test_id = test_id
        self._over = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._sockets: list[socket.socket] = []
        #: Per stream: when it has heard of the test, wall clock.
        self.heard: list[list[float]] = []
        #: Streams that have begun.
        self.open = 0
        place = split_address(address, what="the address")
        for number, cookie in enumerate(cookies):
            made = socket.create_connection(place, timeout=30)
            headers = {"Accept": "text/event-stream", "Cookie": f"{COOKIE}={cookie}"}
            made.sendall(request("/live", address, **headers))
            made.setblocking(False)
            self._sockets.append(made)
            self.heard.append([])
            self._selector.register(made, selectors.EVENT_READ, (number, bytearray()))
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close them all."""
        self._over.set()
        self._thread.join()
        for each in self._sockets:
            each.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(0.2):
                number, text = key.data
                piece = key.fileobj.recv(65536)  # type: ignore[union-attr]
                assert piece, f"stream {number} was closed"
                text += piece
                self._take(number, text)

    def _take(self, number: int, text: bytearray) -> None:
        while (end := text.find(b"\n\n")) >= 0:
            event = bytes(text[:end]).decode()
            del text[: end + 2]
            if "retry:" in event:
                self.open += 1
            elif "event: results" in event:
                tests = json.loads(event.partition("data: ")[2])
                if self._test_id in tests:
                    self.heard[number].append(time.time())


@contextlib.contextmanager
def streaming(address: str, cookies: Sequence[str], test_id: int) -> Iterator[Streams]:
    """Open a stream for each cookie until the block ends."""
    streams = Streams(address, cookies, test_id)
    try:
        yield streams
    finally:
        streams.close()
