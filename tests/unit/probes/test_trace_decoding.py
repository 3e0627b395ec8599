"""What raw sockets deliver is read field by field, and nothing that came before is taken for what is there."""

from __future__ import annotations

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st

from worker.wire.batches import Table, control_message
from worker.wire.trace import decoding

ROUTER, TARGET, OWN = (ipaddress.ip_address(text).packed for text in ("10.0.0.1", "192.0.2.9", "192.0.2.1"))
ROUTER6, TARGET6, OWN6 = (
    ipaddress.ip_address(text).packed for text in ("2001:db8:1::1", "2001:db8:9::9", "2001:db8::1")
)


class Received(Table):
    """A table as if the kernel had filled it."""

    def __init__(self, *messages: tuple[bytes, bytes, bytes]) -> None:
        """Messages are payload, control data, address."""
        super().__init__(decoding.SLOTS, payload=decoding.PAYLOAD_BYTES, control=decoding.CONTROL_BYTES)
        self.rows[:] = b"\xff" * len(self.rows)  # what an earlier message has left
        self._messages = messages
        for slot, (payload, control, address) in enumerate(messages):
            at = slot * self.stride
            self.rows[at : at + len(payload[: self.payload_bytes])] = payload[: self.payload_bytes]
            self.rows[at + self.address_at : at + self.address_at + len(address)] = address
            self.rows[at + self.control_at : at + self.control_at + len(control)] = control

    def lengths(self, count: int) -> list[int]:
        return [len(message[0]) for message in self._messages[:count]]

    def control_lengths(self, count: int) -> list[int]:
        return [len(message[1]) for message in self._messages[:count]]

    def payload(self, slot: int) -> bytes:
        return self._messages[slot][0][: self.payload_bytes]


def stamp(seconds: int, nanoseconds: int) -> bytes:
    """Return SCM_TIMESTAMPING with a software stamp."""
    return control_message(1, 37, struct.pack("=6q", seconds, nanoseconds, 0, 0, 0, 0))


def ip4(source: bytes, destination: bytes, protocol: int, body: bytes, **fields: int) -> bytes:
    """Return an IPv4 packet."""
    options = bytes(fields.get("options", 0))
    length = 20 + len(options) + len(body)
    return (
        struct.pack(
            "!BBHHHBBH4s4s", 0x45 + len(options) // 4, fields.get("tos", 0), length, fields.get("ident", 0), 0,
            fields.get("ttl", 64), protocol, 0, source, destination,
        )
        + options
        + body
    )  # fmt: skip


def ip6(
    source: bytes, destination: bytes, protocol: int, body: bytes, *, tos: int = 0, ttl: int = 64
) -> bytes:
    """Return an IPv6 packet."""
    return (
        struct.pack("!IHBB16s16s", 6 << 28 | tos << 20, len(body), protocol, ttl, source, destination) + body
    )


def test_time_exceeded_for_each_protocol() -> None:
    """The slot is the sequence number, the identification of the IP header, the low half of the TCP sequence number."""
    bodies = {
        1: struct.pack("!BBHHH", 8, 0, 1, 61_008, 0x1234),
        17: struct.pack("!HHHH", 61_008, 33_434, 40, 0x9999),
        6: struct.pack("!HHHH", 61_008, 443, 0x5D3A, 0x1234),
    }
    for protocol, body in bodies.items():
        quoted = ip4(OWN, TARGET, protocol, body, ttl=1, tos=0x88, ident=0x1234 if protocol == 17 else 0)
        packet = ip4(ROUTER, OWN, 1, bytes([11, 0, 0, 0, 0, 0, 0, 0]) + quoted, ttl=250)
        (seen,) = decoding.icmp4(Received((packet, stamp(7, 8), b"")), 1)
        assert seen == decoding.Seen(
            0x1234, protocol, int.from_bytes(body, "big"), None, TARGET, ROUTER, 11, 0, False, 56, 250, 1, 0x88, 28,
            7_000_000_008, None,
        )  # fmt: skip


def test_an_error_about_somebody_elses_packet_says_nothing() -> None:
    """It came to this address, and quotes a packet of another: no router sends it here."""
    body = struct.pack("!BBHHH", 8, 0, 1, 61_008, 0x1234)
    quoted = ip4(TARGET, TARGET, 1, body, ttl=1)
    packet = ip4(ROUTER, OWN, 1, bytes([11, 0, 0, 0, 0, 0, 0, 0]) + quoted, ttl=250)
    assert list(decoding.icmp4(Received((packet, b"", b"")), 1)) == []


def test_echo_replies() -> None:
    """From the destination itself, nothing quoted."""
    packet = ip4(TARGET, OWN, 1, struct.pack("!BBHHH", 0, 0, 0, 61_008, 77) + bytes(32), ttl=60)
    (seen,) = decoding.icmp4(Received((packet, stamp(1, 2), b"")), 1)
    request = struct.pack("!BBHHH", 8, 0, 0, 61_008, 77)
    assert seen == decoding.Seen(
        77, 1, int.from_bytes(request, "big"), None, TARGET, TARGET, 0, 0, True, 60, 60, None, None, None,
        1_000_000_002, None,
    )  # fmt: skip


def test_options_of_the_outer_header_are_skipped() -> None:
    """A router may put some in; the ICMP message then begins later."""
    quoted = ip4(OWN, TARGET, 1, struct.pack("!BBHHH", 8, 0, 1, 61_008, 5), ttl=1)
    message = bytes([11, 0, 0, 0, 0, 32, 0, 0]) + quoted.ljust(128, b"\0") + b"\x20\0\0\0extension"
    plain, optioned = (ip4(ROUTER, OWN, 1, message, options=size) for size in (0, 8))
    found = list(decoding.icmp4(Received((plain, b"", b""), (optioned, b"", b"")), 2))
    assert [seen.slot for seen in found] == [5, 5]
    assert [seen.message for seen in found] == [message, message]


def test_messages_that_are_cut_short_say_nothing() -> None:
    """What stands behind them is left from an earlier one."""
    quoted = ip4(OWN, TARGET, 1, struct.pack("!BBHHH", 8, 0, 1, 61_008, 5), ttl=1)
    packet = ip4(ROUTER, OWN, 1, bytes([11, 0, 0, 0, 0, 0, 0, 0]) + quoted)
    assert list(decoding.icmp4(Received((packet[:-1], b"", b"")), 1)) == []


def test_without_a_stamp_there_is_none() -> None:
    """Control data of an earlier message is not taken for one."""
    packet = ip4(TARGET, OWN, 1, struct.pack("!BBHHH", 0, 0, 0, 61_008, 77) + bytes(32))
    (seen,) = decoding.icmp4(Received((packet, b"", b"")), 1)
    assert seen.stamped_ns is None


def test_icmpv6() -> None:
    """Hop limit by control data, source by the socket address, traffic class out of the first word."""
    quoted = ip6(
        OWN6, TARGET6, 17, struct.pack("!HHHH", 61_008, 33_434, 40, 0x1234) + bytes(32), tos=0xB8, ttl=1
    )
    message = bytes([3, 0, 0, 0, 0, 0, 0, 0]) + quoted
    hops = control_message(41, 52, struct.pack("=i", 253))
    address = struct.pack("=HHI", 10, 0, 0) + ROUTER6 + bytes(4)
    (seen,) = decoding.icmp6(Received((message, stamp(3, 4) + hops, address)), 1)
    head = int.from_bytes(quoted[40:48], "big")
    assert seen == decoding.Seen(
        0x1234, 17, head, OWN6, TARGET6, ROUTER6, 3, 0, False, 40 + len(message), 253, 1, 0xB8, 80, 3_000_000_004, None
    )  # fmt: skip


def test_segments_answer_a_syn() -> None:
    """SYN-ACK and RST-ACK acknowledge its number plus one; other segments are no answer."""
    for flags, answers in ((0x12, 1), (0x14, 1), (0x10, 0), (0x18, 0), (0x04, 0)):
        segment = struct.pack("!HHIIBBHHH", 443, 61_008, 99, (0x5D3A << 16) + 0x1235, 5 << 4, flags, 0, 0, 0)
        found = list(decoding.tcp4(Received((ip4(TARGET, OWN, 6, segment, ttl=62), stamp(1, 1), b"")), 1))
        assert len(found) == answers
        syn = int.from_bytes(struct.pack("!HHI", 61_008, 443, (0x5D3A << 16) + 0x1234), "big")
        for seen in found:
            assert (seen.protocol, seen.head) == (6, syn)
            assert (seen.slot, seen.source, seen.reply, seen.type, seen.ttl) == (
                0x1234,
                TARGET,
                True,
                None,
                62,
            )
        address = struct.pack("=HHI", 10, 0, 0) + TARGET6 + bytes(4)
        found = list(decoding.tcp6(Received((segment, stamp(1, 1), address)), 1))
        assert [(seen.slot, seen.head) for seen in found] == [(0x1234, syn)] * answers


def test_transmit_stamps_carry_their_number() -> None:
    """SCM_TIMESTAMPING, then the extended error with origin 4 and the number as its data."""
    error = control_message(0, 11, struct.pack("=IBBBBII", 42, 4, 0, 0, 0, 0, 70_000) + bytes(16))
    icmp = control_message(0, 11, struct.pack("=IBBBBII", 113, 2, 3, 1, 0, 0, 5) + bytes(16))
    rows = Received((b"", stamp(9, 1) + error, b""), (b"", stamp(9, 1) + icmp, b""), (b"", b"", b""))
    assert list(decoding.transmit_stamps(rows, 3)) == [(70_000, 9_000_000_001)]


@given(st.binary(max_size=200), st.binary(max_size=128))
def test_anything_may_come(payload: bytes, control: bytes) -> None:
    """Nothing is raised, and slots have 16 bits."""
    rows = Received((payload, control, b""))
    for decode in (decoding.icmp4, decoding.icmp6, decoding.tcp4, decoding.tcp6):
        for seen in decode(rows, 1):
            assert 0 <= seen.slot <= 0xFFFF
    list(decoding.transmit_stamps(rows, 1))
