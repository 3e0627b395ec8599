"""What a trace asks when: waves while it explores, whole rounds after that, and an end in every case."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from worker.wire.stamps import Instant
from worker.wire.trace.course import PATIENCE_S, WAVE, Course
from worker.wire.trace.packets import Flow, Template, shape
from worker.wire.trace.plan import Answer, Probe, TracePlan
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
        self._wakes: list[float] = []
        self.route = Route(distance=known)
        flow = Flow(version=4, protocol="icmp", number=0, ident=1, port=0, size=32, dscp=0)
        self.course = Course(
            plan, 4, destination=b"\xc0\0\2\1", address=("192.0.2.1", 0), sockaddr=bytes(16),
            templates=[Template(shape(flow), bytes(8))] * plan.flows, control=None, route=self.route, submit=self._submit,
            wake=lambda _course, at_s: self._wakes.append(at_s), done=asyncio.get_running_loop().create_future(),
        )  # fmt: skip

    def _submit(self, probes: list[Probe]) -> None:
        self.asked.append([probe.ttl for probe in probes])
        for probe in probes:
            probe.sent = Instant(0, round(self.now_s * 1e9))
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
