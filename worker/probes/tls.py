"""The kind `tls`: one handshake, what was agreed on, and what is wrong with the certificates."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from datetime import datetime, timedelta, timezone
from typing import Any

from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.tls_pb2 import TlsResult, TlsSpec
from worker import certificates
from worker.certificates import CertificateFacts, CertificateProblem, Matter
from worker.failures import network_failure, target_failure
from worker.probing import Availability, FailingWith, IPAddress, Need, Outcome, ProbeContext, ProbeFailure
from worker.wire import starttls, tls_handshake, tls_validation
from worker.wire.addresses import endpoint
from worker.wire.connect import connect, failure_of, spent
from worker.wire.deadline import time_limit
from worker.wire.source import Source
from worker.wire.stream import UNREAD_BYTES, ByteStream, PeerClosedError
from worker.wire.tls import expected_name, no_authorities
from worker.wire.tls_handshake import Handshake, HandshakeError
from worker.wire.tls_validation import Validation
from worker.wire.volume import SpentError, Volume

_MOST_BYTES = 131_072
_MOST_REMEMBERED = 16_384
#: Certificates of a chain that are looked at; those of the public web have two to five.
_LONGEST_CHAIN = 32
#: What decides which certificate a server shows: its host, address and port, the name, and how TLS is begun.
_Asked = tuple[str, str, int, str, str, str]
#: Fingerprint of the certificate that each server showed last; since the worker's start.
_remembered: OrderedDict[_Asked, str] = OrderedDict()


async def run(target: Target, spec: TlsSpec, context: ProbeContext) -> Outcome:
    """Connect, shake hands, look at what came, and close."""
    source = Source.parse(spec.source)
    name = expected_name(spec.server_name, target.host)
    await tls_validation.prepare()
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    port = target.port or spec.port
    detail: dict[str, Any] = {"address": str(address), "port": port, "server_name": name}
    metrics = TlsResult()
    if resolved.elapsed_ms is not None:
        metrics.dns_ms = resolved.elapsed_ms
    with FailingWith(detail):
        context.guard.check(address, port)
        handshake = await _shake_hands(address, port, name, spec, source, metrics)
        now = datetime.now(timezone.utc) - timedelta(milliseconds=context.clock_offset_ms or 0.0)
        found = _judge(handshake, name, now, metrics, detail)
        asked = (target.host, str(address), port, name, spec.starttls, spec.min_version)
        changed = _changed(asked, handshake)
        if changed is not None:
            metrics.certificate_changed = changed
        _check(endpoint(address, port), spec, metrics, found)
    return Outcome(metrics=metrics, detail=detail)


def need(spec: TlsSpec) -> Need:
    """Return the most that a run may need: OpenSSL takes chains of certificates of 100 KiB; and what is not read."""
    return Need(packets=1, size=_MOST_BYTES + UNREAD_BYTES)


def availability() -> Availability:
    """Every host can shake hands."""
    return Availability(available=True)


async def _shake_hands(
    address: IPAddress, port: int, name: str, spec: TlsSpec, source: Source, metrics: TlsResult
) -> Handshake:
    where = endpoint(address, port)
    phase = "connecting"
    stream: ByteStream | None = None
    try:
        async with time_limit(spec.timeout_ms / 1000):
            connection = await connect(
                address, port, timeout_s=None, dscp=spec.dscp, source=source, metrics=metrics
            )
            with connection.sock as sock:
                metrics.connect_ms = connection.connect_ms
                stream = ByteStream(sock, Volume(_MOST_BYTES), since_ns=connection.connected_ns)
                if spec.starttls not in ("", "none"):
                    phase = f"waiting for {spec.starttls.upper()} to begin TLS"
                    await starttls.start(stream, spec.starttls)
                    took_ns = time.perf_counter_ns() - stream.late_ns - connection.connected_ns
                    metrics.starttls_ms = took_ns / 1e6
                phase = "waiting for the TLS handshake"
                try:
                    handshake = await tls_handshake.shake_hands(
                        stream,
                        server_name=name,
                        min_version=spec.min_version or "1.2",
                        alpn=tuple(spec.alpn),
                    )
                finally:
                    stream.count_unread()
    except asyncio.TimeoutError:
        raise network_failure(
            f"{where}: not finished within {spec.timeout_ms} ms, while {phase}", metrics
        ) from None
    except (HandshakeError, starttls.StartTlsError, PeerClosedError) as error:
        raise _refused(error, where, metrics) from error
    except SpentError as error:
        raise spent(error, where, metrics) from error
    except OSError as error:
        raise failure_of(error, where, metrics) from error
    finally:
        if stream is not None:
            metrics.bytes_sent, metrics.bytes_received = stream.bytes_sent, stream.bytes_received
    metrics.handshake_ms = handshake.elapsed_ns / 1e6
    return handshake


def _refused(error: Exception, where: str, metrics: TlsResult) -> ProbeFailure:
    if isinstance(error, HandshakeError):
        return target_failure(
            f"the TLS handshake with {where} failed: {error}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
        )
    if isinstance(error, starttls.StartTlsError):
        return target_failure(f"{where} {error}", metrics, reason=probe_pb2.FAILURE_REASON_BAD_ANSWER)
    return target_failure(f"{where} {error}", metrics, reason=probe_pb2.FAILURE_REASON_BROKEN_OFF)


def _judge(
    handshake: Handshake, name: str, now: datetime, metrics: TlsResult, detail: dict[str, Any]
) -> list[CertificateProblem]:
    """Fill in what was agreed on and what the certificates say; return what is wrong with them.

    `now` is the controller's time as far as it is known: a wrong clock of this host is no fault of the server's.
    """
    if handshake.version is not None:
        metrics.tls_version = handshake.version
    if handshake.cipher_bits is not None:
        metrics.cipher_bits = handshake.cipher_bits
    metrics.ocsp_stapled = handshake.ocsp_stapled
    metrics.chain_length = len(handshake.chain)
    detail["cipher"] = handshake.cipher
    if handshake.group:
        detail["key_exchange"] = shown(handshake.group)
    if handshake.alpn:
        detail["alpn"] = shown(handshake.alpn)
    if len(handshake.chain) > _LONGEST_CHAIN:
        raise target_failure(
            f"the server shows {len(handshake.chain)} certificates, and more than {_LONGEST_CHAIN} are not looked at",
            metrics,
            reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
        )
    try:
        chain = [certificates.read(der) for der in handshake.chain]
    except ValueError as error:
        raise target_failure(
            f"the server's certificates cannot be read: {shown(str(error), 200)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE,
        ) from error
    if not chain:
        raise target_failure(
            "the server shows no certificate", metrics, reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
        )
    validation = tls_validation.validate(handshake.chain, now)
    path = _path(chain, validation, now)
    found = certificates.problems(
        path,
        sent=len(chain),
        host=name,
        now=now,
        validation_error=None if validation is None else validation.error,
    )
    if validation is not None:
        metrics.validation_ms = validation.elapsed_ns / 1e6
    metrics.cert_days_left = chain[0].days_left(now)
    metrics.chain_days_left = min(certificate.days_left(now) for certificate in path)
    if chain[0].key_bits is not None:
        metrics.key_bits = chain[0].key_bits
    invalid = any(problem.matter == Matter.CHAIN for problem in found)
    if validation is not None or invalid:
        metrics.chain_valid = not invalid
    metrics.name_valid = not any(problem.matter == Matter.NAME for problem in found)
    metrics.problems = len(found)
    detail["chain"] = [_shown_certificate(certificate) for certificate in chain]
    detail["problems"] = [problem.text for problem in found]
    notes = certificates.notes(chain, path, now)
    if notes:
        detail["notes"] = notes
    return found


def _path(
    chain: list[CertificateFacts], validation: Validation | None, now: datetime
) -> list[CertificateFacts]:
    """Return those of a chain that are needed: of the valid path those that the server sent; else what leads farthest."""
    if validation is None or validation.path is None:
        return certificates.path_of(chain, now)
    needed = {certificates.fingerprint(der) for der in validation.path}
    return [certificate for certificate in chain if certificate.fingerprint in needed]


def _shown_certificate(certificate: CertificateFacts) -> dict[str, Any]:
    return {
        "subject": shown(certificate.subject),
        "issuer": shown(certificate.issuer),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "key": certificate.key_type
        if certificate.key_bits is None
        else f"{certificate.key_type}, {certificate.key_bits} bits",
        "signature": certificate.signature,
        "sha256": certificate.fingerprint,
    }


def _changed(key: _Asked, handshake: Handshake) -> bool | None:
    """Return whether the server shows another certificate than last time; None when it is seen first."""
    fingerprint = certificates.fingerprint(handshake.chain[0])
    known = _remembered.pop(key, None)
    _remembered[key] = fingerprint
    if len(_remembered) > _MOST_REMEMBERED:
        _remembered.popitem(last=False)
    return None if known is None else known != fingerprint


def _check(where: str, spec: TlsSpec, metrics: TlsResult, found: list[CertificateProblem]) -> None:
    """Raise ProbeFailure unless the certificates are what the test demands."""
    invalid = [problem.text for problem in found if problem.matter != Matter.STRENGTH]
    if spec.verify and invalid:
        raise target_failure(
            f"{where}: {'; '.join(invalid)}", metrics, reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE
        )
    if spec.verify and not metrics.HasField("chain_valid"):
        raise no_authorities(where, metrics)
    if spec.min_days_left and metrics.chain_days_left < spec.min_days_left:
        which = "certificate" if metrics.cert_days_left == metrics.chain_days_left else "chain"
        raise target_failure(
            f"{where}: the server's {which} is good for {metrics.chain_days_left:.1f} days; "
            f"the test wants {spec.min_days_left}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS,
        )
