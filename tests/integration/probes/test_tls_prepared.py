"""Reading the host's certificate authorities takes its time: none of it is in what the first runs of a process measure."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from integration.probes.peers import Probe
from integration.probes.webserver import WebServer, make_certificate

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import tls, tls_validation

#: So long it takes here, longer than a handshake with this host, however busy it is.
READING_S = 2.0


@pytest.fixture
def readers() -> list[int]:
    """Threads that have read the authorities."""
    return []


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readers: list[int]) -> Iterator[WebServer]:
    """A server over TLS, and a process that has not read the authorities yet and takes long for it."""
    public, context = make_certificate(tmp_path, days=30)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    _forget()
    make = ssl.create_default_context

    def slowly() -> ssl.SSLContext:
        readers.append(threading.get_ident())
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


@pytest.mark.parametrize("kind", ["http", "tcp_window", "tls"])
async def test_reading_the_authorities_is_in_no_measurement(
    secure: WebServer, probe: Probe, readers: list[int], kind: str
) -> None:
    """Neither in the handshake of the run that needs them, nor as a pause in those beside it; it is done once for two runs."""
    target = f"127.0.0.1:{secure.port}" if kind == "tls" else secure.url("/")
    outcomes = await asyncio.gather(probe(kind, target), probe(kind, target))
    assert len(readers) == 1
    assert threading.get_ident() not in readers, "other runs go on meanwhile"
    for outcome in outcomes:
        metrics = outcome.metrics
        times = [metrics.handshake_ms if kind == "tls" else metrics.tls_ms, metrics.connect_ms]
        times += [metrics.total_ms] if kind == "http" else []
        assert max(times) < READING_S * 1000


async def test_authorities_that_a_redirect_needs_are_in_no_measurement(
    secure: WebServer, probe: Probe, readers: list[int]
) -> None:
    """From `http` to `https`: the total is that of the requests, although it began before."""
    clear = WebServer()
    try:
        target = f"http://127.0.0.1:{clear.port}/to/302/%3D{quote(secure.url('/'), safe='')}"
        outcome = await probe("http", target)
    finally:
        clear.close()
    assert len(readers) == 1
    assert outcome.metrics.redirects == 1
    assert 0 < outcome.metrics.total_ms < READING_S * 1000
    assert outcome.metrics.total_ms >= sum(
        hop.connect_ms + hop.tls_ms + hop.ttfb_ms + hop.transfer_ms for hop in outcome.metrics.hops
    )


def test_what_http2_needs_is_loaded_before_anything_is_timed() -> None:
    """A process that has not spoken it yet loads the library when it makes ready, and none for HTTP/1.1."""
    code = """
import asyncio, sys
from worker.wire.http_client import prepare
for version, secure, there in (("auto", False, False), ("1.1", True, False), ("auto", True, True)):
    asyncio.run(prepare(version, secure=secure, verify=False))
    assert ("h2" in sys.modules) is there, (version, secure)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


async def test_authorities_that_a_query_needs_cost_none_of_its_time(
    secure: WebServer, probe: Probe, readers: list[int]
) -> None:
    """DNS over HTTPS: the server is heard, though its answer is no DNS message, and is not called silent."""
    with pytest.raises(ProbeFailure) as caught:
        await probe(
            "dns",
            f"127.0.0.1:{secure.port}",
            query_name="www.example.test",
            transport="https",
            server_name="localhost",
            timeout_ms=int(READING_S * 750),
        )
    assert len(readers) == 1
    assert caught.value.reason == probe_pb2.FAILURE_REASON_BAD_ANSWER, caught.value.message
