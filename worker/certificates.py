"""What certificates say, and what is wrong with them, in words: pure functions over what a server sent."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, SignatureAlgorithmOID

from streamswarm.targets import shown

#: Shorter keys are within reach of an attacker (NIST SP 800-57 part 1, 112 bits of security).
_WEAK_RSA_BITS = 2048
_WEAK_EC_BITS = 224
_WEAK_HASHES = {"md2", "md4", "md5", "sha1"}
_SIGNATURES = {
    value.dotted_string: name.lower().replace("_", " ")
    for name, value in vars(SignatureAlgorithmOID).items()
    if isinstance(value, x509.ObjectIdentifier)
}
_SHOWN_NAMES = 20
_UNREADABLE = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType)


class Matter(Enum):
    """What a problem is about."""

    #: The chain cannot be trusted.
    CHAIN = "chain"
    #: The certificate is for somebody else.
    NAME = "name"
    #: It is weaker than it should be.
    STRENGTH = "strength"


@dataclass(frozen=True, kw_only=True)
class CertificateProblem:
    """One thing wrong with what a server sent."""

    matter: Matter
    text: str


@dataclass(frozen=True, kw_only=True)
class CertificateFacts:
    """One certificate, as far as it is of interest."""

    subject: str
    issuer: str
    #: The whole names, DER.
    subject_name: bytes
    issuer_name: bytes
    not_before: datetime
    not_after: datetime
    #: `rsa`, `ec (secp256r1)`, `ed25519`, …
    key_type: str
    #: None for a type of key that has no size here.
    key_bits: int | None
    #: Such as `ecdsa with sha256`.
    signature: str
    #: Name of its hash, or None for one that has its own.
    signature_hash: str | None
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    #: May serve TLS servers, as far as it restricts what it is for.
    for_servers: bool
    #: SHA-256 of the certificate, hexadecimal.
    fingerprint: str

    @property
    def self_issued(self) -> bool:
        """It vouches for itself."""
        return self.subject_name == self.issuer_name

    def in_time(self, now: datetime) -> bool:
        """Whether it is good now, by its time alone."""
        return self.not_before <= now <= self.not_after

    def days_left(self, now: datetime) -> float:
        """Days until it expires, negative after."""
        return (self.not_after - now).total_seconds() / 86_400


def read(der: bytes) -> CertificateFacts:
    """Read a certificate; raises ValueError for one that breaks the rules of its format."""
    try:
        return _facts(x509.load_der_x509_certificate(der), der)
    except _UNREADABLE as error:
        raise ValueError(str(error)) from error


def _facts(certificate: x509.Certificate, der: bytes) -> CertificateFacts:
    key_type, key_bits = _key(certificate)
    names = _alternative_names(certificate)
    return CertificateFacts(
        subject=_name(certificate.subject),
        issuer=_name(certificate.issuer),
        subject_name=certificate.subject.public_bytes(),
        issuer_name=certificate.issuer.public_bytes(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key_type=key_type,
        key_bits=key_bits,
        signature=_SIGNATURES.get(
            certificate.signature_algorithm_oid.dotted_string,
            certificate.signature_algorithm_oid.dotted_string,
        ),
        signature_hash=_hash(certificate),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)) if names else (),
        addresses=tuple(map(str, names.get_values_for_type(x509.IPAddress))) if names else (),
        for_servers=_for_servers(certificate),
        fingerprint=fingerprint(der),
    )


def fingerprint(der: bytes) -> str:
    """Return the SHA-256 of a certificate, hexadecimal."""
    return hashlib.sha256(der).hexdigest()


def is_for(certificate: CertificateFacts, host: str) -> bool:
    """Return whether a certificate is for a host (RFC 9525, section 6): its common name is not looked at."""
    try:
        return str(ipaddress.ip_address(host)) in certificate.addresses
    except ValueError:
        return any(_fits(pattern, host) for pattern in certificate.dns_names)


def path_of(chain: Sequence[CertificateFacts], now: datetime) -> list[CertificateFacts]:
    """Return those of a chain that lead away from the server's own certificate, by their names, whoever is trusted.

    Of several with one name the first that is in its time is taken, as validation does.
    """
    found = [chain[0]]
    left = list(chain[1:])
    while not found[-1].self_issued:
        issuers = [one for one in left if one.subject_name == found[-1].issuer_name]
        if not issuers:
            break
        found.append(next((one for one in issuers if one.in_time(now)), issuers[0]))
        left.remove(found[-1])
    return found


def notes(chain: Sequence[CertificateFacts], path: Sequence[CertificateFacts], now: datetime) -> list[str]:
    """Return what there is to say of certificates that the server sends and no path needs: no problem of the chain."""
    needed = {one.fingerprint for one in path}
    found = []
    for certificate in chain:
        if certificate.fingerprint in needed:
            continue
        text = f"not needed: the certificate of {shown(certificate.subject)}, issued by {shown(certificate.issuer)}"
        if now > certificate.not_after:
            text += f", which was good until {_instant(certificate.not_after)}"
        elif now < certificate.not_before:
            text += f", which is good from {_instant(certificate.not_before)} on"
        found.append(text)
    return found


def problems(
    path: Sequence[CertificateFacts], *, sent: int, host: str, now: datetime, validation_error: str | None
) -> list[CertificateProblem]:
    """Return what is wrong with the certificates of a path, the weightiest first; the server's own is the first of them.

    `sent` is how many the server sends. `validation_error` is what validating its chain ended with, or None when it
    went well.
    """
    own = path[0]
    found = [*_validity(path, now)]
    in_time = not found
    if validation_error is not None:
        text = _trust(own, path[-1], sent, validation_error)
        # Being out of time, or for others, is told by itself; validation ends at the first fault that it meets.
        told = not in_time or (not own.for_servers and "purpose" in validation_error)
        if text or not told:
            found.append(_chain(text or f"the chain is not valid: {shown(validation_error)}"))
    if not own.for_servers:
        found.append(_chain("the server's certificate says that it is not for TLS servers"))
    if not is_for(own, host):
        names = ", ".join(shown(name) for name in (*own.dns_names, *own.addresses)[:_SHOWN_NAMES])
        found.append(
            CertificateProblem(
                matter=Matter.NAME,
                text=f"host name mismatch: the certificate is for {names or 'no name at all'}, not for {shown(host)}",
            )
        )
    for number, certificate in enumerate(path):
        found += _strength(certificate, number)
    return found


def _validity(chain: Sequence[CertificateFacts], now: datetime) -> list[CertificateProblem]:
    found = []
    for number, certificate in enumerate(chain):
        if now > certificate.not_after:
            found.append(
                _chain(
                    f"expired: {_which(certificate, number)} was good until {_instant(certificate.not_after)}"
                )
            )
        elif now < certificate.not_before:
            found.append(
                _chain(
                    f"not yet valid: {_which(certificate, number)} is good from {_instant(certificate.not_before)} on"
                )
            )
    return found


def _trust(own: CertificateFacts, last: CertificateFacts, count: int, error: str) -> str:
    """Return why no trusted authority was found, or the empty text when that is not what the error is about."""
    words = error.lower()
    if (
        "self-signed" not in words
        and "self signed" not in words
        and "issuer" not in words
        and "first cert" not in words
    ):
        return ""
    if count == 1 and own.self_issued:
        return "self-signed: the server's certificate vouches for itself, and this host does not trust it"
    if last.self_issued:
        return f"unknown authority: the chain ends at {shown(last.subject)}, which this host does not trust"
    sent = "only its own certificate" if count == 1 else f"{count} certificates"
    return (
        f"missing intermediate or unknown authority: the server sends {sent}, and {shown(last.issuer)}, which issued "
        f"{'it' if count == 1 else 'the last one'}, is neither among what it sends nor known to this host"
    )


def _strength(certificate: CertificateFacts, number: int) -> list[CertificateProblem]:
    found = []
    bits = certificate.key_bits
    weakest = {"rsa": _WEAK_RSA_BITS, "dsa": _WEAK_RSA_BITS, "ec": _WEAK_EC_BITS}.get(
        certificate.key_type.partition(" ")[0]
    )
    if weakest is not None and bits is not None and bits < weakest:
        found.append(
            f"weak key: {_which(certificate, number)} has a key of {bits} bits ({certificate.key_type})"
        )
    # Nobody relies on the signature of a certificate that vouches for itself.
    if certificate.signature_hash in _WEAK_HASHES and not certificate.self_issued:
        found.append(f"weak signature: {_which(certificate, number)} is signed by {certificate.signature}")
    return [CertificateProblem(matter=Matter.STRENGTH, text=text) for text in found]


def _chain(text: str) -> CertificateProblem:
    return CertificateProblem(matter=Matter.CHAIN, text=text)


def _which(certificate: CertificateFacts, number: int) -> str:
    return "the server's certificate" if number == 0 else f"the certificate of {shown(certificate.subject)}"


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def _fits(pattern: str, host: str) -> bool:
    """Return whether a DNS name fits: a star stands for one whole label, the leftmost."""
    pattern, host = pattern.lower().rstrip("."), host.lower().rstrip(".")
    if not pattern.startswith("*."):
        return pattern == host
    label, dot, rest = host.partition(".")
    return bool(label and dot) and rest == pattern[2:]


def _name(name: x509.Name) -> str:
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    text = str(common[0].value) if common else name.rfc4514_string()
    return text or "(no name)"


def _key(certificate: x509.Certificate) -> tuple[str, int | None]:
    try:
        key: Any = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return "unknown", None
    if isinstance(key, rsa.RSAPublicKey):
        return "rsa", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ec ({key.curve.name})", key.key_size
    if isinstance(key, dsa.DSAPublicKey):
        return "dsa", key.key_size
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "ed25519", 256
    if isinstance(key, ed448.Ed448PublicKey):
        return "ed448", 456
    return type(key).__name__, None


def _hash(certificate: x509.Certificate) -> str | None:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return None if algorithm is None else algorithm.name


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _for_servers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage
