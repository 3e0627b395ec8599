"""Probes of a trace are valid packets, and differ only where no router looks when it spreads load."""

import ipaddress
import itertools
import struct

import pytest

from worker.wire.icmp_messages import internet_sum
from worker.wire.trace.packets import FLOWS, Flow, Template, shape
from worker.wire.trace.plan import Protocol

ADDRESSES = {4: ("192.0.2.1", "198.51.100.77"), 6: ("2001:db8::1", "2001:db8:ffff:8000::77")}
NUMBERS = {"icmp": {4: 1, 6: 58}, "udp": {4: 17, 6: 17}, "tcp": {4: 6, 6: 6}}
SORTS = pytest.mark.parametrize(
    ("version", "protocol"), list(itertools.product((4, 6), ("icmp", "udp", "tcp"))), ids=str
)


def packet(
    version: int,
    protocol: Protocol,
    *,
    ttl: int = 3,
    slot: int = 1,
    number: int = 0,
    size: int = 33,
    dscp: int = 0,
) -> bytes:
    """Return a probe as it is sent, except for what the kernel fills in."""
    flow = Flow(
        version=version,
        protocol=protocol,
        number=number,
        ident=61_008 + number,
        port=33_434,
        size=size,
        dscp=dscp,
    )
    addresses = b"".join(ipaddress.ip_address(text).packed for text in ADDRESSES[version])
    template = Template(shape(flow), addresses)
    buffer = bytearray(b"\xff" * 2000)
    template.write(buffer, 7, ttl, slot)
    return bytes(buffer[7 : 7 + template.length])


def covered(version: int, protocol: Protocol, data: bytes) -> bytes:
    """Return what the transport checksum of a packet covers."""
    header = 20 if version == 4 else 40
    body = data[header:]
    if version == 4 and protocol == "icmp":
        return body
    number = NUMBERS[protocol][version]
    if version == 4:
        return data[12:20] + struct.pack("!BBH", 0, number, len(body)) + body
    return data[8:40] + struct.pack("!II", len(body), number) + body


@SORTS
@pytest.mark.parametrize("slot", [1, 2, 255, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("size", [12, 33, 1472])
def test_checksums_are_right(version: int, protocol: Protocol, slot: int, size: int) -> None:
    """For slots at all edges, and for payloads of odd length."""
    for number in (0, FLOWS - 1):
        data = packet(version, protocol, slot=slot, number=number, size=size)
        assert internet_sum(covered(version, protocol, data)) == 0xFFFF


@SORTS
def test_packets_of_a_flow_look_the_same_to_routers(version: int, protocol: Protocol) -> None:
    """Addresses, class, flow label, length and the first four bytes behind the IP header: ports, or type and checksum."""
    header = 20 if version == 4 else 40
    seen = set()
    for ttl, slot in itertools.product((1, 30), (1, 500, 65_535)):
        data = packet(version, protocol, ttl=ttl, slot=slot)
        fixed = data[:4] + (data[9:10] + data[12:20] if version == 4 else data[4:7] + data[8:40])
        seen.add(
            fixed + data[header : header + 4] + (data[header + 4 : header + 6] if protocol == "icmp" else b"")
        )
    assert len(seen) == 1


@SORTS
def test_flows_differ_where_routers_look(version: int, protocol: Protocol) -> None:
    """In the ports, or in the ICMP checksum."""
    header = 20 if version == 4 else 40
    heads = {packet(version, protocol, number=number)[header : header + 4] for number in range(FLOWS)}
    assert len(heads) == FLOWS


@SORTS
def test_the_slot_is_among_what_every_router_quotes(version: int, protocol: Protocol) -> None:
    """Two bytes of the IP header or of the eight bytes behind it."""
    header = 20 if version == 4 else 40
    data = packet(version, protocol, slot=0xABCD)
    at = 4 if (version, protocol) == (4, "udp") else header + 6
    assert data[at : at + 2] == b"\xab\xcd"


@SORTS
def test_headers_say_what_was_asked(version: int, protocol: Protocol) -> None:
    """TTL, DSCP, lengths, addresses, protocol."""
    data = packet(version, protocol, ttl=17, dscp=46, size=100)
    source, destination = (ipaddress.ip_address(text).packed for text in ADDRESSES[version])
    body = 108 if protocol != "tcp" else 20
    if version == 4:
        assert (data[0], data[1], data[8], data[9]) == (0x45, 46 << 2, 17, NUMBERS[protocol][4])
        assert int.from_bytes(data[2:4], "big") == len(data) == 20 + body
        assert data[12:20] == source + destination
    else:
        assert int.from_bytes(data[:4], "big") >> 20 == 6 << 8 | 46 << 2
        assert int.from_bytes(data[4:6], "big") == body
        assert len(data) == 40 + body
        assert (data[6], data[7]) == (NUMBERS[protocol][6], 17)
        assert data[8:40] == source + destination
    if protocol == "tcp":
        assert data[-20:][13] == 0x02, "a SYN and nothing else"


@SORTS
def test_an_answer_is_known_by_what_it_quotes(version: int, protocol: Protocol) -> None:
    """Each bit of ports, identifier or sequence number counts, of checksums, lengths and the slot none."""
    flow = Flow(
        version=version, protocol=protocol, number=0, ident=61_008, port=33_434, size=33, dscp=0, sequence_high=0xBEEF
    )  # fmt: skip
    addresses = b"".join(ipaddress.ip_address(text).packed for text in ADDRESSES[version])
    template = Template(shape(flow), addresses)
    assert (template.protocol, template.origin) == (
        NUMBERS[protocol][version],
        addresses[: len(addresses) // 2],
    )
    buffer = bytearray(template.length)
    template.write(buffer, 0, 9, 0x1234)
    header = 20 if version == 4 else 40
    head = int.from_bytes(buffer[header : header + 8], "big")
    counting = {"icmp": {0, 1, 4, 5}, "udp": {0, 1, 2, 3}, "tcp": {0, 1, 2, 3, 4, 5}}[protocol]
    assert not (head ^ template.head) & template.flow_bits
    for byte in range(8):
        for bit in range(8):
            other = head ^ 1 << (63 - 8 * byte - bit)
            assert bool((other ^ template.head) & template.flow_bits) is (byte in counting)
