"""A web server for transfers: the path says how much is sent, with what pauses, or how a body is read."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator

_PIECE = b"\xa5" * 16_384


class TransferServer:
    """Serves at one address, a thread for each connection.

    GET /N sends N bytes; /pauses/N sends them in pieces with 200 ms between; /cut/N announces N and sends half;
    /stalled/N announces N and sends nothing; /moved redirects. POST / reads everything; /continue says so first; /slow reads 64 KiB every 100 ms; /refused answers 413 and breaks off; /echo sends back what
    it gets.
    """

    def __init__(self, address: str, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family)
        self._host = f"[{address}]" if ":" in address else address
        self.port = int(self._listener.getsockname()[1])
        #: Bytes of each body that was read.
        self.bodies: list[int] = []
        self._closing = False
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}{path}"

    def close(self) -> None:
        """Stop and wait for every thread."""
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                connection, _address = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that leaves in the middle is what is expected here.
        with connection, contextlib.suppress(OSError):
            connection.settimeout(10)
            if self._tls is None:
                self._answer(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                self._answer(secured)

    def _answer(self, connection: socket.socket) -> None:
        head, _, body = _head(connection).partition(b"\r\n\r\n")
        method, path, _version = head.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "POST":
            self._read(connection, path, head, len(body))
        else:
            self._send(connection, path)

    def _send(self, connection: socket.socket, path: str) -> None:
        if path == "/moved":
            connection.sendall(
                b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"
            )
            return
        count = int(path.rpartition("/")[2])
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {count}\r\n\r\n".encode())
        if path.startswith("/stalled/"):
            connection.recv(1)  # until the client leaves
            return
        left = count // 2 if path.startswith("/cut/") else count
        while left and not self._closing:
            connection.sendall(_PIECE[:left])
            left -= min(left, len(_PIECE))
            if path.startswith("/pauses/"):
                time.sleep(0.2)

    def _read(self, connection: socket.socket, path: str, head: bytes, read: int) -> None:
        if path == "/refused":
            time.sleep(0.2)  # until the client waits for room
            connection.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
            return  # with unread data: the connection is reset
        if path == "/continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.05)
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        if path == "/echo":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        wanted = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if path == "/slow":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        while read < wanted and not self._closing:
            data = connection.recv(65_536)
            if not data:
                break
            read += len(data)
            if path == "/echo":
                connection.sendall(data)
            if path == "/slow":
                time.sleep(0.1)
        self.bodies.append(read)
        if path == "/echo":
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextlib.contextmanager
def serving(address: str, tls: ssl.SSLContext | None = None) -> Iterator[TransferServer]:
    """Serve at an address of the namespace that the calling thread is in."""
    server = TransferServer(address, tls)
    try:
        yield server
    finally:
        server.close()


def _head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionResetError
        data += piece
    return data
