"""Whoever is refused leaves one clear line in the gateway's log, and no stack trace.

What fails in the handshake is told by gRPC itself, in its own form with OpenSSL's reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import socket
import ssl
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio
from support.forgery import NOW, SERVER, Forger, Forgery, worker_uri
from support.installation import Installation, installation
from support.surroundings import wait_for

from controller.gateway.authority import Authority
from streamswarm.v1 import gateway_pb2

Attempt = Callable[[], Awaitable[None]]


class Knocker:
    """Somebody at a gateway's door, who makes one attempt at a time."""

    def __init__(self, made: Installation, tools: Any) -> None:
        host, _, port = made.settings.gateway_addresses[0].partition(":")
        self._address, self.port = (host, int(port)), int(port)
        self._made, self._tools = made, tools

    async def plain(self) -> None:
        """Speak HTTP without TLS."""
        with socket.create_connection(self._address, timeout=5) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await asyncio.to_thread(sock.recv, 100) == b""

    def shake(self, shown: Forgery | None = None, *, newest: Any = ssl.TLSVersion.TLSv1_3) -> Attempt:
        """Do a handshake with what is shown; fails when the server takes it."""

        async def attempt() -> None:
            with pytest.raises(OSError) as refused:
                await asyncio.to_thread(self._shake, shown, newest)
            assert not isinstance(refused.value, TimeoutError)

        return attempt

    def replay(self, shown: Forgery) -> Attempt:
        """Send again, byte by byte, what a worker has sent to open its session."""

        async def attempt() -> None:
            recorded = await asyncio.to_thread(self._record, shown)
            assert len(recorded) > 1_000, "nothing of a session was recorded"
            with socket.create_connection(self._address, timeout=5) as sock:
                sock.sendall(recorded)
                with contextlib.suppress(ConnectionResetError):
                    while await asyncio.to_thread(sock.recv, 10_000):
                        pass

        return attempt

    def call(
        self, shown: Forgery, *hellos: gateway_pb2.Hello, code: grpc.StatusCode, welcome: bool = False
    ) -> Attempt:
        """Open a session, say Hello so many times, and wait for the end.

        Who is refused before a Hello says none: gRPC tells of a message that could not be sent any more instead of the
        refusal.
        """

        async def attempt() -> None:
            async with self._tools.session_to(self.port, shown.credentials) as session:
                for hello in hellos:
                    with contextlib.suppress(aio.AioRpcError, asyncio.InvalidStateError):
                        await session.send(hello=hello)
                _, found = await session.ending()
                assert found is code
                heard = [message.WhichOneof("message") for message in session.heard]
                assert ("welcome" in heard) == welcome

        return attempt

    def method(self, shown: Forgery, method: str) -> Attempt:
        """Call a method that this listener does not serve."""

        async def attempt() -> None:
            async with self._tools.channel_to(self.port, shown.credentials) as channel:
                with pytest.raises(aio.AioRpcError) as refused:
                    await channel.unary_unary(method)(b"", timeout=5)
                assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED

        return attempt

    def _shake(self, shown: Forgery | None, newest: Any) -> None:
        with (
            socket.create_connection(self._address, timeout=5) as sock,
            self._context(shown, newest).wrap_socket(sock) as secured,
        ):
            # By TLS 1.3 the server looks at the certificate when the client has finished already.
            if secured.recv(100) == b"":
                raise ConnectionResetError("the server has closed the connection")
            pytest.fail("the server speaks")

    def _record(self, shown: Forgery) -> bytes:
        """Return the bytes that a client sends through its handshake and the beginning of HTTP/2."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        secured = self._context(shown, ssl.TLSVersion.TLSv1_3).wrap_bio(incoming, outgoing)
        recorded = b""
        with socket.create_connection(self._address, timeout=5) as sock:
            while True:
                try:
                    secured.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    recorded += self._send(sock, outgoing)
                    incoming.write(sock.recv(20_000))
            secured.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            recorded += self._send(sock, outgoing)
            assert sock.recv(100), "the true one was taken"
        return recorded

    @staticmethod
    def _send(sock: socket.socket, outgoing: ssl.MemoryBIO) -> bytes:
        data = outgoing.read()
        sock.sendall(data)
        return data

    def _context(self, shown: Forgery | None, newest: Any) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = newest
        context.set_alpn_protocols(["h2"])
        if shown is not None:
            path = self._made.folder / f"{uuid.uuid4()}.pem"
            path.write_bytes(shown.chain_pem + shown.key_pem)
            context.load_cert_chain(path)
        return context


_HELLO = gateway_pb2.Hello(spool_id="spool", contract_version=1, next_seq=1)


@pytest.fixture(scope="module")
def made() -> Iterator[Installation]:
    """A gateway as a process of its own: gRPC writes to its standard error by itself."""
    with installation(gateways=1) as running:
        running.gateways[0].start()
        wait_for("the gateway", lambda: "listens on" in running.gateways[0].said(), 60)
        yield running


def _attempts(made: Installation, tools: Any, folder: Path) -> Iterator[tuple[str, str, Attempt]]:
    """Yield every wrong way in, with the words that its line in the log must have."""
    ((found,),) = made.sql(
        "INSERT INTO workers (name, host_name, enrolled_at) VALUES (%s, %s, now()) RETURNING id",
        *[f"host-{uuid.uuid4()}"] * 2,
    )
    worker_id = uuid.UUID(str(found))
    forger = Forger(made.settings, made.sql, ca_pem=made.authority.bundle_pem, worker_id=worker_id)
    knocker = Knocker(made, tools)
    name = [worker_uri(worker_id)]
    foreign = Authority(dataclasses.replace(made.settings, data_dir=folder / "foreign"))
    key = tools.make_key()
    stranger = Forgery(
        key_pem=tools.key_pem(key),
        chain_pem=foreign.issue(tools.make_csr(key), worker_id).chain_pem,
        ca_pem=made.authority.bundle_pem,
    )
    unknown, denied = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT
    failed = "CERTIFICATE_VERIFY_FAILED"
    yield "plain text", "HTTP_REQUEST", knocker.plain
    yield "TLS 1.2", "NO_SHARED_CIPHER", knocker.shake(newest=ssl.TLSVersion.TLSv1_2)
    yield "no certificate", "PEER_DID_NOT_RETURN_A_CERTIFICATE", knocker.shake()
    yield "for servers", failed, knocker.shake(forger.forge(name, usage=SERVER))
    yield "expired", failed, knocker.shake(forger.forge(name, until=NOW - dt.timedelta(hours=1)))
    yield "foreign authority", failed, knocker.shake(stranger)
    yield "replayed bytes", "Handshake failed", knocker.replay(forger.forge(name))
    two = [*name, worker_uri(uuid.uuid4())]
    yield "two names", "exactly one SPIFFE id", knocker.call(forger.forge(two), code=unknown)
    other = [worker_uri(worker_id, domain="elsewhere.example")]
    yield "another trust domain", "not one of a worker here", knocker.call(forger.forge(other), code=unknown)
    beside = [*name, x509.DNSName("localhost")]
    yield "a name beside", "names beside its SPIFFE id", knocker.call(forger.forge(beside), code=unknown)
    for_all = forger.forge(name, usage=None)
    yield "no purpose", "lacks a name or a purpose", knocker.call(for_all, code=unknown)
    yield "an intermediate", "Handshake failed", knocker.shake(forger.intermediate())
    unlisted = forger.forge(name, listed=False)
    yield "not listed", "not listed as valid", knocker.call(unlisted, _HELLO, code=unknown)
    revoked = forger.forge(name)
    serial = f"{x509.load_pem_x509_certificate(revoked.chain_pem).serial_number:x}"
    made.sql("UPDATE certificates SET revoked_at = now() WHERE serial = %s", serial)
    yield "revoked", "not listed as valid", knocker.call(revoked, _HELLO, code=unknown)
    twice = knocker.call(forger.forge(name), _HELLO, _HELLO, code=denied, welcome=True)
    yield "Hello twice", "Hello came twice on one stream", twice
    nameless = gateway_pb2.Hello(contract_version=1)
    yield "no spool", "Hello must name a spool", knocker.call(forger.forge(name), nameless, code=denied)
    method = "/streamswarm.v1.Enrolment/Enrol"
    yield "a method not served here", "does not serve it", knocker.method(forger.forge(name), method)


async def test_each_refusal_is_one_clear_line(made: Installation, tools: Any, tmp_path: Path) -> None:
    """Foreign, expired, revoked, wrong in name or purpose, replayed, without TLS: refused, told once, no trace."""
    gateway = made.gateways[0]
    for what, words, attempt in _attempts(made, tools, tmp_path):
        before = len(gateway.said())
        await attempt()
        async with asyncio.timeout(10):
            while words not in gateway.said()[before:]:
                await asyncio.sleep(0.05)
        new = [
            line
            for line in gateway.said()[before:].splitlines()
            if line.strip() and " has session " not in line
        ]
        assert len(new) == 1, (what, new)
        assert words in new[0], (what, new)
    assert "Traceback" not in gateway.said()
    assert made.sql("SELECT count(*) FROM result_ping") == [(0,)]
