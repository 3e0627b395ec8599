"""Errors on the way of a ping are told apart: from routers, from this host, from neighbours that are not there."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from typing import Any

import pytest
from integration.probes.peers import Path3, Probe, ScriptedHost, echo_reply, to_both

from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.policy import Policy
from worker.probing import ProbeFailure
from worker.vantage.health import Vantage
from worker.wire import icmp
from worker.wire.echo import EchoPlan
from worker.wire.icmp import engine
from worker.wire.icmp.lane import Lane
from worker.wire.icmp.sockets import Sort


@pytest.mark.namespaces
@to_both(
    "router",
    "words",
    ipv4=("10.91.1.2", "time exceeded on the way"),
    ipv6=("fd91:1::2", "hop limit exceeded on the way"),
)
async def test_an_expired_ttl_names_the_router(
    path3: Path3, probe: Probe, address: str, router: str, words: str
) -> None:
    """All requests die at the first hop: no reply, three errors, the router's address in the message."""
    started = time.monotonic()
    with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", address, count=3, interval_ms=20, timeout_ms=5000, ttl=1)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert f"{router} reported {words} (3 times)" in caught.value.message
    assert caught.value.metrics.icmp_errors == 3
    assert time.monotonic() - started < 3, "an answered run does not wait for its time-out"


@pytest.mark.namespaces
@to_both("words", ipv4=("time exceeded on the way",), ipv6=("hop limit exceeded on the way",))
async def test_errors_for_requests_in_fragments_are_attributed(
    path3: Path3, probe: Probe, address: str, words: str
) -> None:
    """The router quotes the first fragment, which in IPv6 has a header of its own before the request."""
    with path3.near.entered(), pytest.raises(ProbeFailure, match=words) as caught:
        await probe("ping", address, count=2, interval_ms=20, timeout_ms=1000, ttl=1, size_bytes=3000)
    assert caught.value.metrics.icmp_errors == 2


@pytest.mark.namespaces
@to_both("words", ipv4=("fragmentation needed",), ipv6=("packet too big",))
async def test_packets_too_big_for_the_path_are_reported_each_time(
    path3: Path3, probe: Probe, address: str, words: str
) -> None:
    """Also after the kernel has learnt the path's MTU: each request is really sent."""
    path3.router.run("ip", "link", "set", "sw2a", "mtu", "1300")
    path3.far.run("ip", "link", "set", "sw2b", "mtu", "1300")
    settings = {"count": 3, "interval_ms": 20, "size_bytes": 1400}
    with path3.near.entered():
        with pytest.raises(ProbeFailure) as caught:
            await probe("ping", address, dont_fragment=True, **settings)
        assert f"{words} (3 times)" in caught.value.message
        assert caught.value.metrics.packets_sent == 3
        outcome = await probe("ping", address, **settings)
    assert outcome.metrics.packets_received == 3, "without the flag the packets are fragmented"


@pytest.mark.namespaces
async def test_packets_bigger_than_the_own_link_are_no_loss(path3: Path3, probe: Probe) -> None:
    """This host cannot send them: an error of the vantage."""
    with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.91.2.2", size_bytes=2000, dont_fragment=True, count=1)
    assert caught.value.status == probe_pb2.STATUS_ERROR
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert "EMSGSIZE" in caught.value.message


@pytest.mark.namespaces
async def test_a_host_without_route_measures_nothing(path3: Path3, probe: Probe, no_leak: None) -> None:
    """ENETUNREACH is no loss."""
    path3.near.run("ip", "route", "delete", "default")
    with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.91.2.2", count=3)
    assert caught.value.status == probe_pb2.STATUS_ERROR
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert "ENETUNREACH" in caught.value.message
    assert caught.value.metrics is None


@pytest.mark.namespaces
async def test_a_firewall_of_this_host_is_no_loss(path3: Path3, probe: Probe) -> None:
    """Every second request is refused on the way out: sent counts what left, and nothing is lost."""
    path3.near.firewall("output", "icmp type echo-request numgen inc mod 2 == 0 drop")
    with path3.near.entered():
        outcome = await probe("ping", "10.91.2.2", count=10, interval_ms=10, timeout_ms=300)
    assert (outcome.metrics.packets_sent, outcome.metrics.packets_received) == (5, 5)
    assert outcome.metrics.loss_pct == 0
    assert outcome.metrics.kernel_timestamps, "refused packets do not shift the stamps of the others"
    assert outcome.metrics.rtt_max_ms < 5
    assert outcome.detail["not_sent"] == "5 times Operation not permitted (EPERM)"
    path3.near.firewall("output", "icmp type echo-request drop")
    with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.91.2.2", count=2, interval_ms=10, timeout_ms=300)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    assert "EPERM" in caught.value.message


@pytest.mark.namespaces
@to_both(
    "match",
    "reject",
    ipv4=("icmp type echo-request", "icmp type host-prohibited"),
    ipv6=("icmpv6 type echo-request", "icmpv6 type admin-prohibited"),
)
async def test_errors_for_some_requests_are_attributed_to_those(
    path3: Path3, probe: Probe, address: str, match: str, reject: str
) -> None:
    """A router that rejects every fourth: the others are measured, the errors counted and explained."""
    path3.router.firewall("forward", f"{match} numgen inc mod 4 == 0 reject with {reject}")
    with path3.near.entered():
        outcome = await probe("ping", address, count=12, interval_ms=10, timeout_ms=500)
    result = outcome.metrics
    assert (result.packets_sent, result.packets_received, result.icmp_errors) == (12, 9, 3)
    assert result.loss_pct == 25
    assert "administratively prohibited (3 times)" in outcome.detail["icmp_errors"]


@pytest.mark.namespaces
async def test_a_neighbour_that_is_not_there_is_the_networks_fault(path3: Path3, probe: Probe) -> None:
    """The host's own kernel says so after looking for it: an ICMP error, not a reply."""
    with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", "10.91.1.77", count=1, timeout_ms=5000)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert "host unreachable" in caught.value.message


async def test_an_interface_that_goes_away_during_a_run_stops_no_other_run(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests for which no socket can be opened any more are refused; the engine goes on with those of all others."""
    opened: list[Lane] = []

    def open_once(*values: Any, **named: Any) -> Lane:
        if opened:
            raise ProbeFailure(
                "this host has no interface dd0",
                source=probe_pb2.FAILURE_SOURCE_VANTAGE,
                reason=probe_pb2.FAILURE_REASON_CANNOT_SEND,
            )
        opened.append(Lane(*values, **named))
        return opened[0]

    monkeypatch.setattr(engine, "Lane", open_once)
    with monkeypatch.context() as crowded:
        other = asyncio.ensure_future(probe("ping", "127.0.0.1", count=10, interval_ms=50))
        await asyncio.sleep(0.1)
        crowded.setattr(Lane, "has_room", lambda lane, count: False)
        await asyncio.sleep(0.2)
    outcome = await asyncio.wait_for(other, 10)
    assert 0 < outcome.metrics.packets_sent < 10
    assert outcome.detail["not_sent"]
    again = await asyncio.wait_for(probe("ping", "127.0.0.1", count=2, interval_ms=20), 10)
    assert again.metrics.packets_received == 2


def test_a_device_made_anew_under_the_same_name_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that were bound to the old one lead nowhere, so they are not shared with it."""
    plan = EchoPlan(
        address=ipaddress.ip_address("127.0.0.1"), count=1, interval_s=1.0, timeout_s=1.0, size=56, dscp=0, ttl=64,
        dont_fragment=False, interface="dd0",
    )  # fmt: skip
    monkeypatch.setattr("socket.if_nametoindex", lambda name: 7)
    before = Sort.of(plan)
    assert Sort.of(plan) == before
    monkeypatch.setattr("socket.if_nametoindex", lambda name: 9)
    assert Sort.of(plan) != before


@pytest.mark.namespaces
async def test_replies_that_nobody_asked_for_are_counted_and_told(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """Each request is answered rightly, and three times with other words: after 120 of them the vantage point says so."""

    def forge(message: bytearray) -> None:
        message[12] ^= 1

    scripted_host.script = lambda _number, packet: [
        (0.0, echo_reply(packet)),
        *[(0.0, echo_reply(packet, forge))] * 3,
    ]
    vantage = Vantage(SystemClock(), Policy(), servers=lambda: ())
    with scripted_host.namespace.entered():
        await vantage.look()
        before = icmp.strays()
        outcome = await probe("ping", "10.92.0.2", count=40, interval_ms=10)
        await asyncio.sleep(0.1)
        await vantage.look()
    assert outcome.metrics.packets_received == 40
    assert icmp.strays() - before == 120
    assert (
        "more than 100 echo replies or ICMP errors within a minute are about nothing that it sent lately"
        in vantage.alarm
    )
    icmp.close_unused()
    assert icmp.strays() - before == 120, "sockets that are closed stay counted"
