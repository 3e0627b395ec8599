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


def fill_ecn(metrics: QosResult, marks: Sequence[Mark], *, goes_on: bool = False) -> None:
    """Fill in what the hops saw of packets that were sent as ECN-capable.

    `goes_on` says that the path is known to go on beyond the last of them: that the mark is kept is not known then.
    """
    if not marks:
        return
    cleared = marks[-1].ecn_cleared
    if cleared or not goes_on:
        metrics.ecn_kept = not cleared
    metrics.ce_marks = sum(mark.ce_marks for mark in marks)
    hop = ecn_change_hop(marks)
    if hop is not None:
        metrics.ecn_change_hop = hop


def fill_far_end(row: QosClass, point: CodePoint, octets: Sequence[int]) -> None:
    """Fill in with which octets the far end says that a class's packets came: that goes before what hops quote."""
    if not octets:
        return
    seen = [octet >> 2 for octet in octets]
    row.survived_pct = 100.0 * seen.count(point.number) / len(seen)
    row.far_end_dscp = row.arrived_dscp = next((number for number in seen if number != point.number), seen[0])


def fill_far_end_ecn(
    metrics: QosResult, rows: Sequence[QosClass], octets: Sequence[Sequence[int]], *, quoted: bool
) -> None:
    """Fill in with which octets the far end says that packets of each class came that were sent as ECN-capable.

    That the mark is kept is known where some of every class came, or where the destination `quoted` it.
    """
    for row, seen in zip(rows, octets, strict=True):
        if seen:
            row.far_end_ce_marks = sum(octet & 3 == dscp.CE for octet in seen)
            metrics.ce_marks += row.far_end_ce_marks
    if any(octet & 3 == dscp.NOT_ECT for seen in octets for octet in seen):
        metrics.ecn_kept = False
    elif all(octets):
        metrics.ecn_kept = True
    elif metrics.ecn_kept and not quoted:
        metrics.ClearField("ecn_kept")


def sum_up(metrics: QosResult, rows: Sequence[QosClass], ended: Collection[str]) -> None:
    """Fill in what the classes say together; `ended` names those of which the destination told.

    Where it told of one class, the path is known to go on beyond the last hop that quoted another: how that one arrives
    is not known, and taken back.
    """
    if ended:
        for row in rows:
            if row.name not in ended:
                row.ClearField("arrived_dscp")
    told = [row.survived_pct for row in rows if row.HasField("survived_pct")]
    # Among marks that are not known may be one that is changed.
    if told and len(told) == len(rows):
        metrics.survived_pct = sum(told) / len(told)
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
