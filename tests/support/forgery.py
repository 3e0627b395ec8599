"""Certificates that no authority would sign, signed with an installation's own intermediate key."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.settings import Settings

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
NOW = dt.datetime.now(dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Forgery:
    """What somebody shows in the handshake."""

    key_pem: bytes
    chain_pem: bytes
    ca_pem: bytes

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials to dial with."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key_pem, self.chain_pem)


def worker_uri(
    worker_id: uuid.UUID, domain: str = "streamswarm.local", kind: str = "worker"
) -> x509.GeneralName:
    """Return the name of a worker, or something like it."""
    return x509.UniformResourceIdentifier(f"spiffe://{domain}/{kind}/{worker_id}")


class Forger:
    """Has the intermediate's key and signs what no authority would."""

    def __init__(
        self, settings: Settings, sql: Callable[..., Any], *, ca_pem: bytes, worker_id: uuid.UUID
    ) -> None:
        stem = settings.data_dir / "ca" / f"intermediate-{settings.gateway_name}"
        self.issuer = x509.load_pem_x509_certificate(stem.with_name(f"{stem.name}.pem").read_bytes())
        self.issuer_key: Any = serialization.load_pem_private_key(
            stem.with_name(f"{stem.name}.key").read_bytes(), None
        )
        self._sql, self._ca_pem, self._worker_id = sql, ca_pem, worker_id

    def forge(
        self,
        names: list[x509.GeneralName],
        *,
        usage: Any = CLIENT,
        until: dt.datetime = NOW + dt.timedelta(days=1),
        listed: bool = True,
    ) -> Forgery:
        """Return such a certificate with its key, listed in the database as if it were good."""
        key = ec.generate_private_key(ec.SECP256R1())
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")]))
            .issuer_name(self.issuer.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(NOW - dt.timedelta(days=2))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate = builder.sign(self.issuer_key, hashes.SHA256())
        if listed:
            self._sql(
                "INSERT INTO certificates (serial, worker_id, not_before, not_after) "
                "VALUES (%s, %s, now(), now() + interval '1 hour')",
                f"{serial:x}",
                self._worker_id,
            )
        return self._shown(key, certificate, self.issuer)

    def credentials(self, names: list[x509.GeneralName], **more: Any) -> grpc.ChannelCredentials:
        """Return credentials with such a certificate."""
        return self.forge(names, **more).credentials

    def intermediate(self) -> Forgery:
        """Return the intermediate itself, shown as if it were a worker."""
        return self._shown(self.issuer_key, self.issuer)

    def _shown(self, key: Any, *chain: x509.Certificate) -> Forgery:
        return Forgery(
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            chain_pem=b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain),
            ca_pem=self._ca_pem,
        )
