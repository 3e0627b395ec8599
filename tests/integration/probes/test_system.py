"""The host's own metrics, beside what the kernel's files say and under a load that the test makes."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from integration.probes.peers import Probe

from streamswarm.v1 import probe_pb2
from worker.detached import Detached
from worker.probes import system
from worker.probing import ProbeFailure


def meminfo(name: str) -> int:
    """Return a line of /proc/meminfo in bytes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


async def test_figures_agree_with_the_kernels_files(probe: Probe, no_leak: None) -> None:
    """Memory, uptime, processors, load and file system, each read a second way."""
    await probe("system", window_ms=100)  # psutil keeps /proc files open from its first reading on
    result = (await probe("system", window_ms=200)).metrics
    assert result.memory_total_bytes == meminfo("MemTotal")
    assert result.memory_available_bytes == pytest.approx(meminfo("MemAvailable"), rel=0.05)
    used = 100 * (1 - result.memory_available_bytes / result.memory_total_bytes)
    assert result.memory_used_pct == pytest.approx(used)
    assert result.cpu_count == os.cpu_count()
    assert result.uptime_s == pytest.approx(float(Path("/proc/uptime").read_text().split()[0]), abs=3)
    assert result.load1 == pytest.approx(os.getloadavg()[0], abs=1)
    processes = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    assert result.process_count == pytest.approx(len(processes), abs=30)
    root = next(disk for disk in result.disks if disk.mount_point == "/")
    space = os.statvfs("/")
    assert root.total_bytes == space.f_blocks * space.f_frsize
    assert root.free_bytes == pytest.approx(space.f_bavail * space.f_frsize, rel=0.05)
    assert 0 <= root.used_pct <= 100


async def test_a_busy_processor_shows(probe: Probe) -> None:
    """One process that never rests keeps one of the processors busy for the whole window."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as load:
        try:
            result = (await probe("system", window_ms=500)).metrics
        finally:
            load.kill()
    assert result.cpu_busy_pct >= 0.8 * 100 / (os.cpu_count() or 1)
    assert result.cpu_user_pct >= 0.8 * 100 / (os.cpu_count() or 1)
    assert result.cpu_busy_pct <= 100
    assert result.context_switches_per_s > 0


async def test_traffic_on_an_interface_shows_as_a_rate(probe: Probe) -> None:
    """Known bytes over loopback inside the window; others may add to it, never take away."""
    sent = 0
    stop = threading.Event()

    def send() -> None:
        nonlocal sent
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            receiver.bind(("127.0.0.1", 0))
            while not stop.is_set():
                sender.sendto(b"x" * 1000, receiver.getsockname())
                sent += 1028
                time.sleep(0.001)

    thread = threading.Thread(target=send)
    thread.start()
    started = time.monotonic()
    try:
        outcome = await probe("system", window_ms=500)
    finally:
        stop.set()
        thread.join()
    elapsed = time.monotonic() - started
    loopback = next(row for row in outcome.metrics.interfaces if row.name == "lo")
    assert loopback.receive_bytes_per_s >= 0.7 * sent / elapsed
    assert loopback.receive_packets_per_s >= 0.7 * sent / 1028 / elapsed
    assert loopback.receive_bytes_per_s == pytest.approx(loopback.transmit_bytes_per_s, rel=0.05)
    assert loopback.errors_per_s == 0
    assert loopback.mtu_bytes == int(Path("/sys/class/net/lo/mtu").read_text())
    assert loopback.up is True


async def test_every_interface_has_its_row(probe: Probe) -> None:
    """Once each, by name."""
    outcome = await probe("system", window_ms=100)
    rows = [row.name for row in outcome.metrics.interfaces]
    assert len(rows) == len(set(rows))
    assert set(rows) == set(psutil.net_if_stats())


async def test_what_is_switched_off_is_left_out(probe: Probe) -> None:
    """No rows; the host's own figures stay."""
    result = (await probe("system", window_ms=100, disks=False, interfaces=False)).metrics
    assert len(result.disks) == len(result.interfaces) == 0
    assert result.HasField("cpu_busy_pct")


async def test_a_hung_file_system_leaves_its_figures_unset(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a mount whose server is gone: the run ends, the row says what is known, the event loop runs on."""
    release = threading.Event()
    monkeypatch.setattr(psutil, "disk_usage", lambda _mount: release.wait())
    monkeypatch.setattr(system, "_DISK_TIMEOUT_S", 0.1)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.ensure_future(tick())
    try:
        outcome = await probe("system", window_ms=100)
    finally:
        release.set()
        ticking.cancel()
    root = next(disk for disk in outcome.metrics.disks if disk.mount_point == "/")
    assert not root.HasField("total_bytes")
    assert not root.HasField("used_pct")
    assert "/" in outcome.detail["disks_without_answer"]
    assert ticks >= 10


async def test_many_slow_disks_all_have_their_figures(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are asked at a time: the others wait for their turn."""
    usage = psutil.disk_usage("/")

    def slow(_mount: str) -> object:
        time.sleep(0.05)
        return usage

    monkeypatch.setattr(psutil, "disk_usage", slow)
    monkeypatch.setattr(
        system, "_mounts", lambda: [(f"/mnt/{number}", f"/dev/x{number}") for number in range(60)]
    )
    outcome = await probe("system", window_ms=100)
    assert outcome.detail == {}
    assert [disk.total_bytes for disk in outcome.metrics.disks] == [usage.total] * 60


async def test_a_reading_that_breaks_costs_its_own_figure_alone(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sandboxes without /proc/loadavg, drivers that write nonsense for a temperature."""

    def broken(error: Exception) -> object:
        raise error

    monkeypatch.setattr(os, "getloadavg", lambda: broken(OSError("unobtainable")))
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: broken(ValueError("could not convert")))
    monkeypatch.setattr(psutil, "swap_memory", lambda: broken(RuntimeError("no vmstat")))
    result = (await probe("system", window_ms=100)).metrics
    for name in ("load1", "load5", "load15", "temperature_max_cel", "swap_used_bytes"):
        assert not result.HasField(name), name
    assert result.HasField("cpu_busy_pct")
    assert result.HasField("memory_total_bytes")


async def test_counters_that_cannot_be_read_are_this_hosts_fault(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ERROR and VANTAGE, in time."""
    release = threading.Event()
    monkeypatch.setattr(psutil, "cpu_times", release.wait)
    monkeypatch.setattr(system, "_READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(system, "_READINGS", Detached("test", limit=1))
    try:
        for words in ("could not be read within", "no further one is started"):
            with pytest.raises(ProbeFailure, match=words) as caught:
                await probe("system", window_ms=100)
            assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
            assert caught.value.status == probe_pb2.STATUS_ERROR
    finally:
        release.set()
        for thread in threading.enumerate():
            if thread.name == "test":
                thread.join()  # it goes on reading, and must not do so in another test


@pytest.mark.parametrize("error", [PermissionError(13, "no /proc/stat"), psutil.AccessDenied()])
async def test_counters_that_are_forbidden_are_this_hosts_fault(
    probe: Probe, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """As in a sandbox without /proc/stat; not a fault of the worker's software."""

    def forbidden() -> object:
        raise error

    monkeypatch.setattr(psutil, "cpu_times", forbidden)
    with pytest.raises(ProbeFailure, match="counters cannot be read") as caught:
        await probe("system", window_ms=100)
    assert (caught.value.source, caught.value.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
    )  # fmt: skip


async def test_counters_that_went_backwards_give_no_rate(
    probe: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver's reset is not a negative speed, nor zero."""
    real = psutil.net_io_counters
    readings = 0

    def reading(*args: object, **keywords: object) -> dict[str, object]:
        nonlocal readings
        readings += 1
        counters = real(pernic=True, nowrap=False)
        grown = 10**15 if readings == 1 else 0
        return {name: row._replace(bytes_recv=row.bytes_recv + grown) for name, row in counters.items()}

    monkeypatch.setattr(psutil, "net_io_counters", reading)
    outcome = await probe("system", window_ms=100)
    loopback = next(row for row in outcome.metrics.interfaces if row.name == "lo")
    assert not loopback.HasField("receive_bytes_per_s")
    assert loopback.HasField("transmit_bytes_per_s")


async def test_a_cancelled_run_ends_at_once(probe: Probe) -> None:
    """In the middle of a long window."""
    task = asyncio.ensure_future(probe("system", window_ms=60_000))
    await asyncio.sleep(0.1)
    task.cancel()
    started = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 1
