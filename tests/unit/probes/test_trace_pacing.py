"""Routers are asked at a pace that Linux' default limits allow, and faster only as long as they keep up."""

from __future__ import annotations

from typing import Any, cast

from worker.wire.trace.pacing import SAFE_BURST, SAFE_PER_SECOND, Pacing
from worker.wire.trace.plan import Probe


def probes(count: int) -> list[Probe]:
    return [Probe(cast("Any", None), 1, 0) for _ in range(count)]


def ask(pacing: Pacing, router: str, *, seconds: float, answers: bool, start_s: float = 0.0) -> list[Probe]:
    """Always have probes wait for a router, for so many seconds; return those that went, in their order."""
    went: list[Probe] = []
    waiting = 0
    for tick in range(round(seconds * 200)):
        now_s = start_s + tick / 200
        sent = pacing.due(now_s)
        waiting -= len(sent)
        for probe in probes(200 - waiting):
            if pacing.admit(probe, router, now_s):
                sent.append(probe)
            else:
                waiting += 1
        went += sent
        for probe in sent:
            if answers and probe.bucket is not None:
                probe.bucket.answered(probe, now_s)
    return went


def test_a_silent_router_is_asked_at_the_safe_pace() -> None:
    """However much is waiting."""
    went = ask(Pacing(), "a", seconds=2, answers=False)
    assert 0.9 * 2 * SAFE_PER_SECOND < len(went) <= 2 * SAFE_PER_SECOND + SAFE_BURST
    assert not any(probe.hasty for probe in went)


def test_a_router_that_keeps_up_is_asked_faster() -> None:
    """What goes beyond the safe pace is marked."""
    went = ask(Pacing(), "a", seconds=2, answers=True)
    assert len(went) > 5 * SAFE_PER_SECOND
    assert sum(not probe.hasty for probe in went) <= SAFE_BURST


def test_a_router_that_is_asked_seldom_is_not_tried() -> None:
    """A probe every 100 ms never waits, and none of them is hasty."""
    pacing = Pacing()
    for number in range(100):
        (probe,) = probes(1)
        assert pacing.admit(probe, "a", number / 10)
        assert probe.bucket is not None
        probe.bucket.answered(probe, number / 10)
        assert not probe.hasty


def test_missing_answers_bring_the_safe_pace_back() -> None:
    """At the first answer behind more than six that are missing; for a minute."""
    pacing = Pacing()
    went = ask(pacing, "a", seconds=0.3, answers=True)
    lost = ask(pacing, "a", seconds=0.02, answers=False, start_s=0.3)
    assert went[-1].hasty
    bucket = lost[-1].bucket
    assert bucket is not None
    bucket.answered(lost[-1], 0.32)
    assert pacing.due(0.33) == [], "it may fill its bucket first"
    after = ask(pacing, "a", seconds=2, answers=True, start_s=0.34)
    assert len(after) <= 2 * SAFE_PER_SECOND
    assert not any(probe.hasty for probe in after)


def test_each_router_has_a_pace_of_its_own() -> None:
    """One that waits does not hold up another."""
    pacing = Pacing()
    for probe in probes(100):
        pacing.admit(probe, "a", 0.0)
    assert pacing.waiting
    assert pacing.admit(probes(1)[0], "b", 0.0)
