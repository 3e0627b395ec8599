"""What a trace is asked to do and what it saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from worker.failures import UnavailableError
from worker.wire.source import BY_ROUTES, Source
from worker.wire.stamps import Instant

if TYPE_CHECKING:
    from worker.wire.trace.course import Course
    from worker.wire.trace.pacing import Bucket

Protocol = Literal["icmp", "udp", "tcp"]
#: How often the probes of a trace go on shorter: a path has few links that are narrower than all before.
MOST_SHORTER = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class TracePlan:
    """How to trace, to whatever address. Equal to itself alone: whoever keeps something for a plan finds it at once."""

    protocol: Protocol
    #: Destination port; of no meaning with ICMP.
    port: int
    #: How often the whole path is asked, and seconds from one start to the next.
    rounds: int
    interval_s: float
    #: Seconds to wait for the answer to a probe.
    timeout_s: float
    first_ttl: int
    max_ttl: int
    #: Nothing farther is asked after so many hops in a row without an answer.
    gap_limit: int
    #: Probes for each hop, on each flow, in one round.
    probes_per_hop: int
    #: Flows that are tried, each with ports or checksums of its own.
    flows: int
    #: Bytes behind the ICMP or UDP header.
    size: int
    dscp: int
    #: Where probes leave from.
    source: Source = BY_ROUTES
    #: The two ECN bits (RFC 3168).
    ecn: int = 0
    #: Nobody may fragment a probe; one that is too long for a link goes on shorter. Of raw sockets alone.
    dont_fragment: bool = False
    #: IPv6 flow label of the first flow, others count on from it; 0 gives each flow one of its own.
    flow_label: int = 0

    def tells_distance(self, ttl: int) -> bool:
        """Say whether the smallest TTL that reached the destination is its distance: smaller ones must have been asked."""
        return ttl == 1 or ttl > self.first_ttl


class Answer(NamedTuple):
    """What came back for a probe."""

    #: Who sent it, as text.
    source: str
    #: True when the destination itself was reached.
    final: bool
    #: ICMP type and code; None and its flags for a TCP segment.
    type: int | None
    code: int
    rtt_ns: int
    #: Both ends of the time are the kernel's stamps.
    kernel: bool
    #: Bytes of the IP packet, and its TTL or hop limit on arrival; None where the system does not tell.
    size: int
    ttl: int | None
    #: TTL, TOS octet and total length of the probe as the sender quotes them; None where nothing is quoted.
    quoted_ttl: int | None
    quoted_tos: int | None
    quoted_length: int | None
    #: The ICMP message, from its header on, where it may hold an RFC 4884 extension structure or
    #: names an MTU; None otherwise.
    message: bytes | None
    #: An error that says that there is no way on.
    unreachable: bool


class Probe:
    """One probe on its way. Plain and small: a worker sends many."""

    __slots__ = (
        "answer",
        "bucket",
        "course",
        "expired",
        "flow",
        "hasty",
        "number",
        "repeated",
        "sent",
        "slot",
        "transmitted_ns",
        "ttl",
    )

    def __init__(self, course: Course, ttl: int, flow: int) -> None:
        self.course = course
        self.ttl = ttl
        self.flow = flow
        #: What identifies it in what comes back; 0 for none.
        self.slot = 0
        #: When it was handed to the kernel; None while it waits.
        self.sent: Instant | None = None
        #: The kernel's stamp, nanoseconds of the wall clock.
        self.transmitted_ns: int | None = None
        self.answer: Answer | None = None
        #: Nothing came in time.
        self.expired = False
        #: The pace that it was sent at, None without; its number there; and whether that was faster than is safe.
        self.bucket: Bucket | None = None
        self.number = 0
        self.hasty = False
        #: Sent in the place of a hasty one.
        self.repeated = False


@dataclass(kw_only=True)
class TraceRecord:
    """All that a run saw. Plain: a worker makes many."""

    #: Probes that the kernel accepted, in the order of sending.
    probes: list[Probe]
    #: Probes that it did not, by errno.
    refused: dict[int, int]
    #: Bytes of IP packets.
    bytes_sent: int
    bytes_received: int
    #: Answers of the destination that came after the time-out, while others were waited for.
    late: int
    #: The MTUs that were named for links on the way, by who named them.
    mtus: Mapping[str, int]
    #: Packets that this host's own receive buffers had no room for meanwhile; those may have been answers.
    overflows: int


class TraceUnavailableError(UnavailableError):
    """This process cannot send such probes."""


class TraceSendError(OSError):
    """The kernel refused the first probe, so the others would not have left either."""
