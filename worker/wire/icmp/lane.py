"""A lane: one socket with its identifier and its space of sequence numbers, for requests of any number of runs.

A sequence number that has been sent is held until the time-out of its request and a grace for late replies have
passed; only then it may be used again. A lane whose numbers are nearly all held is full, and the engine opens another
with another identifier.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from worker.wire import batches, icmp_messages, options, stamps
from worker.wire.echo import EchoSendError
from worker.wire.icmp import sockets
from worker.wire.icmp.run import COOKIE_BYTES, Run, native
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


#: Requests of a block that lie in a table, by their sequence numbers.
_Part: TypeAlias = "tuple[Block, range]"
_SPACE = 0x10000


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
        #: By sequence number: the run that holds it, and the index of its request.
        self._runs: list[Run | None] = [None] * _SPACE
        self._indexes = array("I", bytes(4 * _SPACE))
        self._held = 0
        #: Sequence numbers in the order of their release, for each length of time that they are held.
        self._resting: dict[float, deque[tuple[float, range]]] = {}
        #: Next sequence number to be used, and the next after those in the table.
        self._next = self._offered = secrets.randbelow(_SPACE)
        #: Packets since the stamps' numbers began anew; the sequence number of each by its number.
        self._count = 0
        self._numbered = array("H", bytes(2 * _SPACE))
        self._attempts = 0
        self._replies = tables.replies(sort.version, raw=self.raw, length=0)
        self._queue = tables.queue(sort.version, length=0)
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
        if self._held + self.waiting + count <= _ROOM:
            return True
        self.release(time.monotonic())
        return self._held + self.waiting + count <= _ROOM

    def add(self, block: Block) -> None:
        """Have requests sent at the next flush."""
        run = block.run
        if not self.stamped:
            run.stamps_expected = False
        if self.sock not in run.drops_before:
            run.drops_before[self.sock] = options.dropped(self.sock)
            if run.length > self._replies.payload:
                self._replies = self._tables.replies(self.sort.version, raw=self.raw, length=run.length)
                self._queue = self._tables.queue(self.sort.version, length=run.length)
        self.backlog.append(block)
        self.waiting += block.count

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
        self._runs.clear()
        self._resting.clear()
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
                    return False
                continue
            self._attempts = 0
            self._register(parts, taken, instant)
            if count >= WORTHWHILE:
                # What comes back at once must find room.
                self.drain()

    def release(self, now_s: float) -> None:
        """Let go of sequence numbers whose time is over."""
        for rest_s, waiting in list(self._resting.items()):
            while waiting and waiting[0][0] <= now_s:
                numbers = waiting.popleft()[1]
                self._runs[numbers.start : numbers.stop] = [None] * len(numbers)
                self._held -= len(numbers)
            if not waiting:
                del self._resting[rest_s]

    def _fill(self) -> tuple[SendRows, list[_Part], int]:
        """Fill rows with requests that wait; returns the rows, what lies in them, and how many."""
        rows = self._rows_of(self.backlog[0].run)
        limit = min(rows.table.slots, self._burst)
        parts: list[_Part] = []
        filled = 0
        self._offered = self._next
        for block in self.backlog:
            run = block.run
            if run.over or not block.count:
                continue
            if filled == limit or self._rows_of(run) is not rows:
                break
            first, last = block.first, block.first + min(block.count, limit - filled)
            while first < last:
                numbers = self._free_numbers(last - first)
                rows.fill(filled, run, first, numbers, ident=self._ident, checksum=self.raw)
                parts.append((block, numbers))
                filled += len(numbers)
                first += len(numbers)
        return rows, parts, filled

    def _rows_of(self, run: Run) -> SendRows:
        if run.rows is None:
            run.rows = self._tables.send(self.sort.version, run.length)
        return run.rows

    def _free_numbers(self, most: int) -> range:
        """Return the next free sequence numbers that follow each other; `has_room` has said that there are enough."""
        at = self._offered
        while self._runs[at] is not None:  # held by a request with a longer time-out
            at = (at + 1) % _SPACE
        end = min(at + most, _SPACE)
        stretch = self._runs[at:end]
        if any(stretch):
            end = at + next(n for n, run in enumerate(stretch) if run is not None)
        self._offered = end % _SPACE
        return range(at, end)

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
                self._runs[numbers.start] = run
                self._indexes[numbers.start] = first
                run.sent[first] = instant
                self._numbered[self._count % _SPACE] = numbers.start
                self._count += 1
            else:
                self._runs[numbers.start : numbers.stop] = [run] * count
                self._indexes[numbers.start : numbers.stop] = array("I", range(first, first + count))
                run.sent[first : first + count] = [instant] * count
                self._count_stamps(numbers)
            self._held += count
            rest_s = run.plan.timeout_s + GRACE_S
            self._resting.setdefault(rest_s, deque()).append((now_s + rest_s, numbers))
            run.sent_count += count
            run.unstamped += count
            run.unsent -= count
            block.first += count
            block.count -= count
            self.waiting -= count
            self._next = numbers.stop % _SPACE
            if not run.unsent:
                gone.append(run)
        for run in gone:
            self._gone(run)

    def _count_stamps(self, numbers: range) -> None:
        """Note which numbers the transmit stamps of consecutive packets will have."""
        at = self._count % _SPACE
        fits = min(len(numbers), _SPACE - at)
        self._numbered[at : at + fits] = array("H", numbers[:fits])
        self._numbered[: len(numbers) - fits] = array("H", numbers[fits:])
        self._count += len(numbers)

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
        self.waiting -= 1
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
        rows, runs, ident, reply = self._replies, self._runs, self._ident, self._reply
        for slot, (length, fields) in enumerate(
            zip(rows.table.lengths(count), rows.unpack(count), strict=False)
        ):
            kind, identifier, number, cookie, index, low, stamp_kind, seconds, rest_ns, ttl_kind, ttl = fields
            number = native(number)
            run = runs[number]
            if run is None:
                self.unknown += 1
                continue
            if (
                kind != reply
                or identifier != ident
                or cookie != run.cookie
                or index != self._indexes[number]
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
        numbers = rows.numbers(count)
        run = self._runs[numbers[0]]
        if run is None or run.over or {*map(self._runs.__getitem__, numbers)} != {run}:
            return False
        indexes = rows.indexes[:count].tolist()
        if list(map(self._indexes.__getitem__, numbers)) != indexes or not rows.alike(
            count, self._reply, self._ident, run.cookie, run.length
        ):
            return False
        first, end = indexes[0], indexes[0] + count
        host = first % run.hosts
        if (
            indexes[-1] == end - 1
            and host + count <= run.hosts
            and indexes == list(range(first, end))
            and not any(run.answered[first:end])
        ):
            # In order, from consecutive addresses.
            if rows.lows[:count].tobytes() != run.lows[host : host + count].tobytes():
                return False
            run.answered[first:end] = b"\1" * count
        else:
            if (
                rows.lows[:count].tolist() != [run.lows[index % run.hosts] for index in indexes]
                or len(set(indexes)) != count
                or any(map(run.answered.__getitem__, indexes))
            ):
                return False
            for index in indexes:
                run.answered[index] = 1
        run.indexes += indexes
        run.received += [received] * count
        run.stamped += rows.stamps(count)
        run.ttls += rows.ttls[:count].tolist()
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
        number = self._numbered[key % _SPACE]
        run = self._runs[number]
        if run is None:
            return
        index = self._indexes[number]
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
        at = key % _SPACE
        if at + count > _SPACE:
            return False
        numbers = self._numbered[at : at + count]
        run = self._runs[numbers[0]]
        if run is None or {*map(self._runs.__getitem__, numbers)} != {run}:
            return False
        first = self._indexes[numbers[0]]
        sent = run.sent[first + count - 1] if first + count <= run.total else None
        if (
            list(map(self._indexes.__getitem__, numbers)) != list(range(first, first + count))
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
        number = int.from_bytes(quoted[6:8], "big")
        run = self._runs[number]
        if run is None:
            return None
        index = self._indexes[number]
        cookie = quoted[header : header + COOKIE_BYTES]
        if cookie != run.cookie[: len(cookie)] or not run.went_to(index, address):
            return None
        return run, index
