"""Ping of whole networks: which addresses answer, how, and that the policy is asked for all of them at once."""

from __future__ import annotations

import pytest
from integration.probes.peers import Path3, Probe, RecordingGuard, ScriptedHost

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure

pytestmark = pytest.mark.namespaces
NETWORK = "10.93.0.0/24"


@pytest.fixture
def many(path3: Path3) -> Path3:
    """The path, with a far end that has all addresses of two networks."""
    for route in (NETWORK, "10.93.16.0/20", "fd93::/120"):
        path3.far.run("ip", "route", "add", "local", route, "dev", "lo")
        family = "-6" if ":" in route else "-4"
        gateway = "fd91:2::2" if ":" in route else "10.91.2.2"
        path3.router.run("ip", family, "route", "add", route, "via", gateway)
    return path3


@pytest.mark.parametrize("mode", ["interval", "burst"])
async def test_answering_addresses_are_told_apart_from_silent_ones(
    many: Path3, probe: Probe, mode: str, no_leak: None
) -> None:
    """Two requests to each of 254 addresses; 20 of them are silent, and 10 answer every other request."""
    many.router.firewall("forward", "ip daddr 10.93.0.100-10.93.0.119 icmp type echo-request drop")
    for last in range(200, 210):
        many.router.firewall(
            "forward", f"ip daddr 10.93.0.{last} icmp type echo-request numgen inc mod 2 == 1 drop"
        )
    with many.near.entered():
        outcome = await probe("ping", NETWORK, count=2, interval_ms=200, timeout_ms=300, mode=mode)
    result = outcome.metrics
    assert (result.addresses, result.addresses_answering) == (254, 234)
    assert (result.packets_sent, result.packets_received) == (508, 508 - 40 - 10)
    assert result.loss_pct == pytest.approx(100 * 50 / 508)
    assert sum(outcome.detail.pop("rtt_histogram").values()) == result.packets_received
    assert outcome.detail == {"network": NETWORK, "silent": "10.93.0.100-10.93.0.119"}
    rows = {row.address: row for row in result.by_address}
    assert len(rows) == 234
    assert rows["10.93.0.200"].loss_pct == 50
    assert rows["10.93.0.1"].loss_pct == 0
    assert 0 < rows["10.93.0.1"].rtt_avg_ms < 50
    assert not result.HasField("rfc3550_jitter_ms")
    assert result.HasField("rtt_p99_ms")


async def test_the_answering_addresses_are_those_that_fping_finds(many: Path3, probe: Probe) -> None:
    """In one run with the peer, beside silent addresses."""
    many.router.firewall("forward", "ip daddr 10.93.0.8/29 drop")
    with many.near.entered():
        outcome = await probe("ping", "10.93.0.0/26", count=1, timeout_ms=300)
    peer = many.near.run("fping", "-a", "-q", "-r", "0", "-i", "1", "-g", "10.93.0.0/26", check=False)
    assert [row.address for row in outcome.metrics.by_address] == peer.stdout.split()
    assert outcome.metrics.addresses_answering == 62 - 8


async def test_networks_of_ipv6_are_asked_too(many: Path3, probe: Probe) -> None:
    """255 addresses: the first is the routers' own."""
    with many.near.entered():
        outcome = await probe("ping", "fd93::/120", count=1, mode="burst", dscp=10)
    assert (outcome.metrics.addresses, outcome.metrics.addresses_answering) == (255, 255)
    assert outcome.metrics.by_address[0].address == "fd93::1"
    assert outcome.detail["answering"] == "fd93::1-fd93::ff"
    assert outcome.metrics.kernel_timestamps


async def test_larger_networks_have_no_row_for_each_address(many: Path3, probe: Probe) -> None:
    """4,094 addresses back to back, every one matched."""
    with many.near.entered():
        outcome = await probe("ping", "10.93.16.0/20", count=1, mode="burst")
    result = outcome.metrics
    assert (result.addresses, result.packets_sent, result.packets_received) == (4094, 4094, 4094)
    assert not result.by_address
    assert result.kernel_timestamps
    assert outcome.detail["answering"] == "10.93.16.1-10.93.31.254"


async def test_a_network_that_is_silent_altogether_is_a_failure(many: Path3, probe: Probe) -> None:
    """With its counts, and the network's name."""
    many.router.firewall("forward", "drop")
    with many.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.93.0.0/29", count=1, mode="burst", timeout_ms=100)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert "the addresses of 10.93.0.0/29 answered none of 6 requests" in caught.value.message
    assert caught.value.metrics.addresses_answering == 0
    assert caught.value.metrics.loss_pct == 100


async def test_the_policy_is_asked_for_the_whole_network_first(
    scripted_host: ScriptedHost, probe: Probe, guard: RecordingGuard
) -> None:
    """A denied network gets no packet."""
    guard.denied.add("10.92.0.0/28")
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.92.0.0/28", count=1)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_POLICY
    assert [str(network) for network in guard.networks] == ["10.92.0.0/28"]
    assert scripted_host.requests == []


async def test_too_many_packets_for_one_run_are_refused(probe: Probe) -> None:
    """Nothing is sent; the message says what to do."""
    with pytest.raises(
        ProbeFailure, match="more than 1000000, the most of one run; lower the test's `count`"
    ):
        await probe("ping", "10.0.0.0/16", count=16, mode="burst")
