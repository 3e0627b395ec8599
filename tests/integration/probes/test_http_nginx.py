"""HTTP/1.1 and HTTP/2 beside curl, against nginx: reuse, compression, versions, and phases over a path of 50 ms."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import random
import socket
import statistics
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.diagnosis.laboratory import FAR, laboratory
from integration.probes.nginx import CLEAR, CLEAR_NEW, LARGE_BYTES, SECURE, SECURE_OLD, TEXT, Nginx, nginx
from integration.probes.peers import Probe
from integration.probes.test_http import curl
from integration.probes.test_late_worker import MOST_MS, held
from support.certificates import issue
from support.priority import before_all_others

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import stamps, tls

pytestmark = pytest.mark.skipif(not Path("/usr/sbin/nginx").exists(), reason="needs nginx (nginx-light)")
#: An address of this process's own: others, which may run the same tests at the same time, use the same ports.
HERE = str(ipaddress.ip_address("127.0.0.0") + random.randrange(1 << 16, 1 << 24))
CERTIFICATE = issue("nginx", names=("localhost", HERE, FAR, "first.test", "second.test"), authority=True)
#: More than the kernel takes at once for a new connection, and more than HTTP/2 may send at once.
UPLOAD_BYTES = 130_000
#: More than is read at once, less than a connection may have unread.
PAGE_BYTES = 40_000
EVERY_PORT = pytest.mark.parametrize(
    ("port", "settings", "version"),
    [
        (CLEAR, {}, 1.1),
        (SECURE_OLD, {}, 1.1),
        (SECURE, {}, 2.0),
        (SECURE, {"version": "1.1"}, 1.1),
        (CLEAR_NEW, {"version": "2"}, 2.0),
    ],
    ids=["clear", "tls", "tls-h2", "tls-forced-1.1", "clear-h2"],
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    """A server whose certificate this process trusts."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(CERTIFICATE.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls.client_context.cache_clear()
    with nginx(tmp_path, CERTIFICATE.pem, CERTIFICATE.key_pem, address=HERE) as running:
        yield running
    tls.client_context.cache_clear()


@EVERY_PORT
async def test_versions(
    server: Nginx, probe: Probe, no_leak: None, port: int, settings: dict[str, Any], version: float
) -> None:
    """By ALPN, as forced, and without TLS by prior knowledge; nginx saw the same."""
    outcome = await probe("http", server.url("/text", port), body_contains="well here", **settings)
    assert outcome.metrics.http_version == pytest.approx(version)
    assert outcome.metrics.body_bytes == len(TEXT)
    assert f'"GET /text HTTP/{"2.0" if version == 2 else "1.1"}" 200' in server.logged()[-1]


async def test_http2_that_is_not_there(server: Nginx, probe: Probe, no_leak: None) -> None:
    """Demanded of a server that offers HTTP/1.1 only: under TLS and in the clear."""
    with pytest.raises(ProbeFailure, match=r"handshake .* failed: tlsv1 alert no application protocol$"):
        await probe("http", server.url("/text", SECURE_OLD), version="2")
    with pytest.raises(ProbeFailure, match=r"did not answer in HTTP|closed the connection") as caught:
        await probe("http", server.url("/text", CLEAR), version="2", timeout_ms=2000)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET


@EVERY_PORT
async def test_connections_are_used_again(
    server: Nginx, probe: Probe, no_leak: None, port: int, settings: dict[str, Any], version: float
) -> None:
    """Six requests: nginx keeps a connection for three, so four of six went over one that was open."""
    outcome = await probe("http", server.url("/text", port), requests=6, **settings)
    result = outcome.metrics
    assert (result.requests, result.answers_2xx) == (6, 6)
    assert result.reused_pct == pytest.approx(100 * 4 / 6)
    assert result.repeat_ms > 0
    assert result.HasField("reuse_saved_ms")
    fresh = await probe("http", server.url("/text", port), requests=3, connection="fresh", **settings)
    assert fresh.metrics.reused_pct == 0
    assert not fresh.metrics.HasField("reuse_saved_ms")


@EVERY_PORT
async def test_large_bodies_come_whole(
    server: Nginx, probe: Probe, port: int, settings: dict[str, Any], version: float
) -> None:
    """5 MB, many times the window of HTTP/2."""
    outcome = await probe("http", server.url("/large", port), timeout_ms=60_000, **settings)
    assert outcome.metrics.body_bytes == LARGE_BYTES
    assert outcome.metrics.bytes_received > LARGE_BYTES
    with pytest.raises(ProbeFailure, match="is longer than 1000000 bytes"):
        await probe(
            "http", server.url("/large", port), max_body_bytes=1_000_000, timeout_ms=60_000, **settings
        )


@EVERY_PORT
async def test_an_answer_of_many_frames_is_read_late_and_takes_no_longer(
    server: Nginx, probe: Probe, port: int, settings: dict[str, Any], version: float
) -> None:
    """What is said to a server meanwhile asks for nothing: what it has sent before came before."""
    (server.folder / "www" / "page").write_bytes(bytes(PAGE_BYTES))
    with stamps.kept_on():
        await asyncio.sleep(0.05)
        async with held():
            metrics = (await probe("http", server.url("/page", port), **settings)).metrics
    assert metrics.body_bytes == PAGE_BYTES
    assert metrics.ttfb_ms + metrics.transfer_ms < MOST_MS


@EVERY_PORT
async def test_bodies_are_sent(
    server: Nginx, probe: Probe, port: int, settings: dict[str, Any], version: float
) -> None:
    """65,000 bytes in 2-byte characters: more than HTTP/2 may send at once; redirects are followed in every version."""
    outcome = await probe(
        "http",
        server.url("/posted", port),
        method="POST",
        body="ß" * (UPLOAD_BYTES // 2),
        valid_status=[201],
        **settings,
    )
    assert outcome.metrics.status == 201
    assert outcome.metrics.bytes_sent > 130_000
    outcome = await probe("http", server.url("/away", port), **settings) if port == CLEAR else outcome
    assert outcome.metrics.status in (200, 201)


async def test_compression_is_what_curl_sees(server: Nginx, probe: Probe) -> None:
    """Wire size and content size."""
    outcome = await probe("http", server.url("/text"), compression=True, body_contains="all is well")
    peer = await curl(server.url("/text"), "-H", "Accept-Encoding: gzip, deflate")
    assert outcome.metrics.body_bytes == peer["size_download"]
    assert outcome.metrics.content_bytes == len(TEXT)
    assert outcome.metrics.compression_ratio > 10


async def test_caches_are_counted(server: Nginx, probe: Probe) -> None:
    """Per answer, over a run's requests."""
    assert (await probe("http", server.url("/hit"), requests=4)).metrics.cache_hit_pct == 100
    assert (await probe("http", server.url("/miss"))).metrics.cache_hit_pct == 0
    assert not (await probe("http", server.url("/text"))).metrics.HasField("cache_hit_pct")


def _refuse_bodies(listener: socket.socket) -> None:
    """Answer each request once its head is there, and close, whatever else is under way."""
    with contextlib.suppress(OSError):  # the test closes the listener
        while True:
            connection, _ = listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(200)
                connection.sendall(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\nno")


@pytest.mark.namespaces
@pytest.mark.usefixtures("_root")
async def test_an_answer_that_comes_before_the_whole_body_was_sent_counts(probe: Probe) -> None:
    """The server closes on what it does not want to read, which ends the sending: its answer is there, and its time."""
    with laboratory() as lab:
        with lab.far.entered():
            listener = socket.create_server((FAR, CLEAR))
        serving = threading.Thread(target=_refuse_bodies, args=(listener,))
        serving.start()
        try:
            lab.impair(delay_ms=50)
            with lab.near.entered(), pytest.raises(ProbeFailure, match="answered with status 413") as caught:
                await probe("http", f"http://{FAR}:{CLEAR}/", method="POST", body="ß" * 65_536)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            serving.join()
    assert caught.value.reason == probe_pb2.FAILURE_REASON_WRONG_STATUS
    assert caught.value.metrics.status == 413
    assert 49 < caught.value.metrics.ttfb_ms < 400


@pytest.mark.namespaces
@pytest.mark.alone
@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize(
    ("port", "upload_bytes"),
    [(CLEAR, 0), (SECURE_OLD, 0), (SECURE, 0), (CLEAR, UPLOAD_BYTES), (SECURE, UPLOAD_BYTES)],
    ids=["http", "https", "h2", "http-upload", "h2-upload"],
)
async def test_phases_agree_with_curl_over_a_long_path(
    tmp_path: Path, probe: Probe, monkeypatch: pytest.MonkeyPatch, port: int, upload_bytes: int
) -> None:
    """50 ms of round trip: each phase within 1 ms of curl's at the median; sending is part of the processing.

    Of an upload, curl takes its own first byte for that of the answer, and it reads what it sends in smaller pieces.
    """
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(CERTIFICATE.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls.client_context.cache_clear()
    ours: dict[str, list[float]] = {"connect": [], "tls": [], "ttfb": [], "transfer": []}
    ours |= {"answered": [], "total": []}
    theirs: dict[str, list[float]] = {name: [] for name in ours}
    arguments = ["--cacert", str(trusted)] + ([] if port == SECURE else ["--http1.1"])
    path, settings = "/text", dict[str, Any]()
    if upload_bytes:
        (tmp_path / "upload").write_text("ß" * (upload_bytes // 2))
        # Without the wait for `100 Continue`, which curl makes before large bodies.
        arguments += ["--data-binary", f"@{tmp_path / 'upload'}", "-H", "Expect:"]
        path = "/posted"
        settings = {"method": "POST", "body": "ß" * (upload_bytes // 2), "valid_status": [201]}
    with (
        before_all_others(),
        laboratory() as lab,
        nginx(tmp_path, CERTIFICATE.pem, CERTIFICATE.key_pem, address=FAR, namespace=lab.far) as far,
    ):
        lab.impair(delay_ms=50)
        with lab.near.entered():
            for _ in range(9):
                result = (await probe("http", far.url(path, port), **settings)).metrics
                peer = await asyncio.to_thread(_curl_inside, lab.near.name, port, path, arguments)
                connected = peer["time_connect"]
                secured = peer["time_appconnect"] if port != CLEAR else connected
                measured = {
                    "connect": (result.connect_ms, connected),
                    "tls": (result.tls_ms, secured - connected),
                    "ttfb": (result.ttfb_ms, peer["time_starttransfer"] - peer["time_pretransfer"]),
                    "transfer": (result.transfer_ms, peer["time_total"] - peer["time_starttransfer"]),
                    "answered": (
                        result.ttfb_ms + result.transfer_ms,
                        peer["time_total"] - peer["time_pretransfer"],
                    ),
                    "total": (result.total_ms, peer["time_total"]),
                }
                for name, (mine, other) in measured.items():
                    ours[name].append(mine)
                    theirs[name].append(other)
    tls.client_context.cache_clear()
    medians = {name: (statistics.median(ours[name]), statistics.median(theirs[name])) for name in ours}
    assert medians["connect"][0] > 50
    # More than one flight of packets takes more than one round trip.
    assert medians["ttfb"][0] > (100 if upload_bytes else 50)
    for name in ("connect", "tls") if upload_bytes else ("connect", "tls", "ttfb", "transfer"):
        mine, other = medians[name]
        assert mine == pytest.approx(other, abs=1), medians
    mine, other = medians["answered"]
    assert mine == pytest.approx(other, abs=15 if upload_bytes else 1), medians


def _curl_inside(namespace: str, port: int, path: str, arguments: list[str]) -> dict[str, float]:
    """Return what `curl -w` measured of the second of two servers, when everything that it needs is set up."""
    fields = ["time_connect", "time_appconnect", "time_pretransfer", "time_starttransfer", "time_total"]
    template = "".join(f"{name}=%{{{name}}}\n" for name in fields)
    scheme = "http" if port == CLEAR else "https"
    command = ["ip", "netns", "exec", namespace, "curl"]
    for name in ("first.test", "second.test"):
        command += [] if name == "first.test" else ["--next"]
        command += ["-s", "-o", os.devnull, "-w", template, "--resolve", f"{name}:{port}:{FAR}", *arguments]
        command += [f"{scheme}://{name}:{port}{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    lines = done.stdout.split()[-len(fields) :]
    return {name: float(value) * 1000 for name, value in (line.split("=") for line in lines)}
