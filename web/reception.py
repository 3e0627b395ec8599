"""Takes requests in before a thread is given to them: whoever sends one slowly keeps nobody else waiting.

gunicorn's threaded worker reads a request in the thread that answers it, so a hundred clients that send half a
request each would hold every thread. Here the worker's one poller reads: a connection goes to a thread when its
request is there whole, headers and body, and is closed when that takes too long. It works on the internals of
gunicorn's `ThreadWorker`; the tests that hold a real process would see a release in which they have changed.
"""

from __future__ import annotations

import ipaddress
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

from web.security import MAX_BODY

#: Seconds from the first byte awaited until the headers are in.
HEADERS_S = 5.0
#: Seconds from the end of the headers until the body is in.
BODY_S = 10.0
#: Headers that have more bytes are refused.
MAX_HEADERS = 64 * 1024
_END = b"\r\n\r\n"
_PIECE = 64 * 1024


class Connection(TConn):
    """A connection that is counted while it is open."""

    def __init__(self, *args: Any, closed: Callable[[], None]) -> None:
        super().__init__(*args)
        self._closed: Callable[[], None] | None = closed

    def close(self, graceful: bool = False) -> None:
        """Close it, and say so once."""
        tell, self._closed = self._closed, None
        if tell is not None:
            tell()
        super().close(graceful)


class Reception:
    """What has come of one request."""

    def __init__(self, connection: Any, begun: bytes) -> None:
        self.connection = connection
        self.deadline = time.monotonic() + HEADERS_S
        self.received = bytearray(begun)
        #: Bytes of the whole request, None until its headers are in.
        self._length: int | None = None
        #: How far the end of the headers has been looked for.
        self._searched = 0

    def add(self, piece: bytes) -> None:
        """Take in what has come."""
        self.received += piece

    def step(self) -> tuple[bool, bytes]:
        """Return whether the request goes on to a thread, and what the client is told at this point."""
        if self._length is None:
            # Empty lines before a request mean nothing, and must not pass for the end of its headers.
            while self.received.startswith((b"\r", b"\n")):
                del self.received[:1]
            end = self.received.find(_END, max(0, self._searched - len(_END)))
            self._searched = len(self.received)
            if end < 0:
                if len(self.received) > MAX_HEADERS:
                    return False, refusal("431 Request Header Fields Too Large", "The headers are too long.")
                return False, b""
            return self._headers_are_in(end + len(_END))
        return len(self.received) >= self._length, b""

    def _headers_are_in(self, end: int) -> tuple[bool, bytes]:
        lines = bytes(self.received[:end]).split(b"\r\n")[1:]
        fields = [
            (name.strip().lower(), value.strip()) for name, _, value in (x.partition(b":") for x in lines)
        ]
        names = [name for name, _ in fields]
        if b"transfer-encoding" in names:
            return False, refusal(
                "411 Length Required", "Send the body whole, with its Content-Length, not in chunks."
            )
        lengths = {value for name, value in fields if name == b"content-length"}
        body = 0
        if len(lengths) == 1:
            (value,) = lengths
            # What is no number is refused by gunicorn's own parser.
            body = int(value) if value.isdigit() and len(value) < 20 else 0
        if body > MAX_BODY:
            return False, refusal("413 Content Too Large", f"The body has more than {MAX_BODY} bytes.")
        self._length = end + body
        if len(self.received) >= self._length:
            return True, b""
        self.deadline = time.monotonic() + BODY_S
        awaited = (b"expect", b"100-continue") in fields
        return False, b"HTTP/1.1 100 Continue\r\n\r\n" if awaited else b""


class ReceivingWorker(ThreadWorker):
    """A threaded worker whose threads are given whole requests only.

    A client address may have as many connections as there are threads. The next one takes the place of its oldest
    whose request is not there yet, and is closed when there is none. Behind proxies all have the proxy's address,
    so there the proxy must see to that.
    """

    #: Whether connections are counted by address; not behind proxies.
    counts_addresses = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receptions: dict[Any, Reception] = {}
        self._addresses: Counter[str] = Counter()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection unless its address has too many."""
        try:
            client, peer = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        network = network_of(peer)
        if (
            self.counts_addresses
            and self._addresses[network] >= self.cfg.threads
            and not self._make_room(network)
        ):
            client.close()
            return
        self.nr_conns += 1
        self._addresses[network] += 1
        self.enqueue_req(
            Connection(self.cfg, client, peer, listener.getsockname(), closed=partial(self._forget, network))
        )

    def enqueue_req(self, conn: Any) -> None:
        """Take in the request that comes next on a connection; then a thread answers it."""
        conn.sock.setblocking(False)
        begun = b"" if conn.parser is None else conn.parser.unreader.take_buffered()
        reception = Reception(conn, begun)
        self._receptions[conn] = reception
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._readable, reception))
        self._go_on(reception)

    def murder_pending(self) -> None:
        """Close the connections whose request has not come in time."""
        super().murder_pending()
        now = time.monotonic()
        for reception in list(self._receptions.values()):
            if now > reception.deadline or (not self.alive and not reception.received):
                answer = refusal("408 Request Timeout", "The request took too long to come.")
                self._refuse(reception, answer if reception.received else b"")

    def _readable(self, reception: Reception, client: socket.socket) -> None:
        try:
            piece = client.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._refuse(reception, b"")
            return
        reception.add(piece)
        self._go_on(reception)

    def _go_on(self, reception: Reception) -> None:
        complete, told = reception.step()
        if complete:
            self._hand_over(reception)
        elif told.startswith(b"HTTP/1.1 100"):
            _send(reception.connection.sock, told)
        elif told:
            self._refuse(reception, told)

    def _hand_over(self, reception: Reception) -> None:
        conn = reception.connection
        self._leave(reception)
        if conn.parser is None:
            conn.parser = http.get_parser(self.cfg, conn.sock, conn.client)
        conn.parser.unreader.unread(bytes(reception.received))
        conn.data_ready = True
        super().enqueue_req(conn)

    def _refuse(self, reception: Reception, answer: bytes) -> None:
        self._leave(reception)
        if answer:
            _send(reception.connection.sock, answer)
        self.nr_conns -= 1
        reception.connection.close()

    def _leave(self, reception: Reception) -> None:
        del self._receptions[reception.connection]
        self.poller.unregister(reception.connection.sock)

    def _make_room(self, network: str) -> bool:
        """Close the oldest connection of an address whose request is not there yet; return whether there was one."""
        for reception in self._receptions.values():
            if network_of(reception.connection.client) == network:
                self._refuse(reception, b"")
                return True
        return False

    def _forget(self, network: str) -> None:
        self._addresses[network] -= 1
        if self._addresses[network] <= 0:
            del self._addresses[network]


def network_of(peer: Any) -> str:
    """Return what a client's connections are counted under: its address, of IPv6 the /64 that one client has."""
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except (ValueError, IndexError):
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def refusal(status: str, message: str) -> bytes:
    """Return the answer to a request that no thread ever sees."""
    body = f"{message}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def _send(client: socket.socket, answer: bytes) -> None:
    """Send a few bytes if the client takes them at once; it is not waited for."""
    try:
        client.send(answer)
    except OSError:
        # Gone, or its buffer is full of what it does not read: it is about to be closed either way.
        return
