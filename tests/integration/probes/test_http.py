"""HTTP beside curl, against a web server of the test's own with known delays and bad manners."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Probe, RecordingGuard
from integration.probes.webserver import FIRST_BYTE_S, TRANSFER_S, WebServer, make_certificate

from streamswarm import __version__, contract
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.http_pb2 import HttpResult
from worker.probes import http
from worker.probing import Outcome, ProbeContext, ProbeFailure
from worker.resolving import system_resolver
from worker.wire import tls


@pytest.fixture
def server() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server over TLS whose certificate, good for 30 days, this process trusts."""
    public, context = make_certificate(tmp_path, days=30)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    tls.client_context.cache_clear()
    server = WebServer(context)
    yield server
    server.close()
    tls.client_context.cache_clear()


#: What a busy machine may add to the server's delays; less than they differ by.
LEEWAY_MS = 40


def after(seconds: float) -> object:
    """Return what equals milliseconds that took so long at the server: a little less, or somewhat more."""
    return pytest.approx(seconds * 1000 + 15, abs=25)


async def curl(url: str, *arguments: str) -> dict[str, float]:
    """Return what `curl -w` measured, times in milliseconds since its start."""
    fields = ["time_connect", "time_appconnect", "time_pretransfer", "time_starttransfer", "time_total"]
    fields += ["size_download", "http_code", "num_redirects", "size_request", "size_header"]
    template = "".join(f"{name}=%{{{name}}}\n" for name in fields)
    command = ["curl", "-s", "-o", "/dev/null", "-w", template, *arguments, url]
    done = await asyncio.to_thread(
        lambda: subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    )
    values = {name: float(value) for name, value in (line.split("=") for line in done.stdout.split())}
    return {name: value * (1000 if name.startswith("time") else 1) for name, value in values.items()}


async def beside_curl(probe: Probe, url: str, *arguments: str) -> tuple[Outcome, dict[str, float]]:
    """Return what we and curl measured of `/slow` when nothing else on this machine came between.

    A busy machine stops a program in the middle of a phase, either of the two: then both measure once more. What is
    wrong by itself is so every time.
    """
    for left in reversed(range(8)):
        outcome = await probe("http", url)
        peer = await curl(url, *arguments)
        result = outcome.metrics
        secured = peer["time_appconnect"] or peer["time_connect"]
        agreed = [
            result.ttfb_ms == after(FIRST_BYTE_S),
            result.transfer_ms == after(TRANSFER_S),
            near(result.connect_ms, peer["time_connect"]),
            near(result.tls_ms, secured - peer["time_connect"]),
            near(result.ttfb_ms, peer["time_starttransfer"] - peer["time_pretransfer"]),
            near(result.transfer_ms, peer["time_total"] - peer["time_starttransfer"]),
            near(result.total_ms, peer["time_total"]),
        ]
        if all(agreed):
            break
        assert left, (agreed, result, peer)
    return outcome, peer


def near(mine: float, theirs: float) -> bool:
    """Say whether two times in milliseconds differ by less than what the server's delays do."""
    return abs(mine - theirs) < LEEWAY_MS


async def failed(probe: Probe, url: str, words: str, **settings: object) -> ProbeFailure:
    """Run and return the failure, which must be the target's."""
    with pytest.raises(ProbeFailure, match=words) as caught:
        await probe("http", url, **settings)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    return caught.value


async def test_phases_agree_with_curl_and_the_servers_delays(
    server: WebServer, probe: Probe, no_leak: None
) -> None:
    """100 ms before the first byte, 150 ms until the last: each phase by itself, and the sum."""
    outcome, peer = await beside_curl(probe, server.url("/slow"))
    result = outcome.metrics
    assert result.total_ms >= result.connect_ms + result.ttfb_ms + result.transfer_ms
    assert (result.status, result.body_bytes, result.redirects) == (peer["http_code"], 2000, 0)
    assert result.body_bytes == peer["size_download"]
    assert result.bytes_received == peer["size_download"] + peer["size_header"]
    assert result.bytes_sent == len(server.requests[0])
    assert not result.HasField("dns_ms")
    assert not result.HasField("tls_ms")
    assert not result.HasField("cert_days_left")
    assert outcome.detail["hops"][0]["address"] == "127.0.0.1"


async def test_the_request_says_who_asks_and_of_whom(
    server: WebServer, probe: Probe, names: dict[str, str]
) -> None:
    """Host with its port, our name and version, no content coding; the query is kept."""
    names["www.example.test"] = "127.0.0.1"
    outcome = await probe("http", server.url("/path?a=1&b=%20", host="www.example.test"))
    lines = server.requests[0].split("\r\n")
    assert lines[0] == "GET /path?a=1&b=%20 HTTP/1.1"
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
    assert headers["host"] == f"www.example.test:{server.port}"
    assert headers["user-agent"] == f"streamswarm/{__version__}"
    assert headers["accept-encoding"] == "identity"
    assert outcome.metrics.dns_ms == 20.0


async def test_tls_is_timed_apart_and_its_certificate_read(
    secure: WebServer, probe: Probe, no_leak: None
) -> None:
    """Verified against the host's authorities; 30 days are left."""
    trusted = ["--cacert", os.environ["SSL_CERT_FILE"]]
    outcome, _ = await beside_curl(probe, secure.url("/slow"), "--http1.1", *trusted)
    result = outcome.metrics
    assert result.tls_ms > 0
    assert result.cert_days_left == pytest.approx(30, abs=0.01)
    assert outcome.detail["hops"][0]["tls_version"] == "TLSv1.3"


async def test_a_certificates_days_are_told_by_the_controllers_time(
    secure: WebServer, guard: RecordingGuard
) -> None:
    """Five more, where this host's clock is five days ahead."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), clock_offset_ms=5 * 86_400_000)
    target = contract.parse_target(contract.kind("http"), secure.url())
    outcome = await http.run(target, contract.make_spec("http", {"min_cert_days": 32}).http, context)
    assert outcome.metrics.cert_days_left == pytest.approx(35, abs=0.01)


async def test_a_certificate_that_nobody_vouches_for_is_the_targets_fault(
    probe: Probe, tmp_path: Path, no_leak: None
) -> None:
    """Refused with verification; without it the answer is read and the days too, also when they are over."""
    tls.client_context.cache_clear()
    _public, context = make_certificate(tmp_path, days=-3)
    server = WebServer(context)
    try:
        failure = await failed(probe, server.url(), "is not valid")
        assert failure.metrics.connect_ms > 0
        assert not failure.metrics.HasField("tls_ms")
        assert server.requests == []
        outcome = await probe("http", server.url(), verify_tls=False)
    finally:
        server.close()
    assert outcome.metrics.status == 200
    assert outcome.metrics.cert_days_left == pytest.approx(-3, abs=0.01)


async def test_http2_is_demanded_of_a_server_that_knows_none(secure: WebServer, probe: Probe) -> None:
    """It does not say a word about protocols in the handshake."""
    failure = await failed(probe, secure.url(), "does not offer HTTP/2", version="2")
    assert failure.reason == probe_pb2.FAILURE_REASON_BAD_ANSWER
    assert failure.metrics.tls_ms > 0
    assert secure.requests == []


async def test_a_certificate_for_another_name_is_refused(
    secure: WebServer, probe: Probe, names: dict[str, str]
) -> None:
    """Trusted, but not for that host."""
    names["other.test"] = "127.0.0.1"
    await failed(probe, secure.url(host="other.test"), "is not valid: Hostname mismatch")


async def test_https_to_a_plain_server_fails_in_the_handshake(server: WebServer, probe: Probe) -> None:
    """The message says what was spoken to whom."""
    url = server.url("/nonsense").replace("http:", "https:")
    failure = await failed(probe, url, "handshake", timeout_ms=2000)
    assert failure.metrics.connect_ms > 0


async def test_a_server_that_hangs_up_in_the_handshake_is_named(probe: Probe, no_leak: None) -> None:
    """It accepts, and says nothing."""

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _reader.read(1)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await failed(probe, f"https://127.0.0.1:{port}/", r"handshake|broke the connection")


async def test_a_body_that_ends_with_the_tls_connection_is_whole(secure: WebServer, probe: Probe) -> None:
    """Also where the server takes leave without the closing alert."""
    outcome = await probe("http", secure.url("/until-close"))
    assert outcome.metrics.body_bytes == 500


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_hop_by_hop(server: WebServer, probe: Probe, code: int) -> None:
    """Absolute paths, relative paths and a whole URL; the phases are the last hop's, the total spans all."""
    path = f"/to/{code}/to/{code}/={server.url('/slow')}"
    outcome = await probe("http", server.url(path))
    peer = await curl(server.url(path), "-L")
    result = outcome.metrics
    assert result.redirects == peer["num_redirects"] == 2
    assert result.status == 200
    assert result.ttfb_ms == after(FIRST_BYTE_S)
    assert result.bytes_sent == sum(map(len, server.requests[:3]))
    assert [hop["status"] for hop in outcome.detail["hops"]] == [code, code, 200]
    assert [hop["url"] for hop in outcome.detail["hops"]][-1] == server.url("/slow")


async def test_relative_locations_and_fragments(server: WebServer, probe: Probe) -> None:
    """Resolved against the URL that redirects; a fragment is not sent."""
    outcome = await probe("http", server.url("/to/302/=next%3Fx=1%23part"))
    assert outcome.detail["hops"][1]["url"] == server.url("/to/302/next?x=1")
    assert server.requests[1].startswith("GET /to/302/next?x=1 ")


async def test_redirects_end_where_the_test_says(server: WebServer, probe: Probe) -> None:
    """One too many is a failure; none at all takes the redirect for the answer."""
    path = "/to/302/to/302/hello"
    await failed(probe, server.url(path), "once more after 1 redirects", max_redirects=1)
    assert len(server.requests) == 2
    await probe("http", server.url(path), max_redirects=2)
    failure = await failed(probe, server.url(path), "status 302; the test wants 200 to 299", max_redirects=0)
    assert failure.metrics.total_ms > 0
    outcome = await probe("http", server.url(path), max_redirects=0, valid_status=[302])
    assert (outcome.metrics.status, outcome.metrics.redirects) == (302, 0)


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://2130706433/",
    ],
)
async def test_redirects_to_anything_odd_are_refused(server: WebServer, probe: Probe, location: str) -> None:
    """The same rules as for a destination that is typed in."""
    failure = await failed(probe, server.url(f"/to/302/={location}"), "redirects to")
    assert len(server.requests) == 1
    assert failure.metrics.redirects == 0
    assert not failure.metrics.HasField("body_bytes")  # nobody read it


async def test_the_policy_is_asked_at_every_hop(
    server: WebServer, probe: Probe, guard: RecordingGuard, names: dict[str, str]
) -> None:
    """A redirect to a forbidden address gets no packet, by name or by number."""
    names["metadata.test"] = "169.254.169.254"
    guard.denied.add("169.254.169.254")
    for location in ("http://169.254.169.254/latest/", "http://metadata.test/latest/"):
        with pytest.raises(ProbeFailure) as caught:
            await probe("http", server.url(f"/to/302/={location}"))
        assert caught.value.source == probe_pb2.FAILURE_SOURCE_POLICY
        assert caught.value.status == probe_pb2.STATUS_ERROR
        assert str(guard.asked[-1][0]) == "169.254.169.254"
        assert guard.asked[-1][1] == 80


async def test_status_codes_are_checked(server: WebServer, probe: Probe) -> None:
    """2xx by itself, or what the test lists; the figures stand either way."""
    failure = await failed(probe, server.url("/status/503"), "status 503; the test wants 200 to 299")
    assert (failure.metrics.status, failure.metrics.body_bytes) == (503, 2)
    assert failure.metrics.total_ms > 0
    outcome = await probe("http", server.url("/status/404"), valid_status=[404, 410])
    assert outcome.metrics.status == 404
    await failed(probe, server.url("/"), "wants 404 or 410", valid_status=[404, 410])


async def test_bodies_are_searched_across_pieces(server: WebServer, probe: Probe) -> None:
    """Chunked: the text lies in two chunks, their framing is no part of it."""
    outcome = await probe("http", server.url("/chunked"), body_contains="needle lies across two")
    assert outcome.metrics.body_bytes == 33
    assert (await curl(server.url("/chunked")))["size_download"] == 33
    await failed(probe, server.url("/chunked"), "does not contain `haystack`", body_contains="haystack")


async def test_head_and_bodies_without_length(server: WebServer, probe: Probe) -> None:
    """A HEAD answer has no body whatever its length says; HTTP/1.0 bodies end with the connection."""
    head: Outcome = await probe("http", server.url("/"), method="HEAD")
    assert (head.metrics.status, head.metrics.body_bytes) == (200, 0)
    assert server.requests[0].startswith("HEAD / ")
    until_close: Outcome = await probe("http", server.url("/until-close"))
    assert until_close.metrics.body_bytes == 500


async def test_interim_answers_are_not_the_answer(server: WebServer, probe: Probe) -> None:
    """103 comes first, 200 counts."""
    assert (await probe("http", server.url("/early-hints"))).metrics.status == 200


@pytest.mark.parametrize(
    ("path", "words", "settings"),
    [
        ("/slow", "longer than 1500 bytes", {"max_body_bytes": 1500}),
        ("/cut", "closed the connection before its answer was complete", {}),
        ("/nonsense", "did not answer in HTTP", {}),
        ("/endless-head", "the response header is too large: more than 65,536 bytes", {}),
        ("/hang-up", "closed the connection without an answer", {}),
    ],
)
async def test_bad_manners_are_the_targets(
    server: WebServer, probe: Probe, path: str, words: str, settings: dict[str, int], no_leak: None
) -> None:
    """Too long, cut short, not HTTP, a head without end, no answer at all: each a sentence."""
    failure = await failed(probe, server.url(path), words, **settings)
    assert failure.metrics.connect_ms > 0
    assert not failure.metrics.HasField("total_ms")


async def test_silence_is_the_networks_and_says_in_which_phase(
    server: WebServer, probe: Probe, no_leak: None
) -> None:
    """What was measured until then stands."""
    with pytest.raises(
        ProbeFailure, match="not finished within 200 ms, while waiting for the answer"
    ) as caught:
        await probe("http", server.url("/silent"), timeout_ms=200)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert caught.value.status == probe_pb2.STATUS_FAILED
    metrics: HttpResult = caught.value.metrics
    assert metrics.connect_ms > 0
    assert not metrics.HasField("ttfb_ms")
    assert not metrics.HasField("total_ms")
    assert not metrics.HasField("status")
    [hop] = caught.value.detail["hops"]
    assert hop.keys() == {"url", "address", "connect_ms"}
    assert hop["address"] == "127.0.0.1"


async def test_the_timeout_spans_all_hops(server: WebServer, probe: Probe) -> None:
    """Two slow hops of 250 ms each do not fit into 350 ms."""
    with pytest.raises(ProbeFailure, match="not finished within 200 ms"):
        await probe("http", server.url("/to/302/slow"), timeout_ms=200)


async def test_closed_ports_and_unknown_names(
    probe: Probe, free_port: int, names: dict[str, str], no_leak: None
) -> None:
    """Refused is the target's; a family that the address is not of is the resolver's."""
    await failed(probe, f"http://127.0.0.1:{free_port}/", "refused the connection")
    with pytest.raises(ProbeFailure) as caught:
        await probe("http", f"http://127.0.0.1:{free_port}/", address_family="ipv6")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_RESOLVER
    assert caught.value.status == probe_pb2.STATUS_ERROR


async def test_ipv6_hosts_stand_in_brackets(probe: Probe) -> None:
    """In the Host header as in the URL."""
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "::1", 0, family=socket.AF_INET6)
    async with server:
        port = server.sockets[0].getsockname()[1]
        outcome = await probe("http", f"http://[::1]:{port}/")
    assert outcome.metrics.status == 204
    assert f"\r\nHost: [::1]:{port}\r\n".encode() in heads[0]


async def test_a_cancelled_request_closes_its_socket(secure: WebServer, probe: Probe, no_leak: None) -> None:
    """While the answer is awaited, under TLS."""
    task = asyncio.ensure_future(probe("http", secure.url("/silent"), timeout_ms=60_000))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
