"""Looks at the marks of a `qos` run's classes: by traces, and at the far end where that is a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult, QosSpec
from worker.evaluation import dscp, marks
from worker.evaluation.dscp import CodePoint
from worker.evaluation.qos_verdict import Hindrance, Look
from worker.failures import NO_ROOM, refusals
from worker.probing import IPAddress
from worker.wire.far_end import TURNS, FarEnd, NoFarEndError, far_end
from worker.wire.source import Source
from worker.wire.trace.marks import MarkRecord, trace_marks
from worker.wire.trace.plan import TraceUnavailableError

_SILENT = probe_pb2.FAILURE_REASON_TIMED_OUT
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
                for point, row in zip(self._points, self._rows, strict=True):
                    seen = await self._trace(point, dscp.NOT_ECT)
                    marks.fill_class(self._metrics, row, point, seen.marks)
                    if seen.final:
                        self._traced.told.append(point.name)
                    if seen.whole:
                        self._traced.asked.append(point.name)
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

    async def _trace(self, point: CodePoint, ecn: int) -> MarkRecord:
        spec = self._spec
        record = await trace_marks(
            self._address,
            dscp=point.number,
            ecn=ecn,
            port=spec.port,
            max_ttl=spec.max_ttl,
            timeout_s=spec.timeout_ms / 1000,
            source=self._source,
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
