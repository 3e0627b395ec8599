"""What the hops of a path saw of the marks of packets: code points that change, ECN bits that are cleared or set. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from streamswarm.v1.probes.qos_pb2 import QosClass, QosHop, QosResult
from worker.evaluation import dscp
from worker.evaluation.dscp import CodePoint


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What a hop saw of a class."""

    hop: int
    #: The octet of each packet, as quoted, in the order of sending; at least one.
    octets: tuple[int, ...]

    def dscp(self, sent: CodePoint) -> int:
        """Return the code point seen: a change that only some packets meet counts."""
        seen = [octet >> 2 for octet in self.octets]
        return next((number for number in seen if number != sent.number), seen[0])

    @property
    def ecn_cleared(self) -> bool:
        """Whether packets that were sent as ECN-capable, if only some, were so no longer."""
        return any(octet & 3 == dscp.NOT_ECT for octet in self.octets)

    @property
    def ce_marks(self) -> int:
        """How many packets had been marked with congestion."""
        return sum(octet & 3 == dscp.CE for octet in self.octets)


def change_hop(sent: CodePoint, marks: Sequence[Mark]) -> int | None:
    """Return the first hop that saw another code point than the one sent; None when all saw that."""
    return next((mark.hop for mark in marks if mark.dscp(sent) != sent.number), None)


def ecn_change_hop(marks: Sequence[Mark]) -> int | None:
    """Return the first hop that saw ECN-capable packets without the mark; None when all saw it."""
    return next((mark.hop for mark in marks if mark.ecn_cleared), None)


def fill_class(metrics: QosResult, row: QosClass, point: CodePoint, marks: Sequence[Mark]) -> None:
    """Fill in what the hops saw of a class."""
    for mark in marks:
        seen = mark.dscp(point)
        metrics.hops.append(QosHop(name=f"{mark.hop:02d} {point.name}", dscp=seen, kept=seen == point.number))
    if not marks:
        return
    row.arrived_dscp = marks[-1].dscp(point)
    hop = change_hop(point, marks)
    if hop is not None:
        row.change_hop = hop


def fill_ecn(metrics: QosResult, marks: Sequence[Mark]) -> None:
    """Fill in what the hops saw of packets that were sent as ECN-capable."""
    if not marks:
        return
    metrics.ecn_kept = not marks[-1].ecn_cleared
    metrics.ce_marks = sum(mark.ce_marks for mark in marks)
    hop = ecn_change_hop(marks)
    if hop is not None:
        metrics.ecn_change_hop = hop


def sum_up(metrics: QosResult, rows: Sequence[QosClass], ended: Collection[str]) -> None:
    """Fill in what the classes say together, all of which were traced; `ended` names those that the destination quoted.

    Where it quoted one class, the path is known to go on beyond the last hop that quoted another: how that one arrives
    is not known, and taken back.
    """
    if ended:
        for row in rows:
            if row.name not in ended:
                row.ClearField("arrived_dscp")
    seen = [row for row in rows if row.HasField("arrived_dscp")]
    if not seen:
        return
    metrics.end_seen = len(ended) == len(rows)
    # Among marks that are not known may be one that is changed.
    if not ended or metrics.end_seen:
        kept = sum(row.arrived_dscp == row.dscp for row in seen)
        metrics.marks_kept_pct = 100.0 * kept / len(seen)
    changes = [row.change_hop for row in rows if row.HasField("change_hop")]
    if changes:
        metrics.first_change_hop = min(changes)
