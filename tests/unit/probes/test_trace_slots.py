"""Nobody can tell which slot a probe has, and none comes again before all others have had their turn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, cast

from worker.wire.trace.plan import Probe
from worker.wire.trace.slots import Slots


def probe() -> Probe:
    return Probe(cast("Any", None), 1, 0)


def drawn(slots: Slots, count: int) -> list[int]:
    """Return the slots of probes that come one after the other."""
    found = []
    for _ in range(count):
        one = probe()
        assert slots.assign(one)
        found.append(one.slot)
        assert slots.probes[one.slot] is one
        slots.give_back([one])
    return found


def test_slots_are_drawn_by_chance() -> None:
    """Two engines begin otherwise, and neither counts."""
    first, second = drawn(Slots(), 100), drawn(Slots(), 100)
    assert first != second
    steps = [later - earlier for earlier, later in pairwise(first)]
    assert len(set(steps)) > 50
    assert max(first) > 32_768 > min(first)


def test_each_slot_is_used_before_any_is_used_again() -> None:
    """A late answer meets nobody for a long time."""
    slots = Slots()
    assert sorted(drawn(slots, 65_535)) == list(range(1, 65_536))
    assert sorted(drawn(slots, 65_535)) == list(range(1, 65_536))


def test_there_is_none_while_all_are_in_use() -> None:
    """And again one as soon as one is given back, but once."""
    slots = Slots()
    probes = [probe() for _ in range(65_535)]
    assert all(slots.assign(one) for one in probes)
    late = probe()
    assert not slots.assign(late)
    slot = probes[7].slot
    slots.give_back(probes[7:8])
    slots.give_back(probes[7:8])
    assert slots.assign(late)
    assert late.slot == slot
    assert not slots.assign(probe())
