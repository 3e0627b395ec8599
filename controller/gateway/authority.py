"""The certificate authority: one root per installation, one intermediate per gateway, short-lived leaves.

The folder `ca` of the data directory holds `root.key` and `root.pem`, made once, and `intermediate-<gateway>` and
`gateway-<gateway>` pairs. A key is written before the certificate that belongs to it; a certificate can be made
again from its key, so a crash at any instant leaves nothing that the next start does not complete. `root.key` may
be taken away once a gateway has its intermediate. Other files `root-<anything>.pem` are trusted beside the root:
that is how two roots overlap while one replaces the other (`controller.gateway.rotation`).
"""

from __future__ import annotations

import datetime as dt
import logging
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from controller.errors import StreamSwarmError
from controller.gateway.certificates import (
    authority_usage,
    builder,
    check_request,
    host_names,
    issuer_key,
    leaf_usage,
    server_names,
    worker_uri,
)
from controller.gateway.files import exclusive, make_private_folder, write_private
from controller.settings import Settings

_log = logging.getLogger(__name__)

Clock = Callable[[], dt.datetime]

_ROOT_LIFE = dt.timedelta(days=3650)
_INTERMEDIATE_LIFE = dt.timedelta(days=365)
_GATEWAY_LIFE = dt.timedelta(days=7)
#: Nobody renews it but who runs the playbook again. It ends with the intermediate that signed it, half a year at least.
_WEB_LIFE = dt.timedelta(days=365)
#: Certificates begin this much before they are made, for hosts whose clocks are a little behind.
_BACKDATE = dt.timedelta(minutes=1)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


class AuthorityError(StreamSwarmError):
    """The certificate authority's files are missing, damaged or do not belong together."""


@dataclass(frozen=True, kw_only=True)
class IssuedCertificate:
    """A certificate made for a worker, not yet registered."""

    #: Serial number in lower-case hexadecimal, as `certificates.serial` holds it.
    serial: str
    worker_id: uuid.UUID
    not_before: dt.datetime
    not_after: dt.datetime
    #: Leaf first, then the intermediate that signed it.
    chain_pem: bytes


@dataclass(frozen=True, kw_only=True)
class ServerIdentity:
    """What a gateway's listeners show."""

    key_pem: bytes
    #: Leaf first, then the intermediate.
    chain_pem: bytes
    not_after: dt.datetime
    #: From here on it wants to be replaced.
    renew_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def utc_now() -> dt.datetime:
    """Return the time of the wall clock."""
    return dt.datetime.now(dt.UTC)


def serial_text(certificate: x509.Certificate) -> str:
    """Return a certificate's serial number as the store writes it."""
    return f"{certificate.serial_number:x}"


class Authority:
    """Signs for one gateway. Opening it makes what is missing; every method may be called from any thread."""

    def __init__(self, settings: Settings, *, now: Clock = utc_now) -> None:
        if not _NAME.match(settings.gateway_name):
            raise AuthorityError(
                f"the gateway's name `{settings.gateway_name}` cannot stand in a certificate",
                mend="set STREAMSWARM_GATEWAY_NAME to letters, digits, dots, dashes and underscores, 63 at most",
            )
        self._settings = settings
        self._now = now
        self.folder = settings.data_dir / "ca"
        make_private_folder(self.folder)
        self.root_certificate = open_root(settings, now=now)
        self._root_seen = self._root_file()
        self._signer = self._open_intermediate()
        self._server = self._open_server()

    @property
    def bundle_pem(self) -> bytes:
        """The roots to trust, in PEM: the current one first, then those of an overlap."""
        others = [path.read_bytes() for path in sorted(self.folder.glob("root-*.pem"))]
        roots = [self.root_certificate, *(_load_certificate(text, "root-*.pem") for text in others)]
        return b"".join(_pem(root) for root in roots)

    def server_identity(self) -> ServerIdentity:
        """Return the key and certificate of this gateway's listeners; renewed once half their life is over."""
        self._follow_root()
        if self._now() >= self._server.renew_at:
            self._signer = self._open_intermediate()
            self._server = self._open_server()
        return self._server

    def issue(self, request_der: bytes, worker_id: uuid.UUID) -> IssuedCertificate:
        """Sign a worker's request, or raise RequestRefusedError. Every name in the request is ignored."""
        public_key = check_request(request_der)
        self._follow_root()
        if self._now() >= self._signer.certificate.not_valid_after_utc - _INTERMEDIATE_LIFE / 2:
            self._signer = self._open_intermediate()
        life = dt.timedelta(hours=self._settings.certificate_hours)
        not_before = self._now() - min(_BACKDATE, life / 10)  # or half of a short life is over at its start
        not_after = min(self._now() + life, self._signer.certificate.not_valid_after_utc)
        uri = worker_uri(self._settings.trust_domain, worker_id)
        certificate = (
            builder(f"worker {worker_id}", self._signer.certificate.subject, public_key)
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(leaf_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
            .add_extension(issuer_key(self._signer.certificate), critical=False)
            .sign(self._signer.key, hashes.SHA256())
        )
        return IssuedCertificate(
            serial=serial_text(certificate),
            worker_id=worker_id,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            chain_pem=_pem(certificate) + _pem(self._signer.certificate),
        )

    def ensure_web(self, hosts: Sequence[str]) -> bool:
        """Keep `web.key` and `web.pem`, by which an HTTPS proxy answers for the dashboard under these names.

        Returns whether the certificate was made anew, as `web_is_good` says.
        """
        with exclusive(self.folder):
            if self.web_is_good(hosts):
                return False
            key, signer = _key_of(self.folder / "web.key"), _pem(self._signer.certificate)
            certificate = self._make_server_certificate(
                key, host_names(hosts), common_name=hosts[0], life=_WEB_LIFE
            )
            write_private(self.folder / "web.pem", _pem(certificate) + signer)
            return True

    def web_is_good(self, hosts: Sequence[str]) -> bool:
        """Whether that certificate is there, for these names, under the chain of today, in the first half of its life."""
        key_path, path = self.folder / "web.key", self.folder / "web.pem"
        if not key_path.exists():
            return False
        certificate = _existing(path, _key_of(key_path))
        # The intermediate keeps its key under a new root.
        return (
            certificate is not None
            and path.read_bytes().endswith(_pem(self._signer.certificate))
            and self._serves(certificate, host_names(hosts))
        )

    def _root_file(self) -> tuple[int, int]:
        seen = (self.folder / "root.pem").stat()
        return seen.st_ino, seen.st_mtime_ns

    def _follow_root(self) -> None:
        """Sign by another root once it has taken the old one's place, while this gateway runs.

        Where that does not succeed the old chain stays in use, which is trusted for as long as the two overlap.
        """
        seen = self._root_file()
        if seen == self._root_seen:
            return
        self._root_seen = seen
        before = self.root_certificate
        try:
            self.root_certificate = open_root(self._settings, now=self._now)
            self._signer = self._open_intermediate()
            self._server = self._open_server()
        except AuthorityError as error:
            self.root_certificate = before
            _log.error("the new root of the certificate authority is not taken over: %s", error)
        else:
            _log.info("certificates are signed by the new root from now on")

    def _open_intermediate(self) -> _Pair:
        stem = self.folder / f"intermediate-{self._settings.gateway_name}"
        with exclusive(self.folder):
            key = _key_of(stem.with_name(stem.name + ".key"))
            path = stem.with_name(stem.name + ".pem")
            certificate = _existing(path, key)
            root_key_path = self.folder / "root.key"
            if certificate is not None and self._signed_by_root(certificate):
                stale = self._now() >= certificate.not_valid_after_utc - _INTERMEDIATE_LIFE / 2
                usable = self._now() < certificate.not_valid_after_utc
                if not stale or (usable and not root_key_path.exists()):
                    return _Pair(key=key, certificate=certificate)
            if not root_key_path.exists():
                raise AuthorityError(
                    f"gateway {self._settings.gateway_name} has no valid intermediate certificate, and "
                    f"{root_key_path} is not there to sign one",
                    mend="bring root.key back for one start of the gateway, or make the certificate where that is "
                    "(docs/how-to/gateways.md)",
                )
            root_key = _key_of(root_key_path)
            root = self.root_certificate
            certificate = (
                builder(
                    f"StreamSwarm intermediate {self._settings.gateway_name}", root.subject, key.public_key()
                )
                .not_valid_before(self._now() - _BACKDATE)
                .not_valid_after(min(self._now() + _INTERMEDIATE_LIFE, root.not_valid_after_utc))
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(authority_usage(), critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
                .add_extension(issuer_key(root), critical=False)
                .sign(root_key, hashes.SHA256())
            )
            write_private(path, _pem(certificate))
            return _Pair(key=key, certificate=certificate)

    def _signed_by_root(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self.root_certificate)
        except Exception:  # noqa: BLE001  whatever is wrong with it, it is made anew
            return False
        return True

    def _open_server(self) -> ServerIdentity:
        name = f"gateway-{self._settings.gateway_name}"
        names = server_names(self._settings)
        with exclusive(self.folder):
            key = _key_of(self.folder / f"{name}.key")
            path = self.folder / f"{name}.pem"
            certificate = _existing(path, key)
            if certificate is None or not self._serves(certificate, names):
                certificate = self._make_server_certificate(
                    key, names, common_name=f"gateway {self._settings.gateway_name}", life=_GATEWAY_LIFE
                )
                write_private(path, _pem(certificate))
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return ServerIdentity(
            key_pem=_key_pem(key),
            chain_pem=_pem(certificate) + _pem(self._signer.certificate),
            not_after=certificate.not_valid_after_utc,
            renew_at=certificate.not_valid_before_utc + life / 2,
        )

    def _serves(self, certificate: x509.Certificate, names: list[x509.GeneralName]) -> bool:
        """Whether an existing certificate is young, signed by this gateway's key and has the right names."""
        try:
            certificate.verify_directly_issued_by(self._signer.certificate)
            present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except Exception:  # noqa: BLE001  whatever is wrong with it, it is made anew
            return False
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return list(present) == names and self._now() < certificate.not_valid_before_utc + life / 2

    def _make_server_certificate(
        self,
        key: ec.EllipticCurvePrivateKey,
        names: list[x509.GeneralName],
        *,
        common_name: str,
        life: dt.timedelta,
    ) -> x509.Certificate:
        signer = self._signer.certificate
        return (
            builder(common_name, signer.subject, key.public_key())
            .not_valid_before(self._now() - _BACKDATE)
            .not_valid_after(min(self._now() + life, signer.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(leaf_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer_key(signer), critical=False)
            .sign(self._signer.key, hashes.SHA256())
        )


def open_root(settings: Settings, *, now: Clock = utc_now) -> x509.Certificate:
    """Return the root certificate; the first call on an installation makes it and its key."""
    folder = settings.data_dir / "ca"
    make_private_folder(folder)
    key_path, path = folder / "root.key", folder / "root.pem"
    with exclusive(folder):
        if path.exists():
            certificate = _load_certificate(path.read_bytes(), str(path))
            if key_path.exists() and certificate.public_key() != _key_of(key_path).public_key():
                raise AuthorityError(
                    f"{key_path} does not belong to {path}",
                    mend="if a rotation was broken off, call `streamswarm ca rotate` again; else restore both files "
                    "from the same backup",
                )
            return certificate
        return make_root(settings, key_path, path, now=now)


def make_root(settings: Settings, key_path: Path, path: Path, *, now: Clock = utc_now) -> x509.Certificate:
    """Make a root and, where it is missing, its key; to be called under the folder's lock."""
    key = _key_of(key_path)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"StreamSwarm root {settings.trust_domain}"[:64])]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - _BACKDATE)
        .not_valid_after(now() + _ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(authority_usage(), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(path, _pem(certificate))
    return certificate


def _key_of(path: Path) -> ec.EllipticCurvePrivateKey:
    """Load a key, making it first if it is missing; under the folder's lock."""
    if not path.exists():
        write_private(path, _key_pem(ec.generate_private_key(ec.SECP256R1())))
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise AuthorityError(
            f"{path} is not a private key in PEM: {error}", mend="restore it from a backup"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError(f"{path} is not an EC key on curve P-256", mend="restore it from a backup")
    return key


def _existing(path: Path, key: ec.EllipticCurvePrivateKey) -> x509.Certificate | None:
    """Return a certificate on disk if there is one and it is for the key."""
    if not path.exists():
        return None
    certificate = _load_certificate(path.read_bytes(), str(path))
    return certificate if certificate.public_key() == key.public_key() else None


def _load_certificate(content: bytes, where: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise AuthorityError(
            f"{where} is not a certificate in PEM: {error}", mend="restore it from a backup"
        ) from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
