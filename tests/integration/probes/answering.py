"""A host that answers every kind of probe that crosses a network, for tests of what all kinds have in common."""

from __future__ import annotations

import contextlib
import re
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
DNS_TLS_PORT, HTTPS_PORT, MAIL_PORT = 7005, 7006, 7007
_UPLOAD_BYTES = 200_000

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

#: The other ways in which a kind can ask: its name, and what differs from its aim above.
_OTHER_WAYS: dict[str, tuple[str, Callable[[str], tuple[str, dict[str, Any]]]]] = {
    "ping-burst": ("ping", lambda host: (host, {"count": 5, "mode": "burst"})),
    "tcp-talk": (
        "tcp",
        lambda host: (_at(host, HTTP_PORT), {"send": "GET / HTTP/1.1\\r\\n\\r\\n", "expect": "200"}),
    ),
    "tcp-split": ("tcp", lambda host: (_at(host, TCP_PORT), {"split": True})),
    "dns-tcp": ("dns", lambda host: (_at(host, DNS_PORT), {"transport": "tcp"})),
    "dns-tls": ("dns", lambda host: (_at(host, DNS_TLS_PORT), {"transport": "tls", "verify_tls": False})),
    "dns-https": ("dns", lambda host: (_at(host, HTTPS_PORT), {"transport": "https", "verify_tls": False})),
    "http-tls": ("http", lambda host: (f"https://{_at(host, HTTPS_PORT)}/", {"verify_tls": False})),
    "http-post": (
        "http",
        lambda host: (
            f"http://{_at(host, HTTP_PORT)}/",
            {"method": "POST", "body": "x" * 60_000, "requests": 2},
        ),
    ),
    "tls-starttls": ("tls", lambda host: (_at(host, MAIL_PORT), {"starttls": "smtp"})),
    "traceroute-udp": ("traceroute", lambda host: (host, {"protocol": "udp"})),
    "traceroute-tcp": ("traceroute", lambda host: (host, {"protocol": "tcp", "port": TCP_PORT})),
    "qos-marks": ("qos", lambda host: (host, {"trace": True, "ecn": True, "burst": 5})),
    "mtu-udp": ("mtu", lambda host: (host, {"method": "udp"})),
    "mtu-locate": ("mtu", lambda host: (host, {"locate": True, "max_size_bytes": 9000})),
    "tcp_window-upload": (
        "tcp_window",
        lambda host: (f"http://{_at(host, HTTP_PORT)}/", {"direction": "upload", "max_bytes": _UPLOAD_BYTES}),
    ),
    "tcp_window-tls": (
        "tcp_window",
        lambda host: (f"https://{_at(host, HTTPS_PORT)}/", {"verify_tls": False}),
    ),
}


def ways() -> list[str]:
    """Every way of every kind in which it can be asked, by name."""
    return [*AIMS, *_OTHER_WAYS]


def way(name: str, host: str) -> tuple[str, str, dict[str, Any]]:
    """Return kind, target and parameters of a way to ask a host that answers."""
    kind, aim = _OTHER_WAYS.get(name, (name, lambda _host: ("", {})))
    target, usual = AIMS[kind](host)
    other, values = aim(host)
    return kind, other or target, usual | values


def network_kinds() -> list[str]:
    """The kinds that aim at something."""
    return [kind.name for kind in contract.kinds().values() if kind.target != "none"]


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Answer on every address of the namespace that the calling thread is in, IPv4 and IPv6."""
    secure = _server_side()
    talks: dict[int, tuple[Callable[[socket.socket], None], ssl.SSLContext | None]] = {
        TCP_PORT: (lambda _connection: None, None),
        HTTP_PORT: (_web, None),
        DNS_PORT: (_name_stream, None),
        TLS_PORT: (lambda _connection: None, secure),
        DNS_TLS_PORT: (_name_stream, secure),
        HTTPS_PORT: (_web, secure),
        MAIL_PORT: (lambda connection: _mail(connection, secure), None),
    }
    with contextlib.ExitStack() as sockets:
        listeners = {
            port: sockets.enter_context(
                socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            )
            for port in talks
        }
        names = sockets.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        names.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        names.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        names.bind(("::", DNS_PORT))
        threads = [
            threading.Thread(target=_serve, args=(listeners[port], *talk)) for port, talk in talks.items()
        ]
        threads.append(threading.Thread(target=_name_server, args=(names,)))
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


def _serve(
    listener: socket.socket, talk: Callable[[socket.socket], None], tls: ssl.SSLContext | None
) -> None:
    while True:
        try:
            connection, _address = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(4)  # a client that goes away must not keep the others waiting
            if tls is None:
                talk(connection)
            else:
                with tls.wrap_socket(connection, server_side=True) as secured:
                    talk(secured)


def _web(connection: socket.socket) -> None:
    """Answer requests in HTTP/1.1, those for names with the answer to the query in their body."""
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            more = connection.recv(65_536)
            if not more:
                return
            data += more
        head, _, data = data.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: *(\d+)", head.lower())
        length = int(found[1]) if found else 0
        while len(data) < length:
            more = connection.recv(65_536)
            if not more:
                return
            data += more
        body, data = data[:length], data[length:]
        answer, sort = (
            (_answer(body), "application/dns-message") if b"/dns-query" in head else (b"", "text/plain")
        )
        reply = f"HTTP/1.1 200 OK\r\ncontent-type: {sort}\r\ncontent-length: {len(answer)}\r\n\r\n"
        connection.sendall(reply.encode() + answer)


def _name_stream(connection: socket.socket) -> None:
    """Answer questions, each message behind its length."""
    with connection.makefile("rb") as questions:
        while head := questions.read(2):
            answer = _answer(questions.read(int.from_bytes(head, "big")))
            connection.sendall(len(answer).to_bytes(2, "big") + answer)


def _mail(connection: socket.socket, tls: ssl.SSLContext) -> None:
    connection.sendall(b"220 ready\r\n")
    for reply in (b"250-mail.test\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"):
        connection.recv(1000)
        connection.sendall(reply)
    tls.wrap_socket(connection, server_side=True).close()


def _answer(question: bytes) -> bytes:
    return dns.message.make_response(dns.message.from_wire(question)).to_wire()


def _name_server(sock: socket.socket) -> None:
    """Answer each question from the address that it was sent to."""
    while True:
        try:
            data, ancillary, _flags, address = sock.recvmsg(4096, 256)
        except OSError:
            return
        if not data:
            return
        answer = _answer(data)
        asked_at = ancillary[0][2][:16] + bytes(4)
        sock.sendmsg([answer], [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, asked_at)], 0, address)
