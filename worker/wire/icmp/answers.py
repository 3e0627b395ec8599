"""What comes back on a lane: replies, transmit stamps and ICMP errors, each sorted to the request that it is about."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from worker.wire import batches, icmp_messages, stamps
from worker.wire.icmp import errors
from worker.wire.icmp.errors import Error
from worker.wire.icmp.numbers import Numbers
from worker.wire.icmp.run import COOKIE_BYTES, REPLIED, Run, native
from worker.wire.icmp.sockets import Sort
from worker.wire.icmp.tables import WORTHWHILE, Tables
from worker.wire.turns import Turn

#: Tables that are read in a turn.
_ROUNDS = 16


class Answers:
    """Reads a lane's socket, its error queue, and the socket beside it that ICMP errors come to where it is a raw one.

    `completed` is called with a run when all its requests are answered, and again when all have their transmit stamps
    after that.
    """

    def __init__(
        self,
        sock: socket.socket,
        ident: int,
        sort: Sort,
        *,
        numbers: Numbers,
        tables: Tables,
        completed: Callable[[Run], None],
    ) -> None:
        """Open what else is needed; raises OSError when this host cannot."""
        self._sock = sock
        self._raw = sock.type == socket.SOCK_RAW
        #: Where ICMP errors come to; None where the error queue has them.
        self.errors = errors.open_for(sort.version, ident) if self._raw else None
        #: Replies and errors that came after their run was over.
        self.late = 0
        #: Replies with sequence numbers that were not sent lately.
        self.unknown = 0
        #: Messages that are not what was sent with their sequence number, or do not quote that.
        self.foreign = 0
        self._numbers = numbers
        self._tables = tables
        self._completed = completed
        self._version = sort.version
        self._replies = tables.replies(sort.version, raw=self._raw, length=0)
        self._queue = tables.queue(sort.version, length=0)
        #: The identifier as this host's byte order reads it, and as errors quote it.
        self._ident = native(ident)
        self._quoted = ident.to_bytes(2, "big")
        self._reply = int.from_bytes(bytes([icmp_messages.REPLY_TYPE[sort.version], 0]), sys.byteorder)
        self._request = bytes([icmp_messages.REQUEST_TYPE[sort.version], 0])

    def expect(self, length: int) -> None:
        """Take messages of up to a length."""
        if length > self._replies.payload:
            self._replies = self._tables.replies(self._version, raw=self._raw, length=length)
            self._queue = self._tables.queue(self._version, length=length)

    def drain(self) -> None:
        """Read replies, transmit stamps and what else is in the error queue, for a turn."""
        complete: list[Run] = []
        turn = Turn(_ROUNDS)
        while turn.goes_on():
            try:
                count = self._replies.table.receive(self._sock)
            except BlockingIOError:
                break
            except OSError:
                # The pending error of an ICMP message; the error queue has it in full.
                self._read_queue(complete, Turn(1))
                continue
            received = stamps.now()
            if count < WORTHWHILE or not self._take_alike(count, received, complete):
                self._take(count, received, complete)
            if count < self._replies.table.slots:
                break
        self._read_queue(complete, Turn(_ROUNDS))
        self._tell(complete)

    def read_errors(self) -> int:
        """Read ICMP errors, and transmit stamps, for a turn; returns how many errors there were."""
        complete: list[Run] = []
        count = self._read_queue(complete, Turn(_ROUNDS))
        if self.errors is not None:
            for error in errors.read(self.errors, self._version):
                count += 1
                self._take_error(error, complete)
        self._tell(complete)
        return count

    def close(self) -> None:
        """Close the socket of errors."""
        if self.errors is not None:
            self.errors.close()

    def _tell(self, complete: list[Run]) -> None:
        for run in complete:
            if not run.over:
                self._completed(run)

    def _take(self, count: int, received: stamps.Instant, complete: list[Run]) -> None:
        """Sort received messages to the requests that they answer."""
        rows, runs, ident, reply = self._replies, self._numbers.runs, self._ident, self._reply
        indexes = self._numbers.indexes
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
                or index != indexes[number]
                or length != run.length + rows.header
                or low != run.lows[index % run.hosts]
            ):
                self.foreign += 1
                continue
            if run.over:
                self.late += 1
                continue
            if run.answered[index] == REPLIED:
                run.duplicates += 1
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
                run.open -= 1
                if not run.open:
                    complete.append(run)
            run.answered[index] = REPLIED

    def _take_alike(self, count: int, received: stamps.Instant, complete: list[Run]) -> bool:
        """Take many first replies to one run field by field, as `_take` would; False when one of them is not."""
        rows = self._replies
        numbers = rows.numbers(count)
        run = self._numbers.runs[numbers[0]]
        if run is None or run.over or {*map(self._numbers.runs.__getitem__, numbers)} != {run}:
            return False
        indexes = rows.indexes[:count].tolist()
        if list(map(self._numbers.indexes.__getitem__, numbers)) != indexes or not rows.alike(
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
            run.answered[first:end] = bytes([REPLIED]) * count
        else:
            if (
                rows.lows[:count].tolist() != [run.lows[index % run.hosts] for index in indexes]
                or len(set(indexes)) != count
                or any(map(run.answered.__getitem__, indexes))
            ):
                return False
            for index in indexes:
                run.answered[index] = REPLIED
        run.indexes += indexes
        run.received += [received] * count
        run.stamped += rows.stamps(count)
        run.ttls += rows.ttls[:count].tolist()
        run.open -= count
        if not run.open:
            complete.append(run)
        return True

    def _read_queue(self, complete: list[Run], turn: Turn) -> int:
        """Read transmit stamps, and ICMP errors where they are queued; returns how many of those there were."""
        rows = self._queue
        count_of_errors = 0
        while turn.goes_on():
            try:
                count = rows.table.receive(self._sock, batches.MSG_ERRQUEUE)
            except OSError:
                break  # there is nothing more
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
                    count_of_errors += self._take_queued(slot, complete)
        return count_of_errors

    def _stamp(self, key: int, stamp_ns: int, complete: list[Run]) -> None:
        """Give a transmit stamp to the request that its number stands for."""
        number = self._numbers.of_stamp(key)
        run = self._numbers.runs[number]
        if run is None:
            return
        index = self._numbers.indexes[number]
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
        runs, indexes = self._numbers.runs, self._numbers.indexes
        numbers = self._numbers.of_stamps(key, count)
        if numbers is None:
            return False
        run = runs[numbers[0]]
        if run is None or {*map(runs.__getitem__, numbers)} != {run}:
            return False
        first = indexes[numbers[0]]
        sent = run.sent[first + count - 1] if first + count <= run.total else None
        if (
            list(map(indexes.__getitem__, numbers)) != list(range(first, first + count))
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
        self._take_error(errors.queued(entry, table.address(slot), self._version), complete)
        return 1

    def _take_error(self, error: Error, complete: list[Run]) -> None:
        """Give an ICMP error to the request that it quotes.

        Routers need not quote more than the header (RFC 792), so the cookie is compared as far as it is there.
        """
        header, quoted = icmp_messages.HEADER_BYTES, error.quoted
        number = int.from_bytes(quoted[6:8], "big")
        if len(quoted) < header or quoted[:2] != self._request or quoted[4:6] != self._quoted:
            self.foreign += 1
            return
        run = self._numbers.runs[number]
        if run is None:
            self.late += 1  # a host that is not there may be told of after seconds
            return
        index = self._numbers.indexes[number]
        cookie = quoted[header : header + COOKIE_BYTES]
        if cookie != run.cookie[: len(cookie)] or not run.went_to(index, error.low):
            self.foreign += 1
        elif run.over:
            self.late += 1
        else:
            run.take_error(index, error)
            if not run.open:
                complete.append(run)
