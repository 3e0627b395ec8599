"""A lane: one socket with its identifier and its space of sequence numbers, for requests of any number of runs.

A sequence number that has been sent is held until the time-out of its request and a grace for late replies have
passed. A lane whose numbers are nearly all held is full, and the engine opens another with another identifier. Here is
how it sends; what comes back is for `answers`.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from worker.wire import options, stamps
from worker.wire.echo import EchoSendError
from worker.wire.icmp import sockets
from worker.wire.icmp.answers import Answers
from worker.wire.icmp.numbers import Numbers
from worker.wire.icmp.run import Run, native
from worker.wire.icmp.sockets import Sort
from worker.wire.icmp.tables import WORTHWHILE, SendRows, Tables

log = logging.getLogger(__name__)

#: Sequence numbers that may be held at a time; the rest is room for those that were left over.
_ROOM = 60_000
#: After its time-out a reply is still known as late for so long.
GRACE_S = 2.0
#: How long a request may wait for room in this host's queues before it counts as refused.
_PATIENCE_S = 1.0
#: What the kernel says when there is no room at the moment.
_FULL = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ENOMEM}
#: Errors of sending that say nothing about the destination, so that a run goes on after them.
_BUSY = _FULL | {errno.EPERM}
#: An ICMP error for an earlier request is handed to the next call on the socket. So often sending is tried at once; then,
#: while there still are errors, as where there is no room.
_ATTEMPTS = 16


class Block:
    """Consecutive requests of one run that wait to be sent."""

    __slots__ = ("count", "first", "run", "since_s")

    def __init__(self, run: Run, first: int, count: int, since_s: float) -> None:
        self.run = run
        self.first = first
        self.count = count
        #: When they were due, by time.monotonic.
        self.since_s = since_s


#: Requests of a block that lie in a table, by their sequence numbers.
_Part: TypeAlias = "tuple[Block, range]"


class Lane:
    """See the module.

    `gone` is called with a run when the last of its requests has left or was refused, `completed` when all are
    answered, and again when all have their transmit stamps after that.
    """

    def __init__(
        self, sort: Sort, tables: Tables, *, gone: Callable[[Run], None], completed: Callable[[Run], None]
    ) -> None:
        """Open the socket; raises EchoUnavailableError, or OSError when this host cannot."""
        self.sock, self.ident = sockets.open_prepared(sort)
        self.sort = sort
        self.raw = self.sock.type == socket.SOCK_RAW
        self.stamped = stamps.enable(self.sock)
        self.backlog: deque[Block] = deque()
        #: Requests in it.
        self.waiting = 0
        #: When it last sent, by time.monotonic.
        self.used_s = time.monotonic()
        self._tables = tables
        self._gone = gone
        self._completed = completed
        self._numbers = Numbers()
        try:
            self.answers = Answers(
                self.sock, self.ident, sort, numbers=self._numbers, tables=tables, completed=completed
            )
        except BaseException:
            self.sock.close()
            raise
        self._attempts = 0
        self._ident = native(self.ident)
        room = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        #: Requests that may be sent before reading: each brings a stamp and a reply into one buffer.
        self._burst = max(16, min(256, room // 2048))

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent, and no sequence number is held."""
        return not self.backlog and not self._numbers.held

    @property
    def strays(self) -> int:
        """How many messages came that are about nothing it sent, or not as it was sent."""
        return self.answers.unknown + self.answers.foreign

    @property
    def readers(self) -> list[tuple[socket.socket, Callable[[], object]]]:
        """The sockets to be watched, each with what reads it."""
        errors = self.answers.errors
        beside = [] if errors is None else [(errors, self.answers.read_errors)]
        return [(self.sock, self.answers.drain), *beside]

    def read(self) -> None:
        """Read all that has come."""
        self.answers.drain()
        self.answers.read_errors()

    def has_room(self, count: int) -> bool:
        """Say whether it takes so many requests at present."""
        if self._numbers.held + self.waiting + count <= _ROOM:
            return True
        self.release(time.monotonic())
        return self._numbers.held + self.waiting + count <= _ROOM

    def add(self, block: Block) -> None:
        """Have requests sent at the next flush."""
        run = block.run
        if not self.stamped:
            run.stamps_expected = False
        if self.sock not in run.drops_before:
            run.drops_before[self.sock] = options.dropped(self.sock)
            self.answers.expect(run.length)
        self.backlog.append(block)
        self.waiting += block.count

    def close(self) -> None:
        """Close the socket; what still comes is lost."""
        answers = self.answers
        if answers.late or self.strays:
            log.info(
                "ICMP identifier %d: %d messages came after their run, %d to nothing that was sent lately, %d were not "
                "about what was sent",
                self.ident,
                answers.late,
                answers.unknown,
                answers.foreign,
            )
        self.sock.close()
        answers.close()
        self._numbers.clear()
        self.backlog.clear()

    # Sending

    def flush(self) -> bool:
        """Send what waits; False when this host has no room for the rest at the moment."""
        self.used_s = time.monotonic()
        self.release(self.used_s)
        while True:
            while self.backlog and (self.backlog[0].run.over or not self.backlog[0].count):
                self.waiting -= self.backlog.popleft().count
            if not self.backlog:
                return True
            rows, parts, count = self._fill()
            instant = stamps.now()
            try:
                taken = rows.table.send(self.sock, 0, count)
            except OSError as error:
                if not self._send_failed(error.errno or 0):
                    self._attempts = 0
                    return False
                continue
            self._attempts = 0
            self._register(parts, taken, instant)
            if count >= WORTHWHILE:
                # What comes back at once must find room.
                self.answers.drain()

    def release(self, now_s: float) -> None:
        """Let go of sequence numbers whose time is over."""
        self._numbers.release(now_s)

    def _fill(self) -> tuple[SendRows, list[_Part], int]:
        """Fill rows with requests that wait; returns the rows, what lies in them, and how many."""
        rows = self._rows_of(self.backlog[0].run)
        limit = min(rows.table.slots, self._burst)
        parts: list[_Part] = []
        filled = 0
        self._numbers.offer_anew()
        for block in self.backlog:
            run = block.run
            if run.over or not block.count:
                continue
            if filled == limit or self._rows_of(run) is not rows:
                break
            first, last = block.first, block.first + min(block.count, limit - filled)
            while first < last:
                numbers = self._numbers.offer(last - first)
                rows.fill(filled, run, first, numbers, ident=self._ident, checksum=self.raw)
                parts.append((block, numbers))
                filled += len(numbers)
                first += len(numbers)
        return rows, parts, filled

    def _rows_of(self, run: Run) -> SendRows:
        if run.rows is None:
            run.rows = self._tables.send(self.sort.version, run.length)
        return run.rows

    def _register(self, parts: list[_Part], taken: int, instant: stamps.Instant) -> None:
        """Note that the first `taken` of the requests in the table have left."""
        now_s = instant.monotonic_ns / 1e9
        gone: list[Run] = []
        for block, filled in parts:
            count = min(len(filled), taken)
            if not count:
                break
            taken -= count
            run, first = block.run, block.first
            numbers = filled[:count]
            if count == 1:
                run.sent[first] = instant
            else:
                run.sent[first : first + count] = [instant] * count
            rest_s = run.plan.timeout_s + GRACE_S
            self._numbers.hold(numbers, run, first, now_s=now_s, rest_s=rest_s)
            run.sent_count += count
            run.unstamped += count
            run.unsent -= count
            block.first += count
            block.count -= count
            self.waiting -= count
            if not run.unsent:
                gone.append(run)
        for run in gone:
            self._gone(run)

    def _send_failed(self, number: int) -> bool:
        """Deal with the first request that waits and was not taken; True when sending should go on."""
        block = self.backlog[0]
        run = block.run
        self._attempts += 1
        # The pending error of a socket is cleared by being told: whoever forges errors must not win the race for the next
        # call, so that what tells of them is read first and then only when many calls have failed.
        again = 1 < self._attempts < _ATTEMPTS
        errors = 0 if again else self.answers.read_errors()
        # Whether the kernel counted the refused packet depends on its version: begin a new count.
        self._numbers.begin_count()
        self.stamped = stamps.enable(self.sock)
        if number in _FULL or (errors and self._attempts >= _ATTEMPTS):
            if time.monotonic() - block.since_s < _PATIENCE_S:
                return False
        elif number != errno.EPERM and (self._attempts == 1 or (again and not self.raw)):
            # It may have been the short form of an ICMP error for another request: try again.
            return True
        self._attempts = 0
        if run.over:
            return True
        if not run.sent_count and not run.refused and run.hosts == 1 and number not in _BUSY:
            run.finish(EchoSendError(number, os.strerror(number)))
            return True
        run.refuse(block.first, number)
        block.first += 1
        block.count -= 1
        self.waiting -= 1
        if not run.unsent:
            self._gone(run)
        if not run.open:
            self._completed(run)
        return True
