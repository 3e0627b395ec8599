"""TLS beside `openssl s_client`: what is agreed on, what the certificates say, and what is wrong with them."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509 import ocsp
from integration.probes.peers import Probe, RecordingGuard
from integration.probes.webserver import WebServer
from support.certificates import Issued, issue, server_context, write
from support.surroundings import free_port as a_free_port

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probes import tls as tls_probe
from worker.probing import ProbeContext, ProbeFailure
from worker.resolving import system_resolver
from worker.wire import tls, tls_validation

ROOT = issue("Test Root", authority=True, days=1000)
MIDDLE = issue("Test Middle", ROOT, authority=True, days=20)
NAMES = ("localhost", "127.0.0.1", "*.example.test")

Serve = Callable[..., WebServer]


@pytest.fixture(autouse=True)
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process trusts the test's root, and remembers no server."""
    file = tmp_path / "root.pem"
    file.write_bytes(ROOT.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    tls_validation.authorities.cache_clear()
    tls_probe._remembered.clear()
    yield
    tls_validation.authorities.cache_clear()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Return a function that starts a server with a chain; `prepare` may change its context."""
    servers: list[WebServer] = []

    def start(
        *chain: Issued, ciphers: str = "", prepare: Callable[[ssl.SSLContext], Any] = lambda _context: None
    ) -> WebServer:
        context = server_context(tmp_path, *(chain or (leaf(), MIDDLE)), ciphers=ciphers)
        prepare(context)
        servers.append(WebServer(context))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def leaf(**values: Any) -> Issued:
    """Return a server's certificate of the middle authority."""
    return issue("leaf", MIDDLE, **{"names": NAMES, **values})


def s_client(port: int, *arguments: str) -> str:
    """Return what `openssl s_client` tells of a server."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost", *arguments]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@asynccontextmanager
async def served(answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[int]:
    """Serve each connection as told, and wait in the end until the server's own ends are closed too."""
    ends: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends.append(writer)
        await answer(reader, writer)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        for writer in ends:
            writer.transport.abort()
        await asyncio.sleep(0.02)


async def failed(probe: Probe, target: str, words: str, **values: Any) -> ProbeFailure:
    """Run and return the failure, which must be the target's."""
    with pytest.raises(ProbeFailure, match=words) as caught:
        await probe("tls", target, **values)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    return caught.value


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
async def test_what_is_agreed_on_is_what_openssl_sees(
    no_leak: None, serve: Serve, probe: Probe, version: str
) -> None:
    """Version, cipher, key exchange, application protocol, days, key, chain."""

    def prepare(context: ssl.SSLContext) -> None:
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.set_ecdh_curve("secp384r1")

    server = serve(prepare=prepare)
    outcome = await probe("tls", f"localhost:{server.port}", alpn=["h2"])
    seen = await asyncio.to_thread(s_client, server.port, "-alpn", "h2", "-showcerts")
    result, detail = outcome.metrics, outcome.detail
    protocol, cipher = re.findall(r"New, (\S+), Cipher is (\S+)", seen)[0]
    assert f"TLSv{result.tls_version:g}" == protocol
    assert detail["cipher"] == cipher
    assert (detail["key_exchange"], detail["alpn"]) == ("secp384r1", "h2")
    assert "ALPN protocol: h2" in seen
    assert "ECDH, secp384r1" in seen or "group: secp384r1" in seen
    assert result.chain_length == seen.count("BEGIN CERTIFICATE")
    assert result.key_bits == int(re.findall(r"Server public key is (\d+) bit", seen)[0])
    end = re.findall(r"NotAfter: (.+ GMT)", seen)[0]
    expires = dt.datetime.strptime(end, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=dt.timezone.utc)
    left = (expires - dt.datetime.now(dt.timezone.utc)).total_seconds() / 86_400
    assert result.cert_days_left == pytest.approx(left, abs=0.01)
    assert result.chain_days_left == pytest.approx(MIDDLE.days_left, abs=0.001)
    assert (result.chain_valid, result.name_valid, result.problems) == (True, True, 0)
    assert detail["problems"] == []
    assert detail["chain"][0]["signature"] == "ecdsa with sha256"
    assert result.handshake_ms > 0
    assert 0 < result.validation_ms < 100
    assert not result.ocsp_stapled
    assert not result.HasField("starttls_ms")
    assert not result.HasField("certificate_changed")


async def test_the_handshake_alone_is_timed(probe: Probe, tmp_path: Path) -> None:
    """A server that thinks for 150 ms before it answers the first message of the handshake."""
    context = server_context(tmp_path, leaf(), MIDDLE)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello = await reader.read(65_536)
        await asyncio.sleep(0.15)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)
        incoming.write(hello)
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        writer.write(outgoing.read())
        await reader.read(65_536)
        writer.close()

    async with served(slow) as port:
        outcome = await probe("tls", f"127.0.0.1:{port}")
    assert outcome.metrics.handshake_ms == pytest.approx(170, abs=25)
    assert outcome.metrics.connect_ms < 50
    assert outcome.metrics.bytes_sent > 200
    assert outcome.metrics.bytes_received > 1000


@pytest.mark.parametrize(
    ("chain", "words"),
    [
        (lambda: (leaf(days=-1), MIDDLE), "expired: the server's certificate was good until"),
        (lambda: (leaf(since_days=-2), MIDDLE), "not yet valid"),
        (lambda: (issue("self", names=NAMES),), "self-signed"),
        (lambda: (leaf(),), "missing intermediate"),
        (lambda: (issue("x", other := issue("Elsewhere", authority=True), names=NAMES), other), "unknown authority"),
        (lambda: (leaf(names=("other.test",)), MIDDLE), "host name mismatch: the certificate is for other.test, not for localhost"),
        (lambda: (leaf(for_servers=False), MIDDLE), "not for TLS servers"),
    ],
    ids=["expired", "not-yet", "self-signed", "missing", "unknown", "name", "purpose"],
)  # fmt: skip
async def test_each_problem_is_told_in_words(
    no_leak: None, serve: Serve, probe: Probe, chain: Callable[[], tuple[Issued, ...]], words: str
) -> None:
    """A failure where the test demands a valid chain, with everything measured; told all the same where not."""
    server = serve(*chain())
    failure = await failed(probe, f"localhost:{server.port}", words)
    assert failure.reason == probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
    assert failure.metrics.handshake_ms > 0
    assert failure.metrics.problems == 1
    assert not (failure.metrics.chain_valid and failure.metrics.name_valid)
    outcome = await probe("tls", f"localhost:{server.port}", verify=False)
    assert re.search(words, outcome.detail["problems"][0])
    assert outcome.metrics.problems == 1


async def test_weakness_is_told_and_is_no_failure(serve: Serve, probe: Probe) -> None:
    """A key of 1024 bits under a valid chain."""
    weak = leaf(key=rsa.generate_private_key(public_exponent=65537, key_size=1024))  # noqa: S505  what is to be found
    server = serve(weak, MIDDLE, ciphers="DEFAULT:@SECLEVEL=0")
    outcome = await probe("tls", f"localhost:{server.port}")
    assert (outcome.metrics.chain_valid, outcome.metrics.problems, outcome.metrics.key_bits) == (
        True,
        1,
        1024,
    )
    assert "weak key" in outcome.detail["problems"][0]


async def test_days_are_demanded_of_the_whole_chain(serve: Serve, probe: Probe) -> None:
    """The leaf is good for 30 days, the authority above it for 20."""
    server = serve()
    await probe("tls", f"localhost:{server.port}", min_days_left=19)
    failure = await failed(
        probe, f"localhost:{server.port}", "chain is good for 20.0 days; the test wants 21", min_days_left=21
    )
    assert failure.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS


async def test_chains_are_looked_at_up_to_a_length(serve: Serve, probe: Probe) -> None:
    """A server may send hundreds of certificates: 32 are looked at, and more are told as too many."""
    whole = await probe("tls", f"localhost:{serve(leaf(), *[MIDDLE] * 31).port}")
    assert whole.metrics.chain_length == len(whole.detail["chain"]) == 32
    failure = await failed(
        probe, f"localhost:{serve(leaf(), *[MIDDLE] * 40).port}", "shows 41 certificates, and more than 32"
    )
    assert failure.reason == probe_pb2.FAILURE_REASON_TOO_MUCH
    assert failure.metrics.chain_length == 41


async def test_names_are_asked_for_and_looked_for(serve: Serve, probe: Probe) -> None:
    """The name of the parameter goes before the destination's; addresses are found among the certificate's."""
    asked: list[str | None] = []
    server = serve(
        prepare=lambda context: setattr(context, "sni_callback", lambda _s, name, _c: asked.append(name))
    )
    await probe("tls", f"127.0.0.1:{server.port}", server_name="www.example.test")
    await probe("tls", f"127.0.0.1:{server.port}")
    await failed(probe, f"127.0.0.1:{server.port}", "mismatch", server_name="example.test")
    assert asked == ["www.example.test", None, "example.test"]


async def test_another_certificate_is_noticed(serve: Serve, probe: Probe, tmp_path: Path) -> None:
    """Unknown at first, then the same, then another one, then the same again."""
    context: list[ssl.SSLContext] = []
    server = serve(prepare=context.append)
    target = f"localhost:{server.port}"
    assert not (await probe("tls", target)).metrics.HasField("certificate_changed")
    assert (await probe("tls", target)).metrics.certificate_changed is False
    context[0].load_cert_chain(*write(tmp_path, leaf(), MIDDLE))
    assert (await probe("tls", target)).metrics.certificate_changed is True
    assert (await probe("tls", target)).metrics.certificate_changed is False
    # Another version may get another certificate, of another kind of key.
    newest = (await probe("tls", target, min_version="1.3")).metrics
    assert not newest.HasField("certificate_changed")


@pytest.mark.parametrize("kind", ["tls", "dns"])
@pytest.mark.parametrize("name", [".x", "a..b", ".", "a" * 64])
async def test_names_that_are_none_are_the_tests_fault(probe: Probe, kind: str, name: str) -> None:
    """Told before anything is sent: nothing listens there, and that is not what is told."""
    more = {"query_name": "example.org", "transport": "tls"} if kind == "dns" else {}
    with pytest.raises(ProbeFailure, match="correct the test's `server_name`") as caught:
        await probe(kind, f"127.0.0.1:{a_free_port()}", server_name=name, **more)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


async def test_old_versions_only_where_the_test_wants_them(serve: Serve, probe: Probe) -> None:
    """A server of TLS 1.1 fails the handshake unless 1.0 or 1.1 may be offered."""

    def prepare(context: ssl.SSLContext) -> None:
        context.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.deprecated_call():
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1

    server = serve(prepare=prepare)
    failure = await failed(probe, f"localhost:{server.port}", "handshake .* failed: .*version")
    assert failure.reason == probe_pb2.FAILURE_REASON_TLS_FAILED
    assert failure.metrics.connect_ms > 0
    assert not failure.metrics.HasField("handshake_ms")
    outcome = await probe("tls", f"localhost:{server.port}", min_version="1.0")
    assert outcome.metrics.tls_version == pytest.approx(1.1)


async def test_a_stapled_status_is_seen(probe: Probe, tmp_path: Path, free_port: int) -> None:
    """By openssl's own server, over both versions."""
    own = leaf()
    now = dt.datetime.now(dt.timezone.utc)
    status = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=own.certificate,
            issuer=MIDDLE.certificate,
            algorithm=hashes.SHA256(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + dt.timedelta(days=1),
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, MIDDLE.certificate)
        .sign(MIDDLE.key, hashes.SHA256())
    )
    file = tmp_path / "status.der"
    file.write_bytes(status.public_bytes(serialization.Encoding.DER))
    (tmp_path / "middle.pem").write_bytes(MIDDLE.pem)
    public, private = write(tmp_path, own)
    command = [
        "openssl", "s_server", "-accept", f"127.0.0.1:{free_port}", "-cert", str(public), "-key", str(private),
        "-cert_chain", str(tmp_path / "middle.pem"), "-status_file", str(file), "-quiet",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                outcome = await probe("tls", f"localhost:{free_port}", address_family="ipv4")
                break
            except ProbeFailure:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
    finally:
        process.kill()
        process.communicate()
    assert outcome.metrics.ocsp_stapled


@asynccontextmanager
async def mail_server(context: ssl.SSLContext, talk: list[tuple[str, str]]) -> AsyncIterator[int]:
    """Serve (what to wait for, what to answer), then TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for wanted, reply in talk:
            if wanted:
                line = (await reader.readline()).decode().strip()
                if not line.startswith(wanted):
                    writer.close()
                    return
            writer.write(reply.encode())
        # Python 3.11 stumbles over a client that is gone as soon as hands are shaken.
        with suppress(ConnectionError, AttributeError):
            await writer.start_tls(context)
            await reader.read(1)
            writer.close()

    async with served(answer) as port:
        yield port


TALKS = {
    "smtp": [
        ("", "220-mail.test\r\n220 ready\r\n"),
        ("EHLO ", "250-mail.test\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"),
        ("STARTTLS", "220 go ahead\r\n"),
    ],
    "imap": [("", "* OK ready\r\n"), ("s1 STARTTLS", "* CAPABILITY IMAP4rev2\r\ns1 OK begin\r\n")],
    "pop3": [("", "+OK ready\r\n"), ("STLS", "+OK begin\r\n")],
}


@pytest.mark.skipif(not hasattr(asyncio.StreamWriter, "start_tls"), reason="needs Python 3.11")
@pytest.mark.parametrize("protocol", ["smtp", "imap", "pop3"])
async def test_mail_servers_begin_tls_when_asked(
    probe: Probe, tmp_path: Path, protocol: str, no_leak: None
) -> None:
    """Greeting, command, consent; then the handshake."""
    async with mail_server(server_context(tmp_path, leaf(), MIDDLE), TALKS[protocol]) as port:
        outcome = await probe("tls", f"127.0.0.1:{port}", starttls=protocol)
    assert outcome.metrics.starttls_ms > 0
    assert outcome.metrics.chain_valid


@pytest.mark.parametrize(
    ("protocol", "talk", "words", "reason"),
    [
        ("smtp", [("", "554 no\r\n")], "answered `554 no` where 220", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("smtp", [("", "220 x\r\n"), ("EHLO", "250 SIZE\r\n")], "does not offer STARTTLS", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("imap", [("", "* BYE\r\n")], "greeted with", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("imap", [("", "* OK\r\n"), ("s1", "s1 BAD\r\n")], "`s1 BAD` to STARTTLS", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("pop3", [("", "+OK\r\n"), ("STLS", "-ERR\r\n")], "`-ERR` to STLS", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("pop3", [("", "+OK\r\n"), ("STLS", "+OK\r\nmore\r\n")], "sent more before TLS", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("pop3", [("", "x" * 10_000)], "a line of more than", probe_pb2.FAILURE_REASON_BAD_ANSWER),
        ("pop3", [("", "+OK\r\n"), ("NOTHING", "")], "closed the connection", probe_pb2.FAILURE_REASON_BROKEN_OFF),
    ],
)  # fmt: skip
async def test_mail_servers_that_do_not(
    probe: Probe, protocol: str, talk: list[tuple[str, str]], words: str, reason: int, no_leak: None
) -> None:
    """What they said is told."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for wanted, reply in talk:
            if wanted and not (await reader.readline()).startswith(wanted.encode()):
                break
            writer.write(reply.encode())
        if talk[-1][0] != "NOTHING":
            await reader.read(1000)
        writer.close()

    async with served(answer) as port:
        failure = await failed(probe, f"127.0.0.1:{port}", words, starttls=protocol, timeout_ms=3000)
    assert failure.reason == reason


async def test_silence_and_refusal(probe: Probe, no_leak: None) -> None:
    """Silence in the handshake is the network's and says where; a closed port is the target's."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with served(silent) as port:
        with pytest.raises(
            ProbeFailure, match="within 100 ms, while waiting for the TLS handshake"
        ) as caught:
            await probe("tls", f"127.0.0.1:{port}", timeout_ms=100)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
        assert caught.value.metrics.connect_ms > 0
        task = asyncio.ensure_future(probe("tls", f"127.0.0.1:{port}", timeout_ms=60_000))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await failed(probe, f"127.0.0.1:{a_free_port()}", "refused the connection")


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x03\xff\xff" + b"x" * 200,
        b"",
    ],
)
async def test_servers_that_do_not_speak_tls(probe: Probe, data: bytes, no_leak: None) -> None:
    """Plain HTTP, an alert, a record that is too long, nothing: each a sentence."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10_000)
        writer.write(data)
        writer.close()

    async with served(answer) as port:
        failure = await failed(probe, f"127.0.0.1:{port}", "handshake")
    assert failure.message.isprintable()
    assert failure.metrics.bytes_received == len(data)


async def test_the_policy_is_asked(probe: Probe, guard: RecordingGuard, serve: Serve) -> None:
    """Of the address that is used, with its port."""
    server = serve()
    guard.denied.add(f"127.0.0.1:{server.port}")
    with pytest.raises(ProbeFailure, match="denied"):
        await probe("tls", f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("days", "ahead_days", "words"),
    [
        (-1, 2, ""),
        (1, 0, ""),
        (1, -2, "expired: the server's certificate"),
        (-1, None, "expired: the server's certificate"),
    ],
)
async def test_certificates_are_judged_by_the_controllers_time(
    serve: Serve, guard: RecordingGuard, days: float, ahead_days: float | None, words: str
) -> None:
    """A host whose clock is ahead calls none expired that is not, one that is behind none good that has expired."""
    server = serve(leaf(days=days), MIDDLE)
    context = ProbeContext(
        guard=guard,
        resolve=system_resolver(),
        clock_offset_ms=None if ahead_days is None else ahead_days * 86_400_000,
    )
    target = contract.parse_target(contract.kind("tls"), f"localhost:{server.port}")
    spec = contract.make_spec("tls", {}).tls
    if words:
        with pytest.raises(ProbeFailure, match=words):
            await tls_probe.run(target, spec, context)
        return
    result = (await tls_probe.run(target, spec, context)).metrics
    assert result.chain_valid
    assert result.cert_days_left == pytest.approx(days + (ahead_days or 0), abs=0.01)


@pytest.fixture
def trusting_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process knows no authority, as on a host without their package."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nobody.pem"))
    tls.client_context.cache_clear()
    yield
    tls.client_context.cache_clear()


@pytest.mark.usefixtures("trusting_nobody")
@pytest.mark.parametrize("kind", ["tls", "http"])
async def test_a_host_without_authorities_cannot_judge(serve: Serve, probe: Probe, kind: str) -> None:
    """Its own want, not the server's fault; what else there is to say of the chain is said."""
    server = serve()
    target = f"localhost:{server.port}" if kind == "tls" else f"https://localhost:{server.port}/"
    with pytest.raises(
        ProbeFailure, match=r"this host knows no certificate authorities; install them"
    ) as caught:
        await probe(kind, target)
    assert (caught.value.status, caught.value.source, caught.value.reason) == (
        probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
    )  # fmt: skip
    if kind == "http":
        return
    for name in ("chain_valid", "validation_ms"):
        assert not caught.value.metrics.HasField(name)
    assert caught.value.metrics.name_valid
    outcome = await probe("tls", target, verify=False)
    assert not outcome.metrics.HasField("chain_valid")


@pytest.mark.usefixtures("trusting_nobody")
async def test_what_is_wrong_by_itself_is_so_without_authorities(serve: Serve, probe: Probe) -> None:
    """A chain that is out of time."""
    server = serve(leaf(days=-1), MIDDLE)
    failure = await failed(probe, f"localhost:{server.port}", "expired: the server's certificate")
    assert failure.metrics.HasField("chain_valid")
    assert not failure.metrics.chain_valid


def test_authorities_may_lie_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is read when one is looked for."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nobody.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "folder"))
    tls.client_context.cache_clear()
    (tmp_path / "folder").mkdir()
    assert not tls.knows_authorities()
    (tmp_path / "folder/5ed36f99.0").write_bytes(ROOT.pem)
    assert tls.knows_authorities()
    tls.client_context.cache_clear()
