"""Asks a server over a few connections that stay open, each the next request as soon as the last is answered.

Requests are bytes made before and answers are looked at no closer than a client must, so that what is measured is the
server and not the asking.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from controller.settings import split_address

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
_PIECE = 256 * 1024
#: Longest wait for anything to come.
_PATIENCE_S = 60.0


@dataclass(kw_only=True)
class Asked:
    """What a time of asking came to."""

    seconds: float = 0.0
    #: Of each answer from the request's first byte to the answer's last, in milliseconds.
    taken_ms: list[float] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """Answers in a second."""
        return len(self.taken_ms) / self.seconds


class Line:
    """One connection that stays open."""

    def __init__(self, address: str) -> None:
        self._address = split_address(address, what="the address")
        self.socket = self._connect()
        self._asked_at = 0.0
        self._received = bytearray()

    def _connect(self) -> socket.socket:
        made = socket.create_connection(self._address, timeout=_PATIENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self._received.clear()
        self._asked_at = time.perf_counter()
        self.socket.sendall(request)

    def answered_ms(self) -> float | None:
        """Take in what has come; return how long the answer took once it is whole, None before.

        Fails when it is no 200 or the server has closed the connection.
        """
        piece = self.socket.recv(_PIECE)
        assert piece, f"the connection was closed after {bytes(self._received)[:400]!r}"
        self._received += piece
        end = self._received.find(_END)
        if end < 0:
            return None
        assert self._received.startswith(b"HTTP/1.1 200"), bytes(self._received)[:1000]
        length = _LENGTH.search(self._received, 0, end + 2)
        assert length, bytes(self._received[:end])
        if len(self._received) < end + len(_END) + int(length[1]):
            return None
        return (time.perf_counter() - self._asked_at) * 1000

    def answer(self, request: bytes) -> tuple[float, bytes]:
        """Ask and wait; return the milliseconds that it took, and the body."""
        self.ask(request)
        while (taken := self.answered_ms()) is None:
            pass
        return taken, bytes(self._received.partition(_END)[2])

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def ask(address: str, requests: Iterator[bytes], *, connections: int, seconds: float) -> Asked:
    """Ask for so long over so many connections at once."""
    found = Asked()
    with selectors.DefaultSelector() as selector:
        lines = [Line(address) for _ in range(connections)]
        for line in lines:
            selector.register(line.socket, selectors.EVENT_READ, line)
        started = time.perf_counter()
        for line in lines:
            line.ask(next(requests))
        asking = len(lines)
        while asking:
            ready = selector.select(_PATIENCE_S)
            assert ready, f"nothing was answered for {_PATIENCE_S:g} s"
            for key, _ in ready:
                taken = key.data.answered_ms()
                if taken is None:
                    continue
                found.taken_ms.append(taken)
                if time.perf_counter() - started < seconds:
                    key.data.ask(next(requests))
                else:
                    asking -= 1
        found.seconds = time.perf_counter() - started
        for line in lines:
            line.close()
    return found


def request(path: str, host: str, **headers: str) -> bytes:
    """Return a GET request; `headers` with `_` for `-`."""
    fields = {"Host": host, "Connection": "keep-alive", **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("ascii")
