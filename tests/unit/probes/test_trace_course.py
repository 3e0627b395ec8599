"""What a trace asks when: waves while it explores, whole rounds after that, and an end in every case."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from worker.wire.stamps import Instant
from worker.wire.trace.course import PATIENCE_S, WAVE, Course
from worker.wire.trace.packets import Flow, Template, shape
from worker.wire.trace.plan import MOST_SHORTER, Answer, Probe, TracePlan
from worker.wire.trace.routes import Route

PLAN = TracePlan(
    protocol="icmp", port=0, rounds=1, interval_s=1.0, timeout_s=2.0,
    first_ttl=1, max_ttl=30, gap_limit=5, probes_per_hop=1, flows=1, size=32, dscp=0,
)  # fmt: skip


class World:
    """A course whose probes go to a path of our own making, on a clock of our own."""

    def __init__(
        self, plan: TracePlan, *, distance: int | None, silent: frozenset[int] = frozenset(), known: int = 0
    ) -> None:
        self.now_s = 1000.0
        self.distance = distance
        self.silent = silent
        #: TTLs as they were asked, one list for each submission.
        self.asked: list[list[int]] = []
        self._waiting: list[Probe] = []
        self._lengths: dict[Probe, int] = {}
        self._wakes: list[float] = []
        self.route = Route(distance=known)
        #: MTUs of the links behind routers, by their TTL, and what a router says of such a link.
        self.narrow: dict[int, int] = {}
        self.told: Callable[[int], int] = lambda mtu: mtu
        #: Bytes of all packets as they left.
        self.sent_bytes = 0

        def templates(size: int) -> list[Template]:
            flow = Flow(version=4, protocol="icmp", number=0, ident=1, port=0, size=size, dscp=0)
            return [Template(shape(flow), bytes(8))] * plan.flows

        self.course = Course(
            plan, 4, destination=b"\xc0\0\2\1", address=("192.0.2.1", 0), sockaddr=bytes(16),
            templates=templates(plan.size), resize=lambda _course, size: templates(size), control=None, route=self.route, submit=self._submit,
            wake=lambda _course, at_s: self._wakes.append(at_s), done=asyncio.get_running_loop().create_future(),
        )  # fmt: skip

    def _submit(self, probes: list[Probe]) -> None:
        self.asked.append([probe.ttl for probe in probes])
        for probe in probes:
            if probe.course.plan.dont_fragment:
                self.now_s += 1e-6
            probe.sent = Instant(0, round(self.now_s * 1e9))
            self._lengths[probe] = self.course.templates[probe.flow].length
            self.sent_bytes += self._lengths[probe]
            self.course.sent(probe)
        self._waiting += probes

    def run(self) -> float:
        """Let all happen; returns the seconds that it took."""
        began_s = self.now_s
        self.course.start(self.now_s)
        for _ in range(1000):
            if self.course.done.done():
                return self.now_s - began_s
            if self._waiting:
                probe = self._waiting.pop(0)
                self._answer(probe)
                continue
            later = [at_s for at_s in self._wakes if at_s > self.now_s]
            self.now_s = min(later)
            self.course.step(self.now_s)
        raise AssertionError("it never ends")

    def _answer(self, probe: Probe) -> None:
        reached = self.distance is not None and probe.ttl >= self.distance
        if probe.ttl in self.silent or (self.distance is None and not reached and probe.ttl > 3):
            return
        for ttl, mtu in self.narrow.items():
            if ttl < probe.ttl and self._lengths[probe] > mtu:
                message = bytes([3, 4, 0, 0, 0, 0]) + self.told(mtu).to_bytes(2, "big")
                answer = Answer(
                    f"10.0.0.{ttl}",
                    False,
                    3,
                    4,
                    1_000_000,
                    True,
                    56,
                    60,
                    1,
                    0,
                    self._lengths[probe],
                    message,
                    True,
                )
                self.course.answered(probe, answer, now_s=self.now_s)
                return
        answer = Answer(
            "192.0.2.1" if reached else f"10.0.0.{probe.ttl}", reached, 0 if reached else 11, 0, 1_000_000, True, 60, 60,
            None, None, None, None, False,
        )  # fmt: skip
        self.course.answered(probe, answer, now_s=self.now_s)


async def test_the_first_wave_goes_out_at_once() -> None:
    """And a near destination needs no more."""
    world = World(PLAN, distance=4)
    assert world.run() == 0
    assert world.asked == [[1, 2, 3, 4, 5]]


async def test_waves_follow_each_other_as_soon_as_they_are_answered() -> None:
    """Nobody waits."""
    world = World(PLAN, distance=12)
    assert world.run() == 0
    assert world.asked == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12, 13, 14, 15]]
    assert WAVE == 5


async def test_a_known_distance_is_asked_exactly() -> None:
    """No probe too many; and when the way has become longer, the rest is explored."""
    world = World(PLAN, distance=4, known=4)
    world.run()
    assert world.asked == [[1, 2, 3, 4]]
    world = World(PLAN, distance=6, known=4)
    world.run()
    assert world.asked == [[1, 2, 3, 4], [5, 6, 7, 8, 9]]


async def test_a_silent_hop_holds_the_next_wave_up_for_a_moment_only() -> None:
    """The run itself waits for its answer until the time-out."""
    world = World(PLAN, distance=8, silent=frozenset({3}))
    assert world.run() == pytest.approx(2.0)
    assert world.asked == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert world.route.distance == 0, "learning is the engine's to ask for"
    assert PATIENCE_S < 1


async def test_it_gives_up_after_so_many_silent_hops() -> None:
    """Three answer; five behind them are asked, no more."""
    world = World(PLAN, distance=None)
    took_s = world.run()
    assert list(itertools.chain(*world.asked)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert took_s == pytest.approx(2.0 + PATIENCE_S)


async def test_the_last_ttl_is_not_exceeded() -> None:
    """Nor is the first one undercut."""
    world = World(replace(PLAN, first_ttl=2, max_ttl=6), distance=20)
    world.run()
    assert list(itertools.chain(*world.asked)) == [2, 3, 4, 5, 6]


async def test_rounds_are_an_interval_apart() -> None:
    """Each asks all hops at once, on each flow, so many times as was asked for."""
    world = World(replace(PLAN, rounds=3, interval_s=0.5, probes_per_hop=2), distance=3)
    assert world.run() == pytest.approx(1.0)
    assert world.asked[1:] == [[1, 2, 3, 1, 2, 3]] * 2


async def test_an_error_from_nearer_does_not_shorten_the_rounds() -> None:
    """Whichever comes first: what reaches the destination is asked on."""
    error = Answer("10.0.0.2", False, 3, 1, 1_000_000, True, 56, 60, 1, 0, 60, None, True)
    final = Answer("192.0.2.1", True, 0, 0, 1_000_000, True, 60, 60, None, None, None, None, False)
    for order in ((1, 3), (3, 1)):
        world = World(replace(PLAN, rounds=2), distance=4, silent=frozenset(range(1, 6)))
        world.course.start(world.now_s)
        for index in order:
            probe = world.course.probes[index]
            world.course.answered(probe, error if index == 1 else final, now_s=world.now_s)
        (strand,) = world.course.strands
        assert strand.end == 4


async def test_an_answer_after_its_time_out_is_none() -> None:
    """The probe stays unanswered, whenever the answer was read."""
    world = World(PLAN, distance=2, silent=frozenset({1, 2, 3, 4, 5}))
    world.course.start(world.now_s)
    probe = world.course.probes[1]
    late = Answer("192.0.2.1", True, 0, 0, 2_000_000_001, True, 60, 60, None, None, None, None, False)
    world.course.answered(probe, late, now_s=world.now_s + 2.1)
    assert probe.answer is None


async def test_refused_probes_do_not_hold_up_the_end() -> None:
    """They are counted by their errno."""
    world = World(PLAN, distance=1)
    world.course.start(world.now_s)
    for probe in world.course.probes:
        world.course.not_sent(probe, 1, world.now_s)
    assert world.course.refused == {1: 5}


UNFRAGMENTED = replace(PLAN, dont_fragment=True, size=1472)


async def test_what_is_too_long_for_a_link_goes_out_once_more_and_shorter() -> None:
    """Two narrow links: each router's MTU is known, every hop has the answer of one probe, and each byte is counted."""
    world = World(UNFRAGMENTED, distance=4)
    world.narrow = {2: 1400, 3: 1300}
    world.run()
    course = world.course
    assert course.mtus == {"10.0.0.2": 1400, "10.0.0.3": 1300}
    assert sorted(probe.ttl for probe in course.probes) == [1, 2, 3, 4, 5]
    assert all(probe.answer is not None for probe in course.probes)
    assert {probe.answer.source for probe in course.probes if probe.answer} >= {"10.0.0.3", "192.0.2.1"}
    assert course.templates[0].length == 1300
    assert course.bytes_sent == world.sent_bytes


async def test_without_the_bit_what_is_too_long_ends_the_path() -> None:
    """As any error does that says that there is no way on."""
    world = World(replace(UNFRAGMENTED, dont_fragment=False), distance=4)
    world.narrow = {2: 1400}
    world.run()
    assert world.course.mtus == {}
    assert world.asked == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize("mtu", [0, 67, 1500, 9000])
async def test_an_mtu_that_is_none_or_no_smaller_ends_the_path(mtu: int) -> None:
    """Who says that 1,500 bytes do not fit into 1,500 is not asked again."""
    world = World(UNFRAGMENTED, distance=4)
    world.narrow, world.told = {2: 40}, lambda _: mtu
    world.run()
    assert world.course.mtus == {}
    assert world.asked == [[1, 2, 3, 4, 5]]


async def test_an_mtu_that_is_larger_than_what_was_sent_is_none() -> None:
    """Also of a probe that left before the others became shorter: ICMPv6 has room for four thousand million."""
    world = World(UNFRAGMENTED, distance=5)
    world.narrow = {3: 1300, 2: 1400}
    world.told = lambda mtu: 9000 if mtu == 1300 else mtu
    world.run()
    assert world.course.mtus == {"10.0.0.2": 1400}


async def test_a_router_that_names_ever_smaller_mtus_is_left() -> None:
    """After a few steps: the run is no tool to make a worker send."""
    world = World(UNFRAGMENTED, distance=4)
    mtus = itertools.count(1400, -1)
    world.narrow, world.told = {2: 68}, lambda _: next(mtus)
    world.run()
    assert world.course.templates[0].length == 1401 - MOST_SHORTER
    assert len(world.course.withdrawn) <= 3 * (MOST_SHORTER + 1)
