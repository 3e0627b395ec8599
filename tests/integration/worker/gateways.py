"""A certificate authority and a gateway that speak the session protocol over real TLS and can be told to misbehave."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from streamswarm.v1 import gateway_pb2, gateway_pb2_grpc, probe_pb2

DOMAIN = "test.example"


class Authority:
    """A root that signs gateways and workers."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"root {uuid.uuid4()}")])
        builder = self._builder(self._name, self._key.public_key(), 3600.0)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._root = builder.sign(self._key, hashes.SHA256())
        self.pem = self._root.public_bytes(serialization.Encoding.PEM)

    def gateway(self, *, names: tuple[str, ...] = ("127.0.0.1",)) -> tuple[bytes, bytes]:
        """Return key and certificate of a gateway that is reached under those addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        sans: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name)) for name in names]
        sans.append(x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/gateway/one"))
        certificate = self._leaf(key.public_key(), sans, ExtendedKeyUsageOID.SERVER_AUTH, 3600.0)
        return _key_pem(key), certificate

    def worker(self, csr_der: bytes, worker_id: str, *, life_s: float = 3600.0, age_s: float = 0.0) -> bytes:
        """Return the certificate of a worker for its request."""
        request = x509.load_der_x509_csr(csr_der)
        assert request.is_signature_valid
        key = request.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        san = x509.UniformResourceIdentifier(f"spiffe://{DOMAIN}/worker/{worker_id}")
        return self._leaf(key, [san], ExtendedKeyUsageOID.CLIENT_AUTH, life_s, age_s)

    def _leaf(
        self,
        key: Any,
        sans: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        life_s: float,
        age_s: float = 0.0,
    ) -> bytes:
        builder = self._builder(x509.Name([]), key, life_s, age_s)
        builder = builder.add_extension(x509.SubjectAlternativeName(sans), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(
        self, subject: x509.Name, key: Any, life_s: float, age_s: float = 0.0
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(seconds=age_s))
            .not_valid_after(now + datetime.timedelta(seconds=life_s))
        )


class Gateway(gateway_pb2_grpc.GatewayServicer, gateway_pb2_grpc.EnrolmentServicer):  # type: ignore[misc]
    """Keeps what it is sent as a controller would; the attributes say how it behaves."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.worker_id = str(uuid.uuid4())
        self.token = "the-token"
        self.certificate_life_s = 3600.0
        self.jobs: list[probe_pb2.Job] = []
        self.revision = 1
        self.credit_results = 1000
        self.credit_bytes = 1024 * 1024
        self.heartbeat_s = 1
        self.clock_ahead_us = 0
        #: Results arrive and are kept, but are not acknowledged.
        self.hold_acks = False
        #: So many batches are kept and the stream is then broken instead of acknowledged.
        self.break_after_keeping = 0
        #: Sent instead of Welcome, once per entry.
        self.goodbyes: list[gateway_pb2.Goodbye] = []
        #: Ends sessions at Hello.
        self.refuse: tuple[grpc.StatusCode, str] | None = None
        #: Welcome is made so long after Hello has come.
        self.welcome_late_s = 0.0
        #: Heartbeats are not answered, and nothing else is said.
        self.mute = False
        #: Added to every acknowledgement.
        self.ack_too_far = 0

        self.hellos: list[gateway_pb2.Hello] = []
        self.heartbeats: list[gateway_pb2.Heartbeat] = []
        self.serials: list[int] = []
        self.renewals = 0
        #: Every delivery, in order: (spool_id, seq, result).
        self.deliveries: list[tuple[str, int, probe_pb2.Result]] = []
        #: What a controller would have: one result per job and instant.
        self.stored: dict[tuple[int, int], probe_pb2.Result] = {}
        self.acked: dict[str, int] = {}
        self.most_unacked = 0
        self._unacked = 0
        self._outgoing: set[asyncio.Queue[gateway_pb2.GatewayMessage]] = set()
        self._server: grpc.aio.Server | None = None
        self.port = 0
        self.enrolment_port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self, port: int = 0) -> None:
        """Listen for sessions, on the given port if there is one, and for enrolment on another."""
        pair = self.authority.gateway()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        gateway_pb2_grpc.add_GatewayServicer_to_server(self, self._server)
        gateway_pb2_grpc.add_EnrolmentServicer_to_server(self, self._server)
        mutual = grpc.ssl_server_credentials([pair], self.authority.pem, True)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", mutual)
        self.enrolment_port = self._server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def send_all(self, message: gateway_pb2.GatewayMessage) -> None:
        """Say something in every open session."""
        for queue in self._outgoing:
            queue.put_nowait(message)

    @property
    def sessions(self) -> int:
        return len(self._outgoing)

    def release_acks(self) -> None:
        self.hold_acks = False
        self._unacked = 0
        for spool_id in list(self.acked):
            self.send_all(self._ack(spool_id))

    async def Enrol(self, request: gateway_pb2.EnrolRequest, context: Any) -> gateway_pb2.EnrolReply:  # noqa: N802
        if request.token != self.token:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "the token is unknown, used or expired")
        self.token = "used"
        return gateway_pb2.EnrolReply(
            worker_id=self.worker_id,
            certificate_chain_pem=self.authority.worker(
                request.csr_der, self.worker_id, life_s=self.certificate_life_s
            ),
            ca_bundle_pem=self.authority.pem,
            trust_domain=DOMAIN,
            gateways=[self.address],
        )

    async def Session(  # noqa: N802
        self, requests: AsyncIterator[gateway_pb2.WorkerMessage], context: Any
    ) -> AsyncIterator[gateway_pb2.GatewayMessage]:
        (peer,) = context.auth_context()["x509_pem_cert"]
        self.serials.append(x509.load_pem_x509_certificate(peer).serial_number)
        first = await requests.__anext__()
        hello = first.hello
        self.hellos.append(hello)
        if self.refuse is not None:
            await context.abort(*self.refuse)
        if self.goodbyes:
            yield gateway_pb2.GatewayMessage(goodbye=self.goodbyes.pop(0))
            return
        await asyncio.sleep(self.welcome_late_s)
        yield gateway_pb2.GatewayMessage(
            welcome=gateway_pb2.Welcome(
                session_epoch=len(self.hellos),
                spool_id=hello.spool_id,
                acked_seq=self.acked.get(hello.spool_id, 0),
                credit_results=self.credit_results,
                credit_bytes=self.credit_bytes,
                clock_us=self._now_us(),
                hello_clock_us=hello.clock_us,
                worker_id=self.worker_id,
                heartbeat_s=self.heartbeat_s,
            )
        )
        yield gateway_pb2.GatewayMessage(
            jobs=gateway_pb2.JobSet(revision=self.revision, full=True, jobs=self.jobs)
        )
        queue: asyncio.Queue[gateway_pb2.GatewayMessage] = asyncio.Queue()
        self._outgoing.add(queue)
        reader = asyncio.ensure_future(self._read(requests, queue, context))
        try:
            while not reader.done() or not queue.empty():
                getter = asyncio.ensure_future(queue.get())
                await asyncio.wait({getter, reader}, return_when=asyncio.FIRST_COMPLETED)
                if getter.done():
                    yield getter.result()
                else:
                    getter.cancel()
            reader.result()
        finally:
            self._outgoing.discard(queue)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    async def _read(
        self,
        requests: AsyncIterator[gateway_pb2.WorkerMessage],
        queue: asyncio.Queue[gateway_pb2.GatewayMessage],
        context: Any,
    ) -> None:
        self._unacked = 0
        async for message in requests:
            if message.HasField("results"):
                await self._take_results(message.results, queue, context)
            elif message.HasField("heartbeat") and not self.mute:
                self.heartbeats.append(message.heartbeat)
                queue.put_nowait(
                    gateway_pb2.GatewayMessage(
                        heartbeat=gateway_pb2.HeartbeatReply(
                            clock_us=self._now_us(), heartbeat_clock_us=message.heartbeat.clock_us
                        )
                    )
                )
            elif message.HasField("renew"):
                self.renewals += 1
                chain = self.authority.worker(message.renew.csr_der, self.worker_id, life_s=3600.0)
                queue.put_nowait(
                    gateway_pb2.GatewayMessage(renewed=gateway_pb2.RenewReply(certificate_chain_pem=chain))
                )

    async def _take_results(
        self, batch: gateway_pb2.ResultBatch, queue: asyncio.Queue[gateway_pb2.GatewayMessage], context: Any
    ) -> None:
        assert len(batch.seqs) == len(batch.results)
        assert list(batch.seqs) == sorted(set(batch.seqs))
        watermark = self.acked.get(batch.spool_id, 0)
        received = map(probe_pb2.Result.FromString, batch.results)
        for seq, result in zip(batch.seqs, received, strict=True):
            self.deliveries.append((batch.spool_id, seq, result))
            if seq > watermark:
                self.stored.setdefault((result.job_id, result.scheduled_at_us), result)
        self.acked[batch.spool_id] = max(watermark, *batch.seqs)
        self._unacked += len(batch.results)
        self.most_unacked = max(self.most_unacked, self._unacked)
        if self.break_after_keeping:
            self.break_after_keeping -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broken on purpose")
        if not self.hold_acks:
            self._unacked = 0
            queue.put_nowait(self._ack(batch.spool_id))

    def _ack(self, spool_id: str) -> gateway_pb2.GatewayMessage:
        acked = self.acked[spool_id] + self.ack_too_far
        return gateway_pb2.GatewayMessage(ack=gateway_pb2.Ack(spool_id=spool_id, acked_seq=acked))

    def _now_us(self) -> int:
        return time.time_ns() // 1000 + self.clock_ahead_us


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_configuration(folder: Path, gateway: Gateway, **more: Any) -> dict[str, Any]:
    """Write CA, token and policy for a worker; returns the values of its configuration."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.pem").write_bytes(gateway.authority.pem)
    (folder / "token").write_text(gateway.token + "\n")
    (folder / "policy.yaml").write_text("allow_loopback: true\n")
    return {
        "gateways": [gateway.address],
        "enrolment": f"127.0.0.1:{gateway.enrolment_port}",
        "ca_file": str(folder / "ca.pem"),
        "token_file": str(folder / "token"),
        "host_name": "host-1",
        "data_dir": str(folder / "data"),
        "policy_file": str(folder / "policy.yaml"),
        **more,
    }
