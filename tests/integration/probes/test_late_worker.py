"""Times of connections, while the worker has other things to do: its own lateness is in none of them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from integration.diagnosis.laboratory import FAR, PORT, WEB_PORT, Laboratory, prompt_laboratory
from integration.probes.peers import Probe
from integration.probes.webserver import WebServer, make_certificate
from support.certificates import issue, server_context
from support.priority import before_all_others

from worker.probing import Outcome
from worker.wire import stamps, tls, tls_validation

#: For so long at a time the event loop looks at nothing; round trips take less than half of it, also on a busy machine.
HELD_S = 0.3
MOST_MS = HELD_S * 500
DELAY_MS = 10.0


@pytest.fixture(scope="module", autouse=True)
def _stamps() -> Iterator[None]:
    """Have packets stamped, as a worker does, from a moment before the first is sent."""
    with stamps.kept_on():
        time.sleep(0.05)
        yield


@pytest.fixture(scope="module")
def lab(_root: None) -> Iterator[Laboratory]:
    """A path that delays; its wire is served before all else."""
    with prompt_laboratory(delay_ms=DELAY_MS) as made:
        yield made


@contextlib.asynccontextmanager
async def held() -> AsyncIterator[None]:
    """Keep the event loop busy, as many runs at once do."""

    async def hold() -> None:
        while True:
            time.sleep(HELD_S)
            await asyncio.sleep(0)

    task = asyncio.create_task(hold())
    try:
        yield
    finally:
        task.cancel()


async def timed(run: Awaitable[Outcome]) -> Outcome:
    """Await a run beside a loop that is held; that it was held shows in how long it took."""
    began_s = time.monotonic()
    async with held():
        outcome = await run
    assert time.monotonic() - began_s >= HELD_S
    return outcome


def _forget() -> None:
    """Have the authorities that this process trusts read anew."""
    tls.client_context.cache_clear()
    tls_validation.authorities.cache_clear()


@pytest.mark.namespaces
async def test_a_connection_takes_its_round_trip(lab: Laboratory, probe: Probe) -> None:
    """As the kernel timed it; what the worker's host itself added is next to nothing."""
    with lab.near.entered():
        metrics = (await timed(probe("tcp", f"{FAR}:{PORT}"))).metrics
    assert DELAY_MS <= metrics.kernel_rtt_ms <= metrics.connect_ms < metrics.kernel_rtt_ms + MOST_MS
    assert metrics.server_processing_error_ms < MOST_MS


@pytest.mark.namespaces
async def test_an_answer_comes_when_it_is_there(lab: Laboratory, probe: Probe) -> None:
    """The first byte, and the whole request, without what the worker was late."""
    lab.think_s = 0.005
    try:
        with lab.near.entered():
            metrics = (await timed(probe("http", f"http://{FAR}:{WEB_PORT}/"))).metrics
    finally:
        lab.think_s = 0.0
    assert DELAY_MS <= metrics.connect_ms < MOST_MS
    assert DELAY_MS + 5 <= metrics.ttfb_ms < MOST_MS
    assert metrics.connect_ms + metrics.ttfb_ms <= metrics.total_ms < 2 * MOST_MS


async def test_a_handshake_takes_what_its_messages_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probe: Probe
) -> None:
    """Of TLS, over HTTP and by itself."""
    public, context = make_certificate(tmp_path, days=30)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    _forget()
    server = WebServer(context)
    try:
        over_http = await timed(probe("http", server.url(host="localhost"), address_family="ipv4"))
        alone = await timed(probe("tls", f"localhost:{server.port}", address_family="ipv4"))
    finally:
        server.close()
        _forget()
    assert 0 < over_http.metrics.tls_ms < MOST_MS
    assert over_http.metrics.total_ms < 2 * MOST_MS
    assert 0 < alone.metrics.handshake_ms < MOST_MS


@pytest.mark.namespaces
@pytest.mark.parametrize("method", ["icmp", "udp"])
async def test_the_largest_packet_takes_its_round_trip(lab: Laboratory, probe: Probe, method: str) -> None:
    """The answer of the far end to a packet that passed, echo or error."""
    with lab.near.entered():
        metrics = (await timed(probe("mtu", FAR, method=method))).metrics
    assert DELAY_MS <= metrics.rtt_ms < MOST_MS


async def test_what_came_before_a_request_is_no_answer_that_came_early(probe: Probe) -> None:
    """A server that speaks first: what it said counts from when the text was sent, never less than nothing."""

    def speak() -> None:
        taken, _address = server.accept()
        with taken:
            taken.sendall(b"220 ready\r\n")
            taken.recv(100)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=speak)
        thread.start()
        target = f"127.0.0.1:{server.getsockname()[1]}"
        metrics = (await timed(probe("tcp", target, send="hello", expect="220 "))).metrics
        thread.join(5)
    assert 0 <= metrics.first_byte_ms < MOST_MS


@contextlib.contextmanager
def speaking(lab: Laboratory, speak: Callable[[socket.socket], None]) -> Iterator[str]:
    """Have a server at the far end speak first on one connection; yield where it listens."""

    def serve() -> None:
        taken, _address = server.accept()
        with taken:
            taken.settimeout(5)
            with contextlib.suppress(OSError):  # a client goes when it has heard enough
                speak(taken)

    with lab.far.entered():
        server = socket.create_server((FAR, 0))
    with server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"{FAR}:{server.getsockname()[1]}"
        thread.join(5)


@pytest.mark.namespaces
async def test_a_greeting_comes_when_it_is_there(lab: Laboratory, probe: Probe) -> None:
    """It is waited for since the connection is there, not since the worker has looked at that."""

    def speak(taken: socket.socket) -> None:
        taken.sendall(b"220 ready\r\n")
        taken.recv(100)

    with before_all_others(), speaking(lab, speak) as target, lab.near.entered():
        metrics = (await timed(probe("tcp", target, expect="220 "))).metrics
    assert 0 <= metrics.first_byte_ms < MOST_MS


@pytest.mark.namespaces
async def test_starttls_takes_what_its_lines_take(tmp_path: Path, lab: Laboratory, probe: Probe) -> None:
    """Three of them, each of which a late worker reads late."""
    _public, context = make_certificate(tmp_path, days=30)

    def speak(taken: socket.socket) -> None:
        taken.sendall(b"220 ready\r\n")
        for reply in (b"250-mail.test\r\n250 STARTTLS\r\n", b"220 go ahead\r\n"):
            taken.recv(100)
            taken.sendall(reply)
        with contextlib.suppress(OSError), context.wrap_socket(taken, server_side=True) as secured:
            secured.recv(1)

    with before_all_others(), speaking(lab, speak) as target, lab.near.entered():
        metrics = (await timed(probe("tls", target, starttls="smtp", verify=False))).metrics
    assert 2 * DELAY_MS <= metrics.starttls_ms < MOST_MS
    assert DELAY_MS <= metrics.handshake_ms < MOST_MS


async def test_a_redirect_that_is_read_late_is_followed_in_no_more_time(probe: Probe) -> None:
    """The way from one answer to the next request is the worker's own."""
    server = WebServer()
    try:
        metrics = (await timed(probe("http", server.url("/to/302/to/302/")))).metrics
    finally:
        server.close()
    assert metrics.redirects == 2
    assert 0 < metrics.total_ms < MOST_MS


@pytest.mark.namespaces
@pytest.mark.parametrize("kind", ["tls", "http"])
async def test_what_waited_together_is_late_once(
    tmp_path: Path, lab: Laboratory, probe: Probe, kind: str
) -> None:
    """A chain of certificates that takes three round trips and several looks to read: they end when the last of it comes."""
    names = ("localhost", *(f"number-{number}.example.test" for number in range(600)))
    root = issue("root", authority=True)
    chain = [issue(f"large {number}", root, authority=bool(number), names=names) for number in range(4)]
    context = server_context(tmp_path, *chain)
    assert sum(len(one.der) for one in chain) > 50_000

    def speak(taken: socket.socket) -> None:
        with context.wrap_socket(taken, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with before_all_others(), speaking(lab, speak) as target, lab.near.entered():
        if kind == "tls":
            took_ms = (await timed(probe("tls", target, verify=False))).metrics.handshake_ms
        else:
            took_ms = (await timed(probe("http", f"https://{target}/", verify_tls=False))).metrics.tls_ms
    assert 2 * DELAY_MS <= took_ms < MOST_MS
