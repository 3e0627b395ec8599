"""What a run tells to have moved, and what it may need at most, beside what really crossed the network."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import pytest
from integration.probes.answering import answering, way, ways
from integration.probes.peers import Path3, Probe
from integration.probes.webserver import make_certificate

from streamswarm import contract
from worker import probes
from worker.budget import usual_need
from worker.probing import ProbeFailure

#: A run's own end is no end of what is on its way to it: the last tickets and alerts of TLS come too late to be counted.
LATE_BYTES = 1_024


def need_of(kind: str, **values: Any) -> int:
    """Return the bytes that a run may need."""
    spec = contract.make_spec(kind, values)
    module = probes.load(kind)
    need = module.need(getattr(spec, kind)) if hasattr(module, "need") else usual_need(spec)
    return int(need.size)


def told_by(metrics: Any) -> int:
    """Return the bytes that a run tells to have moved."""
    return int(metrics.bytes_sent + metrics.bytes_received)


def counted(path: Path3) -> tuple[int, int]:
    """Return the packets and bytes, from their IP headers on, that the near end has sent and received since it was asked last."""
    listed = path.near.run("nft", "reset", "counters", "table", "inet", "count").stdout
    found = re.search(r"packets (\d+) bytes (\d+)", listed)
    assert found is not None, listed
    return int(found[1]), int(found[2])


#: What the kernel sends by itself: a reset for an answer of an open port, to no connection that it knows; the end of what
#: is not acknowledged at once, a second time.
KERNELS_OWN_BYTES = {"traceroute-tcp": 60, "http-post": 4000, "tcp_window-upload": 4000}
#: Bytes of TCP's and UDP's header in a packet, least and most, by the kinds that tell what is in them alone.
HEADERS = {"dns": (8, 60), "tcp": (20, 60), "http": (20, 60), "tls": (20, 60), "tcp_window": (20, 60)}


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram", "raw"], indirect=True)
@pytest.mark.parametrize("address", ["10.91.2.2", "fd91:2::2"], ids=["ipv4", "ipv6"])
async def test_need_and_metrics_cover_what_crosses_the_network(
    path3: Path3, probe: Probe, address: str
) -> None:
    """In every way of every kind: the need all packets, the metrics those of packet kinds whole and of the others what is in them."""
    near = path3.near
    near.run("nft", "add table inet count; add counter inet count every")
    for hook in ("input", "output"):
        near.run("nft", f"add chain inet count {hook} {{ type filter hook {hook} priority 0; }}")
        near.run(
            "nft", f"add rule inet count {hook} icmpv6 type {{ 130-137, 143 }} accept"
        )  # of the link itself
        near.run("nft", f"add rule inet count {hook} counter name every")
    with path3.far.entered():
        host = answering()
        host.__enter__()
    try:
        with near.entered():
            for name in ways():
                while counted(path3)[0]:  # what ends the connections of the way before
                    await asyncio.sleep(0.05)
                kind, target, values = way(name, address)
                values = values | {"timeout_ms": 3000}
                metrics = (await probe(kind, target, **values)).metrics
                packets, moved = counted(path3)
                assert packets >= 2, f"{name}: nothing was measured"
                assert moved <= need_of(kind, **values), name
                least, most = HEADERS.get(kind, (0, 0))
                address_bytes = (20 if "." in address else 40) * (kind in HEADERS)
                late = LATE_BYTES if "tls" in name or "https" in name else 0
                late += KERNELS_OWN_BYTES.get(name, 0)
                assert told_by(metrics) + packets * (most + address_bytes) + late >= moved, name
                assert told_by(metrics) + packets * (least + address_bytes) <= moved, name
    finally:
        host.__exit__(None, None, None)


class Flood:
    """A server that talks without end once it was asked, and knows how much of it came to the other side."""

    def __init__(self, talk: Callable[[socket.socket], Iterator[bytes]], tls: ssl.SSLContext | None) -> None:
        self._talk, self._tls = talk, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        #: Bytes that came to the kernel of the client, of all connections.
        self.arrived = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                plain, _address = self._listener.accept()
            except OSError:
                return
            plain.settimeout(5)
            connection = plain
            with contextlib.suppress(OSError):
                if self._tls is not None:
                    connection = self._tls.wrap_socket(plain, server_side=True)
                for piece in self._talk(connection):
                    connection.sendall(piece)
            # tcpi_bytes_acked; the kernel counts the SYN.
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)
            self.arrived += max(0, struct.unpack_from("=Q", info, 120)[0] - 1)
            connection.close()


def without_end(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


def greeting(_connection: socket.socket) -> Iterator[bytes]:
    yield from without_end(b"x" * 16_384)


def early_hints(connection: socket.socket) -> Iterator[bytes]:
    connection.recv(4096)
    yield from without_end(b"HTTP/1.1 103 Early Hints\r\nlink: " + b"x" * 16_000 + b"\r\n\r\n")


def redirect(connection: socket.socket) -> Iterator[bytes]:
    connection.recv(4096)
    head = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 1000000000\r\n\r\n"
    # In one piece: who has read the head may leave before anything else comes.
    yield head + b"x" * 50_000
    yield from without_end(b"x" * 16_384)


def one_byte_chunks(connection: socket.socket) -> Iterator[bytes]:
    connection.recv(4096)
    yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    yield from without_end(b"00000001\r\nx\r\n" * 1_000)


def pings(connection: socket.socket) -> Iterator[bytes]:
    connection.recv(4096)
    yield b"\0\0\0\4\0\0\0\0\0"
    # Acknowledgements of pings, which are answered by nothing.
    yield from without_end(b"\0\0\x08\6\1\0\0\0\0" + bytes(8))


def records(_connection: socket.socket) -> Iterator[bytes]:
    """A TLS handshake message that goes on and on."""
    yield from without_end(b"\x16\x03\x03\x40\x00" + (b"\x02\x00\x3f\xfc" + bytes(16_380)))


def more_than_asked(connection: socket.socket) -> Iterator[bytes]:
    length = int.from_bytes(connection.recv(2), "big")
    data = b""
    while len(data) < length:
        data += connection.recv(length - len(data))
    answer = dns.message.make_response(dns.message.from_wire(data)).to_wire()
    yield len(answer).to_bytes(2, "big") + answer
    yield from without_end(b"x" * 16_384)


FLOODS: dict[str, tuple[str, str, dict[str, Any], Callable[[socket.socket], Iterator[bytes]], str]] = {
    "tcp": ("tcp", "127.0.0.1:{}", {"expect": "y", "count": 3, "interval_ms": 10}, greeting, ""),
    "http-early": ("http", "http://127.0.0.1:{}/", {}, early_hints, ""),
    "http-redirect": ("http", "http://127.0.0.1:{}/", {}, redirect, ""),
    "http-chunks": ("http", "http://127.0.0.1:{}/", {"max_body_bytes": 50_000}, one_byte_chunks, ""),
    "http2-pings": ("http", "https://localhost:{}/", {"max_body_bytes": 10_000, "verify_tls": False}, pings, "h2"),
    "tls": ("tls", "127.0.0.1:{}", {"verify": False}, records, ""),
    "dns-tcp": ("dns", "127.0.0.1:{}", {"transport": "tcp", "query_name": "a.test", "count": 5, "interval_ms": 10}, more_than_asked, ""),
    "dns-tls": ("dns", "127.0.0.1:{}", {"transport": "tls", "query_name": "a.test", "count": 5, "interval_ms": 10, "verify_tls": False, "keep_connection": False}, more_than_asked, "dot"),
    "dns-https": ("dns", "127.0.0.1:{}", {"transport": "https", "query_name": "a.test", "count": 3, "interval_ms": 10, "verify_tls": False}, pings, "h2"),
    "tcp_window": ("tcp_window", "http://127.0.0.1:{}/", {"max_bytes": 100_000}, one_byte_chunks, ""),
    "tcp_window-early": ("tcp_window", "http://127.0.0.1:{}/", {"max_bytes": 100_000}, early_hints, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
async def test_a_server_that_talks_without_end_is_left(probe: Probe, tmp_path: Path, name: str) -> None:
    """The run ends by itself; its metrics have all that came to this host, also what it did not read, and the need more."""
    kind, target, values, talk, alpn = FLOODS[name]
    context: ssl.SSLContext | None = None
    if alpn:
        context = make_certificate(tmp_path, days=30)[1]
        context.set_alpn_protocols([alpn])
    flood = Flood(talk, context)
    try:
        try:
            metrics = (await probe(kind, target.format(flood.port), **values)).metrics
        except ProbeFailure as failure:
            metrics = failure.metrics
    finally:
        flood.close()
    told = told_by(metrics)
    assert flood.arrived > 30_000, "it was a flood"
    assert told + LATE_BYTES >= flood.arrived
    assert told <= need_of(kind, **values)
