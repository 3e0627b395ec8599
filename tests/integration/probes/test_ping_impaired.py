"""Ping over paths and hosts that are not well: each fault is found, named, and counted right."""

from __future__ import annotations

import asyncio
import ipaddress
import itertools
import struct
import time
from collections.abc import Iterator

import pytest
from integration.probes.forwarder import Forwarder, forwarding
from integration.probes.peers import (
    Namespace,
    Path3,
    Probe,
    ScriptedHost,
    allow_datagram_pings,
    echo_reply,
    namespaces,
)

from streamswarm.v1 import probe_pb2
from worker import loop
from worker.probing import ProbeFailure
from worker.wire import icmp
from worker.wire.echo import EchoPlan
from worker.wire.icmp import engine, lane, sockets

pytestmark = pytest.mark.namespaces
SCRIPTED = "10.92.0.2"
FAR = "10.91.2.2"


@pytest.fixture
def wire(_root: None, sort_of_socket: str) -> Iterator[tuple[Namespace, Forwarder]]:
    """Two hosts with a wire in user space between them: the near one's namespace, and the wire."""
    with namespaces("near", "wire", "far") as (near, middle, far):
        for end, device, address in ((near, "w0", "10.94.0.1/24"), (far, "w1", "10.94.0.2/24")):
            end.run("ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", middle.name)
            end.run("ip", "address", "add", address, "dev", device)
            end.run("ip", "link", "set", device, "up")
            middle.run("ip", "link", "set", device, "up")
        allow_datagram_pings(near, sort_of_socket)
        with forwarding(middle, "w0", "w1") as forwarder:
            near.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", "10.94.0.2")
            forwarder.replies = 0
            yield near, forwarder


@pytest.mark.parametrize("mode", ["interval", "burst"])
async def test_every_tenth_reply_that_is_dropped_is_missed_exactly(
    path3: Path3, probe: Probe, mode: str, no_leak: None
) -> None:
    """180 of 200 in both modes, as fping has it."""
    path3.router.firewall("forward", "icmp type echo-reply numgen inc mod 10 == 9 drop")
    with path3.near.entered():
        outcome = await probe("ping", FAR, count=200, interval_ms=10, timeout_ms=500, mode=mode)
    result = outcome.metrics
    assert (result.packets_sent, result.packets_received, result.loss_pct) == (200, 180, 10.0)
    assert (result.loss_periods, result.longest_loss_period) == (20, 1)
    assert (result.late, result.duplicates, result.reordered, result.dropped_here) == (0, 0, 0, 0)
    assert result.kernel_timestamps
    peer = path3.near.run("fping", "-q", "-C", "200", "-p", "10", "-t", "500", FAR, check=False).stderr
    assert peer.rsplit(" : ", 1)[1].split().count("-") == 20


async def test_duplicates_and_overtaken_replies_are_counted_exactly(
    wire: tuple[Namespace, Forwarder], probe: Probe
) -> None:
    """Of 60 replies each tenth comes after the one that follows it, and of the others each sixth comes twice."""
    near, forwarder = wire
    held: list[bytes] = []

    def script(number: int, frame: bytes) -> list[bytes]:
        if number % 10 == 4:
            held.append(frame)
            return []
        frames = [frame, frame] if number % 6 == 0 else [frame]
        return [*frames, held.pop()] if held else frames

    forwarder.script = script
    with near.entered():
        outcome = await probe("ping", "10.94.0.2", count=60, interval_ms=10, timeout_ms=500)
    result = outcome.metrics
    assert (result.packets_received, result.loss_pct) == (60, 0)
    assert result.duplicates == 8
    assert result.reordered == 6


async def test_a_burst_leaves_at_once(scripted_host: ScriptedHost, probe: Probe) -> None:
    """A hundred requests within a fraction of the interval, each answered and stamped."""
    started = time.monotonic()
    with scripted_host.namespace.entered():
        outcome = await probe("ping", SCRIPTED, count=100, interval_ms=1000, mode="burst")
    assert time.monotonic() - started < 2
    assert (outcome.metrics.packets_sent, outcome.metrics.packets_received) == (100, 100)
    assert outcome.metrics.kernel_timestamps
    assert [struct.unpack("=I", packet[36:40])[0] for packet in scripted_host.requests] == list(range(100))


async def test_a_late_reply_is_told_as_late_and_names_its_time_out(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """The only reply comes after its time-out, while a second request is still waited for."""
    scripted_host.script = lambda number, packet: [(0.15, echo_reply(packet))] if number == 0 else []
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", SCRIPTED, count=2, interval_ms=100, timeout_ms=100)
    assert (caught.value.metrics.late, caught.value.metrics.packets_received) == (1, 0)
    assert "within 100 ms; 1 answers came later" in caught.value.message
    assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT


async def test_what_this_host_drops_is_no_loss_of_the_network(
    scripted_host: ScriptedHost, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receive buffer for few packets and a process that sleeps: counted and said, and no loss is told."""
    monkeypatch.setattr(sockets, "_BUFFER_BYTES", 8192)
    scripted_host.script = lambda _number, packet: [(0.1, echo_reply(packet))]
    with scripted_host.namespace.entered():
        running = asyncio.ensure_future(probe("ping", SCRIPTED, count=100, mode="burst", timeout_ms=500))
        await asyncio.sleep(0.05)
        time.sleep(0.3)
        outcome = await running
    result = outcome.metrics
    assert result.packets_sent == 100
    assert 0 < result.packets_received < 100
    assert result.packets_received + result.dropped_here == 100
    assert not result.HasField("loss_pct")
    assert not result.HasField("loss_periods")
    assert "receive buffer was full" in outcome.detail["dropped_here"]


async def test_a_full_space_of_sequence_numbers_opens_another_socket(
    scripted_host: ScriptedHost, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room for 64 numbers and 200 requests: no number is used twice with one identifier, and every reply is matched."""
    monkeypatch.setattr(lane, "_ROOM", 64)
    monkeypatch.setattr(engine, "_BLOCK", 16)
    with scripted_host.namespace.entered():
        outcome = await probe("ping", SCRIPTED, count=200, mode="burst")
    assert outcome.metrics.packets_received == 200
    slots = [packet[24:28] for packet in scripted_host.requests]
    assert len(set(slots)) == 200
    assert len({slot[:2] for slot in slots}) == 4


async def test_sequence_numbers_are_used_again_after_time_out_and_grace(
    scripted_host: ScriptedHost, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: the second run needs a socket of its own, the third does not."""
    monkeypatch.setattr(lane, "_ROOM", 20)
    monkeypatch.setattr(lane, "GRACE_S", 0.1)
    with scripted_host.namespace.entered():
        for wait_s in (0.0, 0.3, 0.0):
            await probe("ping", SCRIPTED, count=16, mode="burst", timeout_ms=100)
            await asyncio.sleep(wait_s)
    idents = [packet[24:26] for packet in scripted_host.requests]
    first, second, third = idents[0], idents[16], idents[32]
    assert first != second
    assert third == first


async def test_an_error_for_one_run_disturbs_no_other(path3: Path3, probe: Probe) -> None:
    """A hundred errors of a router for one run, while two others share its socket."""
    path3.far.run("ip", "address", "add", "10.91.2.3/24", "dev", "sw2b")
    path3.router.firewall("forward", "ip daddr 10.91.2.3 reject with icmp type host-prohibited")
    with path3.near.entered():
        good, bad, other = await asyncio.gather(
            probe("ping", FAR, count=100, interval_ms=10),
            probe("ping", "10.91.2.3", count=100, interval_ms=10),
            probe("ping", FAR, count=100, interval_ms=10, dscp=46, ttl=9),
            return_exceptions=True,
        )
    assert isinstance(bad, ProbeFailure)
    assert bad.metrics.icmp_errors == 100
    assert bad.reason == probe_pb2.FAILURE_REASON_UNREACHABLE
    for outcome in (good, other):
        assert not isinstance(outcome, BaseException)
        assert (outcome.metrics.packets_sent, outcome.metrics.packets_received) == (100, 100)
        assert "not_sent" not in outcome.detail


async def test_sockets_are_closed_when_they_are_idle(
    scripted_host: ScriptedHost, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine lets go of its socket by itself, and opens one anew when it is asked again."""
    monkeypatch.setattr(engine, "IDLE_S", 0.1)
    monkeypatch.setattr(engine, "_LOOK_S", 0.05)
    monkeypatch.setattr(lane, "GRACE_S", 0.0)
    with scripted_host.namespace.entered():
        await probe("ping", SCRIPTED, count=1, timeout_ms=50)
        assert icmp.open_sockets() == 1
        await asyncio.sleep(0.5)
        assert icmp.open_sockets() == 0
        await probe("ping", SCRIPTED, count=1, timeout_ms=50)
    assert icmp.open_sockets() == 1
    assert len({packet[24:26] for packet in scripted_host.requests}) == 2


async def test_requests_keep_to_their_grid(scripted_host: ScriptedHost, probe: Probe) -> None:
    """A process that stops for 35 ms delays requests, and neither sends them in a heap nor drifts for good."""
    arrived: list[float] = []

    def script(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
        arrived.append(time.monotonic())
        return [(0.0, echo_reply(packet))]

    scripted_host.script = script
    with scripted_host.namespace.entered():
        running = asyncio.ensure_future(probe("ping", SCRIPTED, count=30, interval_ms=20))
        await asyncio.sleep(0.2)
        time.sleep(0.035)
        await running
    gaps = [later - earlier for earlier, later in itertools.pairwise(arrived)]
    assert min(gaps) > 0.008
    assert 0.57 < arrived[-1] - arrived[0] < 0.66


def test_replies_are_noticed_at_once_on_the_workers_own_loop(scripted_host: ScriptedHost) -> None:
    """A run ends with its last reply, not with its time-out, although stamps lie in the error queue before."""
    scripted_host.script = lambda _number, packet: [(0.02, echo_reply(packet))]
    plan = EchoPlan(
        address=ipaddress.ip_address(SCRIPTED),
        count=3,
        interval_s=0.05,
        timeout_s=5,
        size=56,
        dscp=0,
        ttl=64,
        dont_fragment=False,
    )
    started = time.monotonic()
    with scripted_host.namespace.entered():
        record = loop.run(icmp.echo(plan))
    assert time.monotonic() - started < 2
    assert record.replies.kernels == [True] * 3
