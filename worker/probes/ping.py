"""The kind `ping`: ICMP echo requests to one host, and what their replies say."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.ping_pb2 import PingResult, PingSpec
from worker import statistics
from worker.failures import error_text, network_failure, vantage_failure
from worker.probing import Availability, Outcome, ProbeContext, failing_with
from worker.wire import icmp_messages
from worker.wire.echo import EchoPlan, EchoRecord, EchoReply, EchoSendError, EchoUnavailableError
from worker.wire.source import Source

if sys.platform.startswith("linux"):
    from worker.wire.icmp import echo, open_socket
else:
    from worker.wire.icmp_portable import echo, open_socket


async def run(target: Target, spec: PingSpec, context: ProbeContext) -> Outcome:
    """Ping the first address that the resolver gives."""
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    detail: dict[str, Any] = {"address": str(address)}
    with failing_with(detail):
        context.guard.check(address)
        plan = EchoPlan(
            address=address,
            count=spec.count,
            interval_s=spec.interval_ms / 1000,
            timeout_s=spec.timeout_ms / 1000,
            size=spec.size_bytes,
            dscp=spec.dscp,
            ttl=spec.ttl,
            dont_fragment=spec.dont_fragment,
            source=source,
        )
        try:
            record = await echo(plan)
        except EchoUnavailableError as error:
            raise vantage_failure(
                f"ping cannot run on this host: {error}", reason=probe_pb2.FAILURE_REASON_NO_PERMISSION
            ) from error
        except EchoSendError as error:
            raise vantage_failure(
                f"this host cannot send to {address}: {error_text(error)}",
                reason=probe_pb2.FAILURE_REASON_CANNOT_SEND,
            ) from error
        if record.sent == 0:
            raise vantage_failure(
                f"this host sent no request to {address}: {_refusals(record)}",
                reason=probe_pb2.FAILURE_REASON_CANNOT_SEND,
            )
        metrics = summarise(record, spec.timeout_ms)
        if record.refused:
            detail["not_sent"] = _refusals(record)
        if record.errors:
            detail["icmp_errors"] = _errors(record, address.version)
        if metrics.packets_received == 0:
            reason = (
                probe_pb2.FAILURE_REASON_UNREACHABLE if record.errors else probe_pb2.FAILURE_REASON_TIMED_OUT
            )
            raise network_failure(_silence(record, plan, metrics), metrics, reason=reason)
    return Outcome(metrics=metrics, detail=detail)


def availability() -> Availability:
    """Try both address families; one that works is enough."""
    problems: dict[int, EchoUnavailableError] = {}
    for version in (4, 6):
        try:
            open_socket(version).close()
        except EchoUnavailableError as error:
            problems[version] = error
        except OSError as error:
            problems[version] = EchoUnavailableError(
                f"an ICMP socket (IPv{version}) could not be opened: {error_text(error)}", ""
            )
    if len(problems) == 2:
        return Availability(available=False, reason=problems[4].reason, mend=problems[4].mend)
    for version, problem in problems.items():
        return Availability(
            available=True, reason=f"IPv{10 - version} only: {problem.reason}", mend=problem.mend
        )
    return Availability(available=True)


def summarise(record: EchoRecord, timeout_ms: int) -> PingResult:
    """Return the metrics of a run; what cannot be said from its replies stays unset."""
    in_time: dict[int, EchoReply] = {}
    seen: set[int] = set()
    duplicates = late = reordered = 0
    highest = -1
    for reply in record.replies:
        if reply.index in seen:
            duplicates += 1
            continue
        seen.add(reply.index)
        if reply.index < highest:
            reordered += 1
        highest = max(highest, reply.index)
        if reply.rtt_ns > timeout_ms * 1_000_000:
            late += 1
        else:
            in_time[reply.index] = reply
    result = PingResult(
        packets_sent=record.sent,
        packets_received=len(in_time),
        duplicates=duplicates,
        reordered=reordered,
        late=late,
        icmp_errors=len({error.index for error in record.errors} - seen),
        bytes_sent=record.bytes_sent,
        bytes_received=record.bytes_received,
    )
    if record.sent:
        result.loss_pct = 100.0 * (record.sent - len(in_time)) / record.sent
    if record.sent and not record.refused:  # otherwise it is not known which requests were sent
        result.loss_periods, result.longest_loss_period = statistics.loss_periods(
            [index in in_time for index in range(record.sent)]
        )
    if not in_time:
        return result
    rtts = [in_time[index].rtt_ns / 1e6 for index in sorted(in_time)]
    values = {
        "rtt_min_ms": min(rtts),
        "rtt_avg_ms": statistics.mean(rtts),
        "rtt_median_ms": statistics.median(rtts),
        "rtt_max_ms": max(rtts),
        "rtt_stddev_ms": statistics.standard_deviation(rtts),
        "rtt_p90_ms": statistics.percentile_90(rtts),
        "rtt_p95_ms": statistics.percentile_95(rtts),
        "rtt_p99_ms": statistics.percentile_99(rtts),
        "ipdv_max_ms": statistics.ipdv_max(rtts),
        "ipdv_avg_ms": statistics.ipdv_mean(rtts),
        "pdv_p95_ms": statistics.pdv_95(rtts),
        "rfc3550_jitter_ms": statistics.rfc3550_jitter(rtts),
    }
    for name, value in values.items():
        if value is not None:
            setattr(result, name, value)
    result.kernel_timestamps = all(reply.kernel for reply in in_time.values())
    ttls = [reply.ttl for reply in record.replies if reply.ttl is not None]
    if ttls:
        result.reply_ttl = ttls[-1]
        result.reply_ttls = len(set(ttls))
    return result


def _silence(record: EchoRecord, plan: EchoPlan, metrics: PingResult) -> str:
    text = f"{plan.address} answered none of {record.sent} requests within {plan.timeout_s * 1000:.0f} ms"
    if metrics.late:
        text += f"; {metrics.late} answers came later"
    if record.errors:
        text += f"; {_errors(record, plan.address.version)}"
    return text


def _errors(record: EchoRecord, version: int) -> str:
    counts = Counter((error.offender, error.type, error.code) for error in record.errors)
    return "; ".join(
        f"{offender or 'an unknown router'} reported {icmp_messages.error_name(version, kind, code)} ({count} times)"
        for (offender, kind, code), count in sorted(counts.items(), key=lambda item: -item[1])
    )


def _refusals(record: EchoRecord) -> str:
    return "; ".join(
        f"{count} times {error_text(OSError(number, ''))}" for number, count in record.refused.items()
    )
