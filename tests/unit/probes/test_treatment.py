"""Judging classes of traffic: changed marks, bursts beside each other, and each breach of a policy in a sentence."""

from __future__ import annotations

from worker.evaluation import dscp, treatment
from worker.evaluation.treatment import Burst, Mark, Policy, Seen

EF = dscp.parse("EF")


def burst(loss: float = 0, rise: float | None = 1, paced: float = 0) -> Burst:
    return Burst(paced_loss_pct=paced, loss_pct=loss, rise_ms=rise)


def seen(name: str, **known: float) -> Seen:
    values = {"loss_pct": None, "rtt_median_ms": None, "arrived": None, "change_hop": None} | known
    return Seen(point=dscp.parse(name), **values)  # type: ignore[arg-type]


def test_the_first_hop_with_another_mark_is_named() -> None:
    """ECN bits are another matter than the code point."""
    marks = [
        Mark(hop=1, octet=0xB8),
        Mark(hop=2, octet=0xBB),
        Mark(hop=4, octet=0x20),
        Mark(hop=5, octet=0xB8),
    ]
    assert treatment.change_hop(EF, marks) == 4
    assert treatment.change_hop(EF, marks[:2]) is None
    assert treatment.change_hop(EF, []) is None


def test_ecn_is_gone_where_both_bits_are_zero() -> None:
    """A mark of congestion is ECN at work."""
    marks = [Mark(hop=1, octet=0x02), Mark(hop=2, octet=0x03), Mark(hop=3, octet=0x00)]
    assert treatment.ecn_change_hop(marks) == 3
    assert treatment.ecn_change_hop(marks[:2]) is None


def test_policing_is_a_burst_that_is_cut_beside_one_that_is_not() -> None:
    """Loss that all classes share is the link's, and one class alone tells nothing."""
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(0)})
    assert treatment.policed("CS0", {"EF": burst(60), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(55)}) is False
    assert treatment.policed("EF", {"EF": burst(9), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(30, paced=25), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(60)}) is None


def test_shaping_is_a_burst_that_is_delayed_beside_one_that_is_not() -> None:
    """In milliseconds; what nothing came back of cannot be compared."""
    assert treatment.shaped("AF21", {"AF21": burst(rise=80), "CS0": burst(rise=5)})
    assert treatment.shaped("AF21", {"AF21": burst(rise=80), "CS0": burst(rise=70)}) is False
    assert treatment.shaped("AF21", {"AF21": burst(rise=9), "CS0": burst(rise=0)}) is False
    assert treatment.shaped("AF21", {"AF21": burst(rise=80), "CS0": burst(rise=None)}) is None
    assert treatment.shaped("AF21", {"AF21": burst(rise=None), "CS0": burst(rise=1)}) is None


def test_every_breach_has_its_sentence() -> None:
    """With what was measured, what was demanded, and where the mark changed."""
    policy = Policy.parse(["EF=EF", "AF41=CS4"], ["EF=0.5", "ALL=5"], ["ALL=100", "CS0=300"])
    classes = [
        seen("EF", loss_pct=1.0, rtt_median_ms=20.0, arrived=0, change_hop=3),
        seen("AF41", loss_pct=5.0, rtt_median_ms=100.5, arrived=32),
        seen("CS0", loss_pct=7.5, rtt_median_ms=290.0, arrived=0),
    ]
    assert policy.breaches(classes) == [
        "EF arrived as CS0 instead of EF, changed before hop 3",
        "EF lost 1.0 % of its packets, more than 0.5 %",
        "AF41 had a median round-trip time of 100.5 ms, longer than 100 ms",
        "CS0 lost 7.5 % of its packets, more than 5 %",
    ]


def test_what_was_not_measured_breaks_nothing() -> None:
    """And a test without a policy has nothing to break."""
    policy = Policy.parse(["EF=EF"], ["ALL=0"], ["ALL=1"])
    assert policy.breaches([seen("EF")]) == []
    assert policy.states_anything
    assert not Policy.parse([], [], []).states_anything
