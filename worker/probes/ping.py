"""The kind `ping`: ICMP echo requests to one host or to a network, and what their replies say."""

from __future__ import annotations

from collections import Counter
from typing import Any

from streamswarm.targets import IPNetwork, Target, host_range
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.ping_pb2 import PingResult, PingSpec
from worker.evaluation import statistics, sweeps
from worker.evaluation.replies import Replies, set_present
from worker.failures import (
    internal_failure,
    network_failure,
    nothing_sent,
    refusals,
    resolver_failure,
    unsent,
    vantage_failure,
)
from worker.probing import Availability, FailingWith, IPAddress, Outcome, ProbeContext, ProbeFailure
from worker.wire import batches, flow_labels, icmp_messages
from worker.wire.echo import (
    EchoPlan,
    EchoRecord,
    EchoSendError,
    EchoUnavailableError,
    echo_availability,
    kept_here,
)
from worker.wire.source import Source

if batches.SUPPORTED:
    from worker.wire.icmp import echo, open_socket
else:
    from worker.wire.icmp_portable import echo, open_socket


#: Different ICMP errors that are told of one run.
_MOST_ERRORS = 10
#: Most requests of one run.
MOST_PACKETS = 1_000_000


async def run(target: Target, spec: PingSpec, context: ProbeContext) -> Outcome:
    """Ping the first address that the resolver gives, or every address of a network."""
    if target.network is not None:
        return await _sweep(target.network, spec, context)
    source = Source.parse(spec.source)
    wanted = flow_labels.family(target.host, spec.address_family, spec.flow_label)
    resolved = await context.resolve(target.host, source.family(target.host, wanted))
    address = resolved.addresses[0]
    detail: dict[str, Any] = {"address": str(address)}
    with FailingWith(detail):
        flow_labels.check(address, spec.flow_label)
        context.guard.check(address)
        source.check(address.version)
        record = await _send(_plan(address, spec, source), str(address))
        replies = Replies.of(record, spec.timeout_ms)
        metrics = summarise(replies)
        _explain(replies, detail, address.version)
        if metrics.packets_received == 0:
            raise _silence(record, spec, metrics, str(address), address.version)
    return Outcome(metrics=metrics, detail=detail)


async def _sweep(network: IPNetwork, spec: PingSpec, context: ProbeContext) -> Outcome:
    """Ping every address of a network."""
    numbers = host_range(network)
    detail: dict[str, Any] = {"network": str(network)}
    with FailingWith(detail):
        if len(numbers) * spec.count > MOST_PACKETS:
            raise internal_failure(
                f"{spec.count} packets to each of {len(numbers)} addresses are more than {MOST_PACKETS}, the most "
                "of one run; lower the test's `count`, or aim at a smaller network",
                reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
            )
        if spec.address_family not in ("any", "", f"ipv{network.version}"):
            raise resolver_failure(
                f"{network} is not an {spec.address_family.replace('ip', 'IP')} network, as the test asks for",
                reason=probe_pb2.FAILURE_REASON_NO_SUCH_NAME,
            )
        flow_labels.check(network.network_address, spec.flow_label)
        context.guard.check_network(network)
        first = network[numbers[0] - int(network.network_address)]
        source = Source.parse(spec.source)
        source.check(network.version)
        record = await _send(_plan(first, spec, source, hosts=len(numbers)), str(network))
        replies = Replies.of(record, spec.timeout_ms, hosts=len(numbers))
        metrics = sweeps.summarise(replies, first, len(numbers), spec.count)
        _explain(replies, detail, network.version)
        if metrics.packets_received == 0:
            raise _silence(record, spec, metrics, f"the addresses of {network}", network.version)
        detail |= sweeps.answering(replies, first, len(numbers))
    return Outcome(metrics=metrics, detail=detail)


def _plan(address: IPAddress, spec: PingSpec, source: Source, *, hosts: int = 1) -> EchoPlan:
    return EchoPlan(
        address=address,
        count=spec.count,
        interval_s=spec.interval_ms / 1000,
        timeout_s=spec.timeout_ms / 1000,
        size=spec.size_bytes,
        dscp=spec.dscp,
        flow_label=spec.flow_label,
        ttl=spec.ttl,
        dont_fragment=spec.dont_fragment,
        hosts=hosts,
        burst=spec.mode == "burst",
        source=source.address,
        interface=source.interface,
    )


async def _send(plan: EchoPlan, where: str) -> EchoRecord:
    """Send the requests of a plan; raises ProbeFailure when none could be sent."""
    try:
        record = await echo(plan)
    except EchoUnavailableError as error:
        raise vantage_failure(
            f"ping cannot run on this host: {error}", reason=error.failure_reason
        ) from error
    except EchoSendError as error:
        raise unsent(error, where, advice=flow_labels.refusal(plan.flow_label, error.errno)) from error
    if record.sent == 0:
        raise nothing_sent(record.refused, "request", where)
    return record


def availability() -> Availability:
    """Try both address families; one that works is enough."""
    return echo_availability(open_socket)


def summarise(replies: Replies) -> PingResult:
    """Return the metrics of a run to one host; what cannot be said from its replies stays unset."""
    record = replies.record
    result = replies.counted()
    in_time = replies.in_time
    if record.sent and not record.refused and result.HasField("loss_pct"):
        # Otherwise it is not known which requests were sent, or lost.
        result.loss_periods, result.longest_loss_period = statistics.loss_periods(
            [index in in_time for index in range(record.sent)]
        )
    if not in_time:
        return result
    rtts = [in_time[index] / 1e6 for index in sorted(in_time)]
    replies.add_times(result)
    if result.HasField("rtt_p95_ms"):
        result.p95_p50_ms = result.rtt_p95_ms - result.rtt_median_ms
    set_present(
        result,
        ipdv_max_ms=statistics.ipdv_max(rtts),
        ipdv_avg_ms=statistics.ipdv_mean(rtts),
        pdv_p95_ms=statistics.pdv_95(rtts),
        rfc3550_jitter_ms=statistics.rfc3550_jitter(rtts),
    )
    ttls = [ttl for ttl in record.replies.ttls if ttl is not None]
    if ttls:
        result.reply_ttl = ttls[-1]
        result.reply_ttls = len(set(ttls))
    return result


def _explain(replies: Replies, detail: dict[str, Any], version: int) -> None:
    """Add to the detail what the counts do not tell."""
    record = replies.record
    histogram = replies.histogram()
    if histogram:
        detail["rtt_histogram"] = histogram
    if record.refused:
        detail["not_sent"] = refusals(record.refused)
    if record.errors:
        detail["icmp_errors"] = _errors(record, version)
    if record.dropped_here:
        detail["dropped_here"] = (
            f"{record.dropped_here} packets came while this host's receive buffer was full, so that loss cannot be "
            "told; raise net.core.rmem_max, or give the worker a less busy host"
        )


def _silence(
    record: EchoRecord, spec: PingSpec, metrics: PingResult, where: str, version: int
) -> ProbeFailure:
    """Return the failure of a run without a reply in time."""
    if record.dropped_here:
        return vantage_failure(
            f"no answer of {where} was read within {spec.timeout_ms} ms, but {record.dropped_here} packets came while "
            "this host's receive buffer was full",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        )
    kept = kept_here(record, version)
    if kept is not None:
        return nothing_sent(kept, "request", where)
    text = f"{where} answered none of {record.sent} requests within {spec.timeout_ms} ms"
    if metrics.late:
        text += f"; {metrics.late} answers came later"
    if record.errors:
        text += f"; {_errors(record, version)}"
    reason = probe_pb2.FAILURE_REASON_UNREACHABLE if record.errors else probe_pb2.FAILURE_REASON_TIMED_OUT
    return network_failure(text, metrics, reason=reason)


def _errors(record: EchoRecord, version: int) -> str:
    counts = Counter((error.offender, error.type, error.code) for error in record.errors)
    most = counts.most_common(_MOST_ERRORS)
    text = "; ".join(
        f"{offender or 'an unknown router'} reported {icmp_messages.error_name(version, kind, code)} ({count} times)"
        for (offender, kind, code), count in most
    )
    return text if len(most) == len(counts) else f"{text}; and {len(counts) - len(most)} other errors"
