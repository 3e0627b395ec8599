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
    )


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
