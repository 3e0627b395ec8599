"""Traceroute on real paths: beside Debian's traceroute, with limits, loss, remarking, rejects, and without rights."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Probe, ScriptedHost, checksum, echo_reply
from support import mmdb
from support.routed import Routed, entered, routed

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import loop
from worker.policy import Policy
from worker.probes import traceroute
from worker.probing import Outcome, ProbeContext, ProbeFailure
from worker.reaching import reached
from worker.resolving import system_resolver
from worker.wire import options
from worker.wire.trace import sockets
from worker.wire.trace.engine import trace
from worker.wire.trace.paths import Memory
from worker.wire.trace.plan import TracePlan, TraceUnavailableError

pytestmark = [pytest.mark.namespaces, pytest.mark.usefixtures("_root")]

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
PROTOCOLS = pytest.mark.parametrize("protocol", ["icmp", "udp", "tcp"])


@pytest.fixture(scope="module")
def path(_root: None) -> Iterator[Routed]:
    """Three routers without limits."""
    with routed(3) as made:
        yield made


@pytest.fixture
def own_path(_root: None) -> Iterator[Routed]:
    """Three routers without limits, for tests that change them."""
    with routed(3) as made:
        yield made


@FAMILIES
@PROTOCOLS
async def test_it_agrees_with_debians_traceroute(
    path: Routed, probe: Probe, no_leak: None, protocol: str, version: int
) -> None:
    """The same hops in all modes; round-trip times as small as on this machine."""
    target = path.target(version)
    said = path.run(
        path.near, "traceroute", f"-{version}", "-n", "-q", "1", "-w", "2",
        *{"icmp": ["-I"], "udp": [], "tcp": ["-T", "-p", "443"]}[protocol], target,
    )  # fmt: skip
    theirs = re.findall(r"^ *\d+ +(\S+)", said.partition("\n")[2], re.MULTILINE)
    with entered(path.near):
        outcome = await probe("traceroute", target, protocol=protocol, rounds=2, round_interval_ms=50)
    result = outcome.metrics
    assert [hop["result"][0]["from"] for hop in outcome.detail["hops"]] == theirs
    assert theirs == [path.hop(number, version) for number in (1, 2, 3, 4)]
    assert (result.reached, result.hop_count, result.loss_pct, result.responding_hops) == (True, 4, 0, 4)
    assert result.kernel_timestamps
    assert 0 < result.rtt_min_ms <= result.rtt_avg_ms <= result.rtt_max_ms < 50
    assert [row.hop for row in result.hops] == ["01", "02", "03", "04"]
    assert all(row.probes_sent == row.probes_answered == 2 for row in result.hops)
    assert all(row.quoted_ttl == 1 for row in list(result.hops)[:3])


@FAMILIES
async def test_tcp_reaches_an_open_port_too(path: Routed, probe: Probe, version: int) -> None:
    """By the SYN-ACK; this host's kernel takes the half-open connection back."""
    with entered(path.far):
        server = await asyncio.start_server(lambda *_: None, port=8443)
    async with server:
        with entered(path.near):
            outcome = await probe(
                "traceroute", path.target(version), protocol="tcp", port=8443, rounds=1, timeout_ms=1000
            )
    assert outcome.metrics.hop_count == 4
    assert outcome.detail["hops"][3]["result"][0]["flags"] == "SA"


@FAMILIES
async def test_a_hop_with_the_kernels_default_limit_is_named_rate_limited(probe: Probe, version: int) -> None:
    """It answers a part of its probes and loses nothing: hops behind it answer all of theirs."""
    interval_ms = 100 if version == 4 else 10
    with routed(3, limited=(2,)) as path, entered(path.near):
        outcome = await probe(
            "traceroute", path.target(version), rounds=40, round_interval_ms=interval_ms, timeout_ms=500
        )
    result = outcome.metrics
    first, limited, third, last = result.hops
    assert 0 < limited.probes_answered < 40, "the kernel limits by itself"
    assert limited.rate_limited
    assert limited.unanswered_pct > 20
    assert limited.loss_pct == 0, "silence of a hop is no loss"
    for hop in (first, third, last):
        assert (hop.rate_limited, hop.loss_pct, hop.unanswered_pct) == (False, 0, 0)
    assert (result.rate_limited_hops, result.loss_pct) == (1, 0)


async def test_a_limit_of_the_destination_itself_is_named(probe: Probe) -> None:
    """There is no hop behind it: the pattern of its answers tells."""
    with routed(1, limited=(2,)) as path, entered(path.near):
        outcome = await probe(
            "traceroute", path.target(), protocol="udp", rounds=40, round_interval_ms=100, timeout_ms=500
        )
    last = outcome.metrics.hops[-1]
    assert last.rate_limited
    assert not last.HasField("loss_pct"), "nothing says how much was lost"
    assert not outcome.metrics.HasField("loss_pct")
    assert outcome.metrics.reached


async def test_loss_is_loss_at_the_hop_and_behind_it(own_path: Routed, probe: Probe) -> None:
    """Exactly every fifth packet that the second router forwards is dropped."""
    own_path.firewall(own_path.routers[1], "forward", "icmp type echo-request numgen inc mod 5 == 0 drop")
    with entered(own_path.near):
        outcome = await probe(
            "traceroute", own_path.target(), rounds=50, round_interval_ms=20, timeout_ms=300
        )
    first, second, third, last = outcome.metrics.hops
    assert (first.loss_pct, second.loss_pct) == (0, 0)
    assert 18 <= third.loss_pct <= 22
    assert 18 <= last.loss_pct <= 22
    assert outcome.metrics.loss_pct == last.loss_pct
    assert outcome.metrics.rate_limited_hops == 0


async def test_a_silent_router_hides_nothing(own_path: Routed, probe: Probe) -> None:
    """It is told as silent, and what lies behind is found."""
    own_path.firewall(own_path.routers[1], "output", "icmp type time-exceeded drop")
    with entered(own_path.near):
        outcome = await probe("traceroute", own_path.target(), rounds=2, round_interval_ms=50, timeout_ms=400)
    result = outcome.metrics
    assert (result.hop_count, result.silent_hops, result.responding_hops) == (4, 1, 3)
    assert result.hops[1].loss_pct == 0
    assert result.hops[1].unanswered_pct == 100
    assert not result.hops[1].rate_limited
    assert outcome.detail["hops"][1]["result"] == [{"x": "*"}, {"x": "*"}]


@FAMILIES
async def test_a_rejecting_router_ends_the_path(own_path: Routed, probe: Probe, version: int) -> None:
    """The run fails, says who rejected, and does not ask on behind it."""
    match, reject = (
        ("icmp type echo-request", "icmp type admin-prohibited")
        if version == 4
        else ("icmpv6 type echo-request", "icmpv6 type admin-prohibited")
    )
    own_path.firewall(own_path.routers[1], "forward", f"{match} reject with {reject}")
    with entered(own_path.near), pytest.raises(ProbeFailure) as caught:
        await probe("traceroute", own_path.target(version), rounds=1)
    failure = caught.value
    assert failure.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert failure.reason == probe_pb2.FAILURE_REASON_UNREACHABLE
    assert own_path.hop(2, version) in failure.message
    assert "administratively prohibited" in failure.message
    assert not failure.metrics.reached
    assert len(failure.metrics.hops) == 3
    assert failure.detail["hops"][2]["result"][0]["err"] == "A"


async def test_a_silent_destination_is_told_with_the_last_hop(own_path: Routed, probe: Probe) -> None:
    """Five silent hops in a row are enough, and no longer than the time-out is waited."""
    own_path.firewall(own_path.far, "input", "icmp type echo-request drop")
    started = time.monotonic()
    with entered(own_path.near), pytest.raises(ProbeFailure) as caught:
        await probe("traceroute", own_path.target(), rounds=1, timeout_ms=500)
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
    assert f"number 3, {own_path.hop(3)}" in caught.value.message
    assert time.monotonic() - started < 2
    assert caught.value.metrics.probes_sent == 8, "three that answer, and five that do not"


async def test_a_destination_that_answers_too_late_is_no_silent_one(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """It does not count as reached, and proves all the same that a firewall lets it through."""
    scripted_host.script = lambda _number, packet: [(0.2, echo_reply(packet))]
    words = r"silent: no answer .* within 50 ms; [0-9]+ answers of it"
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure, match=words) as caught:
        await probe("traceroute", "10.92.0.2", rounds=2, timeout_ms=50, round_interval_ms=500)
    assert not caught.value.metrics.reached
    assert caught.value.detail["late"] >= 5
    assert reached(contract.kind("traceroute"), caught.value)


async def test_remarking_shows_in_what_routers_quote(own_path: Routed, probe: Probe) -> None:
    """The first router changes the class: the hops behind it quote another one than was sent."""
    own_path.firewall(own_path.routers[0], "forward", "ip dscp set cs1")
    with entered(own_path.near):
        outcome = await probe("traceroute", own_path.target(), dscp=46, rounds=1)
    assert [row.quoted_dscp for row in list(outcome.metrics.hops)[:3]] == [46, 8, 8]
    assert not outcome.metrics.hops[3].HasField("quoted_dscp"), "a reply quotes nothing"


async def test_a_change_of_the_path_is_told_once(
    own_path: Routed, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run has nothing to compare with; the second router gets another address, then stays."""

    async def changed() -> bool | None:
        outcome = await probe("traceroute", own_path.target(), rounds=1)
        hashes.append(outcome.metrics.path_hash)
        return outcome.metrics.path_changed if outcome.metrics.HasField("path_changed") else None

    monkeypatch.setattr(traceroute, "_memory", Memory())  # other tests have traced the same addresses
    hashes: list[int] = []
    router = own_path.routers[1]
    with entered(own_path.near):
        assert await changed() is None
        assert await changed() is False
        own_path.run(router, "sysctl", "-qw", "net.ipv4.conf.all.promote_secondaries=1")
        own_path.run(router, "ip", "address", "add", "10.93.2.77/24", "dev", "sw2b")
        own_path.run(router, "ip", "address", "delete", "10.93.2.2/24", "dev", "sw2b")
        own_path.run(own_path.routers[0], "ip", "route", "replace", "default", "via", "10.93.2.77")
        own_path.run(router, "ip", "address", "add", "10.93.2.2/24", "dev", "sw2b")
        assert await changed() is True
        assert await changed() is False
    assert hashes[0] == hashes[1] != hashes[2] == hashes[3]


async def test_cancelling_leaves_nothing_behind(own_path: Routed, probe: Probe, no_leak: None) -> None:
    """A run that waits for silent hops is stopped; another one beside it goes on."""
    own_path.firewall(own_path.far, "input", "ip daddr 198.19.0.1 drop")
    with entered(own_path.near):
        waiting = asyncio.ensure_future(probe("traceroute", "198.19.0.1", timeout_ms=20_000))
        other = asyncio.ensure_future(probe("traceroute", own_path.target(), rounds=5, round_interval_ms=100))
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        outcome = await other
    assert outcome.metrics.loss_pct == 0


async def test_hundreds_of_traces_at_once_lose_no_answer(probe: Probe) -> None:
    """Routers keep the kernel's limit for all hosts together (1,000 a second, 50 at once): asked at their pace."""
    with routed(2) as path, entered(path.near):
        outcomes = await asyncio.gather(
            *(probe("traceroute", f"198.19.0.{number}", rounds=1) for number in range(1, 251))
        )
    assert all(outcome.metrics.probes_answered == outcome.metrics.probes_sent for outcome in outcomes)
    assert {outcome.metrics.hop_count for outcome in outcomes} == {3}


async def test_a_first_ttl_beyond_the_destination_tells_no_distance(own_path: Routed, probe: Probe) -> None:
    """It is reached, and may be nearer; later traces are not misled."""
    with entered(own_path.near):
        beyond = await probe("traceroute", own_path.target(), rounds=1, first_ttl=6)
        usual = await probe("traceroute", own_path.target(), rounds=1)
    assert beyond.metrics.reached
    assert not beyond.metrics.HasField("hop_count")
    assert usual.metrics.hop_count == 4


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "dgram"])
async def test_what_this_host_drops_is_no_loss(
    own_path: Routed, probe: Probe, monkeypatch: pytest.MonkeyPatch, *, raw: bool
) -> None:
    """Where the receive buffer had no room it is told, and nothing is said about loss or limits of routers."""
    if not raw:
        own_path.run(own_path.near, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")

        def refuse(version: int) -> None:
            raise TraceUnavailableError("this process may not send raw packets", sockets.RAW_RIGHT)

        monkeypatch.setattr(sockets, "open_sender", refuse)

    def shrink(sock: socket.socket, size: int) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)

    monkeypatch.setattr(options, "enlarge_receiving", shrink)
    with entered(own_path.near):
        try:
            outcome: Outcome | ProbeFailure = await probe(
                "traceroute", own_path.target(), rounds=1, probes_per_hop=10, timeout_ms=400
            )
        except ProbeFailure as failure:
            outcome = failure
            assert failure.reason == probe_pb2.FAILURE_REASON_NO_ROOM
            assert not failure.metrics.HasField("reached")
    assert outcome.detail["overflows"] > 0
    assert outcome.metrics.probes_answered < outcome.metrics.probes_sent
    assert not outcome.metrics.HasField("loss_pct")
    assert not any(hop.HasField("loss_pct") or hop.HasField("rate_limited") for hop in outcome.metrics.hops)


async def test_probes_that_this_host_refuses_prove_nothing(own_path: Routed, probe: Probe) -> None:
    """Its own firewall lets the first hop's through; that the destination is silent is not known."""
    own_path.run(own_path.near, "nft", "add table ip t")
    own_path.run(own_path.near, "nft", "add chain ip t o { type filter hook output priority 0; }")
    own_path.run(own_path.near, "nft", "add rule ip t o meta l4proto udp ip ttl > 1 drop")
    with (
        entered(own_path.near),
        pytest.raises(ProbeFailure, match=r"did not send all probes: .*EPERM") as caught,
    ):
        await probe("traceroute", own_path.target(), protocol="udp", rounds=1, timeout_ms=200)
    assert (caught.value.source, caught.value.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_CANNOT_SEND,
    )  # fmt: skip
    assert caught.value.metrics.probes_answered == 1
    assert not caught.value.metrics.HasField("reached")


async def test_a_host_without_a_way_measures_nothing(own_path: Routed, probe: Probe, no_leak: None) -> None:
    """No loss, an error of the vantage."""
    own_path.run(own_path.near, "ip", "route", "delete", "default")
    for protocol in ("icmp", "udp", "tcp"):
        with entered(own_path.near), pytest.raises(ProbeFailure) as caught:
            await probe("traceroute", own_path.target(), protocol=protocol)
        assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
        assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND
        assert "ENETUNREACH" in caught.value.message


@FAMILIES
async def test_icmp_works_without_the_right_to_send_raw_packets(
    path: Routed, probe: Probe, no_leak: None, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """By datagram sockets: the same hops and times, without what only raw sockets see."""
    path.run(path.near, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")

    def refuse(version: int) -> None:
        raise TraceUnavailableError("this process may not send raw packets", sockets.RAW_RIGHT)

    monkeypatch.setattr(sockets, "open_sender", refuse)
    with entered(path.near):
        outcome = await probe("traceroute", path.target(version), rounds=2, round_interval_ms=50)
        with pytest.raises(ProbeFailure) as caught:
            await probe("traceroute", path.target(version), protocol="udp")
    assert [hop["result"][1]["from"] for hop in outcome.detail["hops"]] == [
        path.hop(number, version) for number in (1, 2, 3, 4)
    ]
    assert outcome.metrics.kernel_timestamps
    assert not outcome.metrics.hops[0].HasField("quoted_dscp")
    assert caught.value.reason == probe_pb2.FAILURE_REASON_NO_PERMISSION
    assert "CAP_NET_RAW" in caught.value.message


def test_answers_are_noticed_on_the_workers_own_loop(path: Routed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where transmit stamps lie in the socket's error queue, which keeps uvloop from watching it."""
    path.run(path.near, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")

    def refuse(version: int) -> None:
        raise TraceUnavailableError("this process may not send raw packets", sockets.RAW_RIGHT)

    monkeypatch.setattr(sockets, "open_sender", refuse)
    plan = TracePlan(
        protocol="icmp",
        port=0,
        rounds=3,
        interval_s=0.2,
        timeout_s=20.0,
        first_ttl=1,
        max_ttl=30,
        gap_limit=5,
        probes_per_hop=1,
        flows=1,
        size=64,
        dscp=0,
    )
    with entered(path.near):
        started_s = time.monotonic()
        record = loop.run(trace(ipaddress.ip_address("127.0.0.1"), plan))
    assert time.monotonic() - started_s < 10
    assert any(probe.answer is not None for probe in record.probes)


async def test_the_policy_is_asked_for_address_and_port(path: Routed, probe: Probe, guard: object) -> None:
    """Without one nothing is sent."""
    guard.denied.add(f"{path.target()}:443")  # type: ignore[attr-defined]
    with entered(path.near), pytest.raises(ProbeFailure) as caught:
        await probe("traceroute", path.target(), protocol="tcp")
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_POLICY


@FAMILIES
@PROTOCOLS
async def test_probes_leave_from_the_source(
    own_path: Routed, probe: Probe, protocol: str, version: int
) -> None:
    """An address of this host: the first router sees it; an interface: its own; anything else is the vantage's error."""
    other = "10.93.1.99" if version == 4 else "fd93:1::99"
    absent = "192.0.2.77" if version == 4 else "2001:db8::77"
    own_path.run(
        own_path.near, "ip", "address", "add", f"{other}/{24 if version == 4 else 64}", "dev", "sw1a",
        *([] if version == 4 else ["nodad", "preferred_lft", "0"]),
    )  # fmt: skip
    # Only what comes from that address gets through.
    family = "ip" if version == 4 else "ip6"
    own_path.firewall(own_path.routers[0], "forward", f"iifname sw1b {family} saddr != {other} drop")
    values = {"protocol": protocol, "rounds": 1, "timeout_ms": 1000, "gap_limit": 2}
    with entered(own_path.near):
        outcome = await probe("traceroute", own_path.target(version), source=other, **values)
        assert outcome.metrics.hop_count == 4
        with pytest.raises(ProbeFailure) as caught:
            await probe("traceroute", own_path.target(version), source="sw1a", **values)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT, (
            "the interface has another address first"
        )
        with pytest.raises(ProbeFailure) as caught:
            await probe("traceroute", own_path.target(version), source=absent, **values)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND


async def test_flows_find_alternatives_and_one_flow_keeps_to_one(own_path: Routed, probe: Probe) -> None:
    """The first router spreads load over two links by addresses and ports."""
    first, second = own_path.routers[:2]
    own_path.run(
        first, "ip", "link", "add", "sw22a", "type", "veth", "peer", "name", "sw22b", "netns", second
    )
    for router, device, host in ((first, "sw22a", 1), (second, "sw22b", 2)):
        own_path.run(router, "ip", "address", "add", f"10.93.22.{host}/24", "dev", device)
        own_path.run(router, "ip", "link", "set", device, "up")
    own_path.run(first, "sysctl", "-qw", "net.ipv4.fib_multipath_hash_policy=1")
    # As hardware does: answer with the address that the packet came in by.
    own_path.run(second, "sysctl", "-qw", "net.ipv4.icmp_errors_use_inbound_ifaddr=1")
    own_path.run(
        first, "ip", "route", "replace", "default", "nexthop", "via", "10.93.2.2", "nexthop", "via", "10.93.22.2"
    )  # fmt: skip
    with entered(own_path.near):
        for protocol in ("udp", "tcp"):
            one = await probe(
                "traceroute", own_path.target(), protocol=protocol, rounds=8, round_interval_ms=20
            )
            many = await probe("traceroute", own_path.target(), protocol=protocol, rounds=1, paths=16)
            assert [row.addresses for row in one.metrics.hops] == [1, 1, 1, 1], (
                "packets of a flow stay together"
            )
            assert [row.addresses for row in many.metrics.hops] == [1, 2, 1, 1]
            assert many.metrics.widest_hop == 2
            found = {each["from"] for each in many.detail["hops"][1]["result"]}
            assert found == {"10.93.2.2", "10.93.22.2"}


async def test_local_databases_tell_systems_and_places(path: Routed, tmp_path: Path) -> None:
    """Of the operator's folder; with an empty one the detail says that there are none."""
    mmdb.write(
        tmp_path / "test.mmdb",
        {
            "10.93.1.0/24": {"autonomous_system_number": 64_500, "location": {"latitude": 52.5, "longitude": 13.4}},
            "10.93.4.0/24": {"autonomous_system_number": 64_501, "location": {"latitude": 48.9, "longitude": 2.4}},
        },
    )  # fmt: skip
    guard = Policy.parse({}).guard(system_resolver())
    kind = contract.kind("traceroute")
    spec = contract.make_spec("traceroute", {"rounds": 1}).traceroute
    (empty := tmp_path / "empty").mkdir()
    outcomes = []
    for folder in (tmp_path, empty):
        context = ProbeContext(guard=guard, resolve=guard.resolve, databases=folder)
        with entered(path.near):
            outcomes.append(await traceroute.run(contract.parse_target(kind, path.target()), spec, context))
        traceroute._databases.pop(folder).close()
    outcome, without = outcomes
    assert without.detail["databases"] == f"none that can be read in {empty}"
    assert not without.metrics.HasField("as_count")
    assert "databases" not in outcome.detail
    result = outcome.metrics
    assert result.as_count == 2
    assert [row.as_number for row in result.hops if row.HasField("as_number")] == [64_500, 64_501]
    assert 850 < result.distance_km < 900
    assert result.geographic_efficiency_pct == pytest.approx(100)
    assert outcome.detail["hops"][0]["as_number"] == 64_500


#: All blocks of ports that an engine may have, and as many probes as a short trace sends.
BLOCKS = range(61_008, 65_505, 16)
FORGED_SLOTS = range(1, 41)


def forged(version: int, protocol: str, here: bytes, there: bytes) -> Iterator[bytes]:
    """Yield the errors of somebody who cannot see the probes: for each block of ports and slot, as if they were counted."""
    number = {"icmp": 1 if version == 4 else 58, "udp": 17, "tcp": 6}[protocol]
    kind = bytes([3, 1] if version == 4 else [1, 3])
    for block in BLOCKS:
        for slot in FORGED_SLOTS:
            body = {
                "icmp": struct.pack("!BBHHH", 8 if version == 4 else 128, 0, 0, block, slot),
                "udp": struct.pack("!HHHH", block, 33_434, 40, slot),
                "tcp": struct.pack("!HHI", block, 443, 0x5D3A << 16 | slot),
            }[protocol]
            if version == 4:
                header = struct.pack("!BBHHHBBH", 0x45, 0, 60, slot, 0, 1, number, 0)
            else:
                header = struct.pack("!IHBB", 6 << 28, 40, number, 1)
            message = kind + bytes(6) + header + here + there + body
            check = checksum(message).to_bytes(2, "big")
            yield message[:2] + check + message[4:] if version == 4 else message


@FAMILIES
@PROTOCOLS
async def test_whoever_cannot_see_the_probes_cannot_answer_for_them(
    own_path: Routed, probe: Probe, protocol: str, version: int
) -> None:
    """A host floods errors for every block of ports that there is, while a silent hop's probes wait for an answer."""
    kind = "icmp type" if version == 4 else "icmpv6 type"
    own_path.firewall(own_path.routers[1], "output", f"{kind} time-exceeded drop")
    here, there = (
        ipaddress.ip_address(text).packed
        for text in (own_path.hop(1, version).removesuffix("2") + "1", own_path.target(version))
    )
    messages = list(forged(version, protocol, here, there))
    assert len(messages) == 282 * len(FORGED_SLOTS)
    family = socket.AF_INET if version == 4 else socket.AF_INET6

    def forge() -> None:
        with entered(own_path.routers[2]):
            sock = socket.socket(
                family, socket.SOCK_RAW, socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
            )
        with sock:
            for message in messages:
                sock.sendto(message, (socket.inet_ntop(family, here), 0))

    with entered(own_path.near):
        running = asyncio.ensure_future(
            probe("traceroute", own_path.target(version), protocol=protocol, rounds=1, timeout_ms=3000)
        )
        await asyncio.sleep(0.3)
        await asyncio.to_thread(forge)
        assert not running.done(), "the flood came too late to show anything"
        outcome = await running
    assert [row.addresses for row in outcome.metrics.hops] == [1, 0, 1, 1]
    assert outcome.metrics.hop_count == 4
