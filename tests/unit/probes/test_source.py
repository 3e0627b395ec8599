"""What a test's `source` means: addresses, interfaces, and the control data of packets that leave from there."""

from __future__ import annotations

import socket
import struct

import pytest

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire.source import BY_ROUTES, Source


def test_nothing_leaves_it_to_the_routes() -> None:
    """No binding, no control data, the family as it is wanted."""
    source = Source.parse("")
    assert source is BY_ROUTES
    assert source.control(4) is None
    assert source.family("www.example.test", "any") == "any"


@pytest.mark.parametrize("text", ["x" * 16, "eth/0", "eth0:1", "300.1.2.3.4.5.6.7.8", "..", "fe80::x"])
def test_what_is_neither_address_nor_interface_is_the_tests_fault(text: str) -> None:
    """Nothing of the host is asked for it."""
    with pytest.raises(ProbeFailure, match="neither an address nor the name of an interface") as caught:
        Source.parse(text)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


@pytest.mark.parametrize(
    ("source", "host", "wanted", "expected"),
    [
        ("127.0.0.1", "www.example.test", "any", "ipv4"),
        ("::1", "www.example.test", "any", "ipv6"),
        ("::ffff:127.0.0.1", "www.example.test", "any", "ipv4"),
        # What the test says stands, and an address has its family.
        ("127.0.0.1", "www.example.test", "ipv6", "ipv6"),
        ("127.0.0.1", "2001:db8::1", "any", "any"),
        ("nowhere0", "www.example.test", "any", "any"),
    ],
)
def test_names_are_resolved_in_the_sources_family(source: str, host: str, wanted: str, expected: str) -> None:
    """Or a name's IPv6 address would be tried from an IPv4 one."""
    assert Source.parse(source).family(host, wanted) == expected


def test_sockets_are_bound() -> None:
    """To the address, with a port of the kernel's choice or the caller's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        Source.parse("127.0.0.9").bind(sock, 0)
        assert sock.getsockname()[0] == "127.0.0.9"
        port = sock.getsockname()[1]
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
            pytest.raises(OSError, match="in use"),
        ):
            Source.parse("127.0.0.9").bind(other, port)


def test_a_port_alone_is_bound_on_every_address() -> None:
    """As engines need it that ask for an identifier."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            BY_ROUTES.bind(sock, 0)
            assert sock.getsockname()[1]


def test_control_data_names_address_and_interface() -> None:
    """The structs of ip(7) and RFC 3542."""
    loopback = socket.if_nametoindex("lo")
    assert Source.parse("127.0.0.9").control(4) == (0, 8, struct.pack("=i", 0) + b"\x7f\0\0\x09" + bytes(4))
    assert Source.parse("lo").control(4) == (0, 8, struct.pack("=i", loopback) + bytes(8))
    assert Source.parse("::1").control(6) == (41, 50, bytes(15) + b"\1" + struct.pack("=I", 0))
    assert Source.parse("fe80::1%lo").control(6) == (
        41,
        50,
        b"\xfe\x80" + bytes(13) + b"\1" + struct.pack("=I", loopback),
    )
    assert Source.parse("lo").control(6) == (41, 50, bytes(16) + struct.pack("=I", loopback))


@pytest.mark.parametrize(
    ("text", "version", "problem"),
    [
        ("192.0.2.77", 4, "this host has no address 192.0.2.77"),
        ("2001:db8::77", 6, "this host has no address 2001:db8::77"),
        ("nowhere0", 4, "this host has no interface `nowhere0`"),
        ("fe80::77", 6, "needs the name of its interface, such as `fe80::77%eth0`"),
        ("fe80::77%nowhere0", 6, "nowhere0"),
    ],
)
def test_what_this_host_does_not_have_is_the_vantages(text: str, version: int, problem: str) -> None:
    """Asked for before anything is sent."""
    with pytest.raises(ProbeFailure, match=problem) as caught:
        Source.parse(text).check(version)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND


@pytest.mark.parametrize("text", ["fd00::1%lo", "2001:db8::1%1", "::1%lo"])
def test_a_zone_that_the_kernel_would_ignore_is_the_tests_fault(text: str) -> None:
    """As for destinations: packets would leave by another interface than the one that is named."""
    with pytest.raises(
        ProbeFailure, match="only link-local addresses have; leave out what follows `%`"
    ) as caught:
        Source.parse(text)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


@pytest.mark.parametrize(("text", "version"), [("127.0.0.1", 6), ("::1", 4)])
def test_addresses_of_the_other_family_are_the_tests_fault(text: str, version: int) -> None:
    """By binding and by control data alike."""
    for ask in (Source.parse(text).check, Source.parse(text).control):
        with pytest.raises(ProbeFailure, match="of the destination's family") as caught:
            ask(version)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST
