"""Raw sockets of one IP version: whole packets out in batches, answers in by batches, with the kernel's stamps. Linux."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Callable, Iterator

from worker.wire import options, readiness, stamps
from worker.wire.batches import MSG_ERRQUEUE, Table
from worker.wire.trace import decoding, sockets
from worker.wire.trace.decoding import Seen
from worker.wire.trace.plan import Probe
from worker.wire.turns import Turn

#: Longest probe: 40 bytes of IPv6, 8 of UDP and 1,472 of payload.
_LONGEST_PROBE = 1_520
#: IPV6_PKTINFO: 16 bytes of header, 20 of data, aligned.
_LONGEST_CONTROL = 40
#: Probes that go out with one call.
BATCH = 64
#: The kernel has no room for the moment.
BUSY = {errno.ENOBUFS, errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOMEM}

#: Takes the IP version, what was seen, and when it was read.
Take = Callable[[int, Iterator[Seen], stamps.Instant], None]
#: Takes a probe that the kernel refused, and the errno.
Refuse = Callable[[Probe, int], None]


class RawChannel:
    """Sockets for probes with identifiers and source ports of a block of 16."""

    def __init__(self, version: int, block: int, *, take: Take, refuse: Refuse) -> None:
        self.version = version
        self._block = block
        self._take = take
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        #: What is about to be sent.
        self.ready: list[Probe] = []
        self._sender = sockets.open_sender(version)
        self._receivers: list[socket.socket] = []
        self._tcp = False
        self._outgoing = Table(BATCH, payload=_LONGEST_PROBE, control=_LONGEST_CONTROL)
        self._incoming = decoding.table()
        self._address_bytes = 16 if version == 4 else 28
        #: Lengths of payload and control data that each row of the outgoing table is described with.
        self._lengths = [(0, 0)] * BATCH
        #: Probes by the number of their transmit stamp, modulo 65,536, until it is read.
        self._numbered: dict[int, Probe] = {}
        self._next_number = 0
        self._unstamped = 0
        self._stamped = stamps.enable(self._sender)
        try:
            self._listen(
                sockets.open_icmp(version, block), decoding.icmp4 if version == 4 else decoding.icmp6
            )
        except OSError:
            self.close()
            raise

    def ident(self, flow: int) -> int:
        """Return the ICMP identifier or source port of a flow."""
        return self._block + flow

    def listen_tcp(self) -> bool:
        """Take TCP segments too; False when they are taken already."""
        if self._tcp:
            return False
        self._listen(
            sockets.open_tcp(self.version, self._block), decoding.tcp4 if self.version == 4 else decoding.tcp6
        )
        self._tcp = True
        return True

    def overflows(self) -> int:
        """Return how many packets came for which the receive buffers had no room."""
        return sum(map(options.dropped, self._receivers))

    def close(self) -> None:
        """Close the sockets."""
        for sock in self._receivers:
            readiness.remove_reader(self._loop, sock)
            sock.close()
        self._receivers.clear()
        self._sender.close()

    def transmit(self, batch: list[Probe]) -> list[Probe]:
        """Send up to 64 probes; returns those that the kernel has no room for now."""
        table = self._outgoing
        rows = table.rows
        stride = table.stride
        address_at, address_bytes = table.address_at, self._address_bytes
        lengths = self._lengths
        course, flow = None, -1
        at = 0
        for number, probe in enumerate(batch):
            # Probes of a trace follow each other.
            if probe.course is not course or probe.flow != flow:
                course, flow = probe.course, probe.flow
                template, sockaddr, control = course.templates[flow], course.sockaddr, course.packed_control
                described = template.length, len(control)
            template.write(rows, at, probe.ttl, probe.slot)
            there = at + address_at
            rows[there : there + address_bytes] = sockaddr
            if control:
                there = at + table.control_at
                rows[there : there + len(control)] = control
            if lengths[number] != described:
                table.describe(number, payload=template.length, address=address_bytes, control=len(control))
                lengths[number] = described
            at += stride
        first, count = 0, len(batch)
        while first < count:
            sent = stamps.now()
            try:
                taken = table.send(self._sender, first, count - first)
            except OSError as error:
                number = error.errno or 0
                if number in BUSY:
                    return batch[first:]
                self._restart_numbers()
                self._refuse(batch[first], number)
                first += 1
                continue
            number = self._next_number
            numbered = self._numbered
            for probe in batch[first : first + taken]:
                probe.sent = sent
                probe.course.sent(probe)
                numbered[number & 0xFFFF] = probe
                number += 1
            self._next_number = number
            self._unstamped += taken
            first += taken
            self._read_stamps()
        return []

    def _restart_numbers(self) -> None:
        """Begin a new count: whether the kernel counted a refused packet depends on its version."""
        self._read_stamps()
        self._unstamped = 0
        self._next_number = 0
        self._stamped = stamps.enable(self._sender)

    def _read_stamps(self) -> None:
        """Read the transmit stamps that are there, before the queue overflows."""
        table = self._incoming
        numbered = self._numbered
        while self._stamped and self._unstamped > 0:
            try:
                count = table.receive(self._sender, MSG_ERRQUEUE)
            except OSError:  # nothing there
                return
            for number, wall_ns in decoding.transmit_stamps(table, count):
                probe = numbered.get(number & 0xFFFF)
                # A stamp from before the probe is one of an earlier count.
                if probe is not None and probe.sent is not None and wall_ns >= probe.sent.wall_ns:
                    probe.transmitted_ns = wall_ns
                    del numbered[number & 0xFFFF]
            self._unstamped -= count

    def _listen(self, sock: socket.socket, decode: Callable[[Table, int], Iterator[Seen]]) -> None:
        self._receivers.append(sock)
        readiness.add_reader(self._loop, sock, functools.partial(self._receive, sock, decode))

    def _receive(self, sock: socket.socket, decode: Callable[[Table, int], Iterator[Seen]]) -> None:
        table = self._incoming
        turn = Turn()
        while sock.fileno() >= 0 and turn.goes_on():
            if self._unstamped > 0:
                self._read_stamps()
            try:
                count = table.receive(sock)
            except BlockingIOError:
                return
            except OSError:  # the pending error of an earlier packet
                continue
            self._take(self.version, decode(table, count), stamps.now())
            if count < table.slots:
                return
