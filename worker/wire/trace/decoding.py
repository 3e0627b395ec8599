"""What raw sockets received, batch by batch, as tuples: read with two formats over the memory of all messages.

References: RFC 791, 792, 8200, 4443, 9293.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from worker.wire.batches import Table

#: Rows of a receive table: quoted packets come with up to 576 bytes or more, extensions stand behind 128 of them.
PAYLOAD_BYTES = 640
CONTROL_BYTES = 128
SLOTS = 64

_SOL_SOCKET, _SO_TIMESTAMPING = 1, 37
_IPV6_HOPLIMIT = (41, 52)
_ORIGIN_TIMESTAMPING = 4
_ERRORS = ((0, 11), (41, 25))
_ICMP, _TCP, _UDP, _ICMP6_NUMBER = 1, 6, 17, 58
#: How the requests begin that echo replies answer.
_REQUEST4, _REQUEST6 = 8 << 56, 128 << 56


class Seen(NamedTuple):
    """One message that is, by its numbers, about a probe."""

    slot: int
    #: Protocol of the probe, and the eight bytes behind its IP header: as quoted, or as the reply lets conclude.
    protocol: int
    head: int
    #: Who sent the probe, as quoted; None where nothing is quoted, or the message came to that address and no other.
    origin: bytes | None
    #: Whom the probe was sent to: as quoted, or who replied.
    destination: bytes
    source: bytes
    #: ICMP type and code; None and its flags for a TCP segment.
    type: int | None
    code: int
    #: An echo reply or TCP segment of the destination itself.
    reply: bool
    size: int
    ttl: int | None
    quoted_ttl: int | None
    quoted_tos: int | None
    quoted_length: int | None
    #: The kernel's receive stamp, nanoseconds of the wall clock.
    stamped_ns: int | None
    #: The whole ICMP message where it may hold an extension structure, or names an MTU.
    message: bytes | None


def table() -> Table:
    """Return a table for the functions below."""
    return Table(SLOTS, payload=PAYLOAD_BYTES, control=CONTROL_BYTES)


_LAYOUT = Table(1, payload=PAYLOAD_BYTES, control=CONTROL_BYTES)


def _row(order: str, at: int, fields: str) -> struct.Struct:
    """Return a format for a whole row with fields at one place."""
    size = struct.calcsize(order + fields)
    return struct.Struct(f"{order}{at}x{fields}{_LAYOUT.stride - at - size}x")


# IP: version and header length, total length, TTL, source, destination. ICMP: type, code, two words. Quoted: TOS,
# length, identification, TTL, protocol, source, destination; the eight bytes behind its header.
_ICMP4 = _row("!", 0, "BxH4xBxxx4s4sBBxxHHxBHHxxBBxx4s4sQ")
# The same of IPv6, from the ICMP header on; version, class and label are one word.
_ICMP6 = _row("!", 0, "BBxxHHIHBB16s16sQ")
# IP as above, without destination; TCP: ports, acknowledgement number, flags.
_TCP4 = _row("!", 0, "BxH4xBxxx4s4xHH4xIxB")
_TCP6 = _row("!", 0, "HH4xIxB")
_SOURCE6 = _row("!", _LAYOUT.address_at + 8, "16s")
# Level and type of a control message; seconds and nanoseconds of the first of three stamps.
_STAMP = _row("=", _LAYOUT.control_at, "8xiiqq")
_STAMP_BYTES = 64
# What follows it: level and type, and the hop limit.
_HOPS = _row("=", _LAYOUT.control_at + _STAMP_BYTES, "8xiii")
# A stamp, and level and type, origin and data of the sock_extended_err that follows.
_STAMP_AND_ERROR = _row("=", _LAYOUT.control_at, "8xiiqq40xii4xB7xI")


def icmp4(rows: Table, count: int) -> Iterator[Seen]:
    """Read ICMP messages as a raw IPv4 socket delivers them."""
    filled = rows.filled(count)
    new = tuple.__new__
    for number, (fields, stamped_ns, length) in enumerate(
        zip(_ICMP4.iter_unpack(filled), _stamps(rows, count), rows.lengths(count), strict=True)
    ):
        header = 20
        if fields[0] != 0x45:
            header = (fields[0] & 0x0F) * 4
            fields, length = _without_options(rows.payload(number), _ICMP4)
        (
            _,
            total,
            ttl,
            source,
            here,
            kind,
            code,
            word,
            slot,
            tos,
            quoted_length,
            ident,
            left,
            protocol,
            origin,
            to,
            head,
        ) = fields
        if kind == 0:
            if length >= 28:
                request = _REQUEST4 | word << 16 | slot
                yield new(
                    Seen,
                    (
                        slot, _ICMP, request, None, source, source, kind, code, True, total, ttl, None, None, None,
                        stamped_ns, None,
                    ),
                )  # fmt: skip
            continue
        # Routers send an error to the sender of what they quote.
        if length < 56 or origin != here:
            continue
        message = rows.payload(number)[header:] if word & 0xFF or length >= 168 or code == 4 else None
        slot = ident if protocol == _UDP else head & 0xFFFF
        yield new(
            Seen,
            (
                slot, protocol, head, None, to, source, kind, code, False, total, ttl, left, tos, quoted_length,
                stamped_ns, message,
            ),
        )  # fmt: skip


def icmp6(rows: Table, count: int) -> Iterator[Seen]:
    """Read ICMPv6 messages as a raw IPv6 socket delivers them."""
    filled = rows.filled(count)
    new = tuple.__new__
    for number, (fields, stamped_ns, ttl, (source,), length) in enumerate(
        zip(
            _ICMP6.iter_unpack(filled),
            _stamps(rows, count),
            _hop_limits(rows, count),
            _SOURCE6.iter_unpack(filled),
            rows.lengths(count),
            strict=True,
        )
    ):
        kind, code, word, slot, first, quoted_length, protocol, left, origin, to, head = fields
        if kind == 129:
            if length >= 8:
                request = _REQUEST6 | word << 16 | slot
                yield new(
                    Seen,
                    (
                        slot, _ICMP6_NUMBER, request, None, source, source, kind, code, True, 40 + length, ttl, None,
                        None, None, stamped_ns, None,
                    ),
                )  # fmt: skip
            continue
        if length < 56:
            continue
        message = rows.payload(number) if word >> 8 or length >= 148 or kind == 2 else None
        tos = first >> 20 & 0xFF
        yield new(
            Seen,
            (
                head & 0xFFFF, protocol, head, origin, to, source, kind, code, False, 40 + length, ttl, left, tos,
                40 + quoted_length, stamped_ns, message,
            ),
        )  # fmt: skip


def tcp4(rows: Table, count: int) -> Iterator[Seen]:
    """Read TCP segments as a raw IPv4 socket delivers them."""
    filled = rows.filled(count)
    for number, (fields, stamped_ns, length) in enumerate(
        zip(_TCP4.iter_unpack(filled), _stamps(rows, count), rows.lengths(count), strict=True)
    ):
        if fields[0] != 0x45:
            fields, length = _without_options(rows.payload(number), _TCP4)
        _, total, ttl, source, there, here, acknowledged, flags = fields
        if length >= 40:
            yield from _segment(source, total, ttl, (here, there), acknowledged, flags, stamped_ns)


def tcp6(rows: Table, count: int) -> Iterator[Seen]:
    """Read TCP segments as a raw IPv6 socket delivers them."""
    filled = rows.filled(count)
    for fields, stamped_ns, ttl, (source,), length in zip(
        _TCP6.iter_unpack(filled),
        _stamps(rows, count),
        _hop_limits(rows, count),
        _SOURCE6.iter_unpack(filled),
        rows.lengths(count),
        strict=True,
    ):
        there, here, acknowledged, flags = fields
        if length >= 20:
            yield from _segment(source, 40 + length, ttl, (here, there), acknowledged, flags, stamped_ns)


def transmit_stamps(rows: Table, count: int) -> Iterator[tuple[int, int]]:
    """Read a batch of a sender's error queue: number of the packet, and nanoseconds of the wall clock."""
    for (level, kind, seconds, nanoseconds, error_level, error_kind, origin, number), control in zip(
        _STAMP_AND_ERROR.iter_unpack(rows.filled(count)), rows.control_lengths(count), strict=True
    ):
        if (
            control >= 96
            and origin == _ORIGIN_TIMESTAMPING
            and kind == _SO_TIMESTAMPING
            and level == _SOL_SOCKET
            and (error_level, error_kind) in _ERRORS
            and seconds
        ):
            yield number, seconds * 1_000_000_000 + nanoseconds


def _segment(
    source: bytes,
    size: int,
    ttl: int | None,
    ports: tuple[int, int],
    acknowledged: int,
    flags: int,
    stamped_ns: int | None,
) -> Iterator[Seen]:
    """A segment is an answer when it acknowledges a SYN: SYN-ACK or RST with ACK (RFC 9293, section 3.5.2)."""
    if flags & 0x10 and flags & 0x06:
        sequence = (acknowledged - 1) & 0xFFFFFFFF
        head = ports[0] << 48 | ports[1] << 32 | sequence
        yield Seen(
            sequence & 0xFFFF, _TCP, head, None, source, source, None, flags, True, size, ttl, None, None, None,
            stamped_ns, None,
        )  # fmt: skip


def _stamps(rows: Table, count: int) -> list[int | None]:
    """Return the receive stamps of a batch, nanoseconds of the wall clock; None where there is none."""
    return [
        seconds * 1_000_000_000 + nanoseconds
        if control >= _STAMP_BYTES and kind == _SO_TIMESTAMPING and level == _SOL_SOCKET and seconds
        else None
        for (level, kind, seconds, nanoseconds), control in zip(
            _STAMP.iter_unpack(rows.filled(count)), rows.control_lengths(count), strict=True
        )
    ]


def _hop_limits(rows: Table, count: int) -> list[int | None]:
    """Return the hop limits with which the packets of a batch arrived; None where there is none."""
    return [
        limit if control >= _STAMP_BYTES + 20 and (level, kind) == _IPV6_HOPLIMIT else None
        for (level, kind, limit), control in zip(
            _HOPS.iter_unpack(rows.filled(count)), rows.control_lengths(count), strict=True
        )
    ]


def _without_options(packet: bytes, layout: struct.Struct) -> tuple[tuple[int | bytes, ...], int]:
    """Return the fields of a packet whose IP header has options, as if it had none, and its length then."""
    header = max(20, (packet[0] & 0x0F) * 4) if packet else 20
    plain = packet[:20] + packet[header:]
    return layout.unpack(plain[: layout.size].ljust(layout.size, b"\0")), len(plain)
