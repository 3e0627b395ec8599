"""The metrics and the detail of an `http` run, from what its requests have seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streamswarm.targets import shown
from streamswarm.v1.probes.http_pb2 import HttpHop, HttpResult
from worker.evaluation import statistics
from worker.probing import IPAddress
from worker.wire.http_body import Body
from worker.wire.http_caches import age_s, came_from_cache
from worker.wire.http_client import HttpLine
from worker.wire.http_exchange import Exchange
from worker.wire.volume import Volume

_SHOWN_HOPS = 10


@dataclass(kw_only=True)
class Hop:
    """One request on the way; None for what was not reached."""

    url: str
    #: Instant at which it began, by time.perf_counter_ns.
    started_ns: int
    body: Body
    exchange: Exchange = field(default_factory=Exchange)
    address: IPAddress | None = None
    dns_ms: float | None = None
    #: The connection that it went over.
    line: HttpLine | None = None
    #: Whether that was open already.
    reused: bool = False

    @property
    def cert_days_left(self) -> float | None:
        """Days until the server's certificate expires; None where there is none."""
        return None if self.line is None else self.line.cert_days_left

    @property
    def total_ms(self) -> float | None:
        """From the beginning to the last byte."""
        return (self.exchange.end_ns - self.started_ns) / 1e6 if self.exchange.end_ns else None


def metrics(hops: Sequence[Hop], repeats: Sequence[Hop], volume: Volume) -> HttpResult:
    """Return what is known of a first request with its redirects, of further requests and of all connections."""
    last = hops[-1]
    result = HttpResult(
        redirects=len(hops) - 1,
        bytes_sent=volume.sent,
        bytes_received=volume.received,
        **_phases(last),
    )
    if last.exchange.status is not None:
        _fill_answer(result, repeats[-1] if repeats and repeats[-1].exchange.status else last)
    if last.cert_days_left is not None:
        result.cert_days_left = last.cert_days_left
    if last.exchange.end_ns:
        result.total_ms = (last.exchange.end_ns - hops[0].started_ns) / 1e6
    _fill_counts(result, [*hops, *repeats])
    if repeats:
        _fill_repeats(result, last, repeats)
    if len(hops) > 1:
        for number, hop in enumerate(hops, start=1):
            row = HttpHop(number=str(number), **_phases(hop))
            if hop.exchange.status is not None:
                row.status = hop.exchange.status
            result.hops.append(row)
    return result


def detail(hops: Sequence[Hop], repeats: Sequence[Hop]) -> dict[str, Any]:
    """Return the hops for people: no header fields, which may hold secrets."""
    shown_hops = [*hops, *repeats][:_SHOWN_HOPS]
    return {"hops": [_hop_detail(hop) for hop in shown_hops]}


def _phases(hop: Hop) -> dict[str, Any]:
    """Return the phases by the names that they have in the contract, only those that took place."""
    exchange = hop.exchange
    found: dict[str, Any] = {}
    if hop.dns_ms is not None:
        found["dns_ms"] = hop.dns_ms
    if hop.line is not None and not hop.reused:
        if hop.line.connect_ms is not None:
            found["connect_ms"] = hop.line.connect_ms
        if hop.line.tls_ms is not None:
            found["tls_ms"] = hop.line.tls_ms
    if exchange.first_byte_ns:
        found["ttfb_ms"] = (exchange.first_byte_ns - exchange.begun_ns) / 1e6
    if exchange.end_ns:
        found["transfer_ms"] = (exchange.end_ns - exchange.first_byte_ns) / 1e6
    return found


def _fill_answer(result: HttpResult, hop: Hop) -> None:
    exchange, body = hop.exchange, hop.body
    result.status = exchange.status or 0
    if exchange.version is not None:
        result.http_version = exchange.version
    if body.begun:
        result.body_bytes = body.wire_bytes
    if body.begun and body.readable:
        result.content_bytes = body.content_bytes
        if body.coding and body.wire_bytes:
            result.compression_ratio = body.content_bytes / body.wire_bytes
    age = age_s(exchange)
    if age is not None:
        result.cache_age_s = age


def _fill_counts(result: HttpResult, hops: Sequence[Hop]) -> None:
    """Count the answers by class, and by what caches say of them."""
    counts = [0, 0, 0, 0]
    verdicts: list[bool] = []
    for hop in hops:
        if hop.exchange.status is None:
            continue
        number = hop.exchange.status // 100 - 2
        if 0 <= number < len(counts):
            counts[number] += 1
        verdict = came_from_cache(hop.exchange)
        if verdict is not None:
            verdicts.append(verdict)
    result.answers_2xx, result.answers_3xx, result.answers_4xx, result.answers_5xx = counts
    if verdicts:
        result.cache_hit_pct = 100 * sum(verdicts) / len(verdicts)


def _fill_repeats(result: HttpResult, first: Hop, repeats: Sequence[Hop]) -> None:
    complete = [hop for hop in repeats if hop.exchange.end_ns]
    everything = [first, *complete]
    result.requests = len(everything)
    result.reused_pct = 100 * sum(hop.reused for hop in everything) / len(everything)
    totals = {reused: _mean_total(everything, reused=reused) for reused in (False, True)}
    if complete:
        result.repeat_ms = statistics.mean([hop.total_ms or 0 for hop in complete]) or 0
    fresh, open_already = totals[False], totals[True]
    if fresh is not None and open_already is not None:
        result.reuse_saved_ms = fresh - open_already


def _mean_total(hops: Sequence[Hop], *, reused: bool) -> float | None:
    return statistics.mean(
        [hop.total_ms for hop in hops if hop.reused == reused and hop.total_ms is not None]
    )


def _hop_detail(hop: Hop) -> dict[str, Any]:
    found: dict[str, Any] = {"url": shown(hop.url, 500)}
    if hop.address is not None:
        found["address"] = str(hop.address)
    if hop.exchange.status is not None:
        found["status"] = hop.exchange.status
    if hop.line is not None and hop.line.tls_version is not None:
        found["tls_version"] = hop.line.tls_version
    if hop.exchange.version is not None:
        found["http_version"] = f"{hop.exchange.version:g}"
    if hop.reused:
        found["reused"] = True
    for name, value in _phases(hop).items():
        found[name] = round(value, 3)
    return found
