"""Looks at the marks of a `qos` run's classes: by traces, and at the far end where that is a worker."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult, QosSpec
from worker.concurrency import cancel
from worker.evaluation import dscp, marks
from worker.evaluation.dscp import CodePoint
from worker.evaluation.marks import Mark
from worker.evaluation.qos_verdict import Hindrance, Look
from worker.failures import NO_ROOM, refusals
from worker.probing import IPAddress
from worker.wire.far_end import TURNS, FarEnd, NoFarEndError, far_end
from worker.wire.source import Source
from worker.wire.trace.marks import ROUND_S, MarkRecord, trace_marks
from worker.wire.trace.plan import TraceUnavailableError

_SILENT = probe_pb2.FAILURE_REASON_TIMED_OUT
#: How often a class is looked for again, pauses being up to so much longer than a destination's between two reports.
_AGAIN = 2
_LONGER = 1.4
#: Seconds between the turns of traces that are sent in turn.
_TURN_S = 0.02
_ALL_PCT = 100.0
#: A far end that answers so many packets of one class answers those of others, too, that reach it.
_HEARD = TURNS - 1


class Marking:
    """What is found out of the classes' marks; it goes into metrics, rows and detail as it is known."""

    def __init__(
        self,
        address: IPAddress,
        spec: QosSpec,
        points: Sequence[CodePoint],
        *,
        rows: Sequence[QosClass],
        metrics: QosResult,
        detail: dict[str, Any],
        source: Source,
        responder_keys: Sequence[str],
        clock_offset_ms: float | None,
    ) -> None:
        self._address = address
        self._spec = spec
        self._points = points
        #: Of the classes, in their order.
        self._rows = rows
        self._metrics = metrics
        self._detail = detail
        self._source = source
        self._responder_keys = responder_keys
        self._clock_offset_ms = clock_offset_ms
        #: By traces the destination tells of the marks that it quotes, by its worker of how they came.
        self._traced, self._told = Look(), Look()
        #: The destination quoted packets that were sent as ECN-capable.
        self._ecn_quoted = False
        #: What kept marks from being seen, in the order in which it was met.
        self.hindrances: list[Hindrance] = []

    @property
    def ended(self) -> list[str]:
        """Classes of whose marks the destination told."""
        told = {*self._traced.told, *self._told.told}
        return [point.name for point in self._points if point.name in told]

    def lost_beside(self, name: str) -> Sequence[str]:
        """Return the classes of which the destination told when it told nothing of this one; see Look."""
        return self._traced.lost_beside(name) or self._told.lost_beside(name)

    async def trace(self) -> None:
        """Read the marks that hops quote, where the test wants that."""
        try:
            if self._spec.trace:
                await self._trace_classes()
            if self._spec.ecn:
                seen = await self._trace(self._points[0], dscp.ECT0)
                self._ecn_quoted = seen.final
                marks.fill_ecn(self._metrics, seen.marks, goes_on=bool(self._traced.told) and not seen.final)
                if seen.marks:
                    self._detail["ecn"] = [
                        {"hop": mark.hop, "octets": list(mark.octets)} for mark in seen.marks
                    ]
        except TraceUnavailableError as error:
            self._detail["not_traced"] = str(error)
            if self._spec.trace:
                self._hinder(f"this host cannot trace: {error}", error.failure_reason)

    async def _trace_classes(self) -> None:
        seen: dict[str, Sequence[Mark]] = {}
        quiet: list[CodePoint] = []
        try:
            for point in self._points:
                record = await self._trace(point, dscp.NOT_ECT)
                seen[point.name] = record.marks
                if record.final:
                    self._traced.told.append(point.name)
                elif record.whole:
                    quiet.append(point)
            if quiet and self._traced.told:
                await self._look_again(quiet, seen)
        finally:
            for point, row in zip(self._points, self._rows, strict=True):
                marks.fill_class(self._metrics, row, point, seen.get(point.name, ()))

    async def _look_again(self, quiet: Sequence[CodePoint], seen: dict[str, Sequence[Mark]]) -> None:
        """Look once more for classes that the destination did not quote while it quoted another.

        It may report closed ports once a second only, to all who ask from here. So silence is a class's own where its
        echo requests were lost, too, or where the destination reports all of many packets of the other class that are
        sent in turn with its.
        """
        known = next(point for point in self._points if point.name in self._traced.told)
        rows = dict(zip(self._points, self._rows, strict=True))
        left: list[CodePoint] = []
        for point in quiet:
            if rows[point].loss_pct == _ALL_PCT and rows[known].loss_pct < _ALL_PCT:
                self._traced.asked.append(point.name)
            elif not await self._is_quoted(point, seen):
                left.append(point)
        if not left:
            return
        told, *found = await self._in_turn([known, *left])
        for point, ends in zip(left, found, strict=True):
            if ends:
                self._end(point, ends[0], seen)
            elif len(told) >= _HEARD:
                self._traced.asked.append(point.name)
        if len(told) < _HEARD:
            self._hinder(
                f"the destination reports closed ports too rarely: it quoted {len(told)} of {TURNS} packets of {known.name} that "
                "were sent in turn with them",
                _SILENT,
            )

    async def _is_quoted(self, point: CodePoint, seen: dict[str, Sequence[Mark]]) -> bool:
        """Ask the destination alone, now and then, until it quotes a class; False when it does not."""
        for _ in range(_AGAIN):
            # At random, for others who ask may have the same rhythm.
            await asyncio.sleep(ROUND_S * random.uniform(1, _LONGER))  # noqa: S311  no secret
            record = await self._trace(point, dscp.NOT_ECT, end_alone=True)
            if record.final:
                self._end(point, record.marks[-1], seen)
                return True
        return False

    async def _in_turn(self, points: Sequence[CodePoint]) -> list[list[Mark]]:
        """Ask the destination alone for several classes in turn; return for each the marks that it quoted."""
        tracing: list[asyncio.Future[MarkRecord]] = []
        try:
            for turn in range(TURNS):
                if turn:
                    await asyncio.sleep(_TURN_S)
                tracing += [
                    asyncio.ensure_future(self._trace(point, dscp.NOT_ECT, end_alone=True))
                    for point in points
                ]
            records = await asyncio.gather(*tracing)
        finally:
            await cancel(*tracing)
        return [
            [record.marks[-1] for record in records[place :: len(points)] if record.final]
            for place in range(len(points))
        ]

    def _end(self, point: CodePoint, mark: Mark, seen: dict[str, Sequence[Mark]]) -> None:
        """Note with which mark a class came to the destination."""
        seen[point.name] = [*(each for each in seen[point.name] if each.hop < mark.hop), mark]
        self._traced.told.append(point.name)

    async def ask_far_end(self) -> None:
        """Have the worker at the destination tell how packets of each class come to it, where the test wants that."""
        spec = self._spec
        if not spec.far_end_port:
            return
        silent: list[str] = []
        try:
            with far_end(
                self._address,
                spec.far_end_port,
                responder_keys=self._responder_keys,
                source=self._source,
                timeout_s=spec.timeout_ms / 1000,
                clock_offset_ms=self._clock_offset_ms,
            ) as end:
                try:
                    await end.find()
                    await self._ask_marks(end, silent)
                finally:
                    count(self._metrics, end.packets_sent, end.bytes_sent, end.bytes_received)
        except NoFarEndError as error:
            self._hinder(str(error), error.failure_reason)
            silent.append(str(error))
        if silent:
            self._detail["far_end"] = "; ".join(silent)

    async def _ask_marks(self, end: FarEnd, silent: list[str]) -> None:
        """Ask for the marks of each class, then, as ECN-capable, for its ECN; `silent` is told what had no answer."""
        quiet: list[CodePoint] = []
        for point, row in zip(self._points, self._rows, strict=True):
            octets = await end.octets(point.octet())
            if octets:
                self._take(row, point, octets)
            else:
                quiet.append(point)
        if quiet and self._told.told:
            await self._ask_beside(end, quiet)
        lost = [point.name for point in self._points if point.name not in self._told.told]
        if lost:
            silent.append(f"no packet of {', '.join(lost)} was answered")
        if not self._told.told:
            self._hinder(f"the destination's worker is there and told of no class: {silent[-1]}", _SILENT)
        if self._spec.ecn:
            capable = [await end.octets(point.octet(dscp.ECT0)) for point in self._points]
            marks.fill_far_end_ecn(self._metrics, self._rows, capable, quoted=self._ecn_quoted)
            lost = [point.name for point, seen in zip(self._points, capable, strict=True) if not seen]
            if lost:
                silent.append(f"no ECN-capable packet of {', '.join(lost)} was answered")

    def _take(self, row: QosClass, point: CodePoint, octets: Sequence[int]) -> None:
        """Note how packets of a class came to the far end, some at least."""
        marks.fill_far_end(row, point, octets)
        self._told.asked.append(point.name)
        self._told.told.append(point.name)

    async def _ask_beside(self, end: FarEnd, quiet: Sequence[CodePoint]) -> None:
        """Ask once more for classes that had no answer, in turn with one that had: silence must be theirs alone.

        A worker that answers nobody for a while has lost no class of the path.
        """
        known = next(point for point in self._points if point.name in self._told.told)
        heard, *found = await end.in_turn([point.octet() for point in (known, *quiet)])
        for point, octets in zip(quiet, found, strict=True):
            if octets:
                self._take(self._rows[self._points.index(point)], point, octets)
        if len(heard) >= _HEARD:
            self._told.asked += [point.name for point, octets in zip(quiet, found, strict=True) if not octets]
        else:
            self._hinder(
                f"the destination's worker answered only {len(heard)} of {TURNS} packets of {known.name} that were sent in "
                "turn with them",
                _SILENT,
            )

    def _hinder(self, text: str, reason: probe_pb2.FailureReason) -> None:
        self.hindrances.append(Hindrance(text=text, reason=reason))

    async def _trace(self, point: CodePoint, ecn: int, *, end_alone: bool = False) -> MarkRecord:
        """Trace a class's packets, or one to the destination alone."""
        spec = self._spec
        record = await trace_marks(
            self._address,
            dscp=point.number,
            ecn=ecn,
            port=spec.port,
            max_ttl=spec.max_ttl,
            timeout_s=spec.timeout_ms / 1000,
            source=self._source,
            end_alone=end_alone,
        )
        count(self._metrics, record.packets_sent, record.bytes_sent, record.bytes_received)
        self._detail.setdefault("hops", {}).update(
            (str(hop), addresses) for hop, addresses in record.addresses.items()
        )
        gaps = _gaps(record, dscp.named(point.octet(ecn)))
        if gaps:
            self._detail.setdefault("trace_gaps", []).extend(gap.text for gap in gaps)
        if ecn == dscp.NOT_ECT:
            self.hindrances += gaps
        return record


def longest_s(classes: int, *, timeout_s: float) -> float:
    """Return the longest time that looking again at so many classes may take."""
    return classes * _AGAIN * (ROUND_S * _LONGER + timeout_s) + TURNS * _TURN_S + timeout_s


def most_packets(classes: int) -> int:
    """Return how many packets that may send."""
    return classes * (_AGAIN + TURNS)


def _gaps(record: MarkRecord, what: str) -> list[Hindrance]:
    """Return what this host itself kept a trace from seeing."""
    gaps = []
    if record.refused:
        room = all(number in NO_ROOM for number in record.refused)
        gaps.append(
            Hindrance(
                text=f"this host did not send all of the trace of {what}: {refusals(record.refused)}",
                reason=probe_pb2.FAILURE_REASON_NO_ROOM if room else probe_pb2.FAILURE_REASON_CANNOT_SEND,
            )
        )
    if record.overflows:
        gaps.append(
            Hindrance(
                text=f"this host had no room for {record.overflows} packets that came while it traced {what}",
                reason=probe_pb2.FAILURE_REASON_NO_ROOM,
            )
        )
    return gaps


def count(metrics: QosResult, packets: int, sent: int, received: int) -> None:
    """Add to what a run has moved: packets sent, and bytes either way."""
    metrics.packets_sent += packets
    metrics.bytes_sent += sent
    metrics.bytes_received += received
