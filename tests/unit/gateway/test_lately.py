"""What was seen lately is remembered for so long, and no longer."""

from __future__ import annotations

from controller.gateway.lately import Lately


def test_a_member_leaves_in_its_time_and_stays_when_it_is_seen_again() -> None:
    """Each addition counts anew; what has left takes no room once another comes."""
    clock = [0.0]
    lately: Lately[str] = Lately(10, now=lambda: clock[0])
    lately.add("a")
    lately.add("b")
    clock[0] = 6
    lately.add("a")
    clock[0] = 10
    assert ("a" in lately, "b" in lately) == (True, False)
    lately.add("c")
    assert len(lately) == 2
    clock[0] = 16
    assert "a" not in lately
