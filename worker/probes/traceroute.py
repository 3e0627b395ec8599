"""The kind `traceroute`: the routers on the way to one host."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.traceroute_pb2 import TracerouteHop, TracerouteResult, TracerouteSpec
from worker.failures import (
    LOOK,
    NO_ROOM,
    error_text,
    internal_failure,
    network_failure,
    nothing_sent,
    refusals,
    unsent,
    vantage_failure,
)
from worker.probing import Availability, FailingWith, IPAddress, Need, Outcome, ProbeContext, ProbeFailure
from worker.wire import flow_labels, icmp_messages
from worker.wire.addresses import shown_address
from worker.wire.source import Source
from worker.wire.trace import atlas
from worker.wire.trace.hops import Hop, destination, path, sort
from worker.wire.trace.names import names_of
from worker.wire.trace.paths import Memory
from worker.wire.trace.plan import (
    MOST_SHORTER,
    Answer,
    Protocol,
    TracePlan,
    TraceRecord,
    TraceSendError,
    TraceUnavailableError,
)

if sys.platform.startswith("linux"):
    from worker.wire.trace import engine

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

    from worker.wire.trace.places import Places

_PORTS = {"icmp": 0, "udp": 33_434, "tcp": 443}
#: Probes that one run may ask for; beyond, its answers are no trace any more but a load.
_MOST_PROBES = 20_000
#: Seconds that the first round may take beyond the time-out, for one wave of hops after the other.
_EXPLORATION_S = 5.0
_NAMES_S = 2.0
#: Headers of a probe below its payload: IPv6 and ICMP or UDP.
_HEADERS_BYTES = 48
#: An ICMP error has no more than this (RFC 4443, section 2.4; RFC 1812, section 4.3.2.3 has less), and quotes what it can of a
#: probe; extensions stand behind 128 bytes of it (RFC 4884, section 5.1) and have no more than so many themselves.
_LONGEST_ERROR_BYTES = 1280
_QUOTED_BYTES = 128
_EXTENSIONS_BYTES = 256

_Rows: TypeAlias = "RepeatedCompositeFieldContainer[TracerouteHop]"

_memory = Memory()
_databases: dict[Path, Places] = {}


async def run(target: Target, spec: TracerouteSpec, context: ProbeContext) -> Outcome:
    """Trace the way to the first address that the resolver gives."""
    key = spec.SerializeToString()
    plan = _plan(key)
    wanted = spec.address_family
    if plan.flow_label:
        wanted = flow_labels.family(target.host, wanted, plan.flow_label)
    resolved = await context.resolve(target.host, plan.source.family(target.host, wanted))
    address = resolved.addresses[0]
    version = address.version
    text = shown_address(address)
    detail: dict[str, Any] = {"address": text, "proto": plan.protocol.upper()}
    if plan.port:
        detail["port"] = plan.port
    with FailingWith(detail):
        if plan.flow_label:
            flow_labels.check(address, plan.flow_label)
        context.guard.check(address, plan.port or None)
        plan.source.check(version)
        record = await _trace(address, plan)
        if not record.probes:
            raise nothing_sent(record.refused, "probe", str(address))
        found = sort(record.probes)
        metrics = _summary(found, record, plan, version)
        names: dict[str, str] = {}
        if spec.reverse_names:
            names = await names_of((each for hop in found for each in hop.addresses), timeout_s=_NAMES_S)
        if found:
            way = path(found)
            changed = _memory.changed((text, key), way)
            if changed is not None:
                metrics.path_changed = changed
            metrics.path_hash = way.hash
        detail["hops"] = atlas.hops(found, version, names)
        if record.mtus:
            _tell_mtus(record.mtus, found, metrics, detail)
        if context.databases is not None:
            await _locate(context.databases, found, metrics, detail)
        if record.refused:
            detail["not_sent"] = refusals(record.refused)
        if record.overflows:
            detail["overflows"] = record.overflows
        if record.late:
            detail["late"] = record.late
        if not metrics.reached:
            raise _not_reached(found, address, plan, metrics, record)
    return Outcome(metrics=metrics, detail=detail)


def duration_s(spec: TracerouteSpec) -> float:
    """Return the longest time that the parameters can ask for."""
    rounds_s = spec.rounds * spec.round_interval_ms / 1000
    return rounds_s + 3 * spec.timeout_ms / 1000 + _EXPLORATION_S + (_NAMES_S if spec.reverse_names else 0)


def need(spec: TracerouteSpec) -> Need:
    """Return the most that a run may need: each probe asked again where its router did not keep up, and each answered."""
    packets = 2 * spec.rounds * spec.paths * spec.probes_per_hop * spec.max_ttl
    if spec.dont_fragment:
        packets *= 1 + MOST_SHORTER
    probe = spec.size_bytes + _HEADERS_BYTES
    error = min(_LONGEST_ERROR_BYTES, _HEADERS_BYTES + max(_QUOTED_BYTES, probe) + _EXTENSIONS_BYTES)
    return Need(packets=packets, size=packets * (probe + max(probe, error)))


def availability() -> Availability:
    """Try raw sockets of both address families, then those that do for ICMP alone; one that works is enough."""
    if not sys.platform.startswith("linux"):
        return Availability(available=False, reason="traceroute runs on Linux only")
    raw, icmp = _problems(engine.check), _problems(engine.check_icmp)
    if len(raw) < 2:
        for version, problem in raw.items():
            reason = f"IPv{10 - version} only: {problem.reason}"
            return Availability(available=True, reason=reason, mend=problem.mend)
        return Availability(available=True)
    if len(icmp) < 2:
        return Availability(available=True, reason=f"ICMP only: {raw[4].reason}", mend=raw[4].mend)
    return Availability(available=False, reason=icmp[4].reason, mend=icmp[4].mend)


def _problems(check: Callable[[int], None]) -> dict[int, TraceUnavailableError]:
    """Return what speaks against each IP version."""
    problems: dict[int, TraceUnavailableError] = {}
    for version in (4, 6):
        try:
            check(version)
        except TraceUnavailableError as error:
            problems[version] = error
        except OSError as error:
            text = f"a socket for traceroute (IPv{version}) could not be opened: {error_text(error)}"
            problems[version] = TraceUnavailableError(text, "")
    return problems


@lru_cache(maxsize=1024)
def _plan(key: bytes) -> TracePlan:
    """Return the plan of a serialised spec, checked; the same few serve all runs."""
    spec = TracerouteSpec.FromString(key)
    protocol = cast("Protocol", spec.protocol)
    plan = TracePlan(
        protocol=protocol,
        port=0 if protocol == "icmp" else spec.port or _PORTS[protocol],
        rounds=spec.rounds,
        interval_s=spec.round_interval_ms / 1000,
        timeout_s=spec.timeout_ms / 1000,
        first_ttl=spec.first_ttl,
        max_ttl=spec.max_ttl,
        gap_limit=spec.gap_limit,
        probes_per_hop=spec.probes_per_hop,
        flows=spec.paths,
        size=spec.size_bytes,
        dscp=spec.dscp,
        dont_fragment=spec.dont_fragment,
        flow_label=spec.flow_label,
        source=Source.parse(spec.source),
    )
    _check(plan)
    return plan


def _check(plan: TracePlan) -> None:
    if plan.first_ttl > plan.max_ttl:
        raise internal_failure(
            f"the first TTL, {plan.first_ttl}, is beyond the last one, {plan.max_ttl}",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )
    hops = plan.max_ttl - plan.first_ttl + 1
    most = hops * plan.rounds * plan.probes_per_hop * plan.flows
    if most > _MOST_PROBES:
        raise internal_failure(
            f"the test may ask for {most} probes ({hops} hops, {plan.rounds} rounds, {plan.flows} paths, "
            f"{plan.probes_per_hop} per hop) and {_MOST_PROBES} is the most: lower one of them",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )


async def _trace(address: IPAddress, plan: TracePlan) -> TraceRecord:
    try:
        return await engine.trace(address, plan)
    except TraceUnavailableError as error:
        raise vantage_failure(
            f"traceroute by {plan.protocol.upper()} cannot run on this host: {error}",
            reason=error.failure_reason,
        ) from error
    except TraceSendError as error:
        raise unsent(error, str(address)) from error
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        raise vantage_failure(
            f"this host has no room for the sockets of a trace: {error_text(error)}",
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        ) from error


def _summary(found: list[Hop], record: TraceRecord, plan: TracePlan, version: int) -> TracerouteResult:
    """Return the metrics of a run; what cannot be said from its answers stays unset."""
    answered = 0
    kernel = True
    for probe in record.probes:
        if probe.answer is not None:
            answered += 1
            kernel = kernel and probe.answer.kernel
    result = TracerouteResult()
    result.reached = False
    result.probes_sent = len(record.probes)
    result.probes_answered = answered
    result.bytes_sent = record.bytes_sent
    result.bytes_received = record.bytes_received
    if not found:
        return result
    judged = not record.overflows
    rows = result.hops
    silent = limited = labelled = widest = 0
    for hop in found:
        if not hop.answers:
            silent += 1
            _add_silent(rows, hop, judged=judged)
            continue
        if _add(rows, hop, version, judged=judged):
            labelled += 1
        if hop.rate_limited:
            limited += 1
        if len(hop.addresses) > widest:
            widest = len(hop.addresses)
    final = destination(found)
    result.kernel_timestamps = kernel
    result.responding_hops = len(found) - silent
    result.silent_hops = silent
    if judged:
        result.rate_limited_hops = limited
    result.widest_hop = widest
    result.mpls_hops = labelled
    if final is not None:
        result.reached = True
        if plan.tells_distance(final.ttl):
            result.hop_count = final.ttl
        result.rtt_avg_ms, result.rtt_min_ms, result.rtt_max_ms, ipdv = _times(final)
        if ipdv is not None:
            result.ipdv_avg_ms = ipdv
        if final.loss_pct is not None and judged:
            result.loss_pct = final.loss_pct
    return result


def _add_silent(rows: _Rows, hop: Hop, *, judged: bool) -> None:
    """Add the row of a hop without an answer; `judged` unless its silence may be this host's own doing."""
    rows.add(
        hop=_NUMBERS[hop.ttl],
        probes_sent=len(hop.probes),
        probes_answered=0,
        unanswered_pct=100.0,
        # What is None stays unset.
        loss_pct=hop.loss_pct if judged else None,
        rate_limited=hop.rate_limited if judged else None,
        addresses=0,
    )


def _add(rows: _Rows, hop: Hop, version: int, *, judged: bool) -> bool:
    """Add the row of a hop that answered, `judged` as above; says whether a label stack came with its last answer."""
    answers = hop.answers
    last = answers[-1]
    row = rows.add()
    row.CopyFrom(
        _row(
            hop.ttl,
            len(hop.probes),
            len(answers),
            len(hop.addresses),
            hop.loss_pct if judged else None,
            hop.rate_limited if judged else None,
            last.ttl,
            last.quoted_ttl,
            last.quoted_tos,
        )
    )
    row.rtt_avg_ms, row.rtt_min_ms, row.rtt_max_ms, ipdv = _times(hop)
    if ipdv is not None:
        row.ipdv_avg_ms = ipdv
    labels = _labels(last, version) if last.message is not None else None
    if labels:
        row.mpls_labels = len(labels)
        row.mpls_label = labels[0]["label"]
    return bool(labels)


@lru_cache(maxsize=4096)
def _row(
    ttl: int,
    sent: int,
    answered: int,
    addresses: int,
    loss_pct: float | None,
    rate_limited: bool | None,
    reply_ttl: int | None,
    quoted_ttl: int | None,
    quoted_tos: int | None,
) -> TracerouteHop:
    """Return the row of a hop that answered, without its times, to be copied: most are like one of a run before."""
    # What is None stays unset.
    return TracerouteHop(
        hop=_NUMBERS[ttl],
        probes_sent=sent,
        probes_answered=answered,
        unanswered_pct=100.0 * (sent - answered) / sent,
        loss_pct=loss_pct,
        rate_limited=rate_limited,
        addresses=addresses,
        reply_ttl=reply_ttl,
        quoted_ttl=quoted_ttl,
        quoted_dscp=None if quoted_tos is None else quoted_tos >> 2,
    )


def _times(hop: Hop) -> tuple[float, float, float, float | None]:
    """Return mean, least and largest round-trip time of a hop that answered, and the mean difference, in ms."""
    answers = hop.answers
    if len(answers) == 1:
        rtt_ms = answers[0].rtt_ns / 1e6
        return rtt_ms, rtt_ms, rtt_ms, None
    rtts = [answer.rtt_ns / 1e6 for answer in answers]
    return math.fsum(rtts) / len(rtts), min(rtts), max(rtts), hop.ipdv_ms()


def _labels(answer: Answer, version: int) -> list[dict[str, int]]:
    """Return the label stack that came with an answer."""
    told = atlas.extension(answer, version) or {"obj": []}
    return next((each["mpls"] for each in told["obj"] if "mpls" in each), [])


def _tell_mtus(
    mtus: Mapping[str, int], found: list[Hop], metrics: TracerouteResult, detail: dict[str, Any]
) -> None:
    """Add the MTUs that were named to the hops of those who named them; who answered for no hop is told apart."""
    left = dict(mtus)
    for hop, row, entry in zip(found, metrics.hops, detail["hops"], strict=True):
        named = [left.pop(address) for address in hop.addresses if address in left]
        if named:
            row.mtu_bytes = entry["mtu"] = min(named)
    if left:
        detail["mtus"] = [{"from": address, "mtu": mtu} for address, mtu in left.items()]


async def _locate(folder: Path, found: list[Hop], metrics: TracerouteResult, detail: dict[str, Any]) -> None:
    """Add what the databases of a folder say about each hop's first address, or that there is none."""
    from worker.wire.trace import places

    databases = _databases.get(folder)
    if databases is None:
        databases = _databases[folder] = places.Places(folder)
    databases.refresh()
    if not databases.there:
        detail["databases"] = f"none that can be read in {folder}"
        return
    systems: set[int] = set()
    where: list[tuple[float, float]] = []
    for hop, row, entry in zip(found, metrics.hops, detail["hops"], strict=True):
        if not hop.addresses:
            continue
        place = databases.of(hop.addresses[0])
        if place.as_number is not None:
            row.as_number = place.as_number
            systems.add(place.as_number)
        if place.latitude is not None and place.longitude is not None:
            row.latitude_deg, row.longitude_deg = place.latitude, place.longitude
            where.append((place.latitude, place.longitude))
        entry |= {
            name: value
            for name in ("as_number", "as_name", "country", "city")
            if (value := getattr(place, name)) is not None
        }
    if systems:
        metrics.as_count = len(systems)
    way = places.geography(where)
    if way is not None:
        metrics.distance_km, metrics.direct_distance_km = way.distance_km, way.direct_km
        if way.efficiency_pct is not None:
            metrics.geographic_efficiency_pct = way.efficiency_pct


def _not_reached(
    found: list[Hop], address: IPAddress, plan: TracePlan, metrics: TracerouteResult, record: TraceRecord
) -> ProbeFailure:
    if record.overflows:
        metrics.ClearField("reached")
        return vantage_failure(
            f"no answer of {address} was read, but {record.overflows} packets came while this host's receive buffer was full; "
            "let the worker do less at a time, or raise net.core.rmem_max",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        )
    last = next((hop for hop in reversed(found) if hop.answers), None)
    later = f"; {record.late} answers of it came later" if record.late else ""
    if record.refused and not _turned_away(last):
        metrics.ClearField("reached")
        room = all(number in NO_ROOM for number in record.refused)
        return vantage_failure(
            f"no answer of {address} came, but this host did not send all probes: {refusals(record.refused)}"
            f"{'' if room else LOOK}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM if room else probe_pb2.FAILURE_REASON_CANNOT_SEND,
        )
    if last is None:
        return network_failure(
            f"{address} and all hops on the way are silent: no answer to {metrics.probes_sent} probes "
            f"within {plan.timeout_s * 1000:.0f} ms{later}",
            metrics,
        )
    error = _turned_away(last)
    if error is not None and error.type is not None:
        words = icmp_messages.error_name(address.version, error.type, error.code)
        return network_failure(
            f"{address} was not reached: {error.source} reported {words} for hop {last.ttl}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_UNREACHABLE,
        )
    return network_failure(
        f"{address} did not answer; the last hop that did is number {last.ttl}, {', '.join(last.addresses)}{later}",
        metrics,
    )


def _turned_away(last: Hop | None) -> Answer | None:
    """Return the error by which the last hop that answered said that there is no way on; None without one."""
    return None if last is None else next((answer for answer in last.answers if answer.unreachable), None)


_NUMBERS = [f"{ttl:02d}" for ttl in range(256)]
