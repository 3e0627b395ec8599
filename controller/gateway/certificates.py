"""What certificates are made of: names, uses, and the request that a worker's one is made from. Pure functions."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controller.settings import Settings, split_address

_MOST_REQUEST_BYTES = 8192


class RequestRefusedError(Exception):
    """A certificate request cannot be signed; the message says why."""


def check_request(request_der: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a request whose sender has shown to hold the private one."""
    if len(request_der) > _MOST_REQUEST_BYTES:
        raise RequestRefusedError(
            f"the certificate request has {len(request_der)} bytes; {_MOST_REQUEST_BYTES} is the most"
        )
    try:
        request = x509.load_der_x509_csr(request_der)
        public_key = request.public_key()
        proven = request.is_signature_valid
    except Exception as error:  # what the parser raises on hostile input is not a closed set
        raise RequestRefusedError("the certificate request is not a PKCS #10 request in DER") from error
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise RequestRefusedError("the certificate request must be for an EC key on curve P-256")
    if not proven:
        raise RequestRefusedError("the certificate request is not signed by the key that it is for")
    return public_key


def worker_uri(trust_domain: str, worker_id: uuid.UUID) -> str:
    """Return the SPIFFE id of a worker."""
    return f"spiffe://{trust_domain}/worker/{worker_id}"


def gateway_uri(trust_domain: str, name: str) -> str:
    """Return the SPIFFE id of a gateway."""
    return f"spiffe://{trust_domain}/gateway/{name}"


def server_names(settings: Settings) -> list[x509.GeneralName]:
    """Return the names of a gateway's certificate: where it listens, where it is dialled, its SPIFFE id."""
    dialled = [
        *((address, "STREAMSWARM_GATEWAY_ADDRESSES") for address in settings.gateway_addresses),
        (settings.gateway_listen, "STREAMSWARM_GATEWAY_LISTEN"),
        *((address, "STREAMSWARM_ENROLMENT_ADDRESS") for address in (settings.enrolment_address,) if address),
        (settings.enrolment_listen, "STREAMSWARM_ENROLMENT_LISTEN"),
    ]
    hosts = [split_address(address, what=variable)[0] for address, variable in dialled]
    hosts.extend(settings.gateway_names)
    if any(_is_loopback(host) for host in hosts):
        hosts.extend(("localhost", "127.0.0.1", "::1"))
    uri = gateway_uri(settings.trust_domain, settings.gateway_name)
    return [*host_names(hosts), x509.UniformResourceIdentifier(uri)]


def host_names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return names and addresses of hosts as a certificate has them."""
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(host.lower() for host in hosts):
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            names.append(x509.DNSName(host))
            continue
        if not address.is_unspecified:  # a listener on every address is not dialled by that one
            names.append(x509.IPAddress(address))
    return names


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def builder(
    common_name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    """Begin a certificate with a name, its issuer and its key."""
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
    )


def leaf_usage() -> x509.KeyUsage:
    """Return what the key of a leaf may do."""
    return _usage(digital_signature=True)


def authority_usage() -> x509.KeyUsage:
    """Return what the key of an authority may do."""
    return _usage(digital_signature=False)


def _usage(*, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not digital_signature,
        crl_sign=not digital_signature,
        encipher_only=False,
        decipher_only=False,
    )


def issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Return the extension that names the issuer's key."""
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
