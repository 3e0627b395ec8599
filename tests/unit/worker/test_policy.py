"""What a host's policy lets through, and that a broken one lets nothing through."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamswarm.v1 import probe_pb2
from worker.networks import Network, reachable_as
from worker.policy import Policy, PolicyError
from worker.probing import ProbeFailure, Resolved


def _allows(policy: Policy, address: str, port: int | None = None) -> bool:
    try:
        policy.check(ipaddress.ip_address(address), port)
    except ProbeFailure as failure:
        assert failure.source == probe_pb2.FAILURE_SOURCE_POLICY
        assert failure.status == probe_pb2.STATUS_ERROR
        assert failure.message
        return False
    return True


METADATA = [
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd00:ec2::23",  # the same cloud's name server
    "fd00:c1::a9fe:a9fe",
    "fd00:42::42",
    "fd20:ce::254",
    "192.0.0.192",
]
HIDDEN = [
    "::ffff:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1:a9fe:a9:fe00::",  # /48
    "64:ff9b:1:a9:fe:a9fe::",  # /56
    "64:ff9b:1:0:a9:fea9:fe00:0",  # /64
    "64:ff9b:1::808:808",
    "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001:0:808:808::5601:5601",  # Teredo: the client's address, inverted
    "fe80::5efe:a9fe:a9fe",
    "2001:db8::5efe:169.254.169.254",
    "2001:db8::200:5efe:127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:0:127.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
]
NOWHERE = ["0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.255.255.250", "ff02::1", "255.255.255.255"]  # noqa: S104  checked, not bound to
LINK_LOCAL = ["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "fe80::1%eth0"]
LOOPBACK = ["127.0.0.1", "127.255.255.255", "::1"]


@pytest.mark.parametrize("address", METADATA + HIDDEN + NOWHERE + LINK_LOCAL + LOOPBACK)
def test_the_defaults_deny(address: str) -> None:
    """Metadata services, link-local, loopback and non-addresses, also in their disguises."""
    assert not _allows(Policy(), address)


@pytest.mark.parametrize("address", [*METADATA, "169.254.170.2", "169.254.170.23", "::ffff:169.254.170.2"])
def test_metadata_services_stay_denied_where_link_local_is_allowed(address: str) -> None:
    """Those of containers and pods too: their credentials are as good as the host's."""
    policy = Policy.parse({"allow_link_local": True})
    assert not _allows(policy, address)
    assert _allows(policy, "169.254.170.3")


@pytest.mark.parametrize(
    "address",
    [
        "192.0.2.1",
        "10.0.0.1",
        "172.16.0.1",
        "8.8.8.8",
        "100.64.0.1",
        "2001:db8::1",
        "fd00::1",
        "64:ff9b::808:808",
        "192.0.0.10",
    ],
)
def test_the_defaults_allow_ordinary_addresses(address: str) -> None:
    """Private networks are what this product measures."""
    assert _allows(Policy(), address, 443)


@pytest.mark.parametrize(
    ("named", "address", "allowed"),
    [
        ("64:ff9b:1::/48", "64:ff9b:1::808:808", True),
        ("64:ff9b:1::/48", "64:ff9b:1:808:8:800::", True),
        ("64:ff9b:1:5::/96", "64:ff9b:1:5::808:808", True),
        ("64:ff9b:1:5::/96", "64:ff9b:1::808:808", False),
        ("::/0", "64:ff9b:1::808:808", False),
        ("64:ff9b:1::/48", "64:ff9b:1::a9fe:a9fe", False),
        ("64:ff9b:1::/48", "64:ff9b:1:a9fe:a9:fe00::", False),
        ("64:ff9b:1::/48", "64:ff9b:1:a9:fe:a9fe::", False),
        ("64:ff9b:1::/48", "64:ff9b:1:0:a9:fea9:fe00:0", False),
        ("64:ff9b:1::/48", "64:ff9b:1:7f00:0:100::", False),
    ],
)
def test_a_local_translator_must_be_named_and_hides_nothing(named: str, address: str, allowed: bool) -> None:
    """RFC 8215: denied whole unless `allow` names it; then the IPv4 address behind it is looked at in every form."""
    assert _allows(Policy.parse({"allow": [named]}), address) is allowed


@pytest.mark.parametrize("address", METADATA + NOWHERE)
def test_flags_do_not_open_what_they_do_not_name(address: str) -> None:
    """Loopback and link-local may be allowed; metadata services stay denied."""
    policy = Policy.parse({"allow_loopback": True, "allow_link_local": True})
    assert _allows(policy, "127.0.0.1")
    assert _allows(policy, "::1")
    assert _allows(policy, "fe80::1")
    assert _allows(policy, "169.254.1.1")
    assert not _allows(policy, address)


def test_a_narrow_entry_opens_what_it_names() -> None:
    """One link-local router may be named; a wide entry opens nothing that is denied."""
    named = Policy.parse({"allow": ["fe80::1", "10.0.0.0/8"]})
    assert _allows(named, "fe80::1")
    assert not _allows(named, "fe80::2")
    wide = Policy.parse({"allow": ["0.0.0.0/0", "::/0"]})
    assert _allows(wide, "192.0.2.1")
    assert not any(_allows(wide, address) for address in METADATA + HIDDEN + NOWHERE + LINK_LOCAL + LOOPBACK)


def test_allow_and_deny_choose_networks() -> None:
    """Denials come first, and a list of allowed networks denies the others."""
    policy = Policy.parse({"allow": ["192.0.2.0/24", "2001:db8::/32"], "deny": ["192.0.2.128/25"]})
    assert _allows(policy, "192.0.2.1")
    assert _allows(policy, "2001:db8::5")
    assert not _allows(policy, "192.0.2.200")
    assert not _allows(policy, "198.51.100.1")
    assert not _allows(Policy.parse({"deny": ["192.0.2.0/24"]}), "::ffff:192.0.2.7")


@given(number=st.integers(min_value=0, max_value=2**32 - 1))
def test_no_disguise_helps(number: int) -> None:
    """An IPv4 address that is denied is denied in every IPv6 form that leads to it."""
    plain = ipaddress.IPv4Address(number)
    forms = [
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80)),
    ]
    for form in forms:
        assert plain in list(reachable_as(form))
        if not _allows(Policy(), str(plain)):
            assert not _allows(Policy(), str(form))


def test_ports_and_kinds_are_kept_to() -> None:
    """Only what is listed."""
    policy = Policy.parse({"ports": ["80", "8000-8010", 443], "kinds": ["tcp"]})
    assert _allows(policy, "192.0.2.1", 80)
    assert _allows(policy, "192.0.2.1", 8010)
    assert _allows(policy, "192.0.2.1", 443)
    assert _allows(policy, "192.0.2.1")
    assert not _allows(policy, "192.0.2.1", 22)
    policy.check_kind("tcp")
    with pytest.raises(ProbeFailure, match="kind `ping`"):
        policy.check_kind("ping")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "key: value"),
        ({"alow": []}, "unknown key `alow`"),
        ({"allow": "10.0.0.0/8"}, "must be a list"),
        ({"allow": ["10.0.0.0/33"]}, "not a network"),
        ({"allow": [10]}, "not a network"),
        ({"allow": ["-bad-"]}, "not a host name"),
        ({"deny": ["example.org"]}, "not a network"),
        ({"allow_loopback": "yes please"}, "true or false"),
        ({"ports": ["0-10"]}, "between 1 and 65535"),
        ({"ports": ["20-10"]}, "between 1 and 65535"),
        ({"ports": ["http"]}, "neither a port"),
        ({"kinds": ["pong"]}, "no kind"),
        ({"packets_per_second": -1}, "whole number"),
        ({"bytes_per_day": True}, "whole number"),
    ],
)
def test_mistakes_are_named(values: Any, said: str) -> None:
    """Each says which key and what would be right."""
    with pytest.raises(PolicyError, match=said):
        Policy.parse(values)


@pytest.mark.parametrize(
    "content", [b"allow: [", b"\xff\xfe", b"- a\n", b"allow: [300.0.0.1]\n", b"kinds: 7\n"]
)
def test_a_broken_file_forbids_everything(tmp_path: Path, content: bytes) -> None:
    """And says so, to the log and to the controller."""
    path = tmp_path / "policy.yaml"
    path.write_bytes(content)
    policy = Policy.load(path, required=True)
    assert str(path) in policy.broken
    assert not _allows(policy, "192.0.2.1")
    with pytest.raises(ProbeFailure, match=r"policy\.yaml"):
        policy.check_kind("ping")
    assert "policy.yaml" in json.loads(policy.as_json())["error"]


def test_a_missing_file_forbids_everything_when_it_was_named(tmp_path: Path) -> None:
    """Whoever names a file that is not there has made a mistake; the default path may be empty."""
    assert Policy.load(tmp_path / "none.yaml", required=True).broken
    assert not Policy.load(tmp_path / "none.yaml", required=False).broken
    (tmp_path / "empty.yaml").write_text("")
    assert not Policy.load(tmp_path / "empty.yaml", required=True).broken


async def test_an_allowed_name_opens_its_own_addresses_only() -> None:
    """A redirect or a second name does not profit from it, and denials hold."""

    async def resolve(host: str, family: str) -> Resolved:
        answers = {"good.example": ["198.51.100.1", "127.0.0.1"], "other.example": ["203.0.113.1"]}
        return Resolved(tuple(map(ipaddress.ip_address, answers[host])), 1.0)

    guard = Policy.parse({"allow": ["Good.Example"]}).guard(resolve)
    with pytest.raises(ProbeFailure):
        guard.check(ipaddress.ip_address("198.51.100.1"))
    await guard.resolve("good.example", "any")
    await guard.resolve("other.example", "any")
    guard.check(ipaddress.ip_address("198.51.100.1"), 443)
    for address in ("203.0.113.1", "127.0.0.1"):
        with pytest.raises(ProbeFailure):
            guard.check(ipaddress.ip_address(address))


def test_networks_know_what_lies_in_them() -> None:
    """Versions are never mixed up."""
    network = Network.parse("10.0.0.0/8")
    assert ipaddress.ip_address("10.1.2.3") in network
    assert ipaddress.ip_address("::a01:203") not in network
    assert Network.parse("10.1.0.0/16").within(network)
    assert not network.within(Network.parse("10.1.0.0/16"))


def _allows_network(policy: Policy, network: str) -> bool:
    try:
        policy.check_network(ipaddress.ip_network(network))
    except ProbeFailure as failure:
        assert failure.source == probe_pb2.FAILURE_SOURCE_POLICY
        assert failure.reason == probe_pb2.FAILURE_REASON_FORBIDDEN
        assert str(ipaddress.ip_network(network)) in failure.message
        return False
    return True


def test_a_network_is_forbidden_by_any_address_that_is() -> None:
    """One denied address, a metadata service, loopback, what is never a destination."""
    policy = Policy.parse({"deny": ["10.0.0.77", "2001:db8::100/120"]})
    for network in (
        "10.0.0.0/24", "169.254.169.0/24", "169.254.0.0/16", "127.0.0.0/24", "168.63.128.0/17", "0.0.0.0/24",
        "224.0.0.0/16", "255.255.255.0/24", "2001:db8::/112", "fe80::/112", "::/112", "100.100.0.0/16",
    ):  # fmt: skip
        assert not _allows_network(policy, network), network
    for network in ("10.0.1.0/24", "10.0.0.64/29", "192.0.2.0/24", "2001:db8::/120", "2001:db9::/112"):
        assert _allows_network(policy, network), network


def test_a_network_must_lie_in_what_is_allowed() -> None:
    """In one entry, or in several that lie side by side; a gap of one address is one too many."""
    policy = Policy.parse({"allow": ["10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/26", "www.example.org"]})
    assert _allows_network(policy, "10.0.0.0/24")
    assert not _allows_network(policy, "10.0.0.0/23")
    assert not _allows_network(Policy.parse({"allow": ["10.0.0.0/25", "10.0.0.129"]}), "10.0.0.0/24")
    assert not _allows_network(Policy.parse({"allow": ["www.example.org"]}), "10.0.0.0/24")


def test_what_is_denied_unless_named_must_be_named_for_the_whole_network() -> None:
    """An `allow` entry inside opens its own networks, and nothing that reaches beyond it."""
    policy = Policy.parse({"allow": ["169.254.7.0/24", "0.0.0.0/0", "::/0"]})
    assert _allows_network(policy, "169.254.7.0/25")
    assert not _allows_network(policy, "169.254.6.0/23")
    assert _allows_network(Policy.parse({"allow_loopback": True}), "127.3.0.0/24")
    with pytest.raises(ProbeFailure, match="wrong"):
        Policy(broken="wrong").check_network(ipaddress.ip_network("10.0.1.0/24"))


@pytest.mark.parametrize(
    "network",
    ["::ffff:10.0.0.0/120", "64:ff9b::/112", "64:ff9b:1::/112", "2002:a00:1::/112", "2001:0:a00:1::/112",
     "2001:db8::5efe:a00:0/112"],
)  # fmt: skip
def test_networks_that_lead_to_ipv4_are_forbidden(network: str) -> None:
    """Their addresses would have to be judged one by one; the IPv4 network itself can be named instead."""
    assert not _allows_network(Policy(), network)


@given(st.integers(0, 2**32 - 1), st.integers(16, 32), st.lists(st.integers(0, 2**32 - 1), max_size=3))
def test_a_network_is_let_through_only_if_each_of_its_addresses_is(
    number: int, length: int, denied: list[int]
) -> None:
    """Never more than the check of single addresses allows: first, last, and those that are denied."""
    network = ipaddress.ip_network((number, length), strict=False)
    policy = Policy.parse({"deny": [str(ipaddress.ip_address(each)) for each in denied]})
    addresses = [network[0], network[-1], *map(ipaddress.ip_address, denied)]
    if _allows_network(policy, str(network)):
        assert all(_allows(policy, str(address)) for address in addresses if address in network)
