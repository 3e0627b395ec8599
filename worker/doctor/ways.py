"""The ways to the gateways: TCP, TLS with the pinned CA, and whether the gateway takes this worker's certificate."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import dataclass, field

from streamswarm.findings import Finding, ok, unknown, wrong
from streamswarm.targets import TargetError, parse_host_port, shown
from worker import certificates
from worker.certificates import CertificateFacts
from worker.config import WorkerConfig
from worker.identity import Identity
from worker.transport import load_grpc

_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """What was found on the way to one listener."""

    findings: list[Finding] = field(default_factory=list)
    #: What the listener shows for a certificate, whether it is good or not; None when it shows none.
    certificate: CertificateFacts | None = None


def addresses(config: WorkerConfig, identity: Identity | None) -> tuple[str, ...]:
    """Return the listeners that this worker dials: gateways, or the one for enrolment as long as it has no identity."""
    if identity is None:
        return (config.enrolment,) if config.enrolment else config.gateways
    return config.gateways or identity.gateways


def reach(address: str, identity: Identity | None, config: WorkerConfig) -> Way:
    """Go to a listener as far as one gets without saying anything."""
    name = f"{'enrolment' if identity is None and config.enrolment else 'gateway'} {address}"
    try:
        target = parse_host_port(address)
    except TargetError as error:
        return Way(findings=[wrong(name, str(error), "write `host:port` in the configuration")])
    if target.port is None:
        return Way(findings=[wrong(name, "no port is named", "write `host:port` in the configuration")])
    try:
        socket.create_connection((target.host, target.port), _TIMEOUT_S).close()
    except OSError as error:
        return Way(findings=[_unreached(name, error)])
    findings = [ok(name, "answers on TCP")]
    ca_pem = _pinned(identity, config)
    if ca_pem is None:
        return Way(findings=[*findings, unknown(name, "its TLS cannot be checked without a CA certificate")])
    certificate = _shown_certificate(target.host, target.port)
    problem = _problem(target.host, target.port, ca_pem, certificate)
    if problem is not None:
        return Way(findings=[*findings, wrong(name, *problem)], certificate=certificate)
    findings.append(ok(name, "shows a certificate that the pinned CA vouches for" + _until(certificate)))
    if identity is not None:
        findings.append(_mutual(name, address, identity))
    return Way(findings=findings, certificate=certificate)


def _unreached(name: str, error: OSError) -> Finding:
    if isinstance(error, socket.gaierror):
        mend = "mend this host's name resolution, or write an address into the configuration"
        return wrong(name, f"its name cannot be resolved: {error.strerror}", mend)
    if isinstance(error, ConnectionRefusedError):
        mend = "start the gateway, or mend address and port (on the controller: `streamswarm doctor`)"
        return wrong(name, "nothing listens there: the connection is refused", mend)
    text = error.strerror or str(error)
    mend = "see routes and firewalls between this host and the controller"
    return wrong(name, f"cannot be reached by TCP within {_TIMEOUT_S:g} s: {text}", mend)


def _pinned(identity: Identity | None, config: WorkerConfig) -> bytes | None:
    if identity is not None:
        return identity.ca_pem
    with contextlib.suppress(OSError):  # what is wrong with the file is told where the file is looked at
        return None if config.ca_file is None else config.ca_file.read_bytes()
    return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    return context


def _shown_certificate(host: str, port: int) -> CertificateFacts | None:
    """Return the certificate that a listener shows, good or not."""
    context = _context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with contextlib.suppress(OSError, ValueError):  # the checked handshake, which follows, tells
        return certificates.read(_handshake(host, port, context) or b"")
    return None


def _problem(
    host: str, port: int, ca_pem: bytes, certificate: CertificateFacts | None
) -> tuple[str, str] | None:
    """Return what is wrong with a listener's TLS and how to mend it; None when it is as it should be."""
    context = _context()
    try:
        context.load_verify_locations(cadata=ca_pem.decode("ascii", "replace"))
    except (ssl.SSLError, ValueError) as error:
        return (
            f"the CA certificates here cannot be used: {error}",
            "bring the controller's CA certificate again",
        )
    try:
        _handshake(host, port, context)
    except ssl.SSLCertVerificationError as error:
        return _distrust(host, error, certificate)
    except OSError as error:
        text = shown(str(error), 200)
        mend = "see that this is a gateway's port and that no proxy stands between"
        return f"no TLS 1.3 there: {text}", mend
    return None


def _distrust(
    host: str, error: ssl.SSLCertVerificationError, certificate: CertificateFacts | None
) -> tuple[str, str]:
    word = error.verify_message
    if (
        certificate is not None
        and not certificates.is_for(certificate, host)
        and "ostname" in word + str(error)
    ):
        names = ", ".join((*certificate.dns_names, *certificate.addresses)) or "no name at all"
        return (
            f"its certificate is for {shown(names, 200)}, not for {host}",
            "add the name to the controller's STREAMSWARM_GATEWAY_NAMES, or dial one of those names",
        )
    if "expired" in word or "not yet valid" in word:
        return (
            f"its certificate is out of time by this host's clock ({word})" + _until(certificate),
            "compare `date -u` here and on the controller, and set the clock that is wrong",
        )
    issuer = f" (it is issued by {shown(certificate.issuer)})" if certificate is not None else ""
    return (
        f"the pinned CA does not vouch for its certificate{issuer}: {word}",
        "see that the address is your controller's; if its CA was replaced, provision this host again",
    )


def _handshake(host: str, port: int, context: ssl.SSLContext) -> bytes | None:
    with (
        socket.create_connection((host, port), _TIMEOUT_S) as connection,
        context.wrap_socket(connection, server_hostname=host) as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True)


def _mutual(name: str, address: str, identity: Identity) -> Finding:
    """Say whether the listener takes this worker's certificate: only then does it speak HTTP/2. No session is begun."""
    if asyncio.run(_is_taken(address, identity)):
        return ok(name, "takes this worker's certificate")
    return wrong(
        name,
        "does not take this worker's certificate",
        "see what is said of the certificate; if it is good, the gateway's CA is another than this worker's",
    )


async def _is_taken(address: str, identity: Identity) -> bool:
    grpc = load_grpc()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.ca_pem, private_key=identity.key_pem, certificate_chain=identity.chain_pem
    )
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), _TIMEOUT_S)
        except (asyncio.TimeoutError, TimeoutError):
            return False
    return True


def _until(certificate: CertificateFacts | None) -> str:
    return "" if certificate is None else f", good until {certificate.not_after:%Y-%m-%d %H:%M} UTC"
