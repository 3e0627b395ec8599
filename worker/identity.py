"""Who this worker is: a key made here, a certificate for it, and the roots that gateways are checked against.

All of it lies in one file that only the worker's user can read and that is replaced at once, so that key and
certificate always belong together. The key never leaves the host.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from streamswarm.targets import shown
from worker.errors import IdentityError
from worker.files import replace_file

_SPIFFE = re.compile(r"spiffe://(?P<domain>[a-z0-9._-]{1,255})/worker/(?P<id>[0-9a-f-]{36})\Z")
_MEND = "enrol this worker again: make a token for this host and put it into the configured `token_file`"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A worker's key with its certificate."""

    #: UUID in its usual text form.
    worker_id: str
    trust_domain: str
    #: PKCS #8, PEM, not encrypted.
    key_pem: bytes
    #: Leaf first.
    chain_pem: bytes
    #: Roots that gateways are checked against.
    ca_pem: bytes
    not_before_us: int
    not_after_us: int
    #: `host:port` of the session listeners, as enrolment named them.
    gateways: tuple[str, ...] = ()

    @property
    def renew_at_us(self) -> int:
        """Half of the certificate's life: from here on it is renewed."""
        return (self.not_before_us + self.not_after_us) // 2


class IdentityStore:
    """The file with the worker's identity."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "identity.json"

    @property
    def path(self) -> Path:
        return self._path

    def load(self) -> Identity | None:
        """Return the identity, or None before enrolment; raises IdentityError when the file cannot be used."""
        try:
            mode = self._path.stat().st_mode
            content = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise IdentityError(f"the identity {self._path} cannot be read: {error}", mend=_MEND) from error
        if os.name != "nt" and mode & 0o077:
            raise IdentityError(
                f"the worker's private key in {self._path} is open to other users",
                mend=f"chmod 600 {self._path}",
            )
        try:
            values = json.loads(content)
            return make_identity(
                key_pem=str(values["key"]).encode(),
                chain_pem=str(values["chain"]).encode(),
                ca_pem=str(values["ca"]).encode(),
                gateways=tuple(str(item) for item in values["gateways"]),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IdentityError(f"the identity {self._path} is damaged: {error}", mend=_MEND) from error

    def save(self, identity: Identity) -> None:
        """Put an identity in the place of the old one; raises StorageError."""
        values = {
            "key": identity.key_pem.decode(),
            "chain": identity.chain_pem.decode(),
            "ca": identity.ca_pem.decode(),
            "gateways": list(identity.gateways),
        }
        replace_file(self._path, json.dumps(values, indent=1).encode(), mode=0o600)


def new_key() -> bytes:
    """Make a P-256 key; returns it as PEM."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def signing_request(key_pem: bytes) -> bytes:
    """Return a certificate request (DER) that proves possession of a key and asks for no name."""
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("the worker's key is no elliptic-curve key", mend=_MEND)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def make_identity(*, key_pem: bytes, chain_pem: bytes, ca_pem: bytes, gateways: tuple[str, ...]) -> Identity:
    """Check that key, certificate and name belong together; raises IdentityError."""
    try:
        leaf = x509.load_pem_x509_certificates(chain_pem)[0]
        x509.load_pem_x509_certificates(ca_pem)
        key = serialization.load_pem_private_key(key_pem, password=None)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.ExtensionNotFound) as error:
        raise IdentityError(f"the worker's key or certificate cannot be read: {error}", mend=_MEND) from error
    if _public_bytes(leaf.public_key()) != _public_bytes(key.public_key()):
        raise IdentityError("the certificate is not for this worker's key", mend=_MEND)
    if len(uris) != 1 or len(list(names)) != 1:
        raise IdentityError("the certificate must carry exactly one name, a SPIFFE id", mend=_MEND)
    domain, worker_id = parse_spiffe(uris[0])
    return Identity(
        worker_id=worker_id,
        trust_domain=domain,
        key_pem=key_pem,
        chain_pem=chain_pem,
        ca_pem=ca_pem,
        not_before_us=_us(leaf.not_valid_before_utc),
        not_after_us=_us(leaf.not_valid_after_utc),
        gateways=gateways,
    )


def parse_spiffe(uri: str) -> tuple[str, str]:
    """Return the trust domain and the worker's UUID of a SPIFFE id; raises IdentityError."""
    match = _SPIFFE.match(uri)
    try:
        if match is None:
            raise ValueError("it must read `spiffe://<trust domain>/worker/<uuid>`")
        if str(uuid.UUID(match["id"])) != match["id"]:
            raise ValueError("its last part is no UUID in the usual form")
    except ValueError as error:
        raise IdentityError(f"`{shown(uri)}` is not the name of a worker: {error}", mend=_MEND) from error
    return match["domain"], match["id"]


def _public_bytes(key: object) -> bytes:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise IdentityError("the key is no elliptic-curve key", mend=_MEND)
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _us(moment: datetime) -> int:
    return int(moment.astimezone(timezone.utc).timestamp() * 1_000_000)
