"""What a worker tells about its host."""

from __future__ import annotations

import ipaddress
import os
import platform
import socket
from pathlib import Path

import psutil

from streamswarm.v1 import gateway_pb2

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def boot_id() -> str:
    """Return a text that changes with every boot of the host."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return f"booted-{int(psutil.boot_time())}"


def facts(host_name: str) -> gateway_pb2.Facts:
    """Return the facts of this host."""
    return gateway_pb2.Facts(
        host_name=host_name,
        os=_system_name(),
        kernel=platform.release(),
        architecture=platform.machine(),
        python=platform.python_version(),
        cpu_count=os.cpu_count() or 0,
        memory_bytes=psutil.virtual_memory().total,
        boot_time_us=int(psutil.boot_time() * 1_000_000),
        addresses=_addresses(),
        started_at_us=int(psutil.Process().create_time() * 1_000_000),
        memory_max_bytes=_limit("memory.max", largest=2**63 - 1),
        tasks_max=_limit("pids.max", largest=2**31 - 1),
        open_files_max=_open_files(),
    )


def _limit(name: str, *, largest: int) -> int:
    """Return a limit of this process's control group; 0 where there is none or it is not known."""
    try:
        [path] = [
            line[3:] for line in _GROUP.read_text(encoding="utf-8").splitlines() if line.startswith("0::")
        ]
        return min(int((_GROUPS / path.lstrip("/") / name).read_text(encoding="ascii")), largest)
    except (OSError, ValueError):  # `max` is no number
        return 0


def _open_files() -> int:
    try:
        import resource  # not on Windows
    except ImportError:
        return 0
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if limit == resource.RLIM_INFINITY else min(limit, 2**31 - 1)


def _system_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.version()}"


def _addresses() -> list[str]:
    """Return the host's addresses that others might reach: neither loopback nor link-local."""
    found: list[str] = []
    for interface in psutil.net_if_addrs().values():
        for entry in interface:
            if entry.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(entry.address.partition("%")[0])
                if not address.is_loopback and not address.is_link_local:
                    found.append(str(address))
    return sorted(found)[:64]
