"""Traces that read marks: routers quote the header of a packet whose TTL ran out as it came to them.

They go to a closed UDP port, so that the destination quotes the packet that it refuses, too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from worker.evaluation.marks import Mark
from worker.probing import IPAddress
from worker.wire.source import Source
from worker.wire.trace import hops
from worker.wire.trace.plan import TracePlan

if sys.platform.startswith("linux"):
    from worker.wire.trace.engine import trace

#: A packet of a trace and half of the answer that quotes it.
PACKET_BYTES = 128

#: Seconds between the rounds of a trace: a destination may report a closed port once a second only.
ROUND_S = 1.1
_ROUNDS = 2
#: Silent hops in a row after which a trace goes no farther.
_GAP = 5


@dataclass(frozen=True, kw_only=True)
class MarkRecord:
    """What one trace brought to light."""

    #: What each hop saw that quoted anything, in their order.
    marks: tuple[Mark, ...]
    #: The last of them is the destination.
    final: bool
    #: Addresses of each of them, by hop.
    addresses: dict[int, list[str]]
    packets_sent: int
    bytes_sent: int
    bytes_received: int
    #: Packets that this host did not send, by errno, and packets that came and that it had no room for.
    refused: Mapping[int, int]
    overflows: int

    @property
    def whole(self) -> bool:
        """Nothing of it was kept back by this host itself: what is silent is so on the way."""
        return not self.refused and not self.overflows


async def trace_marks(
    address: IPAddress,
    *,
    dscp: int,
    ecn: int,
    port: int,
    max_ttl: int,
    timeout_s: float,
    source: Source,
    end_alone: bool = False,
) -> MarkRecord:
    """Trace packets of one mark. Raises TraceUnavailableError without permission, OSError when nothing can be sent.

    With `end_alone`, one packet goes to the destination, however far within `max_ttl` that is for this mark: routers may send
    each mark another way. Its hop is told by the TTL that the destination quotes.
    """
    plan = TracePlan(
        protocol="udp",
        port=port,
        rounds=1 if end_alone else _ROUNDS,
        interval_s=ROUND_S,
        timeout_s=timeout_s,
        first_ttl=max_ttl if end_alone else 1,
        max_ttl=max_ttl,
        gap_limit=_GAP,
        probes_per_hop=1,
        flows=1,
        size=32,
        dscp=dscp,
        ecn=ecn,
        source=source,
    )
    record = await trace(address, plan)
    marks: list[Mark] = []
    addresses: dict[int, list[str]] = {}
    final = False
    for hop in hops.sort(record.probes):
        octets = tuple(answer.quoted_tos for answer in hop.answers if answer.quoted_tos is not None)
        if octets:
            number = _distance(hop) if end_alone else hop.ttl
            marks.append(Mark(hop=number, octets=octets))
            addresses[number] = sorted(hop.addresses)
            final = hop.final
    return MarkRecord(
        marks=tuple(marks),
        final=final,
        addresses=addresses,
        packets_sent=len(record.probes),
        bytes_sent=record.bytes_sent,
        bytes_received=record.bytes_received,
        refused=record.refused,
        overflows=record.overflows,
    )


def _distance(hop: hops.Hop) -> int:
    """Return at which hop a packet ended, by what was left of its TTL there."""
    left = min((answer.quoted_ttl for answer in hop.answers if answer.quoted_ttl), default=1)
    return max(1, hop.ttl - left + 1)


def longest_s(max_ttl: int, timeout_s: float) -> float:
    """Return the longest time that one trace may take."""
    return (max_ttl + _ROUNDS) * timeout_s + _ROUNDS * ROUND_S


def most_packets(max_ttl: int) -> int:
    """Return how many packets one trace may send."""
    return _ROUNDS * max_ttl
