"""The kind `dns`: one question to one name server, the answer and its time."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.dns_pb2 import DnsResult, DnsSpec
from worker.failures import internal_failure, network_failure, target_failure
from worker.probing import Availability, IPAddress, Outcome, ProbeContext, failing_with
from worker.wire import icmp_messages, stamps
from worker.wire.addresses import endpoint
from worker.wire.connect import connect, failure_at_once, failure_of
from worker.wire.datagram import Datagram, open_exchange
from worker.wire.source import Source
from worker.wire.stream import ByteStream, PeerClosedError

#: What fits everywhere without fragments (DNS flag day 2020).
_UDP_PAYLOAD_BYTES = 1232
_SHOWN_RECORDS = 20


async def run(target: Target, spec: DnsSpec, context: ProbeContext) -> Outcome:
    """Ask the server; the time that its own name takes to resolve is not part of the query time."""
    query = _make_query(spec)
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    port = target.port or spec.port
    detail: dict[str, Any] = {"address": str(address), "port": port}
    with failing_with(detail):
        context.guard.check(address, port)
        metrics = DnsResult(bytes_sent=0, bytes_received=0)
        ask = _over_tcp if spec.transport == "tcp" else _over_udp
        try:
            answer = await asyncio.wait_for(
                ask(query, address, port, metrics, source=source, dscp=spec.dscp), spec.timeout_ms / 1000
            )
        except asyncio.TimeoutError:
            raise network_failure(
                f"{endpoint(address, port)} gave no answer within {spec.timeout_ms} ms", metrics
            ) from None
        _fill(metrics, answer)
        records = [record for rrset in answer.answer for record in rrset.to_text().splitlines()]
        detail["answer"] = [shown(record, 255) for record in records[:_SHOWN_RECORDS]]
        _check(answer, spec, metrics)
    return Outcome(metrics=metrics, detail=detail)


def availability() -> Availability:
    """Every host can ask name servers."""
    return Availability(available=True)


def _make_query(spec: DnsSpec) -> dns.message.QueryMessage:
    try:
        query = dns.message.make_query(
            spec.query_name,
            dns.rdatatype.from_text(spec.record_type),
            use_edns=0,
            payload=_UDP_PAYLOAD_BYTES,
            id=secrets.randbelow(0x10000),
        )
    except dns.exception.DNSException as error:
        raise internal_failure(
            f"`{shown(spec.query_name)}` is not a domain name: {error}; correct the test's `query_name`",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        ) from error
    # AD asks the server to say whether it has validated the answer (RFC 6840, section 5.7).
    query.flags = dns.flags.AD | (dns.flags.RD if spec.recursion_desired else 0)
    return query


async def _over_udp(
    query: dns.message.QueryMessage,
    address: IPAddress,
    port: int,
    metrics: DnsResult,
    *,
    source: Source,
    dscp: int,
) -> dns.message.Message:
    where = endpoint(address, port)
    data = query.to_wire()
    try:
        with open_exchange(address, port, dscp=dscp, source=source) as exchange:
            exchange.send(data)
            metrics.bytes_sent += len(data)
            while True:
                received = await exchange.receive()
                if not isinstance(received, Datagram):
                    raise _icmp_failure(received, address, where, metrics)
                # Anything may have been sent by anybody: what does not fit the question is passed over.
                if received.data[:2] != data[:2]:
                    continue
                metrics.bytes_received += len(received.data)
                answer = _parse(received.data, where, metrics)
                if query.is_response(answer):
                    udp_ms = exchange.elapsed_ms(received)
                    break
    except OSError as error:
        raise failure_at_once(error, where, metrics) from error
    metrics.truncated = bool(answer.flags & dns.flags.TC)
    if not metrics.truncated:
        metrics.query_ms = udp_ms
        return answer
    return await _over_tcp(query, address, port, metrics, source=source, dscp=dscp, before_ms=udp_ms)


async def _over_tcp(
    query: dns.message.QueryMessage,
    address: IPAddress,
    port: int,
    metrics: DnsResult,
    *,
    source: Source,
    dscp: int,
    before_ms: float = 0,
) -> dns.message.Message:
    """Ask over a connection of its own; its handshake is waited for as well, so it is part of the query time."""
    where = endpoint(address, port)
    data = query.to_wire()
    connection = await connect(address, port, timeout_s=None, dscp=dscp, source=source, metrics=metrics)
    with connection.sock as sock:
        stream = ByteStream(sock)
        try:
            await stream.send(len(data).to_bytes(2, "big") + data)
            metrics.bytes_sent += len(data)
            length = int.from_bytes(await stream.receive_exactly(2), "big")
            received = await stream.receive_exactly(length)
        except PeerClosedError as error:
            raise target_failure(
                f"{where} {error}", metrics, reason=probe_pb2.FAILURE_REASON_BROKEN_OFF
            ) from error
        except OSError as error:
            raise failure_of(error, where, metrics) from error
        metrics.query_ms = before_ms + (stream.received_ns - connection.started_ns) / 1e6
    metrics.bytes_received += len(received)
    answer = _parse(received, where, metrics)
    if not query.is_response(answer):
        raise target_failure(
            f"{where} answered another question than the one that was asked",
            metrics,
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        )
    return answer


def _parse(data: bytes, where: str, metrics: DnsResult) -> dns.message.Message:
    try:
        return dns.message.from_wire(data, ignore_trailing=True, raise_on_truncation=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise target_failure(
            f"{where} sent an answer that is not a DNS message: {error}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_BAD_ANSWER,
        ) from error


def _icmp_failure(error: stamps.QueuedError, address: IPAddress, where: str, metrics: DnsResult) -> Exception:
    if error.origin not in (2, 3):
        return failure_at_once(OSError(error.errno, ""), where, metrics)
    name = icmp_messages.error_name(address.version, error.type, error.code)
    text = f"{where} was not reached: {error.offender or 'an unknown router'} reported {name}"
    if name == "port unreachable":
        return target_failure(
            f"{where}: nothing listens there ({name})", metrics, reason=probe_pb2.FAILURE_REASON_REFUSED
        )
    return network_failure(text, metrics, reason=probe_pb2.FAILURE_REASON_UNREACHABLE)


def _fill(metrics: DnsResult, answer: dns.message.Message) -> None:
    metrics.rcode = int(answer.rcode())
    metrics.answers = sum(len(rrset) for rrset in answer.answer)
    if answer.answer:
        metrics.ttl_min_s = min(rrset.ttl for rrset in answer.answer)
    metrics.authenticated = bool(answer.flags & dns.flags.AD)
    metrics.authoritative = bool(answer.flags & dns.flags.AA)


def _check(answer: dns.message.Message, spec: DnsSpec, metrics: DnsResult) -> None:
    """Raise ProbeFailure unless the answer is what the test requires."""
    rcode = dns.rcode.to_text(answer.rcode())
    valid = list(spec.valid_rcodes) or ["NOERROR"]
    if rcode not in valid:
        raise target_failure(
            f"the server answered {rcode}; the test wants {' or '.join(valid)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_WRONG_STATUS,
        )
    if spec.answer_pattern and not any(
        spec.answer_pattern in record.to_text() for rrset in answer.answer for record in rrset
    ):
        raise target_failure(
            f"none of {metrics.answers} answer records contains `{shown(spec.answer_pattern)}`",
            metrics,
            reason=probe_pb2.FAILURE_REASON_WRONG_CONTENT,
        )
