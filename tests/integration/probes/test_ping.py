"""Ping beside fping, over exact loss, behind a host that follows a script, and with errors from routers."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import os
import statistics
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from integration.probes.peers import Path3, Probe, RecordingGuard, ScriptedHost, echo_reply, to_both
from support.priority import before_all_others

from streamswarm.v1 import probe_pb2
from worker.evaluation.replies import Replies
from worker.probes import ping
from worker.probing import ProbeFailure
from worker.wire import icmp_portable
from worker.wire.echo import EchoPlan, EchoSendError, EchoUnavailableError

ROOT = Path(__file__).resolve().parents[3]
SCRIPTED = "10.92.0.2"


def fping(output: str) -> list[float | None]:
    """Return the times that `fping -C` printed, None for a loss."""
    return [None if word == "-" else float(word) for word in output.rsplit(" : ", 1)[1].split()]


@pytest.mark.namespaces
async def test_times_agree_with_fping(
    scripted_host: ScriptedHost, probe: Probe, sort_of_socket: str, no_leak: None
) -> None:
    """A host that answers after 8 ms: same counts, medians within half a millisecond, both at least 8 ms.

    Where this machine held the host up for one of the two, both measure once more: what is wrong by itself is so each time.
    """
    scripted_host.script = lambda _number, packet: [(0.008, echo_reply(packet))]
    with before_all_others():
        for left in reversed(range(5)):
            scripted_host.requests.clear()
            with scripted_host.namespace.entered():
                outcome = await probe("ping", SCRIPTED, count=25, interval_ms=20)
            peer = fping(scripted_host.namespace.run("fping", "-q", "-C", "25", "-p", "20", SCRIPTED).stderr)
            result = outcome.metrics
            assert result.packets_sent == result.packets_received == len([rtt for rtt in peer if rtt]) == 25
            assert result.loss_pct == 0
            assert result.rtt_min_ms >= 8
            theirs = statistics.median(filter(None, peer))
            if abs(result.rtt_median_ms - theirs) < 0.5:
                break
            assert left, (result.rtt_median_ms, theirs)
    assert result.rtt_min_ms <= result.rtt_median_ms <= result.rtt_p95_ms <= result.rtt_max_ms
    assert result.kernel_timestamps
    assert result.reply_ttl == 57
    assert result.bytes_sent == result.bytes_received == 25 * 84
    assert outcome.detail["address"] == SCRIPTED
    assert {packet[20:21] for packet in scripted_host.requests[:25]} == {b"\x08"}


@pytest.mark.namespaces
async def test_a_busy_event_loop_adds_nothing(scripted_host: ScriptedHost, probe: Probe) -> None:
    """While the process blocks for 30 ms at a time, the kernel's stamps still say 5 ms."""
    scripted_host.script = lambda _number, packet: [(0.005, echo_reply(packet))]

    async def hog() -> None:
        while True:
            time.sleep(0.03)
            await asyncio.sleep(0)

    with scripted_host.namespace.entered():
        task = asyncio.ensure_future(hog())
        outcome = await probe("ping", SCRIPTED, count=10, interval_ms=10)
        task.cancel()
    assert outcome.metrics.packets_received == 10
    assert outcome.metrics.kernel_timestamps
    assert outcome.metrics.rtt_median_ms < 12


@pytest.mark.namespaces
@to_both("match", ipv4=("icmp type echo-request",), ipv6=("icmpv6 type echo-request",))
async def test_exact_loss_is_found_exactly(
    path3: Path3, probe: Probe, no_leak: None, address: str, match: str
) -> None:
    """A router that drops each fifth request: 8 of 40, beside fping's 8 of 40."""
    path3.router.firewall("forward", f"{match} numgen inc mod 5 == 0 drop")
    with path3.near.entered():
        outcome = await probe("ping", address, count=40, interval_ms=10, timeout_ms=300)
    peer = fping(
        path3.near.run("fping", "-q", "-C", "40", "-p", "20", "-t", "300", address, check=False).stderr
    )
    result = outcome.metrics
    assert (result.packets_sent, result.packets_received, result.loss_pct) == (40, 32, 20.0)
    assert peer.count(None) == 8
    assert result.kernel_timestamps
    assert result.reply_ttl == 63
    header = 20 if "." in address else 40
    assert result.bytes_sent == 40 * (header + 64)
    assert result.bytes_received == 32 * (header + 64)


@pytest.mark.namespaces
async def test_total_loss_is_a_failure_with_counts_and_without_times(
    scripted_host: ScriptedHost, probe: Probe, no_leak: None
) -> None:
    """FAILED, NETWORK, 100 %; not one time is set."""
    scripted_host.script = lambda _number, _packet: []
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", SCRIPTED, count=3, interval_ms=10, timeout_ms=100)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    result = caught.value.metrics
    assert (result.packets_sent, result.packets_received, result.loss_pct) == (3, 0, 100.0)
    assert not any(field.name.startswith("rtt") for field, _ in result.ListFields())
    assert not result.HasField("kernel_timestamps")
    assert "answered none of 3 requests within 100 ms" in caught.value.message


@pytest.mark.namespaces
async def test_duplicates_reordering_and_late_replies_are_told_apart(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """Of six: one twice, one overtaken by the next, one after its time-out, one never."""

    def script(number: int, packet: bytes) -> list[tuple[float, bytes]]:
        reply = echo_reply(packet)
        return {
            0: [(0.0, reply), (0.005, reply)],
            1: [(0.070, reply)],
            2: [(0.250, reply)],
            3: [],
        }.get(number, [(0.0, reply)])

    scripted_host.script = script
    with before_all_others(), scripted_host.namespace.entered():
        outcome = await probe("ping", SCRIPTED, count=6, interval_ms=50, timeout_ms=150)
    result = outcome.metrics
    assert (result.packets_sent, result.packets_received) == (6, 4)
    assert result.loss_pct == pytest.approx(100 / 3)
    assert (result.duplicates, result.late) == (1, 1)
    # Request 1 is overtaken by nothing but 2's silence; request 2 comes after 4 and 5.
    assert result.reordered == 1
    assert 70 <= result.rtt_max_ms < 150


@pytest.mark.namespaces
async def test_foreign_and_spoiled_replies_never_count(scripted_host: ScriptedHost, probe: Probe) -> None:
    """Wrong cookie, wrong sequence number, wrong identifier, cut short: four replies, none of them ours."""

    def change_at(position: int) -> bytes:
        def change(message: bytearray) -> None:
            message[position] ^= 0x55

        return echo_reply(scripted_host_packet[-1], change)

    scripted_host_packet: list[bytes] = []

    def script(_number: int, packet: bytes) -> list[tuple[float, bytes]]:
        scripted_host_packet.append(packet)
        cut = bytearray(echo_reply(packet))
        cut[3] -= 8
        shorter = bytes(cut[:20]) + bytes(cut[20:-8])
        return [(0.0, change_at(position)) for position in (4, 6, 8, 15)] + [(0.0, shorter)]

    scripted_host.script = script
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", SCRIPTED, count=2, interval_ms=20, timeout_ms=150)
    assert caught.value.metrics.packets_received == 0
    assert caught.value.metrics.bytes_received == 0
    assert len(scripted_host.requests) == 2


@pytest.mark.namespaces
async def test_cookie_and_sequence_number_are_new_in_each_run(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """Eight runs over one socket share neither, so that no old reply fits a new run."""
    with scripted_host.namespace.entered():
        for _ in range(8):
            await probe("ping", SCRIPTED, count=1)
    assert len({packet[24:26] for packet in scripted_host.requests}) == 1
    assert len({packet[26:28] for packet in scripted_host.requests}) == 8
    assert len({packet[28:36] for packet in scripted_host.requests}) == 8


@pytest.mark.namespaces
async def test_dscp_ttl_size_and_dont_fragment_are_in_the_packet(
    scripted_host: ScriptedHost, probe: Probe
) -> None:
    """Read from the IP header of what left."""
    with scripted_host.namespace.entered():
        await probe("ping", SCRIPTED, count=1, dscp=46, ttl=9, size_bytes=100, dont_fragment=True)
        await probe("ping", SCRIPTED, count=1)
    marked, plain = scripted_host.requests
    assert (marked[1], marked[8], len(marked)) == (46 << 2, 9, 128)
    assert struct.unpack("!H", marked[6:8])[0] & 0x4000
    assert (plain[1], plain[8], len(plain)) == (0, 64, 84)
    assert not struct.unpack("!H", plain[6:8])[0] & 0x4000


@pytest.mark.namespaces
async def test_many_runs_at_once_do_not_see_each_others_replies(path3: Path3, probe: Probe) -> None:
    """Forty runs to one address, ten requests each: every count is exact."""
    with path3.near.entered():
        outcomes = await asyncio.gather(
            *(probe("ping", "10.91.2.2", count=10, interval_ms=10) for _ in range(40))
        )
    for outcome in outcomes:
        assert outcome.metrics.packets_received == 10
        assert (outcome.metrics.duplicates, outcome.metrics.reordered) == (0, 0)


@pytest.mark.namespaces
async def test_a_cancelled_run_leaves_no_socket_in_use(
    scripted_host: ScriptedHost, probe: Probe, no_leak: None
) -> None:
    """Cancelled between two requests and while listening."""
    scripted_host.script = lambda _number, _packet: []
    for settings in ({"count": 100}, {"count": 1, "timeout_ms": 60_000}):
        with scripted_host.namespace.entered():
            task = asyncio.ensure_future(probe("ping", SCRIPTED, **settings))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.namespaces
async def test_the_policy_is_asked_before_anything_is_sent(
    scripted_host: ScriptedHost, probe: Probe, guard: RecordingGuard
) -> None:
    """A denied address gets no packet."""
    guard.denied.add(SCRIPTED)
    with scripted_host.namespace.entered(), pytest.raises(ProbeFailure) as caught:
        await probe("ping", SCRIPTED)
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_POLICY
    assert guard.asked == [(ipaddress.ip_address(SCRIPTED), None)]
    await asyncio.sleep(0.05)
    assert scripted_host.requests == []


async def test_unresolvable_names_are_no_loss(probe: Probe) -> None:
    """An error of the resolver, without metrics."""
    with pytest.raises(ProbeFailure) as caught:
        await probe("ping", "127.0.0.1", address_family="ipv6")
    assert caught.value.status == probe_pb2.STATUS_ERROR
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_RESOLVER
    assert caught.value.metrics is None


@pytest.mark.namespaces
def test_without_permission_ping_is_unavailable_and_says_what_mends_it(
    path3: Path3, sort_of_socket: str
) -> None:
    """An ordinary user: available where the system allows datagram sockets, else the reason and the command."""
    if sort_of_socket == "dgram":
        expected = "True||"
    else:
        expected = "False|this process may open neither ICMP nor raw sockets"
    script = textwrap.dedent(
        """
        import os
        from worker.probes import ping
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        found = ping.availability()
        print(found.available, found.reason, found.mend, sep="|")
        try:
            ping.open_socket(6).close()
        except Exception as error:
            print(type(error).__name__, error)
        """
    )
    # Modules are loaded before the user changes: the environment may lie where only its owner can read.
    done = subprocess.run(
        ["ip", "netns", "exec", path3.near.name, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    assert done.stdout.startswith(expected)
    if sort_of_socket == "raw":
        first, second = done.stdout.splitlines()
        assert second.startswith("EchoUnavailableError this process may open neither")
        assert first.endswith('|sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"')


def echo_plan(address: str, *, count: int, timeout_s: float, ttl: int) -> EchoPlan:
    """Return a plan of small requests, 10 ms apart."""
    return EchoPlan(
        address=ipaddress.ip_address(address),
        count=count,
        interval_s=0.01,
        timeout_s=timeout_s,
        size=56,
        dscp=0,
        ttl=ttl,
        dont_fragment=False,
    )


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["raw"], indirect=True)
async def test_the_engine_for_other_systems_tells_errors_apart(path3: Path3) -> None:
    """Silence, a router's error, and a host that cannot send: loss, an error each, and an exception."""
    plan = echo_plan("10.91.2.2", count=2, timeout_s=0.2, ttl=1)
    with path3.near.entered():
        record = await icmp_portable.echo(plan)
        assert [(error.index, error.type) for error in record.errors] == [(0, 11), (1, 11)]
        assert (record.sent, len(record.replies)) == (2, 0)
        path3.router.firewall("forward", "drop")
        record = await icmp_portable.echo(dataclasses.replace(plan, ttl=64))
        assert (record.sent, len(record.replies), record.errors) == (2, 0, ())
        with pytest.raises(EchoUnavailableError, match="fragmentation"):
            await icmp_portable.echo(dataclasses.replace(plan, dont_fragment=True))
        path3.near.run("ip", "route", "delete", "default")
        with pytest.raises(EchoSendError) as caught:
            await icmp_portable.echo(plan)
        assert caught.value.errno == errno.ENETUNREACH


async def test_the_engine_for_other_systems_measures_too() -> None:
    """Icmplib with this process's clock: same counts, and no claim of kernel stamps."""
    try:
        icmp_portable.open_socket(4).close()
    except EchoUnavailableError as error:
        pytest.skip(str(error))
    plan = echo_plan("127.0.0.1", count=5, timeout_s=1, ttl=64)
    record = await icmp_portable.echo(plan)
    result = ping.summarise(Replies.of(record, timeout_ms=1000))
    assert (result.packets_sent, result.packets_received, result.loss_pct) == (5, 5, 0.0)
    assert not any(result.HasField(name) for name in ("duplicates", "reordered", "late", "dropped_here"))
    assert 0 < result.rtt_avg_ms < 100
    assert result.kernel_timestamps is False
    assert result.bytes_sent == 5 * 84


def test_the_probe_runs_where_there_is_no_linux() -> None:
    """The same module on a system that calls itself otherwise: no import and no call of Linux alone."""
    script = textwrap.dedent(
        """
        import asyncio, ipaddress, socket, sys
        sys.platform = "otheros"
        from streamswarm import contract
        from worker import probes
        from worker.probing import ProbeContext, Resolved

        class Guard:
            def check(self, address, port=None):
                pass

        async def resolve(host, family):
            return Resolved(addresses=(ipaddress.ip_address(host),), elapsed_ms=None)

        async def measure(kind, target, **values):
            spec = getattr(contract.make_spec(kind, values), kind)
            parsed = contract.parse_target(contract.kind(kind), target)
            context = ProbeContext(guard=Guard(), resolve=resolve)
            return (await probes.load(kind).run(parsed, spec, context)).metrics

        async def main():
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            tcp = await measure("tcp", f"127.0.0.1:{port}")
            print("tcp", tcp.connect_ms > 0, tcp.HasField("kernel_rtt_ms"))
            if not probes.load("ping").availability().available:
                print("ping unavailable")
                return
            ping = await measure("ping", "127.0.0.1", count=2, interval_ms=10)
            print("ping", ping.packets_received, ping.kernel_timestamps)

        asyncio.run(main())
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "tcp True False"
    assert lines[1] == ("ping 2 False" if ping.availability().available else "ping unavailable")
