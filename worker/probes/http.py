"""The kind `http`: requests of one URL, redirects followed, each phase timed, the answers checked."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from streamswarm.targets import Target, shown
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.http_pb2 import HttpSpec
from worker.failures import network_failure, resolver_failure, target_failure
from worker.http import demands, requests, summary
from worker.http.demands import Demands, Unmet
from worker.http.requests import Order
from worker.http.summary import Hop
from worker.probing import Availability, Need, Outcome, ProbeContext, ProbeFailure
from worker.wire import options
from worker.wire.addresses import without_zone
from worker.wire.deadline import time_limit
from worker.wire.http_body import Body
from worker.wire.http_client import HttpLine, prepare
from worker.wire.http_exchange import Exchange
from worker.wire.source import Source
from worker.wire.stream import UNREAD_BYTES, PeerClosedError
from worker.wire.volume import Volume

_REDIRECTS = {301, 302, 303, 307, 308}
#: Asking for these a second time does no harm (RFC 9110, section 9.2.2).
_IDEMPOTENT = {"GET", "HEAD", "OPTIONS", "PUT"}
#: What an exchange moves beside bodies, at most in practice: heads, and the certificates of a TLS handshake.
_BESIDE_BODY_BYTES = 131_072


@dataclass(kw_only=True)
class _Run:
    """One run under way."""

    spec: HttpSpec
    context: ProbeContext
    demands: Demands
    volume: Volume
    #: The first request and what it was redirected to.
    hops: list[Hop] = field(default_factory=list)
    #: Further requests of the URL at which the first one ended.
    repeats: list[Hop] = field(default_factory=list)
    #: All connections; the last one may be open.
    lines: list[HttpLine] = field(default_factory=list)

    def close(self) -> None:
        """Close the connection that may be open."""
        if self.lines:
            self.lines[-1].close()

    def outcome(self) -> Outcome:
        """Return what was measured until now; the connections are closed by it."""
        self.close()
        return Outcome(
            metrics=summary.metrics(self.hops, self.repeats, self.volume),
            detail=summary.detail(self.hops, self.repeats),
        )


async def run(target: Target, spec: HttpSpec, context: ProbeContext) -> Outcome:
    """Request the URL; all requests together take no longer than the time-out."""
    volume = Volume(_most_bytes(spec))
    this = _Run(spec=spec, context=context, demands=demands.demands(spec), volume=volume)
    order = requests.order(target, spec)
    await _prepare(this, order)
    ends_ns = time.perf_counter_ns() + spec.timeout_ms * 1_000_000
    try:
        async with time_limit(spec.timeout_ms / 1000):
            order = await _first_request(this, order)
        await _check(this, this.hops[-1])
        if spec.requests > 1:
            async with time_limit(max(0.0, (ends_ns - time.perf_counter_ns()) / 1e9)):
                await _further_requests(this, order)
    except asyncio.TimeoutError:
        late = _timed_out(this)
        raise _with(this.outcome(), late) from None
    except ProbeFailure as failed:
        _with(this.outcome(), failed)
        raise
    finally:
        this.close()
    return this.outcome()


def availability() -> Availability:
    """Every host can make HTTP requests."""
    return Availability(available=True)


def need(spec: HttpSpec) -> Need:
    """Return the most that a run may need; when it ends, more may have come than was read."""
    packets = spec.requests + spec.max_redirects
    return Need(packets=packets, size=_most_bytes(spec) + options.most_received_ahead())


def _most_bytes(spec: HttpSpec) -> int:
    """Return the most bytes that are sent and read: each body whole, and what goes beside bodies.

    TLS and chunks add to a body, the more the smaller its pieces are; of one that is not read a part may have come.
    """
    order_bytes = len(spec.headers.encode()) + len(spec.body.encode()) + _BESIDE_BODY_BYTES + UNREAD_BYTES
    body_bytes = spec.max_body_bytes + spec.max_body_bytes // 16
    return spec.requests * (body_bytes + order_bytes) + spec.max_redirects * order_bytes


def _with(outcome: Outcome, failed: ProbeFailure) -> ProbeFailure:
    failed.metrics, failed.detail = outcome.metrics, outcome.detail
    return failed


def _timed_out(this: _Run) -> ProbeFailure:
    hop = (this.repeats or this.hops)[-1]
    phase = "resolving the name" if hop.line is None else hop.line.phase
    text = f"{shown(hop.url)}: not finished within {this.spec.timeout_ms} ms"
    if hop.line is not None and hop.exchange.begun_ns:
        info = hop.line.kernels_view()
        if not hop.exchange.sent_ns or (info is not None and info.notsent_bytes):
            text += f", while sending the request to {hop.line.where}"
            if info is None or info.unacked:
                return network_failure(text)
            # Nothing is under way: the far end gives no room for more, by its window or that of HTTP/2.
            return target_failure(
                f"{text}, which has acknowledged what came and has taken nothing more for {info.last_data_sent_ms} ms",
                reason=probe_pb2.FAILURE_REASON_TIMED_OUT,
            )
    text += f", while {phase}"
    return resolver_failure(text) if hop.address is None else network_failure(text)


async def _prepare(this: _Run, order: Order) -> None:
    """Have made ready what a request needs; the time that it takes is in no measurement, also of a run that has begun."""
    began_ns = time.perf_counter_ns()
    await prepare(this.spec.version or "auto", secure=order.scheme == "https", verify=this.spec.verify_tls)
    passed_ns = time.perf_counter_ns() - began_ns
    for hop in this.hops:
        hop.started_ns += passed_ns


async def _first_request(this: _Run, order: Order) -> Order:
    """Request the target and what it redirects to; return what was asked for last."""
    most = this.spec.max_redirects
    while True:
        hop = _hop(this, order, keep=this.demands.examines)
        this.hops.append(hop)
        followable = len(this.hops) <= most
        await _request(this, order, hop, follow=followable, last=this.spec.requests == 1)
        if this.spec.must_be_unreachable:
            return order  # any answer has reached it; where a redirect leads is another matter
        location = hop.exchange.headers.get("location")
        if hop.exchange.status not in _REDIRECTS or location is None or most == 0:
            return order
        if not followable:
            raise target_failure(
                f"{shown(hop.url)} redirects once more after {most} redirects, the most the test follows",
                reason=probe_pb2.FAILURE_REASON_TOO_MUCH,
            )
        _leave_out(this, hop, time.perf_counter_ns() - hop.exchange.end_ns)
        this.close()
        order = requests.redirected(order, hop.exchange.status, location)
        await _prepare(this, order)


async def _further_requests(this: _Run, order: Order) -> None:
    """Ask again, as often as the test wants."""
    for number in range(2, this.spec.requests + 1):
        if this.spec.connection == "fresh":
            this.close()
        hop = _hop(this, order)
        this.repeats.append(hop)
        await _request(this, order, hop, follow=False, last=number == this.spec.requests)
        _raise_unmet(hop, demands.unmet(this.demands, hop.exchange, hop.body, hop.cert_days_left), number)


async def _check(this: _Run, hop: Hop) -> None:
    """Raise ProbeFailure unless the first answer is what the test demands."""
    found = demands.unmet(this.demands, hop.exchange, hop.body, hop.cert_days_left)
    if this.demands.examines:
        found += await demands.unmet_on_examination(this.demands, hop.exchange, hop.body)
    _raise_unmet(hop, found)


def _raise_unmet(hop: Hop, found: list[Unmet], number: int = 1) -> None:
    if found:
        which = f" (request {number})" if number > 1 else ""
        raise target_failure(
            f"{shown(hop.url)}{which} {', and '.join(one.text for one in found)}", reason=found[0].reason
        )


def _hop(this: _Run, order: Order, *, keep: bool = False) -> Hop:
    return Hop(
        url=order.url,
        started_ns=time.perf_counter_ns(),
        body=Body(longest=this.spec.max_body_bytes, keep=keep),
    )


async def _request(this: _Run, order: Order, hop: Hop, *, follow: bool, last: bool) -> None:
    """Make one request, over the connection that is open or a new one, and fill in the hop."""
    last = last or this.spec.connection == "fresh"
    line = this.lines[-1] if this.lines else None
    if line is not None and line.reusable:
        hop.line, hop.address, hop.reused = line, line.address, True
        try:
            await _converse(this, order, hop, line, follow=follow, last=last)
        except ProbeFailure as failed:
            # Servers close connections that they take for idle; that is no fault (RFC 9112, section 9.3.1).
            closed = isinstance(failed.__cause__, PeerClosedError | ConnectionError)
            if not closed or hop.exchange.first_byte_ns or order.method not in _IDEMPOTENT:
                raise
            hop.line, hop.address, hop.reused = None, None, False
            hop.exchange = Exchange()
        else:
            return
    this.close()
    await _converse(this, order, hop, await _connect(this, order, hop), follow=follow, last=last)


async def _connect(this: _Run, order: Order, hop: Hop) -> HttpLine:
    target, spec = order.target, this.spec
    source = Source.parse(spec.source)
    family = source.family(target.host, spec.address_family)
    asked_ns = time.perf_counter_ns()
    resolved = await this.context.resolve(target.host, family)
    if resolved.elapsed_ms is not None:
        passed_ns = time.perf_counter_ns() - asked_ns
        _leave_out(this, hop, max(0, passed_ns - round(resolved.elapsed_ms * 1e6)))
    hop.dns_ms = resolved.elapsed_ms
    hop.address = resolved.addresses[0]
    this.context.guard.check(hop.address, order.port)
    line = hop.line = HttpLine(hop.address, order.port, this.volume)
    this.lines.append(line)
    await line.open(
        url=order.url,
        server_name=without_zone(target.host) if order.scheme == "https" else None,
        version=spec.version or "auto",
        verify=spec.verify_tls,
        dscp=spec.dscp,
        source=source,
    )
    _leave_out(this, hop, line.late_ns)
    if line.cert_days_left is not None:
        # By the controller's time: a clock that is ahead makes them fewer.
        line.cert_days_left += (this.context.clock_offset_ms or 0.0) / 86_400_000
    return line


def _leave_out(this: _Run, hop: Hop, late_ns: int) -> None:
    """Have no total hold what this worker was late to see that something was done."""
    for each in (hop,) if this.repeats else this.hops:
        each.started_ns += late_ns


async def _converse(this: _Run, order: Order, hop: Hop, line: HttpLine, *, follow: bool, last: bool) -> None:
    def wants_body(exchange: Exchange) -> bool:
        hop.body.look_for(this.demands.needles(exchange))
        return not (follow and exchange.status in _REDIRECTS and "location" in exchange.headers)

    await line.converse(
        requests.message(order), hop.exchange, hop.body, last=last, wants_body=wants_body, url=order.url
    )
