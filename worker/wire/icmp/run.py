"""One run of echo requests while it is under way: what it asks for, what it saw, and the record made of both."""

from __future__ import annotations

import asyncio
import operator
import secrets
import socket
import sys
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from worker.wire import batches, icmp_messages, options, stamps
from worker.wire.addresses import socket_address
from worker.wire.echo import EchoError, EchoPlan, EchoRecord, EchoReplies
from worker.wire.icmp import sockets
from worker.wire.icmp.sockets import Sort

if TYPE_CHECKING:
    from worker.wire.icmp.errors import Error
    from worker.wire.icmp.lane import Lane
    from worker.wire.icmp.tables import SendRows

COOKIE_BYTES = 8
#: Where the last 32 bits of the address stand in a socket address, by IP version.
LOW_AT = {4: 4, 6: 20}
#: Where the cookie and the index of the request stand in a request, from the ICMP header on.
COOKIE_AT = icmp_messages.HEADER_BYTES
INDEX_AT = COOKIE_AT + COOKIE_BYTES
#: Up to so many bytes no path needs fragments (RFC 791, RFC 8200), so that the MTU need not be asked for.
_NEVER_FRAGMENTED = {4: 576, 6: 1280}
#: In the lists of a run: no stamp, no TTL.
NO_STAMP = 0
NO_TTL = -1
#: What has become of a request: refused by the kernel, or an ICMP error told of it; or a reply has come.
FAILED, REPLIED = 1, 2


class Run:
    """The requests of one plan by index, and what became of each; only the engine and its lanes change it."""

    def __init__(self, plan: EchoPlan, done: asyncio.Future[None]) -> None:
        """Raises OSError for a scope of the address that this host does not have, EchoUnavailableError as `control_of` does."""
        self.plan = plan
        self.sort = Sort.of(plan)
        #: Set when the run is over, or to the error that ended it.
        self.done = done
        self.over = False
        self.total = plan.total
        self.hosts = plan.hosts
        #: Index of the next request to be handed to a lane.
        self.next = 0
        #: Requests that have neither left nor been refused.
        self.unsent = self.total
        #: Requests that are neither answered nor refused.
        self.open = self.total
        #: Requests that left and have no transmit stamp.
        self.unstamped = 0
        #: Everything is answered, and only transmit stamps are waited for.
        self.stamps_only = False
        #: Whether the system gives transmit stamps at all.
        self.stamps_expected = True
        #: When the engine looks at the run next, by the loop's clock.
        self.wake_s = 0.0
        self.cookie = secrets.token_bytes(COOKIE_BYTES)
        self.length = icmp_messages.HEADER_BYTES + plan.size
        self.control = sockets.control_of(plan, self.sort)
        target = socket_address(plan.address, 0)
        self.address = batches.packed_address(target)
        #: Last 32 bits of each address, as they stand in a socket address.
        self.lows = _lows(plan)
        mtu = None
        if self.length + 40 > _NEVER_FRAGMENTED[plan.address.version]:
            mtu = sockets.path_mtu(target)
        self.packet_bytes = icmp_messages.ip_bytes(plan.address.version, self.length, mtu)
        self.message = icmp_messages.request(plan.address.version, self.cookie, plan.size)
        #: The engine's lanes of the run's sort, and the table that sends its requests, once they are known.
        self.lanes: list[Lane] | None = None
        self.rows: SendRows | None = None
        #: A row of that table, and the sum of the message's words.
        self.image = b""
        self.sum = 0
        #: Dropped packets of the sockets that were used, as they were before.
        self.drops_before: dict[socket.socket, int] = {}
        # By index.
        self.sent: list[stamps.Instant | None] = [None] * self.total
        self.transmitted = [NO_STAMP] * self.total
        #: 0 while nothing has become of a request, then FAILED or REPLIED.
        self.answered = bytearray(self.total)
        # First replies by arrival: indexes, when the process read them, the kernel's stamps, TTLs.
        self.indexes: list[int] = []
        self.received: list[stamps.Instant] = []
        self.stamped: list[int] = []
        self.ttls: list[int] = []
        #: Further replies are counted only: whoever sends them may send any number.
        self.duplicates = 0
        #: The first for each request, by index; and the bytes of all of them.
        self.errors: dict[int, EchoError] = {}
        self.error_bytes = 0
        self.refused: dict[int, int] = {}
        self.sent_count = 0

    def refuse(self, index: int, number: int) -> None:
        """Note that the kernel did not take a request, with its errno."""
        self.refused[number] = self.refused.get(number, 0) + 1
        self.unsent -= 1
        if not self.answered[index]:
            self.answered[index] = FAILED
            self.open -= 1

    def take_error(self, index: int, error: Error) -> None:
        """Note an ICMP error for a request."""
        self.error_bytes += error.size
        if index not in self.errors:
            self.errors[index] = EchoError(
                index=index, type=error.type, code=error.code, offender=error.offender
            )
        if not self.answered[index]:
            self.answered[index] = FAILED
            self.open -= 1

    def went_to(self, index: int, low: bytes) -> bool:
        """Say whether a request was sent to an address with these last 32 bits."""
        return low == self.lows[index % self.hosts].to_bytes(4, sys.byteorder)

    def finish(self, error: BaseException | None = None) -> None:
        """End the run: with what it saw, or with an error."""
        self.over = True
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def record(self) -> EchoRecord:
        """Return what the run saw."""
        header = 20 if self.plan.address.version == 4 else 40
        return EchoRecord(
            sent=self.sent_count,
            refused=self.refused,
            replies=self._replies(),
            errors=tuple(self.errors.values()),
            duplicates=self.duplicates,
            bytes_sent=self.sent_count * self.packet_bytes,
            bytes_received=(len(self.indexes) + self.duplicates) * (header + self.length) + self.error_bytes,
            dropped_here=sum(
                options.dropped(sock) - before
                for sock, before in self.drops_before.items()
                if sock.fileno() >= 0
            ),
        )

    def _replies(self) -> EchoReplies:
        if self.indexes == list(range(self.total)):
            sent, transmitted = self.sent, self.transmitted
        else:
            sent = [self.sent[index] for index in self.indexes]
            transmitted = [self.transmitted[index] for index in self.indexes]
        times = _believed(sent, transmitted, self.received, self.stamped)
        kernels = [True] * len(sent)
        if times is None:
            both = [
                stamps.elapsed(left, transmit or None, came, receive or None)
                for left, transmit, came, receive in zip(
                    sent, transmitted, self.received, self.stamped, strict=True
                )
                if left is not None
            ]
            times, kernels = [time_ns for time_ns, _ in both], [kernel for _, kernel in both]
        ttls: list[int | None] = [*self.ttls]
        if NO_TTL in ttls:
            ttls = [None if ttl == NO_TTL else ttl for ttl in ttls]
        return EchoReplies(requests=self.indexes, rtts_ns=times, kernels=kernels, ttls=ttls)


def _believed(
    sent: list[stamps.Instant | None],
    transmitted: list[int],
    received: list[stamps.Instant],
    stamped: list[int],
) -> list[int] | None:
    """Return the times between stamps when all are there and can be believed, by the rule of `stamps.elapsed`.

    None sends the caller to that rule, reply by reply. Many replies share the instants of few calls, so that the
    wall clock is compared with the monotonic one once for each call.
    """
    if not stamped or NO_STAMP in transmitted or NO_STAMP in stamped or None in sent:
        return None
    instants: dict[int, Any] = dict(zip(map(id, sent), sent, strict=True))
    instants.update(zip(map(id, received), received, strict=True))
    offsets = [instant.wall_ns - instant.monotonic_ns for instant in instants.values()]
    if max(offsets) - min(offsets) > stamps.STEP_NS:
        return None
    times = list(map(operator.sub, stamped, transmitted))
    read_ns: Callable[[Any], int] = operator.attrgetter("monotonic_ns")
    outer = map(operator.sub, map(read_ns, received), map(read_ns, sent))
    if min(times) < 0 or max(map(operator.sub, times, outer)) > stamps.STEP_NS:
        return None
    return times


def _lows(plan: EchoPlan) -> array[int]:
    first = int(plan.address) & 0xFFFFFFFF
    if first + plan.hosts > 1 << 32:
        raise ValueError(f"{plan.hosts} addresses from {plan.address} on run over the end of their network")
    lows = array("I", range(first, first + plan.hosts))
    if sys.byteorder == "little":
        lows.byteswap()
    return lows


def native(number: int) -> int:
    """Return a 16-bit number of a packet as this host's byte order reads it there, or the other way round."""
    return (number >> 8 | number << 8) & 0xFFFF if sys.byteorder == "little" else number
