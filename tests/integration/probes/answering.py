"""A host that answers every kind of probe that crosses a network, for tests of what all kinds have in common."""

from __future__ import annotations

import contextlib
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
from integration.probes.webserver import make_certificate

from streamswarm import contract

TCP_PORT, HTTP_PORT, DNS_PORT, TLS_PORT = 7001, 7002, 7003, 7004

#: What to aim at on a host that answers, and parameters that keep a run short: one line for each kind.
AIMS: dict[str, Callable[[str], tuple[str, dict[str, Any]]]] = {
    "ping": lambda host: (host, {"count": 1, "timeout_ms": 400}),
    "tcp": lambda host: (_at(host, TCP_PORT), {"timeout_ms": 400}),
    "dns": lambda host: (_at(host, DNS_PORT), {"timeout_ms": 400, "query_name": "a.test"}),
    "http": lambda host: (f"http://{_at(host, HTTP_PORT)}/", {"timeout_ms": 400}),
    "tls": lambda host: (_at(host, TLS_PORT), {"timeout_ms": 400, "verify": False}),
    "traceroute": lambda host: (host, {"timeout_ms": 400, "rounds": 1, "max_ttl": 5, "gap_limit": 2}),
    "qos": lambda host: (
        host,
        {"timeout_ms": 400, "count": 1, "classes": ["EF"], "trace": False, "ecn": False},
    ),
    "mtu": lambda host: (host, {"timeout_ms": 400, "tries": 2, "locate": False, "max_size_bytes": 1400}),
    "tcp_window": lambda host: (f"http://{_at(host, HTTP_PORT)}/", {"timeout_ms": 400, "duration_ms": 200}),
}


def network_kinds() -> list[str]:
    """The kinds that aim at something."""
    return [kind.name for kind in contract.kinds().values() if kind.target != "none"]


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Answer on every address of the namespace that the calling thread is in, IPv4 and IPv6."""
    with contextlib.ExitStack() as sockets:
        listeners = {
            port: sockets.enter_context(
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            )
            for port in (TCP_PORT, HTTP_PORT, TLS_PORT)
        }
        names = sockets.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        names.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        names.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        names.bind(("::", DNS_PORT))
        threads = [
            threading.Thread(target=_serve, args=(listeners[TCP_PORT], b"")),
            threading.Thread(
                target=_serve, args=(listeners[HTTP_PORT], b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            ),
            threading.Thread(target=_serve, args=(listeners[TLS_PORT], b"", _server_side())),
            threading.Thread(target=_name_server, args=(names,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            # On Linux this wakes whoever waits for the socket.
            for sock in (*listeners.values(), names):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _server_side() -> ssl.SSLContext:
    with tempfile.TemporaryDirectory() as folder:
        return make_certificate(Path(folder), days=30)[1]


def _serve(listener: socket.socket, answer: bytes, tls: ssl.SSLContext | None = None) -> None:
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(4)  # a client that goes away must not keep the others waiting
            if tls is not None:
                tls.wrap_socket(connection, server_side=True).close()
            elif answer and connection.recv(4096):
                connection.sendall(answer)


def _name_server(sock: socket.socket) -> None:
    """Answer each question from the address that it was sent to."""
    while True:
        try:
            data, ancillary, _flags, address = sock.recvmsg(4096, 256)
        except OSError:
            return
        if not data:
            return
        answer = dns.message.make_response(dns.message.from_wire(data)).to_wire()
        asked_at = ancillary[0][2][:16] + bytes(4)
        sock.sendmsg([answer], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked_at)], 0, address)
