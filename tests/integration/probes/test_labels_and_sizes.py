"""Flow labels as they arrive, and the MTUs that routers name for their next links, on a real path of three routers."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import AsyncIterator, Iterator

import pytest
from integration.probes.peers import Probe
from support.routed import Routed, entered, routed

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import icmp

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("_root")]

#: `IPV6_FLOWLABEL_MGR`: get a label, made now, which nobody else may use.
_FLOW_LABEL_MANAGER, _GET, _EXCLUSIVE, _CREATE = 32, 0, 1, 1
FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module")
def path(_root: None) -> Iterator[Routed]:
    """Three routers; the link behind the second carries 1,400 bytes, the one behind the third 1,300."""
    with routed(3) as made:
        for number, mtu in ((3, 1400), (4, 1300)):
            for name, side in ((made.routers[number - 2], "a"), ((*made.routers, made.far)[number - 1], "b")):
                made.run(name, "ip", "link", "set", f"sw{number}{side}", "mtu", str(mtu))
        yield made


@contextlib.contextmanager
def labels_at(path: Routed) -> Iterator[list[int]]:
    """Collect the flow labels of IPv6 packets that arrive at the far end, other than for finding neighbours."""
    found: list[int] = []
    with entered(path.far):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD))
    with sock:
        sock.bind(("sw4b", 0x86DD))
        yield found
        with contextlib.suppress(BlockingIOError):
            while True:
                packet = sock.recv(2048, socket.MSG_DONTWAIT)
                if packet[7] < 255 and packet[24:40] == socket.inet_pton(socket.AF_INET6, path.target(6)):
                    found.append(int.from_bytes(packet[:4], "big") & 0xFFFFF)


@pytest.fixture(params=["dgram", "raw"])
async def sort(request: pytest.FixtureRequest, path: Routed) -> AsyncIterator[str]:
    """Both sorts of ICMP socket for pings."""
    allowed = {"dgram": "0 2147483647", "raw": "1 0"}[request.param]
    path.run(path.near, "sysctl", "-qw", f"net.ipv4.ping_group_range={allowed}")
    yield request.param
    icmp.close_unused()


async def test_requests_carry_the_label_that_was_asked_for(path: Routed, probe: Probe, sort: str) -> None:
    """Runs with labels of their own share a socket; one without leaves the label to the system."""
    with entered(path.near):
        for label in (0xABCDE, 1, 0xFFFFF):
            with labels_at(path) as found:
                outcome = await probe(
                    "ping", path.target(6), count=3, interval_ms=10, flow_label=label, dscp=46, ttl=9
                )
            assert outcome.metrics.packets_received == 3
            assert found == [label] * 3
        with labels_at(path) as found:
            await probe("ping", path.target(6), count=1)
    assert found
    assert found[0] not in (0xABCDE, 1, 0xFFFFF)


async def test_labels_that_somebody_reserved_are_refused_by_this_host(path: Routed, probe: Probe) -> None:
    """The kernel says no to a raw socket; the run names this host, not the destination."""
    path.run(path.near, "sysctl", "-qw", "net.ipv4.ping_group_range=1 0")
    with entered(path.near):
        # struct in6_flowlabel_req: destination, label, action, share, flags, expiry and linger, padding.
        wanted = socket.inet_pton(socket.AF_INET6, path.target(6)) + (0x12345).to_bytes(4, "big")
        wanted += bytes([_GET, _EXCLUSIVE]) + _CREATE.to_bytes(2, "little") + bytes(8)
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as holder:
            holder.setsockopt(socket.IPPROTO_IPV6, _FLOW_LABEL_MANAGER, wanted)
            icmp.close_unused()
            with pytest.raises(ProbeFailure, match="has reserved one") as caught:
                await probe("ping", path.target(6), count=1, flow_label=0x54321)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND
    icmp.close_unused()


@pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])
async def test_paths_count_on_from_the_label(path: Routed, probe: Probe, protocol: str) -> None:
    """The first path has the label, the next one the next; they begin anew behind the last."""
    with entered(path.near), labels_at(path) as found:
        outcome = await probe(
            "traceroute",
            path.target(6),
            protocol=protocol,
            paths=2,
            rounds=1,
            flow_label=0xFFFFF,
            timeout_ms=500,
        )
    assert outcome.metrics.reached
    assert set(found) == {0xFFFFF, 1}


@pytest.mark.parametrize("kind", ["ping", "traceroute"])
async def test_an_ipv4_address_has_no_label(path: Routed, probe: Probe, kind: str) -> None:
    """The test is wrong, and nothing is sent."""
    with entered(path.near), pytest.raises(ProbeFailure, match="no flow label") as caught:
        await probe(kind, path.target(4), flow_label=7)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


@FAMILIES
@pytest.mark.parametrize("protocol", ["icmp", "udp"])
async def test_hops_tell_the_mtu_of_their_next_link(
    path: Routed, probe: Probe, version: int, protocol: str
) -> None:
    """Both narrow links in one run, beside tracepath; the destination is reached with what they carry."""
    path.run(path.near, "ip", f"-{version}", "route", "flush", "cache")
    said = path.run(path.near, "tracepath", f"-{version}", "-n", "-m", "6", path.target(version))
    assert "pmtu 1400" in said
    assert re.search(r"Resume: pmtu 1300\b", said)
    size = 1500 - (28 if version == 4 else 48)
    with entered(path.near):
        outcome = await probe(
            "traceroute", path.target(version), protocol=protocol, dont_fragment=True, size_bytes=size, rounds=2,
            round_interval_ms=10, timeout_ms=500,
        )  # fmt: skip
    result = outcome.metrics
    hops = {row.hop: row for row in result.hops}
    assert {hop: row.mtu_bytes for hop, row in hops.items() if row.HasField("mtu_bytes")} == {
        "02": 1400,
        "03": 1300,
    }
    assert [entry.get("mtu") for entry in outcome.detail["hops"]] == [None, 1400, 1300, None]
    assert "mtus" not in outcome.detail
    assert (result.reached, result.hop_count, result.loss_pct) == (True, 4, 0)
    assert [row.probes_sent for row in result.hops] == [2, 2, 2, 2]
    # The first round's five hops at full size or what was left of it, the second round's four at the smallest.
    assert 4 * 1300 < result.bytes_sent - 4 * 1300 < 12 * 1500


async def test_without_the_bit_ipv4_is_fragmented_and_no_mtu_told(path: Routed, probe: Probe) -> None:
    """A router that may cut a probe in two says nothing."""
    with entered(path.near):
        outcome = await probe("traceroute", path.target(4), size_bytes=1472, rounds=1, timeout_ms=500)
    assert outcome.metrics.reached
    assert not any(row.HasField("mtu_bytes") for row in outcome.metrics.hops)


async def test_a_router_that_names_no_mtu_ends_the_path(path: Routed, probe: Probe) -> None:
    """As routers from before RFC 1191 do: the probes could only guess."""
    rule = "icmp type destination-unreachable icmp code frag-needed @th,48,16 set 0"
    path.firewall(path.near, "input", rule)
    try:
        with entered(path.near), pytest.raises(ProbeFailure, match="fragmentation needed") as caught:
            await probe(
                "traceroute", path.target(4), dont_fragment=True, size_bytes=1472, rounds=1, timeout_ms=500
            )
    finally:
        path.run(path.near, "nft", "flush", "ruleset")
    assert caught.value.reason == probe_pb2.FAILURE_REASON_UNREACHABLE
