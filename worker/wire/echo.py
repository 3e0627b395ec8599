"""What a run of echo requests is asked to do and what it saw: shared by the engines that send them."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from worker.failures import UnavailableError, error_text
from worker.probing import Availability, IPAddress
from worker.wire import own_word


@dataclass(frozen=True, kw_only=True)
class EchoPlan:
    """Echo requests to one address, or to consecutive ones."""

    #: The address, or the first of them.
    address: IPAddress
    #: Requests to send to each address.
    count: int
    #: Seconds between two requests to one address; never less than half of it, also when the host was busy.
    interval_s: float
    #: Seconds to listen after the last request.
    timeout_s: float
    #: Bytes of payload.
    size: int
    dscp: int
    ttl: int
    dont_fragment: bool
    #: IPv6 flow label; 0 leaves it to the system.
    flow_label: int = 0
    #: How many consecutive addresses are asked, in turn.
    hosts: int = 1
    #: All requests back to back: the interval is not used.
    burst: bool = False
    #: Address to send from; None leaves it to the system.
    source: IPAddress | None = None
    #: Interface to send through; empty leaves it to the system's routes.
    interface: str = ""

    @property
    def total(self) -> int:
        """Requests to all addresses; request `n` goes to address `n % hosts`."""
        return self.count * self.hosts


class EchoReply(NamedTuple):
    """One reply to a request of the run."""

    #: Which request, from 0.
    request: int
    rtt_ns: int
    #: Both ends of the time are the kernel's stamps.
    kernel: bool
    #: TTL or hop limit on arrival, where known.
    ttl: int | None


@dataclass(frozen=True, kw_only=True)
class EchoReplies:
    """The first reply to each request in the order of arrival, field by field: a run may have a million of them."""

    requests: Sequence[int] = ()
    rtts_ns: Sequence[int] = ()
    kernels: Sequence[bool] = ()
    ttls: Sequence[int | None] = ()

    @classmethod
    def of(cls, replies: Iterable[EchoReply]) -> EchoReplies:
        """Return the fields of replies."""
        columns = list(zip(*replies, strict=True))
        if not columns:
            return cls()
        return cls(requests=columns[0], rtts_ns=columns[1], kernels=columns[2], ttls=columns[3])

    def __len__(self) -> int:
        return len(self.requests)


@dataclass(frozen=True, kw_only=True)
class EchoError:
    """One ICMP error for a request of the run."""

    index: int
    type: int
    code: int
    #: The router or host that sent it, where known.
    offender: str | None


@dataclass(frozen=True, kw_only=True)
class EchoRecord:
    """All that a run saw."""

    #: Requests that the kernel accepted.
    sent: int
    #: Requests that it did not, by errno.
    refused: dict[int, int]
    #: Late ones included.
    replies: EchoReplies
    #: The first to each request.
    errors: tuple[EchoError, ...]
    #: Bytes of IP packets.
    bytes_sent: int
    bytes_received: int
    #: Replies beyond the first to a request.
    duplicates: int = 0
    #: Packets that this host received and had no room for while the run was under way; some may have been replies.
    dropped_here: int = 0
    #: Late, further and overtaken replies, and what this host dropped, would be known; where not, nobody looked.
    all_taken: bool = True


def kept_here(record: EchoRecord, version: int) -> Counter[int] | None:
    """Return by which errno this host kept all requests of a run back; None where any has left it.

    Its firewall may reject what the kernel had taken, and say so by an ICMP error.
    """
    kept = Counter(record.refused)
    if record.sent:
        words = {(error.type, error.code, error.offender) for error in record.errors}
        if len(record.errors) < record.sent or not all(own_word.is_unsent(version, *each) for each in words):
            return None
        kept[errno.EPERM] += record.sent
    return kept


class EchoUnavailableError(UnavailableError):
    """This process cannot send echo requests."""


class EchoSendError(OSError):
    """The kernel refused the first request, so the others would not have left either."""


class _Socket(Protocol):
    def close(self) -> object: ...


def echo_availability(open_socket: Callable[[int], _Socket]) -> Availability:
    """Try the sockets of both address families; one that works is enough."""
    problems: dict[int, EchoUnavailableError] = {}
    for version in (4, 6):
        try:
            open_socket(version).close()
        except EchoUnavailableError as error:
            problems[version] = error
        except OSError as error:
            problems[version] = EchoUnavailableError(
                f"an ICMP socket (IPv{version}) could not be opened: {error_text(error)}", ""
            )
    if len(problems) == 2:
        return Availability(available=False, reason=problems[4].reason, mend=problems[4].mend)
    for version, problem in problems.items():
        return Availability(
            available=True, reason=f"IPv{10 - version} only: {problem.reason}", mend=problem.mend
        )
    return Availability(available=True)
