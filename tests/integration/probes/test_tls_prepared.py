"""Reading the host's certificate authorities takes its time: none of it is in what the first runs of a process measure."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Probe
from integration.probes.webserver import WebServer, make_certificate

from worker.wire import tls, tls_validation

#: So long it takes here, and so long a handshake with this host takes at most, however busy it is.
READING_S = 1.5
SOON_MS = 1_000


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server over TLS, and a process that has not read the authorities yet and takes long for it."""
    public, context = make_certificate(tmp_path, days=30)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    _forget()
    make = ssl.create_default_context

    def slowly() -> ssl.SSLContext:
        time.sleep(READING_S)
        return make()

    monkeypatch.setattr(ssl, "create_default_context", slowly)
    server = WebServer(context)
    yield server
    server.close()
    _forget()


def _forget() -> None:
    tls.client_context.cache_clear()
    tls_validation.authorities.cache_clear()
    tls._prepared.clear()


async def longest_pause_s(over: asyncio.Event) -> float:
    """Return for how long nobody had a turn, at the most, until something is over."""
    longest = 0.0
    while not over.is_set():
        before = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - before)
    return longest


@pytest.mark.parametrize("kind", ["http", "tcp_window", "tls"])
async def test_reading_the_authorities_is_in_no_measurement(
    secure: WebServer, probe: Probe, kind: str
) -> None:
    """Neither in the handshake of the run that needs them, nor as a pause in those beside it; both of two runs have them."""
    target = f"127.0.0.1:{secure.port}" if kind == "tls" else secure.url("/")
    over = asyncio.Event()
    watching = asyncio.ensure_future(longest_pause_s(over))
    outcomes = await asyncio.gather(probe(kind, target), probe(kind, target))
    over.set()
    assert await watching < READING_S / 2
    for outcome in outcomes:
        metrics = outcome.metrics
        times = [metrics.handshake_ms if kind == "tls" else metrics.tls_ms, metrics.connect_ms]
        times += [metrics.total_ms] if kind == "http" else []
        assert max(times) < SOON_MS
