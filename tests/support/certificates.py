"""Certificates for tests: authorities, what they issue, and servers' contexts with them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def der(self) -> bytes:
        """The certificate as it goes over the wire."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def pem(self) -> bytes:
        """The certificate as it stands in files."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def days_left(self) -> float:
        """Days from now to its end; what was issued early in a long run has less left than it was issued for."""
        left = self.certificate.not_valid_after_utc - dt.datetime.now(dt.timezone.utc)
        return left / dt.timedelta(days=1)

    @property
    def key_pem(self) -> bytes:
        """The private key as it stands in files."""
        return bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


def issue(
    name: str,
    by: Issued | None = None,
    *,
    authority: bool = False,
    names: tuple[str, ...] = (),
    days: float = 30,
    since_days: float = 100,
    key: Any = None,
    digest: Any = None,
    for_servers: bool = True,
) -> Issued:
    """Issue a certificate that is good from `since_days` ago for `days`; without `by` it vouches for itself.

    One that is not `for_servers` says that it is for clients; an authority that is for all says nothing.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=since_days))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(list(map(_general, names))), critical=False
        )
    if not (authority and for_servers):
        usage = ExtendedKeyUsageOID.SERVER_AUTH if for_servers else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    signing = key if by is None else by.key
    return Issued(certificate=builder.sign(signing, digest or hashes.SHA256()), key=key)


def server_context(folder: Path, *chain: Issued, ciphers: str = "") -> ssl.SSLContext:
    """Return a server's context that shows a chain, the server's own certificate first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if ciphers:
        context.set_ciphers(ciphers)
    context.load_cert_chain(*write(folder, *chain))
    return context


def write(folder: Path, *chain: Issued) -> tuple[Path, Path]:
    """Write a chain and the key of its first certificate into files, and return them."""
    tag = f"{chain[0].certificate.serial_number:x}"[:8]
    public, private = folder / f"{tag}.pem", folder / f"{tag}.key"
    public.write_bytes(b"".join(one.pem for one in chain))
    private.write_bytes(chain[0].key_pem)
    return public, private


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
