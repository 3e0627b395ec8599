"""TCP segments as packet sockets deliver them, and the filter that lets only those of some local ports through. Pure.

References: RFC 9293 for the header, RFC 791 and RFC 8200 for what stands before it; the filter is a program of the
classic Berkeley packet filter, as SO_ATTACH_FILTER takes it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass

from worker.wire.options import Instruction, assembled

SYN, ACK = 0x02, 0x10
#: Bytes of each packet that are looked at: the longest IPv4 header or an IPv6 one, and a TCP header.
SNAPPED = 128

_PORTS = struct.Struct("!HHIIBB")
_TCP = 6
_LOAD_BYTE, _LOAD_HALF_INDIRECT, _LOAD_INDEX, _LOAD_INDEX_IPV4_HEADER = 0x30, 0x48, 0x01, 0xB1
_SHIFT_RIGHT, _JUMP, _JUMP_EQUAL, _RETURN = 0x74, 0x05, 0x15, 0x06


@dataclass(frozen=True, kw_only=True)
class Segment:
    """What a TCP header says, with the addresses before it."""

    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    sequence: int
    acknowledgement: int
    flags: int


def parse(packet: bytes) -> Segment | None:
    """Read a packet from its IP header on; None when it is not a whole TCP header directly behind an IP header."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20 and packet[9] == _TCP:
        start, addresses = (packet[0] & 0x0F) * 4, packet[12:20]
    elif version == 6 and len(packet) >= 40 and packet[6] == _TCP:
        start, addresses = 40, packet[8:40]
    else:
        return None
    if start < 20 or len(packet) < start + 20:
        return None
    source_port, destination_port, sequence, acknowledgement, _offset, flags = _PORTS.unpack_from(
        packet, start
    )
    middle = len(addresses) // 2
    return Segment(
        source=addresses[:middle],
        destination=addresses[middle:],
        source_port=source_port,
        destination_port=destination_port,
        sequence=sequence,
        acknowledgement=acknowledgement,
        flags=flags,
    )


def port_filter(ports: Collection[int]) -> bytes:
    """Return the filter program that lets TCP segments from or to one of the ports through, and nothing else."""
    wanted = [
        step
        for port in ports
        for step in (_step(_JUMP_EQUAL, port, equal=0, other=1), _step(_RETURN, SNAPPED))
    ]
    return assembled(
        [
            _step(_LOAD_BYTE, 0),
            _step(_SHIFT_RIGHT, 4),
            _step(_JUMP_EQUAL, 6, equal=5, other=0),
            _step(_JUMP_EQUAL, 4, equal=1, other=0),
            _step(_RETURN, 0),
            # IPv4: the protocol to the accumulator, the header's length to the index.
            _step(_LOAD_BYTE, 9),
            _step(_LOAD_INDEX_IPV4_HEADER, 0),
            _step(_JUMP, 2),
            # IPv6: the same.
            _step(_LOAD_BYTE, 6),
            _step(_LOAD_INDEX, 40),
            _step(_JUMP_EQUAL, _TCP, equal=1, other=0),
            _step(_RETURN, 0),
            _step(_LOAD_HALF_INDIRECT, 0),
            *wanted,
            _step(_LOAD_HALF_INDIRECT, 2),
            *wanted,
            _step(_RETURN, 0),
        ]
    )


def _step(code: int, operand: int, *, equal: int = 0, other: int = 0) -> Instruction:
    return code, equal, other, operand
