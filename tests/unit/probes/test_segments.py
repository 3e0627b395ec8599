"""TCP segments behind IP headers, and the filter program, run by an interpreter of the test's own."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.wire import segments
from worker.wire.segments import ACK, SYN

#: SYN of 192.0.2.1:49152 to 198.51.100.7:443, sequence number 0x01020304, as on the wire.
SYN_V4 = bytes.fromhex(
    "4500002800004000400600 00 c0000201 c6336407".replace(" ", "")
    + "c000 01bb 01020304 00000000 5002 faf0 0000 0000".replace(" ", "")
)
SYN_V6 = bytes.fromhex(
    "60000000 0014 06 40".replace(" ", "")
    + "20010db8000000000000000000000001"
    + "20010db8000000000000000000000002"
    + "c000 01bb 01020304 0a0b0c0d 5012 faf0 0000 0000".replace(" ", "")
)


def test_a_segment_behind_an_ipv4_header_is_read() -> None:
    """Addresses, ports, numbers and flags."""
    segment = segments.parse(SYN_V4)
    assert segment is not None
    assert segment.source == bytes([192, 0, 2, 1])
    assert segment.destination == bytes([198, 51, 100, 7])
    assert (segment.source_port, segment.destination_port) == (49152, 443)
    assert (segment.sequence, segment.acknowledgement) == (0x01020304, 0)
    assert segment.flags == SYN


def test_a_segment_behind_an_ipv6_header_is_read() -> None:
    """A SYN-ACK this time."""
    segment = segments.parse(SYN_V6)
    assert segment is not None
    assert segment.source.hex() == "20010db8000000000000000000000001"
    assert segment.destination.hex() == "20010db8000000000000000000000002"
    assert segment.acknowledgement == 0x0A0B0C0D
    assert segment.flags == SYN | ACK


def test_options_before_the_tcp_header_are_passed_over() -> None:
    """An IPv4 header of 24 bytes."""
    longer = bytes([0x46]) + SYN_V4[1:20] + b"\1\1\1\0" + SYN_V4[20:]
    segment = segments.parse(longer)
    assert segment is not None
    assert segment.source_port == 49152


@pytest.mark.parametrize(
    "packet",
    [b"", SYN_V4[:39], SYN_V6[:59], bytes([0x41]) + SYN_V4[1:], SYN_V4[:9] + b"\x11" + SYN_V4[10:]],
    ids=["empty", "cut", "cut6", "bad header length", "udp"],
)
def test_what_is_no_whole_segment_is_passed_over(packet: bytes) -> None:
    """None, and no error."""
    assert segments.parse(packet) is None


@given(st.binary(max_size=100))
def test_random_packets_are_read_or_passed_over(packet: bytes) -> None:
    """Nothing that comes breaks the reader."""
    segments.parse(packet)


@pytest.mark.parametrize("packet", [SYN_V4, SYN_V6], ids=["ipv4", "ipv6"])
def test_the_filter_lets_its_ports_through(packet: bytes) -> None:
    """As source or as destination, and no others."""
    for ports in ([49152], [443], [1, 2, 443], list(range(49000, 49300))):
        assert _run(segments.port_filter(ports), packet) == segments.SNAPPED, ports
    for ports in ([], [444], list(range(300))):
        assert _run(segments.port_filter(ports), packet) == 0, ports


def test_the_filter_keeps_everything_else_out() -> None:
    """UDP with the same ports, and what is no IP packet."""
    program = segments.port_filter([443])
    assert _run(program, SYN_V4[:9] + b"\x11" + SYN_V4[10:]) == 0
    assert _run(program, SYN_V6[:6] + b"\x11" + SYN_V6[7:]) == 0
    assert _run(program, b"\x50" + SYN_V4[1:]) == 0


def _run(program: bytes, packet: bytes) -> int:
    """Run a classic BPF program as bpf(4) describes its instructions; loads beyond the packet return 0."""
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = index = at = 0
    while True:
        code, if_true, if_false, operand = steps[at]
        at += 1
        if code == 0x06:
            return operand
        if code == 0x05:
            at += operand
        elif code == 0x15:
            at += if_true if accumulator == operand else if_false
        elif code == 0x74:
            accumulator >>= operand
        elif code == 0x01:
            index = operand
        elif code == 0xB1:
            index = (packet[operand] & 0x0F) * 4
        elif code == 0x30:
            if operand >= len(packet):
                return 0
            accumulator = packet[operand]
        elif code == 0x48:
            if index + operand + 2 > len(packet):
                return 0
            accumulator = int.from_bytes(packet[index + operand : index + operand + 2], "big")
        else:
            raise AssertionError(f"instruction {code:#x} is not one that the test knows")
