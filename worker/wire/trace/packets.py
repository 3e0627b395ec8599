"""The probes as whole IP packets: templates of a flow in which two words differ from probe to probe.

All packets of a flow have the same addresses, ports, ICMP identifier and checksum, flow label and length: whatever a
router spreads load by, it sends them the same way (Paris traceroute). A 16-bit slot tells the probes apart. It stands
where a router that quotes no more than 8 bytes behind the IP header (RFC 792) still quotes it, and nobody else can
know it: slots are drawn by chance.

| protocol | IPv4 | IPv6 |
|---|---|---|
| ICMP | sequence number | sequence number |
| UDP | IP identification | checksum |
| TCP | low half of the sequence number | the same |

A word of the payload (of the header for TCP: the checksum) makes up for the slot. In arithmetic modulo 0xFFFF, as the
Internet checksum is (RFC 1071), it is a constant of the flow minus the slot.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from worker.wire.icmp_messages import internet_sum
from worker.wire.trace.plan import Protocol

#: Source ports and ICMP identifiers of a worker lie in one block of 16: one for each flow.
FLOWS = 16

_ICMP_ECHO = {4: 8, 6: 128}
_PROTOCOL = {4: {"icmp": 1, "udp": 17, "tcp": 6}, 6: {"icmp": 58, "udp": 17, "tcp": 6}}
_HEADER = {4: 20, 6: 40}
#: Which of the eight bytes behind the IP header say whose packet it is, beside the slot: type, code and identifier;
#: ports; ports and half of the sequence number. Checksums are left out: address translation spoils quoted ones.
_FLOW_BITS = {"icmp": 0xFFFF_0000_FFFF_0000, "udp": 0xFFFF_FFFF_0000_0000, "tcp": 0xFFFF_FFFF_FFFF_0000}
_HEAD = struct.Struct("!Q")
_SYN = 0x02
_DONT_FRAGMENT = 0x4000
_WORD = struct.Struct("!H")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What the packets of a flow have in common, to whatever address they go."""

    version: int
    protocol: Protocol
    #: Which one of a plan's flows, from 0.
    number: int
    #: ICMP identifier, or source port.
    ident: int
    #: Destination port of UDP and TCP.
    port: int
    #: High half of TCP's sequence numbers.
    sequence_high: int = 0
    size: int
    dscp: int
    ecn: int = 0
    dont_fragment: bool = False
    #: IPv6 flow label of the plan's first flow; 0 for one of the flow's own.
    label: int = 0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A packet of a flow with addresses, TTL and slot zero, and where the words are that change."""

    data: bytes
    #: Where source and destination address stand, and where they end.
    addresses_at: int
    addresses_end: int
    ttl_at: int
    slot_at: int
    #: The word that makes up for the slot; 0 for none, as over IPv4 a UDP probe has its slot in the IP header.
    balance_at: int
    #: The word that makes up for the addresses; 0 for none, as the checksum of ICMP does not cover them over IPv4.
    covered_at: int
    #: Number of the protocol, and the bits of the eight bytes behind the IP header by which it is known again.
    protocol: int
    flow_bits: int


class Template:
    """A packet of a flow between two addresses, to be completed by TTL and slot."""

    __slots__ = (
        "_balance", "_balance_at", "_slot_at", "_ttl_at", "data", "flow_bits", "head", "length", "origin", "protocol",
    )  # fmt: skip

    def __init__(self, shape: Shape, addresses: bytes) -> None:
        """`addresses` are source and destination; over IPv4 the kernel fills in a source of zeros for ICMP."""
        data = shape.data[: shape.addresses_at] + addresses + shape.data[shape.addresses_end :]
        at = shape.covered_at
        if at:
            # Never 0, which in UDP says that there is no checksum.
            word = (_WORD.unpack_from(data, at)[0] - internet_sum(addresses)) % 0xFFFF or 0xFFFF
            data = data[:at] + _WORD.pack(word) + data[at + 2 :]
        #: The packet with TTL 0 and slot 0.
        self.data = data
        self.length = len(data)
        #: What an answer is known by: see Seen. Of `head` the bits of `flow_bits` are the same for all slots.
        self.protocol = shape.protocol
        self.origin = addresses[: len(addresses) // 2]
        self.head: int = _HEAD.unpack_from(data, shape.addresses_end)[0]
        self.flow_bits = shape.flow_bits
        self._ttl_at = shape.ttl_at
        self._slot_at = shape.slot_at
        self._balance_at = shape.balance_at
        self._balance = _WORD.unpack_from(data, shape.balance_at)[0]

    def write(self, buffer: bytearray | memoryview, at: int, ttl: int, slot: int) -> None:
        """Put the packet for a TTL and a slot, 1 to 65,535, into a buffer."""
        buffer[at : at + self.length] = self.data
        buffer[at + self._ttl_at] = ttl
        _WORD.pack_into(buffer, at + self._slot_at, slot)
        if self._balance_at:
            _WORD.pack_into(buffer, at + self._balance_at, (self._balance - slot) % 0xFFFF)


def shape(flow: Flow) -> Shape:
    """Return the packet of a flow."""
    header = _HEADER[flow.version]
    body, balanced_at = _body(flow)
    slot_in_ip = (flow.version, flow.protocol) == (4, "udp")
    word_at = header + balanced_at
    return Shape(
        data=_ip_header(flow, len(body)) + body,
        addresses_at=12 if flow.version == 4 else 8,
        addresses_end=header,
        ttl_at=8 if flow.version == 4 else 7,
        slot_at=4 if slot_in_ip else header + 6,
        balance_at=0 if slot_in_ip else word_at,
        covered_at=0 if (flow.version, flow.protocol) == (4, "icmp") else word_at,
        protocol=_PROTOCOL[flow.version][flow.protocol],
        flow_bits=_FLOW_BITS[flow.protocol],
    )


def _ip_header(flow: Flow, length: int) -> bytes:
    protocol = _PROTOCOL[flow.version][flow.protocol]
    if flow.version == 4:
        # The kernel fills in the checksum, and the identification when it is zero.
        fragment = _DONT_FRAGMENT if flow.dont_fragment else 0
        return struct.pack(
            "!BBHHHBBH8x", 0x45, flow.dscp << 2 | flow.ecn, 20 + length, 0, fragment, 0, protocol, 0
        )
    word = 6 << 28 | (flow.dscp << 2 | flow.ecn) << 20 | flow_label(flow)
    return struct.pack("!IHBB32x", word, length, protocol, 0)


def flow_label(flow: Flow) -> int:
    """Return the IPv6 flow label of a flow, never zero (RFC 6437)."""
    label = flow.label + flow.number if flow.label else flow.ident << 4 | flow.number
    return label & 0xFFFFF or 1


def _body(flow: Flow) -> tuple[bytes, int]:
    """Return what follows the IP header, for slot 0 and addresses 0, and where in it the balancing word is."""
    if flow.protocol == "tcp":
        segment = struct.pack(
            "!HHHHIBBHHH", flow.ident, flow.port, flow.sequence_high, 0, 0, 5 << 4, _SYN, 65_535, 0, 0
        )
        return _balanced(flow, segment, 16), 16
    payload = (bytes(2) + bytes(range(2, 256)) * (flow.size // 254 + 1))[: flow.size]
    if flow.protocol == "udp":
        datagram = struct.pack("!HHHH", flow.ident, flow.port, 8 + flow.size, 0) + payload
        # Over IPv6 the checksum is the slot, and the payload makes it true; over IPv4 it is an ordinary one.
        at = 8 if flow.version == 6 else 6
        return _balanced(flow, datagram, at), at
    # Different flows have different checksums: many routers spread ICMP by them.
    checksum = 0xC000 + (flow.ident + flow.number) % 0x1000
    message = struct.pack("!BBHHH", _ICMP_ECHO[flow.version], 0, checksum, flow.ident, 0) + payload
    return _balanced(flow, message, 8), 8


def _balanced(flow: Flow, body: bytes, at: int) -> bytes:
    """Put in the word that brings the sum of what the checksum covers to 0xFFFF."""
    covered = (
        0
        if (flow.version, flow.protocol) == (4, "icmp")
        else len(body) + _PROTOCOL[flow.version][flow.protocol]
    )
    total = (internet_sum(body) + covered) % 0xFFFF
    return body[:at] + _WORD.pack(0xFFFF - total) + body[at + 2 :]
