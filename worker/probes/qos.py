"""The kind `qos`: how a path treats classes of traffic beside each other."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult, QosSpec
from worker import marking
from worker.concurrency import cancel
from worker.evaluation import dscp, marks, qos_verdict, statistics, treatment
from worker.evaluation.dscp import CodePoint
from worker.evaluation.treatment import Burst, Policy, Seen
from worker.failures import internal_failure, network_failure, nothing_sent, unsent, vantage_failure
from worker.marking import Marking, count
from worker.probing import Availability, FailingWith, IPAddress, Need, Outcome, ProbeContext
from worker.wire import far_end
from worker.wire.echo import EchoPlan, EchoRecord, EchoUnavailableError, echo_availability, kept_here
from worker.wire.source import Source
from worker.wire.trace.marks import PACKET_BYTES, longest_s, most_packets

if sys.platform.startswith("linux"):
    from worker.wire.icmp import echo, open_socket
    from worker.wire.unfragmented import Prober

#: Packets that are sent for the mark of a class's reply until one comes.
_REPLY_TRIES = 2
#: IPv4 and IPv6 headers and an ICMP header, for the size of a packet by that of its payload.
_HEADERS = {4: 28, 6: 48}
#: Headers of a packet below its payload: IPv6 and ICMP.
_HEADERS_BYTES = 48


async def run(target: Target, spec: QosSpec, context: ProbeContext) -> Outcome:
    """Compare the classes on the path to the first address that the resolver gives."""
    try:
        points = list({(point := dscp.parse(text)).number: point for text in spec.classes}.values())
        policy = Policy.parse(spec.expected, spec.max_loss, spec.max_rtt)
    except dscp.DscpError as error:
        raise internal_failure(str(error), reason=probe_pb2.FAILURE_REASON_INVALID_TEST) from error
    if strangers := policy.strangers(points):
        raise internal_failure(
            f"the test's policy names {', '.join(strangers)}, which it does not send: add it to `classes`, "
            "or take it out of `expected`, `max_loss` and `max_rtt`",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )
    if policy.expected and not (spec.trace or spec.far_end_port):
        raise internal_failure(
            "the test expects marks and looks at none: let it trace the marks, or name the `far_end_port` of the "
            "destination's worker",
            reason=probe_pb2.FAILURE_REASON_INVALID_TEST,
        )
    source = Source.parse(spec.source)
    resolved = await context.resolve(target.host, source.family(target.host, spec.address_family))
    address = resolved.addresses[0]
    detail: dict[str, Any] = {
        "address": str(address),
        "classes": {point.name: dscp.described(point) for point in points},
    }
    with FailingWith(detail):
        context.guard.check(address)
        if spec.trace or spec.ecn:
            context.guard.check(address, spec.port)
        source.check(address.version)
        if spec.far_end_port:
            context.guard.check(address, spec.far_end_port)
        run = _Run(address, spec, points, detail, source, context)
        try:
            await run.measure()
        except EchoUnavailableError as error:
            raise vantage_failure(
                f"echo requests cannot be sent from this host: {error}",
                reason=error.failure_reason,
            ) from error
        except OSError as error:
            raise unsent(error, str(address), run.metrics) from error
        run.judge(policy)
    return Outcome(metrics=run.metrics, detail=detail)


def availability() -> Availability:
    """Marks are set and read on Linux."""
    if not sys.platform.startswith("linux"):
        return Availability(available=False, reason="marks of packets are set and read on Linux only")
    return echo_availability(open_socket)


def duration_s(spec: QosSpec) -> float:
    """Return the longest time that a run may take."""
    classes = max(1, len(spec.classes))
    timeout_s = spec.timeout_ms / 1000
    paced_s = spec.count * spec.interval_ms / 1000 + timeout_s
    traces = (classes if spec.trace else 0) + spec.ecn
    traced_s = traces * longest_s(spec.max_ttl, timeout_s)
    if spec.trace:
        traced_s += marking.longest_s(classes, timeout_s=timeout_s)
    asked_s = far_end.longest_s(classes, ecn=spec.ecn, timeout_s=timeout_s) if spec.far_end_port else 0.0
    return paced_s + classes * ((1 + _REPLY_TRIES) * timeout_s + 1) + traced_s + asked_s


def need(spec: QosSpec) -> Need:
    """Return the most that a run may need: paced requests, bursts, traces, each packet being answered."""
    classes = max(1, len(spec.classes))
    traces = (classes if spec.trace else 0) + spec.ecn
    traced = traces * most_packets(spec.max_ttl) + (marking.most_packets(classes) if spec.trace else 0)
    paced, burst = classes * (spec.count + _REPLY_TRIES), classes * spec.burst
    size = paced * (spec.size_bytes + _HEADERS_BYTES) + burst * (spec.burst_size_bytes + _HEADERS_BYTES)
    timeout_s = spec.timeout_ms / 1000
    asked = far_end.most_packets(classes, ecn=spec.ecn, timeout_s=timeout_s) if spec.far_end_port else 0
    size += traced * PACKET_BYTES + asked * far_end.PACKET_BYTES
    return Need(packets=paced + burst + traced + asked, size=2 * size)


class _Run:
    """One comparison, from the requests to the verdict."""

    def __init__(
        self,
        address: IPAddress,
        spec: QosSpec,
        points: Sequence[CodePoint],
        detail: dict[str, Any],
        source: Source,
        context: ProbeContext,
    ) -> None:
        self._address = address
        self._spec = spec
        self._detail = detail
        self._source = source
        self._points = points
        self._rows = {
            point.name: QosClass(
                name=point.name, dscp=point.number, cos=point.cos, user_priority=point.user_priority
            )
            for point in points
        }
        self._bursts: dict[str, Burst] = {}
        self._paced: dict[str, float] = {}
        self.metrics = QosResult(packets_sent=0, bytes_sent=0, bytes_received=0)
        self._marking = Marking(
            address,
            spec,
            points,
            rows=list(self._rows.values()),
            metrics=self.metrics,
            detail=detail,
            source=source,
            responder_keys=context.responder_keys,
            clock_offset_ms=context.clock_offset_ms,
        )

    async def measure(self) -> None:
        """Send everything; whatever was measured stands in the metrics, also when it fails half-way."""
        try:
            records = await self._pace_all()
            for point, record in zip(self._points, records, strict=True):
                self._fill_paced(point, record)
            self._sum_up()
            if not self._paced:
                raise self._silence(records)
            for point in self._points:
                await self._look_at_reply(point)
            if self._spec.burst:
                for point in self._points:
                    await self._burst(point)
                self._compare_bursts()
            await self._marking.trace()
            await self._marking.ask_far_end()
            marks.sum_up(self.metrics, list(self._rows.values()), self._marking.ended)
        finally:
            self.metrics.classes.extend(self._rows[point.name] for point in self._points)

    def judge(self, policy: Policy) -> None:
        """Raise ProbeFailure for what breaks the policy, and for what of it cannot be judged."""
        classes = [self._seen(point) for point in self._points]
        failure = qos_verdict.judge(
            policy, classes, self.metrics, where=str(self._address), hindrances=self._marking.hindrances
        )
        if failure is not None:
            raise failure

    def _plan(self, point: CodePoint, *, burst: bool) -> EchoPlan:
        spec = self._spec
        return EchoPlan(
            address=self._address,
            count=spec.burst if burst else spec.count,
            interval_s=spec.interval_ms / 1000,
            timeout_s=spec.timeout_ms / 1000,
            size=spec.burst_size_bytes if burst else spec.size_bytes,
            dscp=point.number,
            ttl=64,
            dont_fragment=False,
            burst=burst,
            source=self._source.address,
            interface=self._source.interface,
        )

    async def _pace_all(self) -> list[EchoRecord]:
        """Send the requests of all classes; when one class fails, the others stop, too."""
        sending = [asyncio.ensure_future(self._pace(number)) for number in range(len(self._points))]
        try:
            return await asyncio.gather(*sending)
        finally:
            await cancel(*sending)

    async def _pace(self, number: int) -> EchoRecord:
        """Send a class's requests, so much later than the first class's that all take turns."""
        await asyncio.sleep(number * self._spec.interval_ms / 1000 / len(self._points))
        return await echo(self._plan(self._points[number], burst=False))

    def _fill_paced(self, point: CodePoint, record: EchoRecord) -> None:
        row = self._rows[point.name]
        rtts = self._rtts_ms(record)
        row.packets_sent = record.sent
        loss_pct = _loss_pct(record, len(rtts))
        if loss_pct is not None:
            row.loss_pct = loss_pct
        if not rtts:
            return
        row.rtt_min_ms, row.rtt_max_ms = min(rtts), max(rtts)
        row.rtt_median_ms = self._paced[point.name] = statistics.median(rtts) or 0.0
        jitter = statistics.rfc3550_jitter(rtts)
        if jitter is not None:
            row.rfc3550_jitter_ms = jitter

    def _sum_up(self) -> None:
        metrics = self.metrics
        # Among losses that are not known may be the worst.
        if all(row.HasField("loss_pct") for row in self._rows.values()):
            metrics.worst_loss_pct = max(row.loss_pct for row in self._rows.values())
        if self._paced:
            metrics.worst_rtt_median_ms = max(self._paced.values())
        if len(self._paced) > 1:
            metrics.rtt_spread_ms = max(self._paced.values()) - min(self._paced.values())

    def _silence(self, records: Sequence[EchoRecord]) -> Exception:
        sent = sum(record.sent for record in records)
        kept = [kept_here(record, self._address.version) for record in records]
        if None not in kept:
            refused = sum(filter(None, kept), Counter[int]())
            # What was counted as lost was never on the way.
            return nothing_sent(refused, "request", str(self._address), None if sent else self.metrics)
        dropped = sum(record.dropped_here for record in records)
        if dropped:
            return vantage_failure(
                f"no answer of {self._address} was read within {self._spec.timeout_ms} ms, but {dropped} packets came "
                "while this host's receive buffer was full",
                self.metrics,
                reason=probe_pb2.FAILURE_REASON_NO_ROOM,
            )
        errors = any(record.errors for record in records)
        # A reply after the time-out is a sign of the destination, too.
        late = sum(len(set(record.replies.requests)) for record in records)
        if late:
            self._detail["late"] = late
        return network_failure(
            f"{self._address} answered none of {sent} requests within {self._spec.timeout_ms} ms, of whatever class",
            self.metrics,
            reason=probe_pb2.FAILURE_REASON_UNREACHABLE if errors else probe_pb2.FAILURE_REASON_TIMED_OUT,
        )

    async def _look_at_reply(self, point: CodePoint) -> None:
        prober = Prober(self._address, method="icmp", port=0, dscp=point.number, source=self._source)
        size = self._spec.size_bytes + _HEADERS[self._address.version]
        for _ in range(_REPLY_TRIES):
            verdict = await prober.send(size, wait_s=self._spec.timeout_ms / 1000)
            if verdict.octet is not None:
                self._rows[point.name].reply_dscp = verdict.octet >> 2
                break
        count(self.metrics, prober.packets_sent, prober.bytes_sent, prober.bytes_received)

    async def _burst(self, point: CodePoint) -> None:
        record = await echo(self._plan(point, burst=True))
        rtts = self._rtts_ms(record)
        if not record.sent or point.name not in self._paced:
            return
        row = self._rows[point.name]
        loss_pct = _loss_pct(record, len(rtts))
        if loss_pct is not None:
            row.burst_loss_pct = loss_pct
        median = statistics.median(rtts)
        if median is not None:
            row.burst_rise_ms = max(0.0, median - self._paced[point.name])
        self._bursts[point.name] = Burst(
            paced_loss_pct=row.loss_pct if row.HasField("loss_pct") else None,
            loss_pct=loss_pct,
            rise_ms=row.burst_rise_ms if median is not None else None,
        )

    def _compare_bursts(self) -> None:
        for name in self._bursts:
            row = self._rows[name]
            policed, shaped = treatment.policed(name, self._bursts), treatment.shaped(name, self._bursts)
            if policed is not None:
                row.policed = policed
            if shaped is not None:
                row.shaped = shaped
        rows = self._rows.values()
        if any(row.HasField("policed") for row in rows):
            self.metrics.policed_classes = sum(row.policed for row in rows)
        if any(row.HasField("shaped") for row in rows):
            self.metrics.shaped_classes = sum(row.shaped for row in rows)

    def _seen(self, point: CodePoint) -> Seen:
        row = self._rows[point.name]
        return Seen(
            point=point,
            loss_pct=row.loss_pct if row.HasField("loss_pct") else None,
            rtt_median_ms=row.rtt_median_ms if row.HasField("rtt_median_ms") else None,
            arrived=row.arrived_dscp if row.HasField("arrived_dscp") else None,
            change_hop=row.change_hop if row.HasField("change_hop") else None,
            lost_beside=self._marking.lost_beside(point.name),
        )

    def _rtts_ms(self, record: EchoRecord) -> list[float]:
        """Count a run's bytes and return the round-trip times in time, in the order of sending, each request once."""
        count(self.metrics, record.sent, record.bytes_sent, record.bytes_received)
        if record.dropped_here:
            self._detail["dropped_here"] = self._detail.get("dropped_here", 0) + record.dropped_here
        first: dict[int, float] = {}
        for request, rtt_ns in zip(record.replies.requests, record.replies.rtts_ns, strict=True):
            if rtt_ns <= self._spec.timeout_ms * 1_000_000:
                first.setdefault(request, rtt_ns / 1e6)
        return [first[index] for index in sorted(first)]


def _loss_pct(record: EchoRecord, answered: int) -> float | None:
    """Return the share of requests without a reply in time; None while this host itself may have lost replies."""
    if not record.sent or (record.dropped_here and answered < record.sent):
        return None
    return 100.0 * (record.sent - answered) / record.sent
