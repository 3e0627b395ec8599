"""The engine that all traces of an event loop share: slots, pace, time, and who gets which answer. Linux only.

Sockets are open while any trace is under way.
"""

from __future__ import annotations

import asyncio
import errno
import heapq
import itertools
import os
import secrets
import socket
import time
from collections.abc import Hashable, Iterator

from worker.probing import IPAddress
from worker.wire import own_word, stamps
from worker.wire.addresses import shown_packed, socket_address
from worker.wire.batches import packed_address
from worker.wire.trace import sockets
from worker.wire.trace.channel import BATCH, RawChannel
from worker.wire.trace.course import Course
from worker.wire.trace.datagram_channel import DatagramChannel, open_socket
from worker.wire.trace.decoding import Seen
from worker.wire.trace.pacing import Pacing
from worker.wire.trace.packets import Flow, Shape, Template, shape
from worker.wire.trace.plan import (
    Answer,
    Probe,
    TracePlan,
    TraceRecord,
    TraceSendError,
    TraceUnavailableError,
)
from worker.wire.trace.routes import Routes
from worker.wire.trace.slots import Slots

#: Seconds between two looks at probes that wait for their router's pace, and after the kernel had no room.
_TICK_S = 0.005
#: The kernel switches receive stamps on from a work queue; the first packets must not outrun it.
_STAMP_WARM_UP_S = 0.002
#: Seconds for which the count of packets that this host dropped is taken for the present one.
_COUNT_S = 0.1
#: Plans whose packets are kept.
_MOST_PLANS = 1_024
_UNREACHABLE = {4: 3, 6: 1}
_TOO_BIG_6 = 2
_SOCKADDR_IN = packed_address(("0.0.0.0", 0))[:4]  # noqa: S104  the first bytes of every address

#: Known to all engines of the process.
_ROUTES = Routes()


class Engine:
    """All traces of one event loop, from the first that begins while there are none until the last of them ends."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._running = 0
        self._block = 0
        self._holders: list[socket.socket] = []
        self._channels: dict[int, RawChannel | DatagramChannel] = {}
        self._warm: asyncio.Future[None] | None = None
        self._pacing = Pacing()
        self._counted: dict[int, tuple[float, int]] = {}
        self._slots = Slots()
        self._sequence_high = secrets.randbelow(0x10000)
        self._shapes: dict[tuple[Hashable, ...], Shape] = {}
        #: Those of the flows of a plan, at the size that it asks for.
        self._planned: dict[tuple[TracePlan, RawChannel | DatagramChannel], list[Shape]] = {}
        #: Instants of looks with their numbers, and the course that each number stands for as long as it wants the look:
        #: courses that are over are not held until then.
        self._wakes: list[tuple[float, int]] = []
        self._waking: dict[int, Course] = {}
        self._order = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        #: When that one fires: uvloop gives one that is due at once no `when`.
        self._timer_s = 0.0
        self._flushing = False
        self._ticking = False

    async def trace(self, address: IPAddress, plan: TracePlan) -> TraceRecord:
        """Run one trace to an address. Raises TraceUnavailableError without permission, TraceSendError when nothing can be sent."""
        self._running += 1
        try:
            channel = self._open(address.version, plan)
            if self._warm is not None:
                await asyncio.shield(self._warm)
            overflows = self._overflows(channel)
            course = self._course(address, plan, channel)
            course.start(time.monotonic())
            try:
                await course.done
            finally:
                course.done.cancel()
                self._release(course)
            answered = course.learn()
            bytes_sent = course.bytes_sent
            # Handed on, so that probes and course do not hold each other and need no garbage collector.
            probes, course.probes = course.probes, []
            return TraceRecord(
                probes=probes,
                refused=course.refused,
                bytes_sent=bytes_sent,
                bytes_received=course.bytes_received,
                late=course.late,
                mtus=course.mtus,
                overflows=0 if answered else channel.overflows() - overflows,
            )
        finally:
            self._running -= 1
            if not self._running:
                del _engines[self._loop]
                self._close()

    def _release(self, course: Course) -> None:
        """Have nothing wait for the answers of a run any more."""
        self._waking.pop(course.look, None)
        self._slots.give_back(course.probes)
        self._slots.give_back(course.withdrawn)

    def _overflows(self, channel: RawChannel | DatagramChannel) -> int:
        """Return what the channel has counted, as it was a moment ago at most."""
        now_s = time.monotonic()
        at_s, count = self._counted.get(channel.version, (0.0, 0))
        if now_s - at_s > _COUNT_S:
            count = channel.overflows()
            self._counted[channel.version] = now_s, count
        return count

    def _open(self, version: int, plan: TracePlan) -> RawChannel | DatagramChannel:
        """Return the sockets that a plan needs, opened if they are not."""
        channel = self._channels.get(version)
        if channel is None:
            try:
                if not self._holders:
                    self._block, self._holders = sockets.reserve_block()
                channel = RawChannel(version, self._block, take=self._take, refuse=self._refuse)
            except TraceUnavailableError:
                if plan.protocol != "icmp":
                    raise
                channel = DatagramChannel(version, take=self._take, refuse=self._refuse)
            self._channels[version] = channel
            self._warm_up()
        if plan.protocol == "tcp" and isinstance(channel, RawChannel) and channel.listen_tcp():
            self._warm_up()
        if (plan.protocol != "icmp" or plan.dont_fragment) and isinstance(channel, DatagramChannel):
            raise TraceUnavailableError("this process may not send raw packets", sockets.RAW_RIGHT)
        return channel

    def _warm_up(self) -> None:
        """Have traces wait until new sockets stamp what they receive."""
        if self._warm is None:
            self._warm = self._loop.create_future()
            self._loop.call_later(_STAMP_WARM_UP_S, self._warmed)

    def _warmed(self) -> None:
        if self._warm is not None:
            self._warm.set_result(None)
            self._warm = None

    def _close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        for holder in self._holders:
            holder.close()
        if self._timer is not None:
            self._timer.cancel()

    def _course(self, address: IPAddress, plan: TracePlan, channel: RawChannel | DatagramChannel) -> Course:
        version = channel.version
        destination = address.packed
        source = plan.source
        control = source.control(version)
        try:
            there = (shown_packed(destination), 0) if version == 4 else socket_address(address, 0)
            if version == 6 or plan.protocol != "icmp":
                addresses = sockets.source_towards(version, there, source) + destination
            elif source.address is not None:
                addresses = source.address.packed + destination
            else:
                addresses = bytes(4) + destination
        except OSError as error:
            raise TraceSendError(error.errno, os.strerror(error.errno or 0)) from error
        return Course(
            plan,
            version,
            destination=destination,
            address=there,
            sockaddr=_SOCKADDR_IN + destination + bytes(8) if version == 4 else packed_address(there),
            templates=[Template(each, addresses) for each in self._shapes_of(plan, channel)],
            resize=self._resize,
            control=control,
            route=_ROUTES.towards(destination),
            submit=self._submit,
            wake=self._wake,
            done=self._loop.create_future(),
        )

    def _shapes_of(self, plan: TracePlan, channel: RawChannel | DatagramChannel) -> list[Shape]:
        """Return the packets of a plan's flows; a plan that many traces share is looked at once."""
        key = plan, channel
        found = self._planned.get(key)
        if found is None:
            if len(self._planned) >= _MOST_PLANS:
                self._planned.clear()
            found = self._planned[key] = [
                self._shape(plan, number, channel, plan.size) for number in range(plan.flows)
            ]
        return found

    def _resize(self, course: Course, size: int) -> list[Template]:
        """Return the packets of a course with so many bytes of payload."""
        plan = course.plan
        channel = self._channels[course.version]
        shape = self._shapes_of(plan, channel)[0]
        addresses = course.templates[0].data[shape.addresses_at : shape.addresses_end]
        return [Template(self._shape(plan, number, channel, size), addresses) for number in range(plan.flows)]

    def _shape(self, plan: TracePlan, number: int, channel: RawChannel | DatagramChannel, size: int) -> Shape:
        """Return the packet of a flow, with so many bytes of payload; the same few serve all traces."""
        key = (
            channel, plan.protocol, number, plan.port, size, plan.dscp, plan.ecn, plan.dont_fragment, plan.flow_label,
        )  # fmt: skip
        found = self._shapes.get(key)
        if found is None:
            found = self._shapes[key] = shape(
                Flow(
                    version=channel.version,
                    protocol=plan.protocol,
                    number=number,
                    ident=channel.ident(number),
                    port=plan.port,
                    sequence_high=self._sequence_high,
                    size=size,
                    dscp=plan.dscp,
                    ecn=plan.ecn,
                    dont_fragment=plan.dont_fragment,
                    label=plan.flow_label,
                )
            )
        return found

    def _wake(self, course: Course, at_s: float) -> None:
        """Have a course's `step` called at an instant, and no longer at the one that it wanted before."""
        number = next(self._order)
        waking = self._waking
        waking.pop(course.look, None)
        waking[number] = course
        course.look = number
        heapq.heappush(self._wakes, (at_s, number))
        if self._timer is None:
            self._look_at(at_s)
        elif at_s < self._timer_s - _TICK_S:
            self._timer.cancel()
            self._look_at(at_s)

    def _look_at(self, at_s: float) -> None:
        self._timer_s = at_s
        self._timer = self._loop.call_at(at_s, self._look)

    def _look(self) -> None:
        """Call the courses whose time has come."""
        self._timer = None
        now_s = time.monotonic()
        wakes, waking = self._wakes, self._waking
        while wakes and (wakes[0][0] <= now_s or wakes[0][1] not in waking):
            course = waking.pop(heapq.heappop(wakes)[1], None)
            if course is not None:
                course.step(now_s)
        if wakes and self._timer is None:
            self._look_at(max(wakes[0][0], now_s + _TICK_S))

    def _submit(self, probes: list[Probe]) -> None:
        """Send probes at the pace of their routers."""
        now_s = time.monotonic()
        course = probes[0].course
        version = course.version
        route = course.route
        ready = self._channels[version].ready
        for probe in probes:
            ttl = probe.ttl
            # A destination that answers for itself is no router with a limit for all the world.
            if ttl == route.distance or self._pacing.admit(
                probe, route.routers.get(ttl) or (version, ttl), now_s
            ):
                ready.append(probe)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _tick(self) -> None:
        """Let go what its router's pace allows by now."""
        self._ticking = False
        if not self._running:
            return
        for probe in self._pacing.due(time.monotonic()):
            course = probe.course
            if not course.done.done():
                self._channels[course.version].ready.append(probe)
        self._flush()

    def _flush(self) -> None:
        """Send what is ready."""
        self._flushing = False
        again = False
        for channel in self._channels.values():
            while channel.ready:
                batch = self._admitted(channel.ready[:BATCH])
                del channel.ready[:BATCH]
                left = channel.transmit(batch)
                if left:
                    channel.ready[:0] = left
                    again = True
                    break
        if (again or self._pacing.waiting) and not self._ticking:
            self._ticking = True
            self._loop.call_later(_TICK_S, self._tick)

    def _admitted(self, probes: list[Probe]) -> list[Probe]:
        """Return those whose run is not over, each with a slot that nobody else uses."""
        admitted = []
        for probe in probes:
            if probe.course.done.done():
                self._slots.give_back([probe])
                continue
            # With one already, the kernel had no room the first time.
            if not probe.slot and not self._slots.assign(probe):
                probe.course.not_sent(probe, errno.ENOBUFS, time.monotonic())
                continue
            admitted.append(probe)
        return admitted

    def _refuse(self, probe: Probe, number: int) -> None:
        """Tell a course that the kernel refused a probe."""
        self._slots.give_back([probe])
        course = probe.course
        # What a firewall of this host refuses says nothing about the next probe; no route there says all.
        if number != errno.EPERM and not course.probes:
            if not course.done.done():
                course.done.set_exception(TraceSendError(number, os.strerror(number)))
        else:
            course.not_sent(probe, number, time.monotonic())

    def _take(self, version: int, seen: Iterator[Seen], received: stamps.Instant) -> None:
        """Give what was received to the probes that it is about."""
        unreachable = _UNREACHABLE[version]
        waiting = self._slots.probes
        now_s = received.monotonic_ns / 1e9
        new = tuple.__new__
        for (
            slot, protocol, head, origin, destination, source, kind, code, reply, size, ttl, quoted_ttl, quoted_tos,
            quoted_length, stamped_ns, message,
        ) in seen:  # fmt: skip
            probe = waiting.get(slot)
            if probe is None or probe.answer is not None or probe.sent is None:
                continue
            course = probe.course
            template = course.templates[probe.flow]
            # Anybody may send such a message: it is an answer if all that it quotes is what was sent.
            if (
                destination != course.destination
                or (head ^ template.head) & template.flow_bits
                or protocol != template.protocol
                or (origin is not None and origin != template.origin)
            ):
                continue
            rtt_ns, kernel = stamps.elapsed(probe.sent, probe.transmitted_ns, received, stamped_ns)
            final = reply or (kind == unreachable and source == destination)
            no_way = not final and (kind == unreachable or (kind == _TOO_BIG_6 and version == 6))
            if (
                no_way
                and source == template.origin
                and own_word.is_unsent(version, kind, code, shown_packed(source))
            ):
                self._slots.give_back([probe])
                course.turned_back(probe, errno.EPERM, now_s)
                continue
            answer = new(
                Answer,
                (
                    shown_packed(source), final, kind, code, rtt_ns, kernel, size, ttl, quoted_ttl, quoted_tos,
                    quoted_length, message, no_way,
                ),
            )  # fmt: skip
            course.answered(probe, answer, now_s=now_s)


_engines: dict[asyncio.AbstractEventLoop, Engine] = {}


async def trace(address: IPAddress, plan: TracePlan) -> TraceRecord:
    """Run one trace to an address on the engine of the running event loop."""
    loop = asyncio.get_running_loop()
    engine = _engines.get(loop)
    if engine is None:
        engine = _engines[loop] = Engine(loop)
    return await engine.trace(address, plan)


def check(version: int) -> None:
    """Raise TraceUnavailableError unless this process may send raw packets of an IP version."""
    sockets.open_sender(version).close()


def check_icmp(version: int) -> None:
    """Raise TraceUnavailableError unless this process may send ICMP of an IP version at least."""
    open_socket(version).close()
