"""Targets are read strictly: what resolvers or tools would guess at is refused before anything is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm import contract
from streamswarm.contract import InvalidInputError
from streamswarm.targets import (
    TargetError,
    host_range,
    parse_address,
    parse_host,
    parse_host_port,
    parse_network,
    parse_url,
)

ODD = [
    "", " ", "-f", "--help", "$(id)", "a;b", "a\0b", "a\r\nb", "a" * 254, "a." * 130 + "b", "2852039166", "0xa9fea9fe",
    "127.1", "0177.0.0.1", "1.2.3.4.5", "1.2.3", "a..b", ".a", "a b", "a/b", "user@host", "[::1", "host:0", "host:65536",
    "host:٣", "é" * 10, "a\u202eb", "256.1.1.1", "::1%eth0;id", "host:80:90",
    "[2001:db8::1%²]:80", "[fe80::1%eth0;id]:80", "[fe80::1%]", "[fe80::1%a b]:80", "fe80::1%" + "x" * 16,
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_odd_hosts_are_refused_with_a_message(text: str) -> None:
    """Options, shell text, numbers for addresses, control characters, over-long names."""
    with pytest.raises(TargetError) as caught:
        parse_host_port(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    ["2001:db8::1%eth0", "[2001:db8::1%eth0]:53", "::1%lo", "fd00::1%eth0", "::ffff:169.254.0.1%eth0", "fec0::1%1"],
)  # fmt: skip
def test_a_zone_that_the_kernel_would_ignore_is_refused(text: str) -> None:
    """Packets would leave by another interface than the one that is named."""
    with pytest.raises(TargetError, match=r"only link-local addresses .* leave out `%.* test's `source`"):
        parse_address(text)


@pytest.mark.parametrize("text", ["ff02::1%eth0", "[ff01::1%lo]:53", "ff05::2%2"])
def test_multicast_is_told_as_such(text: str) -> None:
    """Its zone has a meaning, and leaving it out would help nobody."""
    with pytest.raises(TargetError, match="is a multicast address, which many hosts may answer"):
        parse_address(text)


@pytest.mark.parametrize("text", ["fe80::1%eth0", "febf::1%br-0a1b2c.100", "[fe80::1%2]:53"])
def test_link_local_addresses_have_their_zones(text: str) -> None:
    """By the name or the number of the interface."""
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("example.org", "example.org", None),
        ("Example.ORG.", "example.org", None),
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:53", "192.0.2.1", 53),
        ("2001:DB8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("_dns._udp.example", "_dns._udp.example", None),
        ("a-b:65535", "a-b", 65535),
    ],
)
def test_usual_hosts_are_taken(text: str, host: str, port: int | None) -> None:
    """Names, IPv4, IPv6, with and without port; the text form reads back the same."""
    target = parse_host_port(text)
    assert (target.host, target.port) == (host, port)
    assert parse_host_port(str(target)) == target


@pytest.mark.parametrize(
    "text",
    ["file:///etc/passwd", "gopher://a", "http://", "http://user:secret@host/", "http://host/#part", "http://host:0/",
     "http://host:99999/", "http://2852039166/", "http://0xa9fea9fe/", "http://[::1/", "http://ho st/", "http://host/\r\nX: y", "//host/", "host"],
)  # fmt: skip
def test_odd_urls_are_refused(text: str) -> None:
    """Other schemes, credentials, fragments, numbers for hosts, header injection."""
    with pytest.raises(TargetError):
        parse_url(text)


def test_urls_are_taken_as_they_are() -> None:
    """Path and query stay untouched."""
    target = parse_url("https://Example.org:8443/a%20b?c=d")
    assert (target.host, target.port, target.url) == (
        "example.org",
        8443,
        "https://Example.org:8443/a%20b?c=d",
    )


def test_the_sign_before_a_zone_may_be_escaped_in_a_url() -> None:
    """As RFC 6874 has it, or as people write it."""
    for sign in ("%", "%25"):
        target = parse_url(f"http://[fe80::1{sign}eth0]:8080/")
        assert (target.host, target.port) == ("fe80::1%eth0", 8080)


@given(st.text(max_size=300))
def test_no_text_crashes_the_parsers(text: str) -> None:
    """Every text is taken or refused with a TargetError."""
    for parse in (parse_host, parse_host_port, parse_url, parse_network, parse_address):
        try:
            parse(text)
        except TargetError as error:
            assert str(error).isprintable()


def test_a_kind_takes_only_its_form() -> None:
    """Ping refuses ports, http refuses hosts, system refuses everything."""
    for kind, text in (("ping", "host:80"), ("http", "host"), ("system", "host")):
        with pytest.raises(InvalidInputError, match="target: "):
            contract.parse_target(contract.kind(kind), text)
    assert contract.parse_target(contract.kind("system"), "").host == ""


@pytest.mark.parametrize(
    ("text", "canonical", "hosts"),
    [
        ("192.0.2.0/24", "192.0.2.0/24", 254),
        ("10.0.0.0/16", "10.0.0.0/16", 65_534),
        ("192.0.2.4/31", "192.0.2.4/31", 2),
        ("192.0.2.4/32", "192.0.2.4/32", 1),
        ("2001:DB8::/112", "2001:db8::/112", 65_535),
        ("2001:db8::7/128", "2001:db8::7/128", 1),
    ],
)
def test_networks_are_taken_in_their_usual_form(text: str, canonical: str, hosts: int) -> None:
    """How many addresses hosts may have, by RFC 1122, 3021, 4291 and 6164; the text form reads back the same."""
    target = contract.parse_target(contract.kind("ping"), text)
    assert (str(target), target.addresses, target.address) == (canonical, hosts, None)
    assert parse_address(str(target)) == target


def test_the_networks_own_and_the_broadcast_address_are_left_out() -> None:
    """IPv4; in IPv6 the routers' anycast address alone."""
    four, six = parse_network("192.0.2.0/29"), parse_network("2001:db8::/125")
    assert [str(four[n - int(four[0])]) for n in host_range(four)] == [f"192.0.2.{n}" for n in range(1, 7)]
    assert [str(six[n - int(six[0])]) for n in host_range(six)] == [f"2001:db8::{n}" for n in range(1, 8)]


@pytest.mark.parametrize(
    "text",
    ["192.0.2.0/", "/24", "192.0.2.0/33", "192.0.2.0/024", "192.0.2.0/255.255.255.0", "192.0.2.0/-1", "192.0.2.1/24",
     "10.0.0.0/15", "0.0.0.0/0", "::/0", "2001:db8::/111", "fe80::%eth0/120", "host/24", "192.0.2.0/24/24", "192.0.2/24",
     "192.0.2.0/٢٤", "192.0.2.0 /24", "192.0.2.0/24:80", "0x0a000000/24"],
)  # fmt: skip
def test_odd_networks_are_refused_with_a_message(text: str) -> None:
    """Masks, host bits, octal, zones, names, and networks that are too large."""
    with pytest.raises(TargetError) as caught:
        parse_network(text)
    assert str(caught.value).isprintable()
    with pytest.raises(InvalidInputError):
        contract.parse_target(contract.kind("ping"), text)


def test_only_kinds_that_say_so_aim_at_networks() -> None:
    """One that connects to a port does not, and ping takes no URL."""
    for kind, text in (("tcp", "192.0.2.0/24"), ("http", "192.0.2.0/24"), ("ping", "http://192.0.2.0/24")):
        with pytest.raises(InvalidInputError, match="target: "):
            contract.parse_target(contract.kind(kind), text)


def test_destinations_may_have_any_form() -> None:
    """A URL by its scheme, a network by its slash, else a host with or without port."""
    assert parse_address("https://host/a").url == "https://host/a"
    assert str(parse_address("192.0.2.0/24").network) == "192.0.2.0/24"
    assert parse_address("host:80").port == 80
