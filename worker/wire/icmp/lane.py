"""A lane: one socket with its identifier and its space of sequence numbers, for requests of any number of runs.

A sequence number that has been sent is held until the time-out of its request and a grace for late replies have
passed; only then it may be used again. A lane whose numbers are nearly all held is full, and the engine opens another
with another identifier.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeAlias

from worker.wire import batches, icmp_messages, stamps
from worker.wire.echo import EchoSendError
from worker.wire.icmp import sockets
from worker.wire.icmp.run import COOKIE_BYTES, Run, native
from worker.wire.icmp.sockets import Sort
from worker.wire.icmp.tables import WORTHWHILE, QueueRows, SendRows, Tables

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
#: An ICMP error for an earlier request is handed to the next call on the socket; so often sending is tried anew.
_ATTEMPTS = 16
#: Calls of recvmmsg before the event loop gets its turn.
_ROUNDS = 16


class Block:
    """Consecutive requests of one run that wait to be sent."""

    __slots__ = ("count", "first", "run", "since_s")

    def __init__(self, run: Run, first: int, count: int, since_s: float) -> None:
        self.run = run
        self.first = first
        self.count = count
        #: When they were due, by time.monotonic.
        self.since_s = since_s


#: Sequence numbers as this host's byte order reads them, twice over, so that any row of them is a slice.
_NUMBERS = array("H", map(native, range(0x10000))) * 2
#: Requests of a block that lie in a table: how many, and their sequence numbers.
_Part: TypeAlias = "tuple[Block, int, Sequence[int]]"


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
        self._waiting = 0  # requests in it
        #: Replies that came after their run was over.
        self.late = 0
        #: Messages with sequence numbers that were not sent lately.
        self.unknown = 0
        #: Messages that are not what was sent with their sequence number.
        self.foreign = 0
        #: When it last sent, by time.monotonic.
        self.used_s = time.monotonic()
        self._tables = tables
        self._gone = gone
        self._completed = completed
        #: Run and index that a sequence number (as this host's byte order reads it) was used for.
        self._held: dict[int, tuple[Run, int]] = {}
        #: Sequence numbers in the order of their release, for each length of time that they are held.
        self._resting: dict[float, deque[tuple[float, Sequence[int]]]] = {}
        #: Next sequence number to be used, and the next after those in the table.
        self._next = self._offered = secrets.randbelow(0x10000)
        #: Packets since the stamps' numbers began anew; the sequence number of each by its number.
        self._count = 0
        self._numbered = array("H", bytes(2 * 0x10000))
        self._attempts = 0
        self._replies = tables.replies(sort.version, raw=self.raw, length=0)
        self._queue: QueueRows = tables.queue(sort.version)
        self._ident = native(self.ident)
        self._reply = int.from_bytes(bytes([icmp_messages.REPLY_TYPE[sort.version], 0]), sys.byteorder)
        self._request = bytes([icmp_messages.REQUEST_TYPE[sort.version], 0])
        room = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        #: Requests that may be sent before reading: each brings a stamp and a reply into one buffer.
        self._burst = max(16, min(256, room // 2048))

    @property
    def idle(self) -> bool:
        """Nothing waits to be sent, and no sequence number is held."""
        return not self.backlog and not self._held

    def has_room(self, count: int) -> bool:
        """Say whether it takes so many requests at present."""
        if len(self._held) + self._waiting + count <= _ROOM:
            return True
        self.release(time.monotonic())
        return len(self._held) + self._waiting + count <= _ROOM

    def add(self, block: Block) -> None:
        """Have requests sent at the next flush."""
        run = block.run
        if not self.stamped:
            run.stamps_expected = False
        if self.sock not in run.drops_before:
            run.drops_before[self.sock] = sockets.dropped(self.sock)
            if run.length > self._replies.payload:
                self._replies = self._tables.replies(self.sort.version, raw=self.raw, length=run.length)
        self.backlog.append(block)
        self._waiting += block.count

    def close(self) -> None:
        """Close the socket; what still comes is lost."""
        if self.late or self.unknown or self.foreign:
            log.info(
                "ICMP identifier %d: %d replies came after their run, %d to nothing that was sent lately, %d were not "
                "what was sent",
                self.ident,
                self.late,
                self.unknown,
                self.foreign,
            )
        self.sock.close()
        self._held.clear()
        self._resting.clear()
        self.backlog.clear()

    # Sending

    def flush(self) -> bool:
        """Send what waits; False when this host has no room for the rest at the moment."""
        self.used_s = time.monotonic()
        self.release(self.used_s)
        while True:
            while self.backlog and (self.backlog[0].run.over or not self.backlog[0].count):
                self._waiting -= self.backlog.popleft().count
            if not self.backlog:
                return True
            rows, parts, count = self._fill()
            instant = stamps.now()
            try:
                taken = rows.table.send(self.sock, 0, count)
            except OSError as error:
                if not self._send_failed(error.errno or 0):
                    return False
                continue
            self._attempts = 0
            self._register(parts, taken, instant)
            if count >= WORTHWHILE:
                # What comes back at once must find room.
                self.drain()

    def release(self, now_s: float) -> None:
        """Let go of sequence numbers whose time is over."""
        held = self._held
        for rest_s, waiting in list(self._resting.items()):
            while waiting and waiting[0][0] <= now_s:
                for number in waiting.popleft()[1]:
                    del held[number]
            if not waiting:
                del self._resting[rest_s]

    def _fill(self) -> tuple[SendRows, list[_Part], int]:
        """Fill rows with requests that wait; returns the rows, what lies in them, and how many."""
        version = self.sort.version
        rows = self._tables.send(version, self.backlog[0].run.length)
        limit = min(rows.table.slots, self._burst)
        parts: list[_Part] = []
        filled = 0
        self._offered = self._next
        for block in self.backlog:
            run = block.run
            if run.over or not block.count:
                continue
            if filled == limit or self._tables.send(version, run.length) is not rows:
                break
            count = min(block.count, limit - filled)
            numbers = self._free_numbers(count)
            rows.fill(filled, run, block.first, numbers, ident=self._ident, checksum=self.raw)
            parts.append((block, count, numbers))
            filled += count
        return rows, parts, filled

    def _free_numbers(self, count: int) -> Sequence[int]:
        """Return the next sequence numbers that are not held; `room` has said that there are enough."""
        numbers: Sequence[int] = _NUMBERS[self._offered : self._offered + count]
        self._offered = (self._offered + count) & 0xFFFF
        if self._held.keys().isdisjoint(numbers):
            return numbers
        # Requests with longer time-outs still hold some of them.
        found = [number for number in numbers if number not in self._held]
        while len(found) < count:
            number = _NUMBERS[self._offered]
            self._offered = (self._offered + 1) & 0xFFFF
            if number not in self._held:
                found.append(number)
        return found

    def _register(self, parts: list[_Part], taken: int, instant: stamps.Instant) -> None:
        """Note that the first `taken` of the requests in the table have left."""
        now_s = instant.monotonic_ns / 1e9
        used: list[int] = []
        gone: list[Run] = []
        for block, filled, chosen in parts:
            count = min(filled, taken - len(used))
            if count <= 0:
                break
            run, first = block.run, block.first
            numbers = chosen if count == filled else chosen[:count]
            used += numbers
            if count == 1:
                self._held[numbers[0]] = (run, first)
                run.sent[first] = instant
            else:
                self._held.update(
                    zip(numbers, zip(itertools.repeat(run), range(first, first + count)), strict=False)
                )
                run.sent[first : first + count] = [instant] * count
            rest_s = run.plan.timeout_s + GRACE_S
            self._resting.setdefault(rest_s, deque()).append((now_s + rest_s, numbers))
            run.sent_count += count
            run.unstamped += count
            run.unsent -= count
            block.first += count
            block.count -= count
            self._waiting -= count
            if not run.unsent:
                gone.append(run)
        at = self._count & 0xFFFF
        fits = min(len(used), 0x10000 - at)
        self._numbered[at : at + fits] = array("H", used[:fits])
        if fits < len(used):
            self._numbered[: len(used) - fits] = array("H", used[fits:])
        self._count += len(used)
        self._next = (native(used[-1]) + 1) & 0xFFFF
        for run in gone:
            self._gone(run)

    def _send_failed(self, number: int) -> bool:
        """Deal with the first request that waits and was not taken; True when sending should go on."""
        block = self.backlog[0]
        run = block.run
        self._attempts += 1
        errors = self.read_errors()
        # Whether the kernel counted the refused packet depends on its version: begin a new count.
        self._count = 0
        self.stamped = stamps.enable(self.sock)
        if number in _FULL:
            if time.monotonic() - block.since_s < _PATIENCE_S:
                return False
        elif number != errno.EPERM and (errors or self._attempts == 1) and self._attempts < _ATTEMPTS:
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
        self._waiting -= 1
        if not run.unsent:
            self._gone(run)
        if not run.open:
            self._completed(run)
        return True

    # Receiving

    def drain(self) -> None:
        """Read what is there: replies, transmit stamps, ICMP errors."""
        complete: list[Run] = []
        for _ in range(_ROUNDS):
            try:
                count = self._replies.table.receive(self.sock)
            except BlockingIOError:
                break
            except OSError:
                # The pending error of an ICMP message; the error queue has it in full.
                if not self._read_errors(complete):
                    break
                continue
            received = stamps.now()
            if count < WORTHWHILE or not self._take_alike(count, received, complete):
                self._take(count, received, complete)
            if count < self._replies.table.slots:
                break
        self._read_errors(complete)
        self._tell(complete)

    def read_errors(self) -> int:
        """Empty the error queue; returns how many ICMP errors were in it."""
        complete: list[Run] = []
        errors = self._read_errors(complete)
        self._tell(complete)
        return errors

    def _tell(self, complete: list[Run]) -> None:
        for run in complete:
            if not run.over:
                self._completed(run)

    def _take(self, count: int, received: stamps.Instant, complete: list[Run]) -> None:
        """Sort received messages to the requests that they answer."""
        rows, held, ident, reply = self._replies, self._held, self._ident, self._reply
        for slot, (length, fields) in enumerate(
            zip(rows.table.lengths(count), rows.unpack(count), strict=False)
        ):
            kind, identifier, number, cookie, index, low, stamp_kind, seconds, rest_ns, ttl_kind, ttl = fields
            request = held.get(number)
            if request is None:
                self.unknown += 1
                continue
            run, expected = request
            if (
                kind != reply
                or identifier != ident
                or cookie != run.cookie
                or index != expected
                or length != run.length + rows.header
                or low != run.lows[index % run.hosts]
            ):
                self.foreign += 1
                continue
            if run.over:
                self.late += 1
                continue
            if stamp_kind == rows.stamp_kind and ttl_kind == rows.ttl_kind:
                stamp = seconds * 1_000_000_000 + rest_ns
            else:
                stamp, ttl = rows.control(slot)
            run.indexes.append(index)
            run.received.append(received)
            run.stamped.append(stamp)
            run.ttls.append(ttl)
            if not run.answered[index]:
                run.answered[index] = 1
                run.open -= 1
                if not run.open:
                    complete.append(run)

    def _take_alike(self, count: int, received: stamps.Instant, complete: list[Run]) -> bool:
        """Take many first replies to one run field by field, as `_take` would; False when one of them is not."""
        rows = self._replies
        requests = list(map(self._held.get, rows.numbers[:count].tolist()))
        first = requests[0]
        if first is None or first[0].over:
            return False
        run = first[0]
        indexes = rows.indexes[:count].tolist()
        if (
            requests != list(zip(itertools.repeat(run), indexes))
            or not rows.alike(count, self._reply, self._ident, run.cookie, run.length)
            or rows.lows[:count].tolist() != [run.lows[index % run.hosts] for index in indexes]
            or len(set(indexes)) != count
            or any(map(run.answered.__getitem__, indexes))
        ):
            return False
        run.indexes += indexes
        run.received += [received] * count
        run.stamped += rows.stamps(count)
        run.ttls += rows.ttls[:count].tolist()
        for index in indexes:
            run.answered[index] = 1
        run.open -= count
        if not run.open:
            complete.append(run)
        return True

    def _read_errors(self, complete: list[Run]) -> int:
        """Read transmit stamps and ICMP errors."""
        rows = self._queue
        errors = 0
        while True:
            try:
                count = rows.table.receive(self.sock, batches.MSG_ERRQUEUE)
            except OSError:
                return errors  # there is nothing more
            if count >= WORTHWHILE and self._stamp_alike(count, complete):
                continue
            for slot, fields in enumerate(rows.unpack(count)):
                stamp_kind, seconds, nanoseconds, error_kind, origin, key = fields
                if (
                    stamp_kind == rows.stamp_kind
                    and error_kind == rows.error_kind
                    and origin == stamps.ORIGIN_TIMESTAMPING
                ):
                    self._stamp(key, seconds * 1_000_000_000 + nanoseconds, complete)
                else:
                    errors += self._take_queued(slot, complete)

    def _stamp(self, key: int, stamp_ns: int, complete: list[Run]) -> None:
        """Give a transmit stamp to the request that its number stands for."""
        request = self._held.get(self._numbered[key & 0xFFFF])
        if request is None:
            return
        run, index = request
        sent = run.sent[index]
        # A stamp from before the request is one of an earlier count.
        if run.transmitted[index] or sent is None or stamp_ns < sent.wall_ns:
            return
        run.transmitted[index] = stamp_ns
        run.unstamped -= 1
        if run.stamps_only and not run.unstamped:
            complete.append(run)

    def _stamp_alike(self, count: int, complete: list[Run]) -> bool:
        """Give many stamps to consecutive requests of one run, as `_stamp` would; False when one of them is not."""
        found = self._queue.consecutive_stamps(count)
        if found is None:
            return False
        key, stamped = found
        at = key & 0xFFFF
        if at + count > 0x10000:
            return False
        requests = list(map(self._held.get, self._numbered[at : at + count]))
        if requests[0] is None or requests[-1] is None:
            return False
        (run, first), (last_run, last) = requests[0], requests[-1]
        sent = run.sent[last]
        indexes = range(first, first + count)
        if (
            run is not last_run
            or last != first + count - 1
            or requests != list(zip(itertools.repeat(run), indexes))
            or any(run.transmitted[first : first + count])
            or sent is None
            or min(stamped) < sent.wall_ns
        ):
            return False
        run.transmitted[first : first + count] = stamped
        run.unstamped -= count
        if run.stamps_only and not run.unstamped:
            complete.append(run)
        return True

    def _take_queued(self, slot: int, complete: list[Run]) -> int:
        """Take an entry of the error queue that is no usual stamp; returns 1 for an ICMP error, 0 otherwise."""
        table = self._queue.table
        entry = stamps.parse_queued(table.payload(slot), table.control(slot))
        if isinstance(entry, stamps.TransmitStamp):
            self._stamp(entry.key, entry.wall_ns, complete)
        if not isinstance(entry, stamps.QueuedError) or entry.origin not in (2, 3):
            return 0
        request = self._quoted(entry.quoted, table.address(slot))
        if request is not None and not request[0].over:
            run, index = request
            run.take_error(index, entry)
            if not run.open:
                complete.append(run)
        return 1

    def _quoted(self, quoted: bytes, address: bytes) -> tuple[Run, int] | None:
        """Return the request that an ICMP error quotes, or None when it is none of ours.

        Routers need not quote more than the header (RFC 792), so the cookie is compared as far as it is there.
        """
        header = icmp_messages.HEADER_BYTES
        if len(quoted) < header or quoted[:2] != self._request:
            return None
        if int.from_bytes(quoted[4:6], "big") != self.ident:
            return None
        request = self._held.get(int.from_bytes(quoted[6:8], sys.byteorder))
        if request is None:
            return None
        run, index = request
        cookie = quoted[header : header + COOKIE_BYTES]
        if cookie != run.cookie[: len(cookie)] or not run.went_to(index, address):
            return None
        return request
