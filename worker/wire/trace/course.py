"""One trace: which hops are asked when, and when it is over. Sends nothing itself and reads no clock.

First the path is explored: hops in waves, all of a wave at once, each wave as soon as the last one was answered or a
moment has passed. Then come the further rounds, each of all hops at once. A trace whose network is known begins with
a wave of the right size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from worker.wire import icmp_messages
from worker.wire.addresses import SocketAddress
from worker.wire.batches import control_message
from worker.wire.trace.packets import Template
from worker.wire.trace.plan import MOST_SHORTER, Answer, Probe, TracePlan
from worker.wire.trace.routes import Route

#: Hops of a wave while the distance is not known.
WAVE = 5
#: Seconds after which the next wave leaves although hops of the last one are silent.
PATIENCE_S = 0.25
_TOO_FAR = 1_000
_NO_MTUS: Mapping[str, int] = {}


class Strand:
    """The exploration of one flow's path."""

    __slots__ = ("end", "heard", "horizon", "reached")

    def __init__(self) -> None:
        #: The smallest TTL behind which there is nothing more to ask: the destination, or an error that ends the path.
        self.end = _TOO_FAR
        #: It is the destination: an error that came from nearer did not end the path.
        self.reached = False
        #: The largest TTL that a router answered.
        self.heard = 0
        #: The largest TTL that was asked.
        self.horizon = 0


class _Shorter:
    """What is known of a trace whose probes were too long for a link."""

    __slots__ = ("first", "longer", "longer_bytes", "mtus", "since_s", "size", "steps")

    def __init__(self, size: int, first: int) -> None:
        #: Bytes of the packets that left first: an MTU that carries them is none that they were too long for.
        self.first = first
        #: The smallest MTU that each router named.
        self.mtus: dict[str, int] = {}
        #: Bytes of payload now, how often they became fewer, and when they did so last, by time.monotonic.
        self.size = size
        self.steps = 0
        self.since_s = 0.0
        #: How many packets, with how many bytes in all, left before that.
        self.longer = 0
        self.longer_bytes = 0


class Course:
    """The state of one trace.

    `submit` takes the probes that are to be sent, `wake` the instant (by time.monotonic) at which to call `step` at
    the latest.
    """

    __slots__ = (
        "_explored", "_next_round", "_outstanding", "_resize", "_round_s", "_shorter", "_submit", "_timeout_ns", "_unsent",
        "_wake", "address", "bytes_received", "control", "destination", "done", "late", "look", "packed_control", "plan",
        "probes", "refused", "route", "sockaddr", "strands", "templates", "version", "withdrawn",
    )  # fmt: skip

    def __init__(
        self,
        plan: TracePlan,
        version: int,
        *,
        destination: bytes,
        address: SocketAddress,
        sockaddr: bytes,
        templates: list[Template],
        resize: Callable[[Course, int], list[Template]],
        control: tuple[int, int, bytes] | None,
        route: Route,
        submit: Callable[[list[Probe]], None],
        wake: Callable[[Course, float], None],
        done: asyncio.Future[None],
    ) -> None:
        self.plan = plan
        #: IP version.
        self.version = version
        self.destination = destination
        #: Destination as Python takes it, and as the kernel does.
        self.address = address
        self.sockaddr = sockaddr
        #: One for each flow; and what makes them for another size of payload.
        self.templates = templates
        self._resize = resize
        self._shorter: _Shorter | None = None
        #: Control message that has probes leave from the plan's source; None when the routes choose. And as the kernel
        #: takes it.
        self.control = control
        self.packed_control = b"" if control is None else control_message(*control)
        self.route = route
        self.done = done
        #: Of the engine: the number of the look that is to come.
        self.look = 0
        #: In the order of sending.
        self.probes: list[Probe] = []
        #: Sent, not answered, and asked again: they do not count.
        self.withdrawn: list[Probe] = []
        self.refused: dict[int, int] = {}
        self.bytes_received = 0
        #: Answers of the destination that came after the time-out.
        self.late = 0
        self.strands = [Strand() for _ in range(plan.flows)]
        self._round_s = 0.0
        self._submit = submit
        self._wake = wake
        self._timeout_ns = round(plan.timeout_s * 1e9)
        self._outstanding = 0
        self._unsent = 0
        self._next_round = 1
        self._explored = False

    def start(self, now_s: float) -> None:
        """Ask the first wave."""
        plan = self.plan
        self._round_s = now_s
        first = plan.first_ttl
        reach = self.route.distance or first - 1 + min(WAVE, plan.gap_limit)
        reach = min(max(first, reach), plan.max_ttl)
        for flow, strand in enumerate(self.strands):
            strand.horizon = reach
            self._ask(flow, first, reach)
        self._wake(self, now_s + min(PATIENCE_S, plan.timeout_s))

    def answered(self, probe: Probe, answer: Answer, *, now_s: float) -> None:
        """Take the first answer to a probe."""
        self.bytes_received += answer.size
        if answer.rtt_ns > self._timeout_ns or probe.expired:
            self.late += answer.final
            return  # `step` gives it up, or has
        probe.answer = answer
        if probe.bucket is not None:
            probe.bucket.answered(probe, now_s)
        strand = self.strands[probe.flow]
        ttl = probe.ttl
        if answer.final or answer.unreachable:
            if self.plan.dont_fragment and self._go_on_shorter(probe, answer, now_s):
                return
            if answer.final and not strand.reached:
                strand.reached = True
                strand.end = ttl
            elif ttl < strand.end and (answer.final or not strand.reached):
                strand.end = ttl
        elif ttl > strand.heard:
            strand.heard = ttl
        self._outstanding -= 1
        if not self._outstanding:
            self.step(now_s)

    def sent(self, probe: Probe) -> None:
        """A probe has left."""
        self.probes.append(probe)
        self._unsent -= 1

    def not_sent(self, probe: Probe, number: int, now_s: float) -> None:
        """The kernel refused a probe."""
        self.refused[number] = self.refused.get(number, 0) + 1
        self._unsent -= 1
        self._outstanding -= 1
        if not self._outstanding:
            self.step(now_s)

    def turned_back(self, probe: Probe, number: int, now_s: float) -> None:
        """This host has not let a probe out, though the kernel had accepted it."""
        if probe.expired:
            return
        self.probes.remove(probe)
        self.refused[number] = self.refused.get(number, 0) + 1
        self._outstanding -= 1
        if not self._outstanding:
            self.step(now_s)

    def step(self, now_s: float) -> None:
        """Ask what is to be asked now, finish when nothing is, and set the time of the next look."""
        if self.done.done():
            return
        expiry_s = self._expire(now_s) if self._outstanding else None
        if self._unsent:  # routers are asked at their pace; nothing can be told before
            self._wake(self, now_s + PATIENCE_S)
            return
        wakes = [] if expiry_s is None else [expiry_s]
        if not self._explored:
            for flow in range(len(self.strands)):
                wake_s = self._explore(flow, now_s)
                if wake_s is not None:
                    wakes.append(wake_s)
            self._explored = not wakes or all(self._settled(strand) for strand in self.strands)
        if self._explored:
            self._further_rounds(now_s, wakes)
        if wakes:
            self._wake(self, min(wakes))
        else:
            self.done.set_result(None)

    @property
    def bytes_sent(self) -> int:
        """Bytes of the packets that have left; those of all flows are equally long at a time."""
        count = len(self.probes) + len(self.withdrawn)
        shorter = self._shorter
        if shorter is None:
            return count * self.templates[0].length
        return (count - shorter.longer) * self.templates[0].length + shorter.longer_bytes

    @property
    def mtus(self) -> Mapping[str, int]:
        """The smallest MTU that each router named."""
        return _NO_MTUS if self._shorter is None else self._shorter.mtus

    def learn(self) -> bool:
        """Remember the way for the next trace towards the same network; False when a probe had no answer in time."""
        route = self.route
        distance = 0
        answered = True
        for probe in self.probes:
            answer = probe.answer
            if answer is None:
                answered = False
                continue
            if not answer.final:
                route.routers[probe.ttl] = answer.source
            elif not distance or probe.ttl < distance:
                distance = probe.ttl
        if not distance or self.plan.tells_distance(distance):
            route.distance = distance
        return answered

    def _go_on_shorter(self, probe: Probe, answer: Answer, now_s: float) -> bool:
        """Ask once more, with what the link carries, what a router said to be too long; False when it is no such answer."""
        mtu = None if answer.message is None else icmp_messages.next_mtu(self.version, answer.message)
        if mtu is None or mtu < icmp_messages.SMALLEST_MTU[self.version]:
            return False
        length = self.templates[0].length
        shorter = self._shorter or _Shorter(self.plan.size, length)
        if mtu >= shorter.first:
            return False
        if mtu < length:
            if shorter.steps == MOST_SHORTER:
                return False
            shorter.longer_bytes, shorter.longer = self.bytes_sent, len(self.probes) + len(self.withdrawn)
            shorter.steps += 1
            shorter.since_s = now_s
            shorter.size -= length - mtu
            self.templates = self._resize(self, shorter.size)
        elif probe.sent is None or probe.sent.monotonic_ns / 1e9 > shorter.since_s:
            return False  # it was no longer than that: who says so would be asked for ever
        self._shorter = shorter
        shorter.mtus[answer.source] = min(mtu, shorter.mtus.get(answer.source, mtu))
        self.withdrawn.append(probe)
        self.probes.remove(probe)
        self._unsent += 1
        self._submit([Probe(self, probe.ttl, probe.flow)])
        return True

    def _further_rounds(self, now_s: float, wakes: list[float]) -> None:
        plan = self.plan
        if self._next_round >= plan.rounds:
            return
        # However long the last one took: rounds are an interval apart at least.
        due_s = self._round_s + plan.interval_s
        if due_s <= now_s:
            self._round_s = now_s
            self._next_round += 1
            for flow, strand in enumerate(self.strands):
                self._ask(flow, plan.first_ttl, min(strand.end, strand.horizon))
            due_s = now_s + plan.interval_s
        wakes.append(due_s)

    def _settled(self, strand: Strand) -> bool:
        return strand.end <= strand.horizon or strand.horizon >= self.plan.max_ttl

    def _explore(self, flow: int, now_s: float) -> float | None:
        """Ask the next wave of a flow if it is time; return when to look again, None when there is no more to ask."""
        strand = self.strands[flow]
        plan = self.plan
        if self._settled(strand):
            return None
        farthest = max(strand.heard, plan.first_ttl - 1) + plan.gap_limit
        if strand.horizon >= farthest:
            # Silent for too long; unless one of those that are still awaited answers.
            return None
        if self._outstanding:
            ready_s = self._last_sent_s() + PATIENCE_S
            if now_s < ready_s:
                return ready_s
        first = strand.horizon + 1
        strand.horizon = min(strand.horizon + WAVE, farthest, plan.max_ttl)
        self._ask(flow, first, strand.horizon)
        return now_s + PATIENCE_S

    def _last_sent_s(self) -> float:
        sent = self.probes[-1].sent if self.probes else None
        return sent.monotonic_ns / 1e9 if sent is not None else self._round_s

    def _ask(self, flow: int, first: int, last: int) -> None:
        probes = [
            Probe(self, ttl, flow) for _ in range(self.plan.probes_per_hop) for ttl in range(first, last + 1)
        ]
        self._outstanding += len(probes)
        self._unsent += len(probes)
        self._submit(probes)

    def _expire(self, now_s: float) -> float | None:
        """Give up what has waited for too long; return when the next probe will have, None when none was sent."""
        timeout_s = self.plan.timeout_s
        next_s: float | None = None
        again: list[Probe] = []
        for probe in self.probes:
            if probe.answer is not None or probe.expired or probe.sent is None:
                continue
            expiry_s = probe.sent.monotonic_ns / 1e9 + timeout_s
            if expiry_s <= now_s:
                probe.expired = True
                self._outstanding -= 1
                if probe.bucket is not None:
                    probe.bucket.given_up(probe, now_s)
                if probe.hasty and not probe.repeated:
                    again.append(probe)
            elif next_s is None or expiry_s < next_s:
                next_s = expiry_s
        if again:
            self._ask_again(again)
        return next_s

    def _ask_again(self, hasty: list[Probe]) -> None:
        """Ask once more what was asked faster than is safe: the silence may be our doing, and says nothing."""
        self.withdrawn += hasty
        self.probes = [
            probe for probe in self.probes if not (probe.hasty and probe.expired) or probe.repeated
        ]
        probes = [Probe(self, probe.ttl, probe.flow) for probe in hasty]
        for probe in probes:
            probe.repeated = True
        self._outstanding += len(probes)
        self._unsent += len(probes)
        self._submit(probes)
