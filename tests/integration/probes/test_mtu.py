"""Path MTU over routed paths with a narrow link, with and without reports, beside tracepath."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from integration.probes.longer import FAR, FIRST, SECOND, Path4, longer_path
from integration.probes.peers import Namespace, Probe, RecordingGuard, ScriptedHost, echo_reply
from support.routed import entered, routed

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probes import mtu
from worker.probing import ProbeFailure
from worker.wire import icmp_messages, netlink

pytestmark = pytest.mark.namespaces

FAMILIES = pytest.mark.parametrize("family", ["ipv4", "ipv6"])
only_once = pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
#: How a router keeps its reports to itself.
SILENCED = {
    "ipv4": "icmp type destination-unreachable icmp code frag-needed drop",
    "ipv6": "icmpv6 type packet-too-big drop",
}


@pytest.fixture
def path4(_root: None, sort_of_socket: str) -> Iterator[Path4]:
    with longer_path(sort_of_socket=sort_of_socket) as path:
        yield path


def narrow(path: Path4, mtu: int) -> None:
    """Have the link between the second router and the far end carry less."""
    path.second.run("ip", "link", "set", "sw3a", "mtu", str(mtu))
    path.far.run("ip", "link", "set", "sw3b", "mtu", str(mtu))


def tracepath(namespace: Namespace, address: str) -> int:
    """Return the path MTU that tracepath finds."""
    text = namespace.run("tracepath", "-n", "-m", "6", address).stdout
    return int(re.findall(r"pmtu (\d+)", text)[-1])


@FAMILIES
async def test_a_path_without_a_narrow_link_carries_what_the_interface_does(
    path4: Path4, probe: Probe, family: str, no_leak: None
) -> None:
    """Two packets are enough, and nothing limits the path."""
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family])
    result = outcome.metrics
    assert result.path_mtu_bytes == result.interface_mtu_bytes == result.kernel_mtu_bytes == 1500
    assert (result.packets_sent, result.packets_received, result.reports, result.lost) == (2, 2, 0, 0)
    assert result.confirmed
    assert not result.black_hole
    assert 0 < result.rtt_ms < 50
    assert not result.HasField("limit_hop")
    assert not result.HasField("reported_mtu_bytes")
    assert outcome.detail["interface"] == "sw1a"
    assert result.path_mtu_bytes == tracepath(path4.near, FAR[family])


@FAMILIES
async def test_a_reported_limit_is_used_and_checked(path4: Path4, probe: Probe, family: str) -> None:
    """Four packets find it, tracepath says the same, and the hop before the narrow link is named."""
    narrow(path4, 1300)
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family])
    result = outcome.metrics
    assert (result.path_mtu_bytes, result.reported_mtu_bytes) == (1300, 1300)
    assert result.report_right
    assert result.confirmed
    assert not result.black_hole
    assert result.reports == 2
    assert result.limit_hop == 2
    assert outcome.detail["reporter"] == outcome.detail["limit_hop_address"] == SECOND[family]
    assert outcome.detail["finding"] == "the path carries 1300 bytes, as its router reports"
    assert result.path_mtu_bytes == tracepath(path4.near, FAR[family])


@FAMILIES
async def test_what_the_kernel_has_learnt_does_not_mislead(path4: Path4, probe: Probe, family: str) -> None:
    """The link was narrow a moment ago: the kernel still believes it, the run finds what the path carries now."""
    narrow(path4, 1300)
    with path4.near.entered():
        await probe("mtu", FAR[family])
        narrow(path4, 1500)
        outcome = await probe("mtu", FAR[family])
    assert outcome.metrics.kernel_mtu_bytes == 1300
    assert outcome.metrics.path_mtu_bytes == 1500


@FAMILIES
async def test_a_black_hole_is_named_with_its_size_and_its_hop(
    path4: Path4, probe: Probe, family: str
) -> None:
    """The second router drops what is too big and its report with it."""
    narrow(path4, 1372)
    path4.second.firewall("output", SILENCED[family])
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family], timeout_ms=200)
    result = outcome.metrics
    assert (result.path_mtu_bytes, result.black_hole_bytes) == (1372, 1373)
    assert result.black_hole
    assert result.confirmed
    assert (result.reports, result.HasField("reported_mtu_bytes")) == (0, False)
    assert (result.limit_hop, outcome.detail["limit_hop_address"]) == (2, SECOND[family])
    assert "a black hole: packets of 1373 bytes and more vanish" in outcome.detail["finding"]


@FAMILIES
async def test_a_black_hole_before_a_reporting_router(path4: Path4, probe: Probe, family: str) -> None:
    """Sizes up to 1450 are reported by the second router; above, the first one's link swallows them."""
    narrow(path4, 1400)
    path4.first.run("ip", "link", "set", "sw2a", "mtu", "1450")
    path4.second.run("ip", "link", "set", "sw2b", "mtu", "1450")
    path4.first.firewall("output", SILENCED[family])
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family], timeout_ms=200)
    result = outcome.metrics
    assert (result.path_mtu_bytes, result.reported_mtu_bytes, result.black_hole_bytes) == (1400, 1400, 1451)
    assert result.black_hole


@FAMILIES
async def test_loss_is_no_limit(path4: Path4, probe: Probe, family: str) -> None:
    """A fifth of all packets is lost at random, both ways: the path still carries 1500 bytes, run after run."""
    path4.second.firewall("forward", "numgen random mod 100 < 20 drop")
    lost = 0
    with path4.near.entered():
        for _ in range(12):
            outcome = await probe("mtu", FAR[family], timeout_ms=100, tries=10)
            assert outcome.metrics.path_mtu_bytes == 1500
            assert not outcome.metrics.black_hole
            lost += outcome.metrics.lost
    assert lost > 0, "nothing was lost: the test shows nothing"


@FAMILIES
async def test_a_limit_that_a_route_sets_is_found(path4: Path4, probe: Probe, family: str) -> None:
    """No interface is narrow: the second router's route is."""
    target = "10.94.3.2/32" if family == "ipv4" else "fd94:3::2/128"
    path4.second.run("ip", "route", "add", target, "dev", "sw3a", "mtu", "lock", "1350")
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family])
    assert (outcome.metrics.path_mtu_bytes, outcome.metrics.reported_mtu_bytes) == (1350, 1350)
    assert outcome.detail["reporter"] == SECOND[family]


@FAMILIES
async def test_udp_measures_where_pings_are_not_answered(path4: Path4, probe: Probe, family: str) -> None:
    """The destination's report of a closed port is the answer."""
    narrow(path4, 1300)
    name = "icmp type" if family == "ipv4" else "icmpv6 type"
    path4.far.firewall("input", f"{name} echo-request drop")
    with path4.near.entered():
        outcome = await probe("mtu", FAR[family], method="udp")
        assert outcome.metrics.path_mtu_bytes == 1300
        assert outcome.metrics.limit_hop == 2
        with pytest.raises(ProbeFailure, match="answered none of 2 packets") as caught:
            await probe("mtu", FAR[family], timeout_ms=100, tries=2)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
    assert caught.value.metrics.packets_sent == 2


async def test_udp_needs_no_answer_as_large_as_the_packet(path4: Path4, probe: Probe) -> None:
    """The way back is a black hole for large packets: echo replies vanish, the way there is as wide as it was."""
    path4.second.firewall("forward", "iifname sw3a ip length > 1000 drop")
    with path4.near.entered():
        there = await probe("mtu", FAR["ipv4"], method="udp")
        both = await probe("mtu", FAR["ipv4"], timeout_ms=150)
    assert there.metrics.path_mtu_bytes == 1500
    assert (both.metrics.path_mtu_bytes, both.metrics.black_hole_bytes) == (1000, 1001)


async def test_a_path_that_must_carry_more_is_a_failed_run(path4: Path4, probe: Probe) -> None:
    """FAILED and OUT_OF_BOUNDS, with everything measured."""
    narrow(path4, 1400)
    with path4.near.entered(), pytest.raises(ProbeFailure, match="at most; the test wants 1500") as caught:
        await probe("mtu", FAR["ipv4"], min_mtu_bytes=1500)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.reason == probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS
    assert caught.value.metrics.path_mtu_bytes == 1400
    assert caught.value.metrics.limit_hop == 2


@only_once
@pytest.mark.parametrize("known", [True, False])
async def test_a_path_that_this_host_cannot_fill_is_not_judged(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """Whether the path carries more than this host's own link is not known, whoever says what the link carries."""
    if not known:
        monkeypatch.setattr(netlink, "outgoing_link", lambda *_, **__: None)
    with path4.near.entered():
        path4.near.run("ip", "link", "set", "sw1a", "mtu", "1400")
        with pytest.raises(
            ProbeFailure, match="this host sends no packets of more than 1400 bytes"
        ) as caught:
            await probe("mtu", FAR["ipv4"], min_mtu_bytes=1500, locate=False)
        narrow(path4, 1300)
        with pytest.raises(ProbeFailure, match="at most; the test wants 1500"):
            await probe("mtu", FAR["ipv4"], min_mtu_bytes=1500, locate=False)
        with pytest.raises(ProbeFailure, match="raise `max_size_bytes`") as invalid:
            await probe("mtu", FAR["ipv4"], min_mtu_bytes=1500, max_size_bytes=1400)
    assert (caught.value.source, caught.value.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_CANNOT_SEND,
    )  # fmt: skip
    assert caught.value.metrics.path_mtu_bytes == 1400
    assert invalid.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST


async def test_hosts_that_cannot_be_reached(path4: Path4, probe: Probe, guard: RecordingGuard) -> None:
    """A router's word is the network's, no route here the vantage's, and the policy comes before any packet."""
    path4.first.run("ip", "route", "add", "unreachable", "10.99.0.0/16")
    with path4.near.entered():
        with pytest.raises(ProbeFailure, match=r"10\.94\.1\.2 reported host unreachable") as caught:
            await probe("mtu", "10.99.0.1")
        assert caught.value.reason == probe_pb2.FAILURE_REASON_UNREACHABLE
        path4.near.run("ip", "route", "delete", "default")
        with pytest.raises(ProbeFailure, match="ENETUNREACH") as caught:
            await probe("mtu", "10.99.0.1")
        assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
        assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND
        assert caught.value.metrics.packets_sent == 0
        for name in ("lost", "reports"):
            assert not caught.value.metrics.HasField(name)
        guard.denied.add(FIRST["ipv4"])
        with pytest.raises(ProbeFailure, match="denied"):
            await probe("mtu", FIRST["ipv4"])


@only_once
@pytest.mark.parametrize("bits_per_s", [64_000, 128_000])
async def test_a_slow_link_is_no_limit(scripted_host: ScriptedHost, probe: Probe, bits_per_s: int) -> None:
    """Large packets take much longer than the small one that is sent first, and wait for those before them."""
    free_s = 0.0

    def answer(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
        nonlocal free_s
        now_s, takes_s = time.monotonic(), 8 * len(packet) / bits_per_s
        free_s = max(now_s, free_s) + takes_s
        return [(free_s + takes_s - now_s, echo_reply(packet))]

    scripted_host.script = answer
    with scripted_host.namespace.entered():
        outcome = await probe("mtu", "10.92.0.2", locate=False)
    assert outcome.metrics.path_mtu_bytes == 1500
    assert not outcome.metrics.black_hole
    assert outcome.metrics.confirmed


@only_once
async def test_a_black_hole_takes_no_longer_than_the_run_may(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """The host falls silent as soon as the limit is to be confirmed: every packet is waited for, and the run ends in time."""
    answered = {68: 0}

    def answer(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
        answered[len(packet)] = answered.get(len(packet), 0) + 1
        # 700 bytes pass once, while they are looked for.
        return [(0.04, echo_reply(packet))] if len(packet) <= 700 and answered[len(packet)] < 2 else []

    scripted_host.script = answer
    values = {"timeout_ms": 50, "tries": 2, "locate": True}
    spec = contract.make_spec("mtu", values).mtu
    with scripted_host.namespace.entered():
        began_s = time.monotonic()
        outcome = await probe("mtu", "10.92.0.2", **values)
        took_s = time.monotonic() - began_s
    assert 3 < took_s <= mtu.duration_s(spec) + 0.5
    assert outcome.metrics.packets_sent <= mtu.need(spec).packets
    assert outcome.metrics.bytes_sent + outcome.metrics.bytes_received <= mtu.need(spec).size
    assert (outcome.metrics.path_mtu_bytes, outcome.metrics.confirmed) == (700, False)


@only_once
async def test_a_router_that_withholds_its_reports_loses_nothing(path4: Path4, probe: Probe) -> None:
    """Only packets that should have reached the destination can be lost."""
    narrow(path4, 1300)
    path4.first.firewall("output", "icmp type time-exceeded drop")
    with path4.near.entered():
        outcome = await probe("mtu", FAR["ipv4"])
    assert outcome.metrics.path_mtu_bytes == 1300
    assert outcome.metrics.lost == 0


@FAMILIES
@pytest.mark.usefixtures("_root")
async def test_a_router_that_reports_is_found_behind_silent_ones(probe: Probe, family: str) -> None:
    """More of them in a row than are asked behind a black hole."""
    version = 4 if family == "ipv4" else 6
    with routed(6) as path:
        for router in path.routers[:5]:
            path.firewall(router, "output", "icmp type time-exceeded drop")
            path.firewall(router, "output", "icmpv6 type time-exceeded drop")
        for name, device in ((path.routers[-1], "sw7a"), (path.far, "sw7b")):
            path.run(name, "ip", "link", "set", device, "mtu", "1300")
        with entered(path.near):
            outcome = await probe("mtu", path.target(version), timeout_ms=200)
    assert (outcome.metrics.path_mtu_bytes, outcome.metrics.limit_hop) == (1300, 6)
    assert outcome.detail["limit_hop_address"] == path.hop(6, version)
    assert outcome.metrics.lost == 0


@only_once
async def test_the_route_of_the_source_is_the_one_that_counts(path4: Path4, probe: Probe) -> None:
    """Packets from this address leave by another interface."""
    near = path4.near
    near.run("ip", "link", "add", "sw9", "mtu", "1400", "type", "veth", "peer", "name", "sw9b")
    near.run("ip", "address", "add", "10.94.9.1/24", "dev", "sw9")
    for device in ("sw9", "sw9b"):
        near.run("ip", "link", "set", device, "up")
    near.run("ip", "route", "add", "default", "dev", "sw9", "table", "100")
    near.run("ip", "rule", "add", "from", "10.94.9.1", "table", "100")
    with near.entered(), pytest.raises(ProbeFailure, match="answered none") as caught:
        await probe("mtu", FAR["ipv4"], source="10.94.9.1", timeout_ms=50)
    assert caught.value.detail["interface"] == "sw9"
    assert caught.value.metrics.interface_mtu_bytes == 1400


@only_once
async def test_what_this_host_refuses_is_its_own_limit(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hop 0: the interface is not known, and its kernel sends nothing larger."""
    monkeypatch.setattr(netlink, "outgoing_link", lambda *_, **__: None)
    with path4.near.entered():
        outcome = await probe("mtu", FAR["ipv4"])
    assert outcome.metrics.path_mtu_bytes == 1500
    assert outcome.metrics.HasField("limit_hop")
    assert (outcome.metrics.limit_hop, outcome.metrics.reports) == (0, 0)


@only_once
async def test_a_path_too_narrow_for_the_smallest_packet_is_told(
    path4: Path4, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its router's words, which are not about its TTL."""
    monkeypatch.setitem(icmp_messages.SMALLEST_MTU, 4, 700)
    narrow(path4, 600)
    with path4.near.entered(), pytest.raises(ProbeFailure, match="reported") as caught:
        await probe("mtu", FAR["ipv4"])
    assert caught.value.message == (
        "10.94.3.2 was not reached: 10.94.2.2 reported that a packet of 700 bytes, which every link must carry, "
        "is too big; it names 600 bytes"
    )
