"""What hops saw of marks, and what becomes of it in a result."""

from __future__ import annotations

from streamswarm.v1.probes.qos_pb2 import QosClass, QosResult
from worker.evaluation import dscp, marks
from worker.evaluation.marks import Mark

EF, CS0 = dscp.parse("EF"), dscp.parse("CS0")


def test_the_first_hop_with_another_mark_is_named() -> None:
    """ECN bits are another matter than the code point."""
    seen = [
        Mark(hop=1, octets=(0xB8,)),
        Mark(hop=2, octets=(0xBB,)),
        Mark(hop=4, octets=(0x20,)),
        Mark(hop=5, octets=(0xB8,)),
    ]
    assert marks.change_hop(EF, seen) == 4
    assert marks.change_hop(EF, seen[:2]) is None
    assert marks.change_hop(EF, []) is None


def test_ecn_is_gone_where_both_bits_are_zero() -> None:
    """A mark of congestion is ECN at work."""
    seen = [Mark(hop=1, octets=(0x02,)), Mark(hop=2, octets=(0x03,)), Mark(hop=3, octets=(0x00,))]
    assert marks.ecn_change_hop(seen) == 3
    assert marks.ecn_change_hop(seen[:2]) is None


def test_a_hop_that_sees_two_marks() -> None:
    """A change of some packets is one; congestion marks are counted packet by packet."""
    mark = Mark(hop=2, octets=(0xBA, 0xBB, 0xBB, 0x08))
    assert mark.dscp(EF) == 2
    assert mark.ce_marks == 2
    assert mark.ecn_cleared
    assert marks.ecn_change_hop([Mark(hop=1, octets=(0xBA,)), mark]) == 2


def test_a_class_is_told_hop_by_hop() -> None:
    """Where the destination keeps silent, it arrives as the last hop saw it."""
    metrics = QosResult()
    ef, cs0 = QosClass(name="EF", dscp=46), QosClass(name="CS0", dscp=0)
    marks.fill_class(metrics, ef, EF, [Mark(hop=1, octets=(0xB8,)), Mark(hop=3, octets=(0x20,))])
    marks.fill_class(metrics, cs0, CS0, [Mark(hop=1, octets=(0x00,))])
    assert [(row.name, row.dscp, row.kept) for row in metrics.hops] == [
        ("01 EF", 46, True), ("03 EF", 8, False), ("01 CS0", 0, True),
    ]  # fmt: skip
    assert (ef.arrived_dscp, ef.change_hop, cs0.arrived_dscp) == (8, 3, 0)
    assert not cs0.HasField("change_hop")
    marks.sum_up(metrics, [ef, cs0, QosClass(name="LE", dscp=1)], [])
    assert (metrics.marks_kept_pct, metrics.first_change_hop, metrics.end_seen) == (50, 3, False)


def test_a_class_that_ends_before_another_is_not_known_to_arrive() -> None:
    """The path goes on: of a class that is lost on the way nobody has seen how it arrives, kept or changed."""
    metrics = QosResult()
    ef, af, cs0 = QosClass(name="EF", dscp=46), QosClass(name="AF41", dscp=34), QosClass(name="CS0", dscp=0)
    marks.fill_class(metrics, ef, EF, [Mark(hop=1, octets=(0xB8,))])
    marks.fill_class(metrics, af, dscp.parse("AF41"), [Mark(hop=2, octets=(0x20,))])
    marks.fill_class(metrics, cs0, CS0, [Mark(hop=1, octets=(0x00,)), Mark(hop=3, octets=(0x00,))])
    marks.sum_up(metrics, [ef, af, cs0], ["CS0"])
    assert [row.HasField("arrived_dscp") for row in (ef, af, cs0)] == [False, False, True]
    assert metrics.HasField("end_seen")
    assert not metrics.end_seen
    assert not metrics.HasField("marks_kept_pct")
    assert (af.change_hop, metrics.first_change_hop) == (2, 2)


def test_the_end_is_seen_when_it_is_of_every_class() -> None:
    """And the share is that of what the destination itself quoted."""
    metrics = QosResult()
    ef, cs0 = QosClass(name="EF", dscp=46), QosClass(name="CS0", dscp=0)
    marks.fill_class(metrics, ef, EF, [Mark(hop=3, octets=(0x20,))])
    marks.fill_class(metrics, cs0, CS0, [Mark(hop=3, octets=(0x00,))])
    marks.sum_up(metrics, [ef, cs0], ["EF", "CS0"])
    assert (metrics.marks_kept_pct, metrics.end_seen) == (50, True)


def test_what_no_hop_quoted_stays_unset() -> None:
    """Neither kept nor changed."""
    metrics, row = QosResult(), QosClass(name="EF", dscp=46)
    marks.fill_class(metrics, row, EF, [])
    marks.fill_ecn(metrics, [])
    marks.sum_up(metrics, [row], [])
    assert not metrics.ListFields()
    assert not row.HasField("arrived_dscp")


def test_ecn_is_judged_by_the_last_hop_and_counted_at_all() -> None:
    """CE at hop 2, cleared from hop 3 on."""
    metrics = QosResult()
    marks.fill_ecn(metrics, [Mark(hop=2, octets=(0xBB, 0xBA)), Mark(hop=3, octets=(0xB8,))])
    assert (metrics.ecn_kept, metrics.ce_marks, metrics.ecn_change_hop) == (False, 1, 3)


def test_ecn_is_not_kept_where_the_path_goes_on() -> None:
    """Packets that were seen as they were sent, up to where they are lost; a mark that was cleared before is gone."""
    metrics = QosResult()
    marks.fill_ecn(metrics, [Mark(hop=1, octets=(0xBA,))], goes_on=True)
    assert not metrics.HasField("ecn_kept")
    assert metrics.ce_marks == 0
    marks.fill_ecn(metrics, [Mark(hop=1, octets=(0xB8,))], goes_on=True)
    assert metrics.HasField("ecn_kept")
    assert not metrics.ecn_kept


def told(
    *octets: list[int], quoted: bool = False, kept: bool | None = None
) -> tuple[QosResult, list[QosClass]]:
    """Return what a far end's word on ECN-capable packets of classes makes of a result with one quoted mark."""
    metrics = QosResult(ce_marks=1, ecn_kept=kept)
    rows = [QosClass(name="EF"), QosClass(name="CS0")][: len(octets)]
    marks.fill_far_end_ecn(metrics, rows, octets, quoted=quoted)
    return metrics, rows


def test_the_far_end_counts_congestion_marks_of_each_class() -> None:
    """They are ECN at work, and are added to what hops quoted."""
    metrics, (ef, cs0) = told([0xBB, 0xBA, 0xBB], [0x02, 0x02])
    assert (ef.far_end_ce_marks, cs0.far_end_ce_marks, metrics.ce_marks) == (2, 0, 3)
    assert cs0.HasField("far_end_ce_marks")
    assert metrics.ecn_kept


def test_ecn_is_kept_only_where_ecn_capable_packets_came() -> None:
    """Of every class, or the destination quoted them; one that came without the mark shows that it is cleared."""
    for seen in ([[], []], [[0xBA], []]):
        metrics, rows = told(*seen, kept=True)
        assert not metrics.HasField("ecn_kept")
        assert rows[0].HasField("far_end_ce_marks") == bool(seen[0])
        assert not rows[1].HasField("far_end_ce_marks")
    assert told([], [], quoted=True, kept=True)[0].ecn_kept
    for octets in ([0xBA, 0xB8], [0xB8]):
        metrics, _ = told(octets, [0x02], quoted=True, kept=True)
        assert metrics.HasField("ecn_kept")
        assert not metrics.ecn_kept
    assert told([], [], kept=False)[0].HasField("ecn_kept")
