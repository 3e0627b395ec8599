"""What a run of echo requests is asked to do and what it saw: shared by the engines that send them."""

from __future__ import annotations

from dataclasses import dataclass

from worker.probing import IPAddress
from worker.wire.source import BY_ROUTES, Source


@dataclass(frozen=True, kw_only=True)
class EchoPlan:
    """Echo requests to one address."""

    address: IPAddress
    #: Requests to send.
    count: int
    #: Seconds between two requests; never less, also when the host was busy.
    interval_s: float
    #: Seconds to listen after the last request.
    timeout_s: float
    #: Bytes of payload.
    size: int
    dscp: int
    ttl: int
    dont_fragment: bool
    source: Source = BY_ROUTES


@dataclass(frozen=True, kw_only=True)
class EchoReply:
    """One reply to a request of the run."""

    #: Which request, from 0.
    index: int
    rtt_ns: int
    #: Both ends of the time are the kernel's stamps.
    kernel: bool
    #: TTL or hop limit on arrival, where known.
    ttl: int | None


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
    #: In the order of arrival, duplicates and late ones included.
    replies: tuple[EchoReply, ...]
    errors: tuple[EchoError, ...]
    #: Bytes of IP packets.
    bytes_sent: int
    bytes_received: int


class EchoUnavailableError(Exception):
    """This process may not send echo requests; `mend` is the command that changes it."""

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(f"{reason}; to mend it: {mend}" if mend else reason)
        self.reason = reason
        self.mend = mend


class EchoSendError(OSError):
    """The kernel refused the first request, so the others would not have left either."""
