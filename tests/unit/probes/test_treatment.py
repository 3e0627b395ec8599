"""Judging classes of traffic: bursts beside each other, and each breach of a policy in a sentence."""

from __future__ import annotations

from worker.evaluation import dscp, treatment
from worker.evaluation.treatment import Burst, Policy, Seen

EF = dscp.parse("EF")


def burst(loss: float | None = 0, rise: float | None = 1, paced: float | None = 0) -> Burst:
    return Burst(paced_loss_pct=paced, loss_pct=loss, rise_ms=rise)


def seen(name: str, **known: float) -> Seen:
    values = {"loss_pct": None, "rtt_median_ms": None, "arrived": None, "change_hop": None} | known
    return Seen(point=dscp.parse(name), **values)  # type: ignore[arg-type]


def test_policing_is_a_burst_that_is_cut_beside_one_that_is_not() -> None:
    """Loss that all classes share is the link's, and one class alone tells nothing."""
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(0)})
    assert treatment.policed("CS0", {"EF": burst(60), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(55)}) is False
    assert treatment.policed("EF", {"EF": burst(9), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(30, paced=25), "CS0": burst(0)}) is False
    assert treatment.policed("EF", {"EF": burst(60)}) is None


def test_a_loss_that_is_not_known_tells_no_policing() -> None:
    """Replies that this host may have lost itself."""
    assert treatment.policed("EF", {"EF": burst(None), "CS0": burst(0)}) is None
    assert treatment.policed("EF", {"EF": burst(60, paced=None), "CS0": burst(0)}) is None
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(None)}) is None
    assert treatment.policed("EF", {"EF": burst(60), "CS0": burst(None), "LE": burst(0)})


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


def test_a_class_that_is_lost_where_others_arrive_is_a_breach() -> None:
    """And so is a round-trip time that no reply came to tell."""
    policy = Policy.parse(["EF=EF"], ["EF=0"], ["ALL=1"])
    lost = Seen(
        point=EF, loss_pct=100, rtt_median_ms=None, arrived=None, change_hop=None, lost_beside=["CS0", "LE"]
    )
    classes = [lost, seen("CS0", loss_pct=50, rtt_median_ms=0.5)]
    assert policy.breaches(classes) == [
        "EF was not seen to arrive as EF: the destination told of CS0, LE and not of this class",
        "EF lost 100.0 % of its packets, more than 0 %",
        "EF: whether its median round-trip time is within 1 ms could not be seen, because no reply came in time",
    ]
    assert policy.unjudged(classes) == []
    assert policy.unseen(classes) == []
    assert policy.states_anything
    assert not Policy.parse([], [], []).states_anything


def test_what_this_host_keeps_from_being_known_is_no_breach() -> None:
    """Neither a loss nor, without a reply, a round-trip time; only classes with such a bound are named."""
    policy = Policy.parse([], ["EF=0"], ["CS0=1", "LE=1"])
    classes = [
        seen("EF", rtt_median_ms=3),
        seen("CS0"),
        seen("LE", rtt_median_ms=0.5),
        seen("VA"),
    ]
    assert policy.breaches(classes) == []
    assert policy.unjudged(classes) == ["EF", "CS0"]


def test_classes_of_the_policy_that_are_not_sent_are_named() -> None:
    """Whatever names they have in it; ALL names none."""
    policy = Policy.parse(["EF=EF", "40=AF41"], ["AF41=1", "ALL=5"], ["CS0=50"])
    assert policy.strangers([EF]) == ["CS0", "AF41", "CS5"]
    assert policy.strangers([EF, *(dscp.parse(name) for name in ("AF41", "CS5", "DF"))]) == []


def test_marks_of_which_nobody_told_break_nothing() -> None:
    """They are named apart; what was seen is judged all the same."""
    policy = Policy.parse(["EF=EF", "CS0=CS0"], ["EF=1"], [])
    classes = [seen("EF", loss_pct=5), seen("CS0", loss_pct=0, arrived=8)]
    assert policy.unseen(classes) == ["EF"]
    assert policy.breaches(classes) == [
        "EF lost 5.0 % of its packets, more than 1 %",
        "CS0 arrived as CS1 instead of CS0",
    ]
