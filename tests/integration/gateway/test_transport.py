"""Who gets through the door: certificates of every wrong sort, the table of methods, and TLS versions."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc import aio
from support.forgery import NOW, SERVER, Forger, worker_uri

from controller.errors import ConfigurationError, PortInUseError
from controller.gateway.authority import Authority
from controller.gateway.identity import METHOD_ROLES, Role
from controller.gateway.server import running
from streamswarm.v1 import gateway_pb2


def _forger(deployment: Any, worker_id: uuid.UUID) -> Forger:
    ca_pem = deployment.gateway.authority.bundle_pem
    return Forger(deployment.settings, deployment.sql, ca_pem=ca_pem, worker_id=worker_id)


async def _refusal(deployment: Any, tools: Any, credentials: grpc.ChannelCredentials) -> grpc.StatusCode:
    """Say Hello with these credentials; return the code of the refusal, and fail if there is a Welcome.

    Hello is said only to a gateway that does not refuse at once: gRPC tells of a message that could not be sent any
    more instead of the refusal.
    """
    try:
        async with tools.session_to(deployment.gateway.session_port, credentials) as session:
            ending = asyncio.ensure_future(session.ending())
            ended, _ = await asyncio.wait([ending], timeout=1)
            if not ended:
                await session.send(hello=gateway_pb2.Hello(spool_id="s", contract_version=1))
            _, code = await ending
            assert not [heard for heard in session.heard if heard.WhichOneof("message") == "welcome"]
            return code
    except aio.AioRpcError as error:
        return error.code()


async def test_a_forged_certificate_that_is_in_order_is_heard(deployment: Any, tools: Any) -> None:
    """The forger's good certificate gets in, so that the refusals below are for what they say."""
    worker = await deployment.enrol("host-a")
    forger = _forger(deployment, worker.worker_id)
    credentials = forger.credentials([worker_uri(worker.worker_id)])
    async with tools.session_to(deployment.gateway.session_port, credentials) as session:
        await session.hello()


_FORGERIES: dict[str, Callable[[Forger, uuid.UUID], grpc.ChannelCredentials]] = {
    "two SPIFFE ids": lambda f, w: f.credentials([worker_uri(w), worker_uri(uuid.uuid4())]),
    "a DNS name beside it": lambda f, w: f.credentials([worker_uri(w), x509.DNSName("localhost")]),
    "no name": lambda f, w: f.credentials([]),
    "a gateway's name": lambda f, w: f.credentials([worker_uri(w, kind="gateway")]),
    "another trust domain": lambda f, w: f.credentials([worker_uri(w, domain="elsewhere.example")]),
    "a worker that is not its own": lambda f, w: f.credentials([worker_uri(uuid.uuid4())]),
    "upper case": lambda f, w: f.credentials(
        [x509.UniformResourceIdentifier(f"spiffe://streamswarm.local/worker/{w}".replace("a", "A"))]
    ),
    "not listed": lambda f, w: f.credentials([worker_uri(w)], listed=False),
    "for servers": lambda f, w: f.credentials([worker_uri(w)], usage=SERVER),
    "for anything": lambda f, w: f.credentials([worker_uri(w)], usage=None),
    "expired": lambda f, w: f.credentials([worker_uri(w)], until=NOW - dt.timedelta(hours=1)),
}


@pytest.mark.parametrize("forgery", _FORGERIES)
async def test_wrong_certificates_are_refused(deployment: Any, tools: Any, forgery: str) -> None:
    """A certificate that our own authority signed, and the database lists, is refused for what it says."""
    worker = await deployment.enrol("host-a")
    credentials = _FORGERIES[forgery](_forger(deployment, worker.worker_id), worker.worker_id)
    code = await _refusal(deployment, tools, credentials)
    by_handshake = forgery in ("for servers", "expired")
    assert code is (grpc.StatusCode.UNAVAILABLE if by_handshake else grpc.StatusCode.UNAUTHENTICATED)
    assert deployment.sql("SELECT session_epoch FROM workers") == [(0,)]


async def test_a_foreign_authority_and_no_certificate_fail_the_handshake(
    deployment: Any, tools: Any, tmp_path: Any
) -> None:
    """Neither gets as far as a call."""
    worker = await deployment.enrol("host-a")
    key, csr = (made := tools.make_key()), tools.make_csr(made)
    foreign = Authority(dataclasses.replace(deployment.settings, data_dir=tmp_path / "foreign"))
    chain = foreign.issue(csr, worker.worker_id).chain_pem
    bundle = deployment.gateway.authority.bundle_pem
    for credentials in (
        grpc.ssl_channel_credentials(bundle, tools.key_pem(key), chain),
        grpc.ssl_channel_credentials(bundle),
    ):
        assert await _refusal(deployment, tools, credentials) is grpc.StatusCode.UNAVAILABLE


async def test_plain_text_is_not_spoken(deployment: Any) -> None:
    """Without TLS there is no call on either listener."""
    for port in (deployment.gateway.session_port, deployment.gateway.enrolment_port):
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(aio.AioRpcError) as refused:
                await channel.unary_unary("/streamswarm.v1.Enrolment/Enrol")(b"", timeout=5)
            assert refused.value.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
            )


async def test_a_session_ends_when_its_certificate_expires(deployment: Any, tools: Any) -> None:
    """Within a few looks after notAfter the stream is closed, though the handshake was long ago."""
    worker = await deployment.enrol("host-a")
    forger = _forger(deployment, worker.worker_id)
    until = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(seconds=3)
    credentials = forger.credentials([worker_uri(worker.worker_id)], until=until)
    async with tools.session_to(deployment.gateway.session_port, credentials) as session:
        await session.hello()
        assert await session.ending() == ("EXPIRED", grpc.StatusCode.UNAVAILABLE)
        assert dt.datetime.now(dt.UTC) - until < dt.timedelta(seconds=3)


async def test_every_method_is_served_on_its_own_listener_only(deployment: Any, tools: Any) -> None:
    """All methods of both services, and one that does not exist, on both listeners: denied unless in the table."""
    worker = await deployment.enrol("host-a")
    services = gateway_pb2.DESCRIPTOR.services_by_name.values()
    methods = [f"/{service.full_name}/{method.name}" for service in services for method in service.methods]
    assert set(methods) == set(METHOD_ROLES)
    listeners = {
        Role.WORKER: (deployment.gateway.session_port, worker.credentials),
        Role.NEWCOMER: (
            deployment.gateway.enrolment_port,
            grpc.ssl_channel_credentials(deployment.gateway.authority.bundle_pem),
        ),
    }
    for role, (port, credentials) in listeners.items():
        for method in [*methods, "/streamswarm.v1.Gateway/Nothing", "/grpc.health.v1.Health/Check"]:
            async with tools.channel_to(port, credentials) as channel:
                with pytest.raises(aio.AioRpcError) as ended:
                    # An empty message is a wrong start of a session and of an enrolment: no method answers OK.
                    await channel.unary_unary(method)(b"", timeout=5)
                denied = ended.value.code() is grpc.StatusCode.PERMISSION_DENIED
                assert denied == (METHOD_ROLES.get(method) is not role), (role, method)


_SERVE = """
import {first}
import asyncio, dataclasses, sys
from controller.gateway.server import running
from controller.settings import Settings
async def main():
    async with running(Settings.load()) as gateway:
        print(gateway.session_port, gateway.enrolment_port, flush=True)
        {then}
        await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def _handshake(port: int, version: ssl.TLSVersion, *, pause_s: float = 0.0) -> str | None:
    """Return the version of a handshake at that version, None when it is refused; `pause_s` after the connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            time.sleep(pause_s)
            with context.wrap_socket(plain) as secured:
                return secured.version()
    except OSError:
        return None


async def test_a_handshake_that_takes_long_is_waited_for(deployment: Any) -> None:
    """Workers that all come back at once wait for one another's; strangers who would enrol get ten seconds."""
    found = [
        await asyncio.gather(
            asyncio.to_thread(
                _handshake, deployment.gateway.session_port, ssl.TLSVersion.TLSv1_3, pause_s=pause_s
            ),
            asyncio.to_thread(
                _handshake, deployment.gateway.enrolment_port, ssl.TLSVersion.TLSv1_3, pause_s=pause_s
            ),
        )
        for pause_s in (5.0, 12.0)
    ]
    assert found == [["TLSv1.3", "TLSv1.3"], ["TLSv1.3", None]]


def test_only_tls_1_3_is_spoken(gateway_settings: Any) -> None:
    """A gateway process refuses TLS 1.2 on both listeners, with OpenSSL at the other end."""
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            _SERVE.format(first="controller.gateway", then="await gateway.check_transport()"),
        ],
        env={**gateway_settings.environment(), "PATH": "/usr/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        ports = [int(port) for port in process.stdout.readline().split()]
        found = [
            [_handshake(port, version) for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)]
            for port in ports
        ]
        process.communicate("", timeout=30)
    assert found == [[None, "TLSv1.3"], [None, "TLSv1.3"]]
    assert process.returncode == 0


def test_a_gateway_that_would_speak_tls_1_2_does_not_start(gateway_settings: Any) -> None:
    """When gRPC was imported before its setting, the check at start-up notices, and no older TLS is heard anyway."""
    done = subprocess.run(
        [sys.executable, "-c", _SERVE.format(first="grpc", then="await gateway.check_transport()")],
        env={**gateway_settings.environment(), "PATH": "/usr/bin"},
        input="",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "accepts TLS 1.2" in done.stderr


async def test_a_port_that_is_taken_is_named(deployment: Any, gateway_settings: Any) -> None:
    """A second gateway on the same port says which port it is and what to do, and leaves nothing running."""
    port = deployment.gateway.session_port
    taken = dataclasses.replace(gateway_settings, gateway_name="second", gateway_listen=f"127.0.0.1:{port}")
    with pytest.raises(PortInUseError, match=f"port {port} ") as refused:
        async with running(taken):
            pytest.fail("two gateways share a port")
    assert "STREAMSWARM_GATEWAY_LISTEN" in refused.value.mend
    away = dataclasses.replace(gateway_settings, gateway_name="third", gateway_listen="192.0.2.1:0")
    with pytest.raises(ConfigurationError, match=r"192\.0\.2\.1"):
        async with running(away):
            pytest.fail("listens on an address that this host has not")
