"""A small web server for tests: the path asked for says what is answered, when, and how badly."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

#: Seconds before the first byte, and between the first and the last, of the path `/slow`.
FIRST_BYTE_S = 0.1
TRANSFER_S = 0.15


class WebServer:
    """Serves on 127.0.0.1, a thread for each connection; with a certificate over TLS."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: Head of each request, as it came.
        self.requests: list[str] = []
        #: Statuses of the answers to `/next`, one after another.
        self.answers: Iterator[int] = iter(())
        #: Bodies of requests that had a length.
        self.bodies: list[bytes] = []
        self._closing = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        """Return the URL of a path."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def close(self) -> None:
        """Stop accepting and wait for every connection's thread."""
        self._closing = True
        with socket.create_connection(self._listener.getsockname()):
            pass
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closing:
            connection, _address = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that leaves early, or does not like the certificate, is no fault of the server.
        with connection, contextlib.suppress(OSError):
            if self._tls is None:
                self._answer(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as secured:
                self._answer(secured)

    def _answer(self, connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(4096)
            if not data:
                return
            if data[0] == 0x16:  # the beginning of a TLS handshake
                send(connection, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0")
                return
            head += data
        head, _, body = head.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        length = re.search(rb"content-length: (\d+)", head.lower())
        while length and len(body) < int(length[1]):
            body += connection.recv(65_536)
        if length:
            self.bodies.append(body)
        self.requests.append(head.decode("latin-1"))
        method, path, _version = head.split(b"\r\n", 1)[0].decode().split(" ")
        if path.startswith("/to/"):
            # /to/CODE/LOCATION; decoded; one beginning with `=` is sent as it stands.
            code, location = path.removeprefix("/to/").split("/", 1)
            location = unquote(location)
            location = location.removeprefix("=") if location.startswith("=") else "/" + location
            send(connection, f"HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0")
        elif path.startswith("/status/"):
            send(connection, f"HTTP/1.1 {path.removeprefix('/status/')} As asked\r\nContent-Length: 2", b"no")
        elif path == "/slow":
            time.sleep(FIRST_BYTE_S)
            send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2000", b"x" * 1000)
            time.sleep(TRANSFER_S)
            connection.sendall(b"y" * 1000)
        elif path == "/chunked":
            send(connection, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked")
            for piece in (b"the needle lies ac", b"ross two pieces", b""):
                connection.sendall(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                time.sleep(0.02)
        elif path == "/next":
            send(connection, f"HTTP/1.1 {next(self.answers)} As asked\r\nContent-Length: 2", b"it")
        elif path == "/json":
            document = b'{"status": "ok", "items": [{"count": 3}], "load": 0.5}'
            head_lines = "Content-Type: application/json\r\nX-Cache: HIT\r\nAge: 7"
            send(connection, f"HTTP/1.1 200 OK\r\n{head_lines}\r\nContent-Length: {len(document)}", document)
        elif path.startswith("/packed/"):
            coding = path.removeprefix("/packed/")
            packed = gzip.compress(bytes(20_000_000) if coding == "bomb" else b"all is well " * 1000)
            packed = b"not packed at all" if coding == "broken" else packed
            coding = "gzip" if coding in ("bomb", "broken") else coding
            send(
                connection,
                f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(packed)}",
                packed,
            )
        elif path == "/until-close":
            send(connection, "HTTP/1.0 200 OK", b"z" * 500)
        elif path == "/cut":
            send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 100", b"only this")
        elif path == "/early-hints":
            connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2", b"ok")
        elif path == "/nonsense":
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        elif path == "/endless-head":
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            for _ in range(4000):
                connection.sendall(b"X-Filler: " + b"f" * 90 + b"\r\n")
        elif path == "/hang-up":
            return
        elif path == "/silent":
            connection.settimeout(5)
            connection.recv(1)
        else:
            body = b"" if method == "HEAD" else b"hello, world"
            send(connection, "HTTP/1.1 200 OK\r\nContent-Length: 12", body)


def send(connection: socket.socket, head: str, body: bytes = b"") -> None:
    """Send a head and a body."""
    connection.sendall(head.encode() + b"\r\n\r\n" + body)


def make_certificate(folder: Path, *, days: float, name: str = "localhost") -> tuple[Path, ssl.SSLContext]:
    """Return the file of a self-signed certificate for a name and 127.0.0.1, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=100))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
