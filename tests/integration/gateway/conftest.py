"""A gateway that really serves, on a real database, and a scripted worker that speaks to it over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import gc
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from grpc import aio
from sqlalchemy import Engine
from sqlalchemy.orm import Session
from support.database import query

from controller.gateway.server import RunningGateway, running
from controller.settings import Settings
from controller.store.commands.enrolment import make_enrolment_token
from streamswarm.v1 import gateway_pb2, gateway_pb2_grpc, probe_pb2
from streamswarm.v1.gateway_pb2 import GatewayMessage, WorkerMessage


def make_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh key as workers make them."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Any) -> bytes:
    """Return a private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_csr(key: Any, *names: x509.GeneralName) -> bytes:
    """Return a request in DER, optionally asking for names."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


@dataclass(kw_only=True)
class Identity:
    """What an enrolled worker holds."""

    worker_id: uuid.UUID
    key_pem: bytes
    chain_pem: bytes
    ca_pem: bytes

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf."""
        return x509.load_pem_x509_certificate(self.chain_pem)

    @property
    def serial(self) -> str:
        """The leaf's serial number as the store writes it."""
        return f"{self.certificate.serial_number:x}"

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials to dial with."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.chain_pem)


@contextlib.asynccontextmanager
async def channel_to(port: int, credentials: grpc.ChannelCredentials) -> AsyncIterator[aio.Channel]:
    """A channel with a connection of its own."""
    channel = aio.secure_channel(
        f"127.0.0.1:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    )
    try:
        yield channel
    finally:
        await channel.close()


class Script:
    """One session, driven by hand."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.welcome = gateway_pb2.Welcome()
        #: Everything that was read so far.
        self.heard: list[GatewayMessage] = []

    async def hello(self, *, spool_id: str = "spool-a", **fields: Any) -> gateway_pb2.Welcome:
        """Open the session and return the Welcome."""
        fields = {"contract_version": 1, "worker_version": "test", "next_seq": 1, **fields}
        await self.send(hello=gateway_pb2.Hello(spool_id=spool_id, **fields))
        self.welcome = (await self.expect("welcome")).welcome
        return self.welcome

    async def send(self, **message: Any) -> None:
        """Send one message."""
        await self.call.write(WorkerMessage(**message))

    async def results(self, results: Sequence[probe_pb2.Result], seqs: Sequence[int]) -> None:
        """Send a batch under the session's spool."""
        await self.send(
            results=gateway_pb2.ResultBatch(
                spool_id=self.welcome.spool_id,
                seqs=seqs,
                results=[result.SerializeToString() for result in results],
            )
        )

    async def read(self, timeout_s: float = 10) -> GatewayMessage:
        """Return the next message; raises AioRpcError at the end of the call."""
        message = await asyncio.wait_for(self.call.read(), timeout_s)
        if message is aio.EOF:
            raise EOFError(f"{await self.call.code()}: {await self.call.details()}")
        self.heard.append(message)
        return message

    async def expect(self, kind: str, timeout_s: float = 10) -> GatewayMessage:
        """Return the next message of that kind; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                message = await self.read(timeout_s)
                if message.WhichOneof("message") == kind:
                    return message

    async def expect_ack(self, seq: int, timeout_s: float = 10) -> None:
        """Wait until everything up to `seq` is acknowledged."""
        while (await self.expect("ack", timeout_s)).ack.acked_seq < seq:
            pass

    async def ending(self, timeout_s: float = 12) -> tuple[str, grpc.StatusCode]:
        """Read to the end; return the goodbye's reason, empty when there was none, and the status."""
        reason = ""
        async with asyncio.timeout(timeout_s):
            try:
                while True:
                    message = await self.read(timeout_s)
                    if message.WhichOneof("message") == "goodbye":
                        reason = gateway_pb2.Goodbye.Reason.Name(message.goodbye.reason)
            except (EOFError, aio.AioRpcError):
                return reason.removeprefix("REASON_"), await self.call.code()


@contextlib.asynccontextmanager
async def session_to(port: int, credentials: grpc.ChannelCredentials) -> AsyncIterator[Script]:
    """A session's stream on a connection of its own."""
    async with channel_to(port, credentials) as channel:
        yield Script(gateway_pb2_grpc.GatewayStub(channel).Session())


class Deployment:
    """A gateway under test and the database beneath it."""

    def __init__(self, gateway: RunningGateway, settings: Settings, engine: Engine) -> None:
        self.gateway = gateway
        self.settings = settings
        self.engine = engine

    def token(self, host_name: str, *, minutes: float = 15) -> str:
        """Make an enrolment token."""
        with Session(self.engine) as session, session.begin():
            return make_enrolment_token(session, host_name, minutes=minutes)

    async def request_enrolment(self, token: str, host_name: str, csr_der: bytes) -> gateway_pb2.EnrolReply:
        """Ask for enrolment over the real listener."""
        credentials = grpc.ssl_channel_credentials(self.gateway.authority.bundle_pem)
        async with channel_to(self.gateway.enrolment_port, credentials) as channel:
            request = gateway_pb2.EnrolRequest(token=token, host_name=host_name, csr_der=csr_der)
            return await gateway_pb2_grpc.EnrolmentStub(channel).Enrol(request, timeout=10)

    async def enrol(self, host_name: str) -> Identity:
        """Enrol a worker the regular way."""
        key = make_key()
        reply = await self.request_enrolment(self.token(host_name), host_name, make_csr(key))
        return Identity(
            worker_id=uuid.UUID(reply.worker_id),
            key_pem=key_pem(key),
            chain_pem=reply.certificate_chain_pem,
            ca_pem=reply.ca_bundle_pem,
        )

    def session(self, identity: Identity) -> contextlib.AbstractAsyncContextManager[Script]:
        """Dial the session listener."""
        return session_to(self.gateway.session_port, identity.credentials)

    def sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, if it has any."""
        return query(self.settings, statement, *values)

    def job(self, worker_id: uuid.UUID, kind: str = "ping", *, one_shot: bool = False) -> int:
        """Write a test with one job, as planning would; return the job's id."""
        name = f"test {uuid.uuid4()}"
        test_id = self.sql(
            "INSERT INTO tests (name, kind, spec, interval_s) VALUES (%s, %s, '{}', 2) RETURNING id",
            name,
            kind,
        )[0][0]
        job_id = self.sql(
            "INSERT INTO jobs (test_id, worker_id, kind, target, spec, interval_us, anchor_us, one_shot) "
            "VALUES (%s, %s, %s, '127.0.0.1', %s::jsonb, 2000000, 0, %s) RETURNING id",
            test_id,
            worker_id,
            kind,
            json.dumps({}),
            one_shot,
        )[0][0]
        self.sql("UPDATE workers SET jobs_revision = jobs_revision + 1 WHERE id = %s", worker_id)
        return int(job_id)


def make_result(
    job_id: int, number: int, *, at: dt.datetime | None = None, **fields: Any
) -> probe_pb2.Result:
    """Return a good ping result for the `number`th due instant of today."""
    start = at or dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    scheduled = int(start.timestamp()) * 1_000_000 + number * 2_000_000
    result = probe_pb2.Result(
        job_id=job_id,
        job_version=1,
        scheduled_at_us=scheduled,
        started_at_us=scheduled + 150,
        duration_ms=12.5,
        status=probe_pb2.STATUS_OK,
    )
    result.ping.packets_sent = 3
    result.ping.packets_received = 3
    result.ping.loss_pct = 0
    result.ping.rtt_avg_ms = 1.25 + number
    for name, value in fields.items():
        setattr(result, name, value)
    return result


@pytest.fixture
def gateway_settings(settings: Settings) -> Settings:
    """Settings of a gateway on free ports."""
    return dataclasses.replace(settings, gateway_listen="127.0.0.1:0", enrolment_listen="127.0.0.1:0")


@pytest.fixture
async def deployment(gateway_settings: Settings, engine: Engine) -> AsyncIterator[Deployment]:
    """A running gateway that looks for changes five times a second."""
    async with running(gateway_settings, interval_s=0.2) as gateway:
        yield Deployment(gateway, gateway_settings, engine)
        # Calls of clients know themselves; in one process with them a server that ends waits a minute for such garbage.
        gc.collect()


@pytest.fixture
def results_of() -> Callable[..., probe_pb2.Result]:
    """The maker of results."""
    return make_result


@pytest.fixture
def tools() -> Any:
    """What tests need of this module, which they cannot import."""
    return _Tools


class _Tools:
    make_key = staticmethod(make_key)
    key_pem = staticmethod(key_pem)
    make_csr = staticmethod(make_csr)
    make_result = staticmethod(make_result)
    channel_to = staticmethod(channel_to)
    session_to = staticmethod(session_to)
    Identity = Identity
    Deployment = Deployment
