"""ICMP errors for echo requests as raw sockets deliver them."""

from __future__ import annotations

import ipaddress

import pytest

from worker.wire import icmp_messages
from worker.wire.icmp.errors import parse

REQUEST4, REQUEST6 = bytes([8, 0, 1, 2, 0x12, 0x34, 0, 7]), bytes([128, 0, 1, 2, 0x12, 0x34, 0, 7])
FAR4, FAR6 = ipaddress.ip_address("192.0.2.9").packed, ipaddress.ip_address("2001:db8::9").packed


def quoting4(kind: int, code: int, *, protocol: int = 1, checksum: int | None = None) -> bytes:
    """Return an IPv4 packet with an error; its own header has options, as those of routers may have."""
    quoted = bytes([0x45, 0, 0, 84]) + bytes(4) + bytes([1, protocol, 0, 0]) + bytes(4) + FAR4 + REQUEST4
    message = bytes([kind, code]) + bytes(6) + quoted
    if checksum is None:
        checksum = 0xFFFF - icmp_messages.internet_sum(message)
    message = message[:2] + checksum.to_bytes(2, "big") + message[4:]
    return bytes([0x46]) + bytes(23) + message


def quoting6(kind: int, code: int, *, fragmented: bool = False) -> bytes:
    """Return an ICMPv6 message with an error, quoting the request or the first fragment of it."""
    header = bytes([0x60]) + bytes(5) + bytes([44 if fragmented else 58, 1]) + bytes(16) + FAR6
    fragment = bytes([58]) + bytes(7) if fragmented else b""
    return bytes([kind, code]) + bytes(6) + header + fragment + REQUEST6


def test_an_ipv4_error_names_its_request() -> None:
    """Type, code, sender, whom the request was sent to, and the request from its ICMP header on."""
    packet = quoting4(3, 1)
    error = parse(4, packet, "198.51.100.1")
    assert error is not None
    assert error == (3, 1, "198.51.100.1", FAR4, REQUEST4, len(packet), None)


@pytest.mark.parametrize("fragmented", [False, True])
def test_an_ipv6_error_names_its_request(fragmented: bool) -> None:
    """Also where the request left in fragments; the zone of a sender on the link is not part of its address."""
    message = quoting6(1, 3, fragmented=fragmented)
    error = parse(6, message, "fe80::1%eth0")
    assert error is not None
    assert error == (1, 3, "fe80::1", FAR6[12:], REQUEST6, 40 + len(message), None)


def test_packets_that_were_too_big_have_the_mtu_of_the_next_link() -> None:
    """Where the router named one (RFC 1191, RFC 4443)."""
    message = quoting6(2, 0)
    named = parse(6, message[:4] + (1300).to_bytes(4, "big") + message[8:], "2001:db8::1")
    assert named is not None
    assert named.mtu == 1300
    unnamed = parse(4, quoting4(3, 4), "198.51.100.1")
    assert unnamed is not None
    assert unnamed.mtu is None


def test_what_is_no_error_for_a_request_is_none() -> None:
    """Another type, another protocol, a broken checksum, and whatever is cut off."""
    assert parse(4, quoting4(5, 1), "198.51.100.1") is None
    assert parse(4, quoting4(3, 1, protocol=17), "198.51.100.1") is None
    assert parse(4, quoting4(3, 1, checksum=0x1234), "198.51.100.1") is None
    assert parse(6, quoting6(129, 0), "2001:db8::1") is None
    for length in range(48):
        assert parse(6, quoting6(1, 3, fragmented=True)[:length], "2001:db8::1") is None
    for length in range(len(quoting4(3, 1))):
        assert parse(4, quoting4(3, 1)[:length], "198.51.100.1") is None
