"""The kind `dns`: one question to one name server, once or again and again, the answers and their times."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype

from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.dns_pb2 import DnsResult, DnsSpec
from worker.evaluation import dns_answers
from worker.evaluation.dns_answers import Answer
from worker.evaluation.dns_demands import Demands
from worker.failures import internal_failure, network_failure, target_failure
from worker.probing import Availability, FailingWith, Need, Outcome, ProbeContext, ProbeFailure
from worker.wire.dns_https import HttpsTransport
from worker.wire.dns_transport import Server, StreamTransport, Traffic, Transport, UdpTransport
from worker.wire.source import Source
from worker.wire.stream import UNREAD_BYTES
from worker.wire.tls import expected_name
from worker.wire.volume import Volume

#: What fits everywhere without fragments (DNS flag day 2020).
_UDP_PAYLOAD_BYTES = 1232
_PORTS = {"udp": 53, "tcp": 53, "tls": 853, "https": 443}
#: A query, and the longest answer (RFC 1035, section 4.2.2); over UDP a first one that was cut short, too.
_MESSAGES_BYTES = 512 + 65_537
#: What a transport adds to each exchange of messages, at most in practice: heads and frames of HTTP, records of TLS.
_TRANSPORT_BYTES = {"udp": _MESSAGES_BYTES, "tls": 4_096, "https": 32_768}
#: A TLS handshake: OpenSSL takes chains of certificates of 100 KiB.
_HANDSHAKE_BYTES = 131_072
#: Bytes of messages of one run that are kept to be looked at in the end, read: they take many times as much then.
_MOST_KEPT_BYTES = 1_048_576
#: Queries without an answer to them that the detail tells of.
_TOLD_FAILURES = 10
#: The server answered, but with no DNS message, with one to another question or too large a one, or with an HTTP error.
_WRONG_ANSWERS = {
    probe_pb2.FAILURE_REASON_BAD_ANSWER,
    probe_pb2.FAILURE_REASON_TOO_MUCH,
    probe_pb2.FAILURE_REASON_WRONG_STATUS,
}


async def run(target: Target, spec: DnsSpec, context: ProbeContext) -> Outcome:
    """Ask the server; the time that its own name takes to resolve is not part of the query time."""
    make_query(spec)
    demands = Demands.of(spec)
    source = Source.parse(spec.source)
    secure = spec.transport in ("tls", "https")
    name = expected_name(spec.server_name if secure else "", target.host)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    server = Server(
        address=resolved.addresses[0],
        port=target.port or spec.port or _PORTS[spec.transport],
        dscp=spec.dscp,
        source=source,
        name=name,
        verify=spec.verify_tls,
        keep=spec.keep_connection,
    )
    detail: dict[str, Any] = {"address": str(server.address), "port": server.port}
    traffic = Traffic(volume=Volume(_most_bytes(spec)))
    metrics = DnsResult()
    with FailingWith(detail):
        context.guard.check(server.address, server.port)
        transport = _transport(server, traffic, spec)
        await transport.prepare()
        try:
            answers, failures = await _ask_all(transport, server, spec)
        finally:
            transport.close()
            _count(metrics, traffic)
        told, failure = await demands.first_unmet(answers)
        # What this host could not ask says nothing about the server, and is no loss.
        unsent = [each for each in failures if each.status == probe_pb2.STATUS_ERROR]
        asked = [each for each in failures if each not in unsent]
        wrong = [each for each in asked if each.reason in _WRONG_ANSWERS]
        unanswered = [each for each in asked if each.reason not in _WRONG_ANSWERS]
        dns_answers.fill(metrics, answers, wrong=len(wrong), unanswered=len(unanswered), told=told)
        if told is not None:
            detail |= dns_answers.detail_of(told.message)
        for name, some in (("wrong_answers", wrong), ("unanswered", unanswered), ("not_sent", unsent)):
            if some and (told is not None or len(failures) > 1):
                detail[name] = [shown(each.message, 255) for each in some[:_TOLD_FAILURES]]
        # An answer that is none to the question is as wrong as one that the test does not want.
        failure = failure or next(iter(wrong), None) or (None if answers else (unanswered or unsent)[-1])
        if failure is not None:
            failure.metrics = metrics
            raise failure
    return Outcome(metrics=metrics, detail=detail)


def duration_s(spec: DnsSpec) -> float:
    """Return the longest time that a run may take by its parameters."""
    return max(1, spec.count) * max(spec.timeout_ms, spec.interval_ms) / 1000


def need(spec: DnsSpec) -> Need:
    """Return the most that a run may need, with what the last connection may have brought that is not read."""
    return Need(packets=max(1, spec.count), size=_most_bytes(spec) + UNREAD_BYTES)


def _most_bytes(spec: DnsSpec) -> int:
    """Return the most bytes that are sent and read: for each query the longest message and what its transport adds."""
    queries = max(1, spec.count)
    # One connection for all, and one more; or one for each.
    connections = min(2, queries) if spec.keep_connection else queries
    size = queries * (_MESSAGES_BYTES + _TRANSPORT_BYTES.get(spec.transport, 0))
    if spec.transport in ("tls", "https"):
        size += connections * _HANDSHAKE_BYTES
    return size


def availability() -> Availability:
    """Every host can ask name servers."""
    return Availability(available=True)


def make_query(spec: DnsSpec) -> dns.message.QueryMessage:
    """Return a query with an id of its own; raises ProbeFailure when the test's name cannot be asked for."""
    options: list[dns.edns.Option] = (
        [dns.edns.GenericOption(dns.edns.OptionType.NSID, b"")] if spec.nsid else []
    )
    try:
        query = dns.message.make_query(
            spec.query_name,
            dns.rdatatype.from_text(spec.record_type),
            use_edns=0,
            payload=_UDP_PAYLOAD_BYTES,
            want_dnssec=spec.dnssec,
            options=options,
            # Over HTTPS the id is 0, so that caches on the way know the question again (RFC 8484, section 4.1).
            id=0 if spec.transport == "https" else secrets.randbelow(0x10000),
        )
    except dns.exception.DNSException as error:
        raise internal_failure(
            f"`{shown(spec.query_name)}` is not a domain name: {error}; correct the test's `query_name`",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        ) from error
    # AD asks the server to say whether it has validated the answer (RFC 6840, section 5.7).
    query.flags = dns.flags.AD | (dns.flags.RD if spec.recursion_desired else 0)
    return query


def _transport(server: Server, traffic: Traffic, spec: DnsSpec) -> Transport:
    if spec.transport == "udp":
        return UdpTransport(server, traffic)
    if spec.transport == "https":
        return HttpsTransport(server, traffic, path=spec.http_path, method=spec.http_method)
    return StreamTransport(server, traffic, secure=spec.transport == "tls")


async def _ask_all(
    transport: Transport, server: Server, spec: DnsSpec
) -> tuple[list[Answer], list[ProbeFailure]]:
    """Ask as often as the test says; return the answers, and the failures of queries without an answer to them."""
    answers: list[Answer] = []
    failures: list[ProbeFailure] = []
    begin = time.monotonic()
    kept = 0
    for number in range(max(1, spec.count)):
        if number:
            await asyncio.sleep(max(0.0, begin + number * spec.interval_ms / 1000 - time.monotonic()))
        try:
            reply = await asyncio.wait_for(transport.ask(make_query(spec)), spec.timeout_ms / 1000)
        except asyncio.TimeoutError:
            failures.append(network_failure(f"{server.where} gave no answer within {spec.timeout_ms} ms"))
        except ProbeFailure as failure:
            failures.append(failure)
        else:
            kept += reply.size
            if answers and kept > _MOST_KEPT_BYTES:
                failures.append(
                    target_failure(
                        f"the answers of {server.where} have more than {_MOST_KEPT_BYTES:,} bytes in all",
                        reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
                    )
                )
                continue
            answers.append(
                Answer(
                    message=reply.message,
                    size=reply.size,
                    elapsed_ms=reply.elapsed_ms,
                    at_s=time.monotonic(),
                )
            )
    return answers, failures


def _count(metrics: DnsResult, traffic: Traffic) -> None:
    metrics.bytes_sent, metrics.bytes_received = traffic.volume.sent, traffic.volume.received
    for name in ("connect_ms", "tls_ms", "truncated", "http_status"):
        value = getattr(traffic, name)
        if value is not None:
            setattr(metrics, name, value)
