"""A network that sends more than was asked for takes neither the worker's time nor the truth of its results."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.probes.peers import Namespace, Path3, Probe, checksum, to_both

from worker.wire import icmp
from worker.wire.echo import EchoPlan
from worker.wire.unfragmented import Prober

#: The most that the thread of the event loop may compute between two turns of somebody else.
MOST_S = 0.05


@contextlib.contextmanager
def flooding(namespace: Namespace, device: str, sort: str, count: int, rate: int) -> Iterator[None]:
    """Have a host forge messages once it was asked; see `flooder`."""
    script = Path(__file__).with_name("flooder.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [
        "ip",
        "netns",
        "exec",
        namespace.name,
        sys.executable,
        str(script),
        device,
        sort,
        str(count),
        str(rate),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        try:
            yield
            assert process.stdout.read() == "began\ndone\n"
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def attentive() -> AsyncIterator[None]:
    """Fail when something keeps the event loop for too long; by the thread's own time, for the machine may be busy."""
    longest = 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0.005)
            longest = max(longest, time.thread_time() - before)

    looking = asyncio.ensure_future(look())
    try:
        yield
    finally:
        looking.cancel()
    assert longest < MOST_S, f"nobody else had a turn for {longest:.3f} s of computing"


@pytest.mark.namespaces
@to_both(ipv4=(), ipv6=())
async def test_pings_are_not_disturbed_by_forged_errors(
    path3: Path3, probe: Probe, sort_of_socket: str, address: str
) -> None:
    """50,000, as fast as they can be sent: no answer is lost, no error believed, and those that quote us count.

    Times stay the kernel's on raw sockets. Datagram sockets have stamps behind the errors in one queue.
    """
    with path3.near.entered():
        before = icmp.strays()
        with flooding(path3.far, "sw2b", "errors", 50_000, 25_000):
            async with attentive():
                outcomes = await asyncio.gather(
                    *(probe("ping", address, count=40, interval_ms=50, timeout_ms=1000) for _ in range(4))
                )
        results = [outcome.metrics for outcome in outcomes]
    assert [each.packets_received for each in results] == [40] * 4
    assert [each.loss_pct for each in results] == [0] * 4
    assert [each.icmp_errors for each in results] == [0] * 4
    assert all(each.kernel_timestamps for each in results) or sort_of_socket == "dgram"
    assert max(each.rtt_median_ms for each in results) < 10
    assert icmp.strays() - before > 1_000


@pytest.mark.namespaces
async def test_copies_are_counted_and_not_kept(path3: Path3) -> None:
    """Up to 5,000 copies each of the first reply and of an error for it: kept are five replies and one error."""
    plan = EchoPlan(
        address=ipaddress.ip_address("10.91.2.2"), count=5, interval_s=0.2, timeout_s=0.5, size=56, dscp=0, ttl=64,
        dont_fragment=False,
    )  # fmt: skip
    with path3.near.entered(), flooding(path3.far, "sw2b", "copies", 10_000, 20_000):
        async with attentive():
            record = await icmp.echo(plan)
    assert (record.sent, record.refused) == (5, {}), "an error for one request keeps no other from being sent"
    assert sorted(record.replies.requests) == [0, 1, 2, 3, 4]
    assert [error.index for error in record.errors] == [0]
    assert 500 < record.duplicates <= 5_000
    assert record.bytes_received > (5 + record.duplicates) * 84 + record.duplicates // 2 * 64


@pytest.mark.namespaces
async def test_an_error_with_other_words_is_none_of_a_path_mtu(
    path3: Path3, probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever guesses identifier and sequence number does not know the rest of the packet, and says that there is no way."""
    ends = socket.inet_aton("10.91.1.1") + socket.inet_aton("10.91.2.2")
    header = bytes([0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0]) + ends
    with path3.far.entered():
        forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    request = Prober._request

    def forged(prober: Prober, sock: socket.socket, length: int) -> bytes:
        made = request(prober, sock, length)
        message = bytearray([3, 1, 0, 0, 0, 0, 0, 0]) + header + made[:24]
        message[-16] ^= 1
        message[2:4] = checksum(bytes(message)).to_bytes(2, "big")
        forger.sendto(message, ("10.91.1.1", 0))
        time.sleep(0.01)
        return made

    monkeypatch.setattr(Prober, "_request", forged)
    with forger, path3.near.entered():
        outcome = await probe("mtu", "10.91.2.2", method="icmp", timeout_ms=500)
    assert outcome.metrics.path_mtu_bytes == 1500
