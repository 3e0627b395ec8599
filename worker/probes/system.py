"""The kind `system`: the worker's own host, rates taken over a window inside the run."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psutil

from streamswarm.targets import Target
from streamswarm.v1 import probe_pb2
from streamswarm.v1.probes.system_pb2 import SystemDisk, SystemInterface, SystemResult, SystemSpec
from worker.detached import Detached, TooManyHungCallsError
from worker.failures import vantage_failure
from worker.probing import Availability, Outcome, ProbeContext

T = TypeVar("T")

#: Reading counters takes milliseconds; a mount whose server is gone never answers.
_READ_TIMEOUT_S = 3.0
_DISK_TIMEOUT_S = 1.5
_READINGS = Detached("host counters", limit=8)
_DISKS = Detached("file system usage", limit=32)


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """Counters at one instant."""

    at_ns: int
    cpu: Any
    stats: Any
    interfaces: dict[str, Any]
    devices: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _State:
    """What has no rate."""

    memory: Any
    swap: Any
    interfaces: dict[str, Any]
    mounts: list[tuple[str, str]]
    process_count: int | None
    uptime_s: float | None
    temperature_cel: float | None


async def run(target: Target, spec: SystemSpec, context: ProbeContext) -> Outcome:
    """Read the counters twice, a window apart."""
    try:
        before = await _READINGS.call(lambda: _sample(spec), timeout_s=_READ_TIMEOUT_S)
        await asyncio.sleep(spec.window_ms / 1000)
        after = await _READINGS.call(lambda: _sample(spec), timeout_s=_READ_TIMEOUT_S)
        state = await _READINGS.call(lambda: _state(spec), timeout_s=_READ_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise vantage_failure(
            f"this host's counters could not be read within {_READ_TIMEOUT_S:g} s",
            reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        ) from None
    except TooManyHungCallsError as error:
        raise vantage_failure(str(error), reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE) from error
    except (OSError, psutil.Error) as error:
        raise vantage_failure(
            f"this host's counters cannot be read: {error}", reason=probe_pb2.FAILURE_REASON_NOT_AVAILABLE
        ) from error
    result = SystemResult()
    seconds = (after.at_ns - before.at_ns) / 1e9
    _fill_cpu(result, before, after, seconds)
    _fill_state(result, state)
    _fill_interfaces(result, before, after, state, seconds)
    unanswered = await _fill_disks(result, before, after, state, seconds)
    return Outcome(metrics=result, detail={"disks_without_answer": unanswered} if unanswered else {})


def availability() -> Availability:
    """Every host that psutil knows can be measured."""
    return Availability(available=True)


def _sample(spec: SystemSpec) -> _Sample:
    return _Sample(
        cpu=psutil.cpu_times(),
        stats=psutil.cpu_stats(),
        interfaces=_read(lambda: psutil.net_io_counters(pernic=True, nowrap=False), spec.interfaces) or {},
        devices=_read(lambda: psutil.disk_io_counters(perdisk=True, nowrap=False), spec.disks) or {},
        at_ns=time.monotonic_ns(),
    )


def _state(spec: SystemSpec) -> _State:
    return _State(
        memory=psutil.virtual_memory(),
        swap=_read(psutil.swap_memory),
        interfaces=_read(psutil.net_if_stats, spec.interfaces) or {},
        mounts=_read(_mounts, spec.disks) or [],
        process_count=_read(lambda: len(psutil.pids())),
        uptime_s=_read(lambda: time.time() - psutil.boot_time()),
        temperature_cel=_read(_temperature),
    )


def _read(function: Callable[[], T], wanted: bool = True) -> T | None:
    """Return a reading, or None where this system, a container or a sandbox does not give it."""
    if not wanted:
        return None
    try:
        return function()
    except (OSError, ValueError, RuntimeError, psutil.Error):
        return None


def _mounts() -> list[tuple[str, str]]:
    """Return (mount point, device) of the disks, one row per device: the one mounted highest."""
    chosen: dict[str, str] = {}
    for partition in psutil.disk_partitions(all=False):
        known = chosen.get(partition.device)
        if known is None or len(partition.mountpoint) < len(known):
            chosen[partition.device] = partition.mountpoint
    return sorted((mount, device) for device, mount in chosen.items())


def _temperature() -> float | None:
    read = getattr(psutil, "sensors_temperatures", None)  # not on every system
    if read is None:
        return None
    values = [entry.current for entries in read().values() for entry in entries if entry.current is not None]
    return max(values, default=None)


def _fill_cpu(result: SystemResult, before: _Sample, after: _Sample, seconds: float) -> None:
    spent = {
        name: max(0.0, getattr(after.cpu, name) - getattr(before.cpu, name))
        for name in after.cpu._fields
        # The kernel counts guests in user and nice already.
        if name not in ("guest", "guest_nice")
    }
    total = sum(spent.values())
    if total > 0:
        idle = spent["idle"] + spent.get("iowait", 0.0)
        result.cpu_busy_pct = 100 * (total - idle) / total
        shares = {"user": "cpu_user_pct", "system": "cpu_system_pct"}
        shares |= {"iowait": "cpu_iowait_pct", "steal": "cpu_steal_pct"}
        for name, metric in shares.items():
            if name in spent:
                setattr(result, metric, 100 * spent[name] / total)
    count = psutil.cpu_count()
    if count is not None:
        result.cpu_count = count
    load = _read(os.getloadavg)
    if load is not None:
        result.load1, result.load5, result.load15 = load
    _set_rate(result, "context_switches_per_s", before.stats, after.stats, ["ctx_switches"], seconds)
    _set_rate(result, "interrupts_per_s", before.stats, after.stats, ["interrupts"], seconds)


def _fill_state(result: SystemResult, state: _State) -> None:
    result.memory_total_bytes = state.memory.total
    result.memory_available_bytes = state.memory.available
    result.memory_used_pct = 100 * (state.memory.total - state.memory.available) / state.memory.total
    cached = getattr(state.memory, "cached", None)
    if cached is not None:
        result.memory_cached_bytes = cached
    if state.swap is not None:
        result.swap_used_bytes = state.swap.used
    if state.process_count is not None:
        result.process_count = state.process_count
    if state.uptime_s is not None:
        result.uptime_s = state.uptime_s
    if state.temperature_cel is not None:
        result.temperature_max_cel = state.temperature_cel


def _fill_interfaces(
    result: SystemResult, before: _Sample, after: _Sample, state: _State, seconds: float
) -> None:
    for name in sorted(set(after.interfaces) | set(state.interfaces)):
        row = SystemInterface(name=name)
        old, new = before.interfaces.get(name), after.interfaces.get(name)
        if old is not None and new is not None:
            _set_rate(row, "receive_bytes_per_s", old, new, ["bytes_recv"], seconds)
            _set_rate(row, "transmit_bytes_per_s", old, new, ["bytes_sent"], seconds)
            _set_rate(row, "receive_packets_per_s", old, new, ["packets_recv"], seconds)
            _set_rate(row, "transmit_packets_per_s", old, new, ["packets_sent"], seconds)
            _set_rate(row, "errors_per_s", old, new, ["errin", "errout"], seconds)
            _set_rate(row, "drops_per_s", old, new, ["dropin", "dropout"], seconds)
        settings = state.interfaces.get(name)
        if settings is not None:
            row.up = settings.isup
            if settings.mtu:
                row.mtu_bytes = settings.mtu
        result.interfaces.append(row)


async def _fill_disks(
    result: SystemResult, before: _Sample, after: _Sample, state: _State, seconds: float
) -> list[str]:
    """Add a row for each disk; return the mount points that did not answer in time."""
    usages = await asyncio.gather(
        *(
            _DISKS.call(lambda mount=mount: psutil.disk_usage(mount), timeout_s=_DISK_TIMEOUT_S)  # type: ignore[misc]
            for mount, _device in state.mounts
        ),
        return_exceptions=True,
    )
    unanswered: list[str] = []
    for (mount, device), usage in zip(state.mounts, usages, strict=True):
        row = SystemDisk(mount_point=mount)
        if isinstance(usage, BaseException):
            if not isinstance(usage, (OSError, asyncio.TimeoutError, TooManyHungCallsError)):
                raise usage
            unanswered.append(mount)
        else:
            row.total_bytes, row.free_bytes, row.used_pct = usage.total, usage.free, usage.percent
        name = Path(os.path.realpath(device)).name
        old, new = before.devices.get(name), after.devices.get(name)
        if old is not None and new is not None:
            _set_rate(row, "read_bytes_per_s", old, new, ["read_bytes"], seconds)
            _set_rate(row, "write_bytes_per_s", old, new, ["write_bytes"], seconds)
        result.disks.append(row)
    return unanswered


def _set_rate(row: Any, metric: str, before: Any, after: Any, counters: list[str], seconds: float) -> None:
    """Set a rate from counters; left unset when one went backwards, as after a driver's reset."""
    grown = [getattr(after, name) - getattr(before, name) for name in counters]
    if seconds > 0 and all(growth >= 0 for growth in grown):
        setattr(row, metric, sum(grown) / seconds)
