"""TCP connect beside `ss`, with refusals, silence, and hosts that cannot be reached."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from integration.probes.peers import Path3, Probe, RecordingGuard, to_both

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import tcp_info


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A listening socket of 127.0.0.1 that accepts by its backlog."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def port_of(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


async def test_an_open_port_is_measured(
    listener: socket.socket, probe: Probe, names: dict[str, str], no_leak: None
) -> None:
    """Clock and kernel agree in order of magnitude, and the detail says what was connected to."""
    names["www.example.test"] = "127.0.0.1"
    outcome = await probe("tcp", f"www.example.test:{port_of(listener)}", dscp=46)
    result = outcome.metrics
    assert result.dns_ms == 20.0
    assert 0 < result.connect_ms < 100
    assert 0 < result.kernel_rtt_ms <= result.connect_ms + 0.1
    assert 0 < result.kernel_min_rtt_ms <= result.kernel_rtt_ms
    assert result.syn_retransmits == 0
    assert result.path_mtu_bytes == 65535
    assert result.mss_bytes > 1000
    assert outcome.detail.pop("class").startswith("excellent: connected in ")
    assert outcome.detail == {"address": "127.0.0.1", "port": port_of(listener)}


async def test_an_address_has_no_resolution_time(listener: socket.socket, probe: Probe) -> None:
    """Unset, not zero."""
    outcome = await probe("tcp", "127.0.0.1", port=port_of(listener))
    assert not outcome.metrics.HasField("dns_ms")


async def test_ipv6_is_measured(probe: Probe) -> None:
    """The loopback address of the other family, in brackets."""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as sock:
        outcome = await probe("tcp", f"[::1]:{port_of(sock)}")
    assert outcome.metrics.connect_ms > 0


def test_the_kernels_struct_is_read_as_ss_reads_it(listener: socket.socket) -> None:
    """Every field that we read, beside iproute2's own reading of the same socket."""
    with socket.create_connection(listener.getsockname()) as sock:
        accepted, _address = listener.accept()
        with accepted:
            for _ in range(5):
                sock.sendall(b"x" * 1000)
                accepted.recv(1000, socket.MSG_WAITALL)
            local, remote = sock.getsockname()[1], port_of(listener)
            text = subprocess.run(
                ["ss", "-tinH", f"( sport = :{local} and dport = :{remote} )"],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            info = tcp_info.read(sock)
    assert info is not None
    assert info.rtt_us is not None
    assert info.rttvar_us is not None
    assert info.min_rtt_us is not None
    shown = dict(re.findall(r"(\w+):([\d./]+)", text.split("\n", 1)[1]))
    rtt, rttvar = shown["rtt"].split("/")
    assert float(rtt) == pytest.approx(info.rtt_us / 1000, abs=0.001)
    assert float(rttvar) == pytest.approx(info.rttvar_us / 1000, abs=0.001)
    assert float(shown["minrtt"]) == pytest.approx(info.min_rtt_us / 1000, abs=0.001)
    assert int(shown["mss"]) == info.snd_mss
    assert int(shown["pmtu"]) == info.pmtu
    assert info.state == 1
    assert info.total_retrans == 0


async def test_a_closed_port_is_the_targets_refusal(probe: Probe, free_port: int, no_leak: None) -> None:
    """FAILED and TARGET: the host is there and said no."""
    with pytest.raises(ProbeFailure, match="refused the connection") as caught:
        await probe("tcp", f"127.0.0.1:{free_port}")
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET
    assert caught.value.detail == {"address": "127.0.0.1", "port": free_port}


async def test_silence_is_the_networks(probe: Probe, no_leak: None) -> None:
    """A full backlog drops the handshake, as a firewall does: FAILED and NETWORK after the time-out."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(2)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(full.getsockname())
            with pytest.raises(
                ProbeFailure, match="did not answer the connection request within 200 ms"
            ) as caught:
                await probe("tcp", f"127.0.0.1:{port_of(full)}", timeout_ms=200)
        finally:
            for filler in fillers:
                filler.close()
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert not caught.value.metrics.HasField("connect_ms")


async def test_a_policy_refusal_connects_to_nothing(
    listener: socket.socket, probe: Probe, guard: RecordingGuard, names: dict[str, str]
) -> None:
    """The address that the name stands for is what is checked, with its port."""
    names["metadata.test"] = "127.0.0.1"
    guard.denied.add(f"127.0.0.1:{port_of(listener)}")
    with pytest.raises(ProbeFailure, match="denied"):
        await probe("tcp", f"metadata.test:{port_of(listener)}")
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_a_cancelled_connect_closes_its_socket(probe: Probe, no_leak: None) -> None:
    """While the handshake is unanswered."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, socket.socket() as filler:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        task = asyncio.ensure_future(probe("tcp", f"127.0.0.1:{port_of(full)}", timeout_ms=60_000))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, ProbeFailure)):
            await task


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_errors_from_the_way_and_from_this_host_are_told_apart(path3: Path3, probe: Probe) -> None:
    """A router without route: NETWORK, FAILED. No route here: VANTAGE, ERROR."""
    path3.router.run("ip", "route", "add", "unreachable", "10.99.0.0/16")
    with path3.near.entered(), pytest.raises(ProbeFailure, match="EHOSTUNREACH") as caught:
        await probe("tcp", "10.99.0.1:80", timeout_ms=3000)
    assert caught.value.status == probe_pb2.STATUS_FAILED
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK
    path3.near.run("ip", "route", "delete", "default")
    with path3.near.entered(), pytest.raises(ProbeFailure, match="ENETUNREACH") as caught:
        await probe("tcp", "10.99.0.1:80", timeout_ms=3000)
    assert caught.value.status == probe_pb2.STATUS_ERROR
    assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
@to_both("router", ipv4=("10.91.1.2",), ipv6=("fd91:1::2",))
async def test_a_router_that_says_that_a_port_is_closed_is_no_refusal_of_the_destination(
    path3: Path3, probe: Probe, address: str, router: str
) -> None:
    """As firewalls do that reject; the destination's own word, and its reset, are its refusal."""
    host = f"[{address}]" if ":" in address else address

    async def failure() -> ProbeFailure:
        with path3.near.entered(), pytest.raises(ProbeFailure) as caught:
            await probe("tcp", f"{host}:80", timeout_ms=3000)
        return caught.value

    reset = await failure()
    path3.far.firewall("input", "tcp dport 80 reject")
    told = await failure()
    path3.router.firewall("forward", "tcp dport 80 reject")
    rejected = await failure()
    for refused in (reset, told):
        assert refused.source == probe_pb2.FAILURE_SOURCE_TARGET, refused.message
        assert refused.reason == probe_pb2.FAILURE_REASON_REFUSED
    assert rejected.source == probe_pb2.FAILURE_SOURCE_NETWORK
    assert rejected.reason == probe_pb2.FAILURE_REASON_UNREACHABLE
    assert f"{router} reported port unreachable" in rejected.message


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_report_from_the_way_ends_no_connection_that_is_there(path3: Path3, probe: Probe) -> None:
    """A router that rejects for a moment: what is sent then comes a little later."""
    with path3.far.entered():
        far = socket.create_server(("10.91.2.2", 0))
    path3.router.firewall("forward", "ip length > 80 counter reject")

    def answer() -> None:
        taken, _address = far.accept()
        with taken:
            time.sleep(0.1)
            rejected.append(path3.router.run("nft", "list", "ruleset").stdout)
            path3.router.run("nft", "flush", "ruleset")
            taken.sendall(taken.recv(100))

    rejected: list[str] = []
    with far:
        thread = threading.Thread(target=answer)
        thread.start()
        with path3.near.entered():
            words = "again and again " * 4
            outcome = await probe(
                "tcp", f"10.91.2.2:{port_of(far)}", send=words, expect=words, timeout_ms=5000
            )
        thread.join()
    assert "counter packets 0 " not in rejected[0]
    assert outcome.metrics.connected == 1


@pytest.mark.namespaces
@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_lost_handshake_packet_is_counted(path3: Path3, probe: Probe) -> None:
    """The first SYN is dropped: one retransmission, a second later."""
    path3.router.firewall("forward", "tcp flags syn / syn,ack numgen inc mod 1000 == 0 drop")
    with path3.far.entered():
        far = socket.create_server(("10.91.2.2", 0))
    with far, path3.near.entered():
        outcome = await probe("tcp", f"10.91.2.2:{port_of(far)}")
    assert outcome.metrics.syn_retransmits == 1
    assert 900 < outcome.metrics.connect_ms < 1500
    assert outcome.metrics.path_mtu_bytes == 1500
    assert outcome.metrics.mss_bytes == 1448
