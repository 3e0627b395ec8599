"""The kind `http`: one request over a fresh connection, redirects followed, each phase timed."""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

import h11

from streamswarm import __version__
from streamswarm.targets import Target, TargetError, parse_url, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.http_pb2 import HttpResult, HttpSpec
from worker.failures import network_failure, resolver_failure, target_failure
from worker.probing import Availability, IPAddress, Outcome, ProbeContext, ProbeFailure
from worker.wire import tls
from worker.wire.addresses import endpoint
from worker.wire.connect import connect, failure_of
from worker.wire.http_exchange import BodyTooLongError, Exchange, converse
from worker.wire.source import Source
from worker.wire.stream import ByteStream, PeerClosedError

_REDIRECTS = {301, 302, 303, 307, 308}
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(kw_only=True)
class _Hop:
    """One request on the way; None for what was not reached."""

    url: str
    #: What the hop is doing, for the message of a time-out.
    phase: str = "resolving the name"
    address: IPAddress | None = None
    dns_ms: float | None = None
    connect_ms: float | None = None
    tls_ms: float | None = None
    tls_version: str | None = None
    cert_days_left: float | None = None
    exchange: Exchange = field(default_factory=Exchange)


async def run(target: Target, spec: HttpSpec, context: ProbeContext) -> Outcome:
    """Request the URL; everything together takes no longer than the time-out."""
    hops: list[_Hop] = []
    started_ns = time.perf_counter_ns()
    try:
        await asyncio.wait_for(_follow(target, spec, context, hops), spec.timeout_ms / 1000)
        metrics = _metrics(hops, started_ns)
        _check(hops[-1], spec)
    except asyncio.TimeoutError:
        hop = hops[-1]
        failure = resolver_failure if hop.address is None else network_failure
        failed = failure(
            f"{shown(hop.url)}: not finished within {spec.timeout_ms} ms, while {hop.phase}", _metrics(hops)
        )
        failed.detail = _detail(hops)
        raise failed from None
    except ProbeFailure as failed:
        if failed.metrics is None:
            failed.metrics = _metrics(hops, started_ns if hops[-1].exchange.end_ns else None)
        failed.detail = _detail(hops)
        raise
    return Outcome(metrics=metrics, detail=_detail(hops))


def availability() -> Availability:
    """Every host can make HTTP requests."""
    return Availability(available=True)


async def _follow(target: Target, spec: HttpSpec, context: ProbeContext, hops: list[_Hop]) -> None:
    """Request the target and what it redirects to; `hops` grows as it goes, whatever happens."""
    while True:
        hop = _Hop(url=target.url or "")
        hops.append(hop)
        followable = len(hops) <= spec.max_redirects
        await _request(target, spec, context, hop, follow=followable)
        if spec.must_be_unreachable:
            return  # any answer has reached it; where a redirect leads is another matter
        location = hop.exchange.location
        if hop.exchange.status not in _REDIRECTS or location is None or spec.max_redirects == 0:
            return
        if not followable:
            raise target_failure(
                f"{shown(hop.url)} redirects once more after {spec.max_redirects} redirects, the most the test follows",
                reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
            )
        target = _next_target(hop.url, location)


def _next_target(url: str, location: str) -> Target:
    """Return where a redirect leads, by the same rules as for a destination typed in."""
    try:
        return parse_url(urldefrag(urljoin(url, location)).url)
    except (TargetError, ValueError) as error:
        raise target_failure(
            f"{shown(url)} redirects to `{shown(location)}`: {error}",
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        ) from error


async def _request(target: Target, spec: HttpSpec, context: ProbeContext, hop: _Hop, *, follow: bool) -> None:
    parts = urlsplit(hop.url)
    port = target.port or _DEFAULT_PORTS[parts.scheme]
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    hop.dns_ms = resolved.elapsed_ms
    hop.address = resolved.addresses[0]
    context.guard.check(hop.address, port)
    where = endpoint(hop.address, port)
    hop.phase = f"connecting to {where}"
    connection = await connect(hop.address, port, timeout_s=None, dscp=spec.dscp, source=source)
    with connection.sock as sock:
        hop.connect_ms = connection.connect_ms
        stream = ByteStream(sock)
        try:
            if parts.scheme == "https":
                hop.phase = f"waiting for the TLS handshake with {where}"
                await _secure(stream, target.host, spec, hop)
            hop.phase = f"waiting for the answer of {where}"
            await converse(
                stream,
                _request_message(parts.path, parts.query, target, port, parts.scheme, spec.method),
                hop.exchange,
                wants_body=lambda exchange: (
                    not (follow and exchange.status in _REDIRECTS and exchange.location is not None)
                ),
                longest_body=spec.max_body_bytes,
                needle=spec.body_contains.encode(),
            )
        except BodyTooLongError:
            raise target_failure(
                f"the body of {shown(hop.url)} is longer than {spec.max_body_bytes} bytes",
                reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
            ) from None
        except h11.RemoteProtocolError as error:
            raise target_failure(
                f"{where} did not answer in HTTP: {shown(str(error), 200)}",
                reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
            ) from error
        except ssl.SSLError as error:
            raise target_failure(
                f"{where} broke the TLS connection: {_tls_reason(error)}",
                reason=probe_pb2.FAILURE_REASON_BROKEN_OFF,
            ) from error
        except OSError as error:
            raise failure_of(error, where) from error


async def _secure(stream: ByteStream, host: str, spec: HttpSpec, hop: _Hop) -> None:
    context = tls.client_context(verify=spec.verify_tls)
    started_ns = time.perf_counter_ns()
    try:
        await stream.start_tls(context, host)
    except ssl.SSLCertVerificationError as error:
        raise target_failure(
            f"the certificate of {shown(hop.url)} is not valid: {error.verify_message}",
            reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE,
        ) from error
    except ssl.SSLError as error:
        raise target_failure(
            f"the TLS handshake with {shown(hop.url)} failed: {_tls_reason(error)}",
            reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
        ) from error
    except PeerClosedError as error:
        raise target_failure(
            f"{shown(hop.url)} closed the connection during the TLS handshake",
            reason=probe_pb2.FAILURE_REASON_TLS_FAILED,
        ) from error
    hop.tls_ms = (time.perf_counter_ns() - started_ns) / 1e6
    if stream.tls is not None:
        hop.tls_version = stream.tls.version()
        certificate = stream.tls.getpeercert(binary_form=True)
        hop.cert_days_left = tls.days_left(certificate) if certificate else None


def _request_message(
    path: str, query: str, target: Target, port: int, scheme: str, method: str
) -> h11.Request:
    host = f"[{target.host}]" if ":" in target.host else target.host
    if port != _DEFAULT_PORTS[scheme]:
        host = f"{host}:{port}"
    return h11.Request(
        method=method,
        target=(path or "/") + (f"?{query}" if query else ""),
        headers=[
            ("Host", host),
            ("User-Agent", f"streamswarm/{__version__}"),
            ("Accept", "*/*"),
            # The body is searched and counted as it comes: no coding to undo.
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ],
    )


def _check(hop: _Hop, spec: HttpSpec) -> None:
    """Raise ProbeFailure unless the last answer is what the test requires."""
    status = hop.exchange.status
    valid = list(spec.valid_status)
    if status not in valid if valid else not 200 <= (status or 0) <= 299:
        wanted = " or ".join(map(str, valid)) if valid else "200 to 299"
        raise target_failure(
            f"{shown(hop.url)} answered with status {status}; the test wants {wanted}",
            reason=probe_pb2.FAILURE_REASON_WRONG_STATUS,
        )
    if spec.body_contains and not hop.exchange.found:
        raise target_failure(
            f"the body of {shown(hop.url)} does not contain `{shown(spec.body_contains)}`",
            reason=probe_pb2.FAILURE_REASON_WRONG_CONTENT,
        )


def _tls_reason(error: ssl.SSLError) -> str:
    return shown((error.reason or str(error)).replace("_", " ").lower(), 200)


def _metrics(hops: list[_Hop], started_ns: int | None = None) -> HttpResult:
    """Return the metrics so far; the total only once there was a last byte."""
    last = hops[-1]
    values: dict[str, Any] = _phases(last)
    values["status"] = last.exchange.status
    values["cert_days_left"] = last.cert_days_left
    if last.exchange.status is not None:
        values["body_bytes"] = last.exchange.body_bytes
    if started_ns is not None and last.exchange.end_ns:
        values["total_ms"] = (last.exchange.end_ns - started_ns) / 1e6
    return HttpResult(
        redirects=len(hops) - 1,
        bytes_sent=sum(hop.exchange.bytes_sent for hop in hops),
        bytes_received=sum(hop.exchange.bytes_received for hop in hops),
        **{name: value for name, value in values.items() if value is not None},
    )


def _phases(hop: _Hop) -> dict[str, float | None]:
    exchange = hop.exchange
    return {
        "dns_ms": hop.dns_ms,
        "connect_ms": hop.connect_ms,
        "tls_ms": hop.tls_ms,
        "ttfb_ms": (exchange.first_byte_ns - exchange.sent_ns) / 1e6 if exchange.first_byte_ns else None,
        "transfer_ms": (exchange.end_ns - exchange.first_byte_ns) / 1e6 if exchange.end_ns else None,
    }


def _detail(hops: list[_Hop]) -> dict[str, Any]:
    return {"hops": [_hop_detail(hop) for hop in hops]}


def _hop_detail(hop: _Hop) -> dict[str, Any]:
    detail: dict[str, Any] = {
        "url": shown(hop.url, 500),
        "address": None if hop.address is None else str(hop.address),
        "status": hop.exchange.status,
        "tls_version": hop.tls_version,
    }
    detail.update(_phases(hop))
    return {
        name: round(value, 3) if isinstance(value, float) else value
        for name, value in detail.items()
        if value is not None
    }
