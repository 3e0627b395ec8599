"""Link-local addresses: a zone is this host's own word for one of its interfaces, which nobody else is told (RFC 4007)."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.answering import AIMS, answering, network_kinds, way
from integration.probes.peers import Probe, namespaces
from support.certificates import issue, server_context

from worker.wire import tls, tls_validation

pytestmark = pytest.mark.namespaces
ADDRESS = "fe80::77"
THERE = f"{ADDRESS}%lo"
PORT = 7443


@pytest.fixture
def host(_root: None) -> Iterator[None]:
    """A host with a link-local address of its own."""
    with namespaces("alone") as (made,):
        made.run("ip", "address", "add", f"{ADDRESS}/64", "dev", "lo", "nodad")
        with made.entered():
            yield


class Heard(list[str]):
    """The hosts that clients asked for, by their requests and by TLS; answers each connection once, until it is closed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        context.sni_callback = lambda _sock, name, _context: self.append(str(name))
        self._context = context
        self._listener = socket.create_server(("::", PORT), family=socket.AF_INET6)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(4)
                with self._context.wrap_socket(connection, server_side=True) as secured:
                    head = secured.recv(65_536).decode("latin-1")
                    self.extend(re.findall(r"(?i)\r\nhost: (.*)\r\n", head))
                    secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")


@pytest.fixture
def heard(host: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """A server whose certificate is for the address, by an authority that this process trusts."""
    root = issue("Test Root", authority=True)
    file = tmp_path / "root.pem"
    file.write_bytes(root.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    contexts = (tls.client_context, tls_validation.authorities)
    for made in contexts:
        made.cache_clear()
    found = Heard(server_context(tmp_path, issue("leaf", root, names=(ADDRESS,))))
    yield found
    found.close()
    for made in contexts:
        made.cache_clear()


async def test_every_kind_is_answered(host: None, probe: Probe) -> None:
    """By the address, through the interface that the zone names."""
    with answering():
        for kind in network_kinds():
            target, values = AIMS[kind](THERE)
            outcome = await probe(kind, target, **values | {"timeout_ms": 5000})
            assert THERE in str(outcome.detail), kind
        for name in ("dns-https", "traceroute-udp", "traceroute-tcp", "mtu-udp", "tcp-split"):
            kind, target, values = way(name, THERE)
            await probe(kind, target, **values | {"timeout_ms": 5000})


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("http", f"https://[{THERE}]:{PORT}/"),
        ("http", f"https://[{ADDRESS}%25lo]:{PORT}/"),
        ("tcp_window", f"https://[{THERE}]:{PORT}/"),
        ("tls", f"[{THERE}]:{PORT}"),
    ],
)
async def test_the_zone_goes_to_nobody(heard: Heard, probe: Probe, kind: str, target: str) -> None:
    """A certificate is for the address alone, and so is what is asked for; in URLs the sign may be escaped (RFC 6874)."""
    await probe(kind, target, timeout_ms=5000)
    assert set(heard) <= {"None", f"[{ADDRESS}]:{PORT}"}
    assert heard
