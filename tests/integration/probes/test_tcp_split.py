"""The parts of a TCP handshake: by the kernel's stamps of its packets, beside tcpdump, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
from integration.diagnosis.laboratory import FAR, PORT, Laboratory, laboratory
from integration.probes.peers import Namespace, Path3, Probe, to_both

from worker.wire import handshake_capture
from worker.wire.handshake_capture import CaptureUnavailableError

pytestmark = pytest.mark.namespaces


@pytest.fixture(scope="module")
def lab(_root: None) -> Iterator[Laboratory]:
    """A path that delays as it is told."""
    with laboratory() as made:
        yield made


@contextlib.contextmanager
def tcpdump(namespace: Namespace, device: str) -> Iterator[list[str]]:
    """Watch a device; the list has tcpdump's lines in the end."""
    lines: list[str] = []
    process = subprocess.Popen(
        ["ip", "netns", "exec", namespace.name, "tcpdump", "-ni", device, "-tt", "-l", "-Z", "root",
         "--immediate-mode", "--nano", "tcp"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while "listening on" not in process.stderr.readline():
            assert process.poll() is None
        yield lines
        time.sleep(0.2)
    finally:
        process.terminate()
        output, _errors = process.communicate(timeout=10)
        lines += output.splitlines()


def stamps_of(lines: list[str]) -> tuple[float, float, float]:
    """Return when SYN, SYN-ACK and the ACK after it were seen, in milliseconds."""
    handshake = [line for line in lines if re.search(r"Flags \[(S|S\.|\.)\]", line)][:3]
    assert [re.findall(r"Flags \[(\S+)\]", line)[0] for line in handshake] == ["S", "S.", "."], lines
    first, second, third = (float(line.split()[0]) * 1000 for line in handshake)
    return first, second, third


@pytest.mark.parametrize("delay_ms", [0.0, 10.0, 50.0])
async def test_the_parts_are_those_that_tcpdump_sees(
    lab: Laboratory, probe: Probe, no_leak: None, delay_ms: float
) -> None:
    """The delay of the way lies between SYN and SYN-ACK, none of it after."""
    lab.impair(delay_ms=delay_ms)
    with lab.near.entered(), tcpdump(lab.near, "swlab") as lines:
        outcome = await probe("tcp", f"{FAR}:{PORT}", split=True)
    metrics = outcome.metrics
    syn, synack, ack = stamps_of(lines)
    assert metrics.syn_to_synack_ms == pytest.approx(synack - syn, abs=0.05)
    assert metrics.synack_to_ack_ms == pytest.approx(ack - synack, abs=0.05)
    assert delay_ms <= metrics.syn_to_synack_ms < delay_ms + 5
    assert 0 <= metrics.synack_to_ack_ms < 5
    assert metrics.syn_to_synack_ms + metrics.synack_to_ack_ms <= metrics.connect_ms + 0.5
    assert metrics.kernel_rtt_ms == pytest.approx(metrics.syn_to_synack_ms, abs=1)
    assert metrics.network_delay_ms == pytest.approx(metrics.kernel_min_rtt_ms / 2)
    assert "split" not in outcome.detail


async def test_several_connections_at_once_share_one_socket(
    lab: Laboratory, probe: Probe, no_leak: None
) -> None:
    """Each run gets the packets of its own connections; the socket goes with the last of them."""
    lab.impair(delay_ms=20)
    with lab.near.entered():
        runs = [
            asyncio.ensure_future(probe("tcp", f"{FAR}:{PORT}", split=True, count=3, interval_ms=10))
            for _ in range(8)
        ]
        await asyncio.sleep(0.05)
        assert len(handshake_capture._open) == 1
        outcomes = await asyncio.gather(*runs)
    assert not handshake_capture._open
    for outcome in outcomes:
        assert 20 <= outcome.metrics.syn_to_synack_ms < 30
        assert outcome.metrics.HasField("synack_to_ack_ms")


@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
@to_both(ipv4=(), ipv6=())
async def test_both_families_are_split(path3: Path3, probe: Probe, address: str, no_leak: None) -> None:
    """Over a routed path."""
    with path3.far.entered():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, 0), family=family)
    with listener, path3.near.entered():
        where = f"[{address}]" if ":" in address else address
        outcome = await probe("tcp", f"{where}:{listener.getsockname()[1]}", split=True)
    assert 0 < outcome.metrics.syn_to_synack_ms < outcome.metrics.connect_ms + 0.1
    assert outcome.metrics.HasField("synack_to_ack_ms")


@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_repeated_syn_is_not_split(path3: Path3, probe: Probe, no_leak: None) -> None:
    """Which of the two was answered is not known: absent, never invented."""
    path3.router.firewall("forward", "tcp flags syn / syn,ack numgen inc mod 1000 == 0 drop")
    with path3.far.entered():
        listener = socket.create_server(("10.91.2.2", 0))
    with listener, path3.near.entered():
        outcome = await probe("tcp", f"10.91.2.2:{listener.getsockname()[1]}", split=True)
    assert outcome.metrics.syn_retransmits == 1
    assert outcome.metrics.connect_class == 4, "a second more"
    assert not outcome.metrics.HasField("syn_to_synack_ms")
    assert not outcome.metrics.HasField("synack_to_ack_ms")


async def test_without_the_right_the_rest_is_measured(
    lab: Laboratory, probe: Probe, monkeypatch: pytest.MonkeyPatch, no_leak: None
) -> None:
    """The detail says what is missing; nothing is computed in its place."""

    def refuse() -> socket.socket:
        raise CaptureUnavailableError("watching packets needs CAP_NET_RAW, which the worker does not have")

    monkeypatch.setattr(handshake_capture, "_packet_socket", refuse)
    lab.impair()
    with lab.near.entered():
        outcome = await probe("tcp", f"{FAR}:{PORT}", split=True)
    assert outcome.metrics.connect_ms > 0
    assert not outcome.metrics.HasField("syn_to_synack_ms")
    assert "CAP_NET_RAW" in outcome.detail["split"]


@pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)
async def test_a_host_without_threads_to_spare_loses_nothing(
    path3: Path3, probe: Probe, no_leak: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The packet socket is closed on the spot then, and what was measured is told."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with path3.near.entered(), socket.create_server(("10.91.1.1", 0)) as server:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        outcome = await probe("tcp", f"10.91.1.1:{server.getsockname()[1]}", split=True)
    assert outcome.metrics.HasField("syn_to_synack_ms")


@pytest.mark.usefixtures("_root")
def test_the_right_that_is_missing_is_named() -> None:
    """By a process that really lacks it."""
    code = (
        "import asyncio\n"
        "from worker.wire import handshake_capture\n"
        "async def main():\n"
        "    async with handshake_capture.opened():\n"
        "        pass\n"
        "asyncio.run(main())\n"
    )
    import sys

    done = subprocess.run(
        ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "CaptureUnavailableError: watching packets needs CAP_NET_RAW" in done.stderr
