"""Network namespaces: one for the controller, with the bridge, and one for each host.

Both ends of every path lie in namespaces, so no address of the laboratory is routed from the machine itself, and
any number of laboratories can use the same addresses at the same time.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.commands import call

#: Where `ip netns` keeps the namespaces by name.
NAMESPACES = Path("/run/netns")
#: The bridge inside the controller's namespace.
BRIDGE = "lab0"
#: Addresses for benchmarks between networks (RFC 2544): never routed anywhere.
IPV4_PREFIX = "198.18.77"
IPV6_PREFIX = "fd77:18::"

CLONE_NEWNET = 0x40000000


def host_addresses(number: int) -> tuple[str, str]:
    """Return the IPv4 and IPv6 address of host `number` (0 is the controller)."""
    last = 10 + number if number else 1
    return f"{IPV4_PREFIX}.{last}", f"{IPV6_PREFIX}{last:x}"


def add_controller_namespace(name: str) -> None:
    """Make the controller's namespace with its bridge and addresses."""
    ipv4, ipv6 = host_addresses(0)
    _ip("netns", "add", name)
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
    _ip("-n", name, "addr", "add", f"{ipv4}/24", "dev", BRIDGE)
    _ip("-n", name, "addr", "add", f"{ipv6}/64", "dev", BRIDGE, "nodad")
    _ip("-n", name, "link", "set", BRIDGE, "up")


def add_host_namespace(name: str, number: int, *, controller: str) -> None:
    """Make the namespace of host `number` and plug it into the controller's bridge."""
    ipv4, ipv6 = host_addresses(number)
    port = f"h{number}"
    _ip("netns", "add", name)
    _ip("-n", controller, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("-n", controller, "link", "set", port, "master", BRIDGE, "up")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "addr", "add", f"{ipv4}/24", "dev", "eth0")
    _ip("-n", name, "addr", "add", f"{ipv6}/64", "dev", "eth0", "nodad")
    _ip("-n", name, "link", "set", "eth0", "up")


def delete_namespace(name: str) -> None:
    """Delete a namespace by name; its links and addresses go with it."""
    _ip("netns", "delete", name)


def namespaces_of(run: str) -> list[str]:
    """Return the namespaces that exist for the laboratory `run`."""
    return sorted(path.name for path in NAMESPACES.glob(f"{run}-*"))


def processes_in(name: str) -> list[int]:
    """Return the numbers of the processes that live in a namespace."""
    return [int(line) for line in call(["ip", "netns", "pids", name]).split()]


def within(name: str, argv: Sequence[str | Path]) -> list[str]:
    """Return the command that runs `argv` in a namespace: the network changes, nothing else."""
    return ["nsenter", f"--net={NAMESPACES / name}", "--", *(str(word) for word in argv)]


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Put the calling thread into a namespace for the duration of the block.

    Sockets opened and processes and threads started in the block belong to the namespace for good; other threads
    of this process are not touched.
    """
    with Path("/proc/thread-self/ns/net").open() as home, (NAMESPACES / name).open() as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot change the network namespace: {os.strerror(number)}")


def _ip(*words: str) -> None:
    call(["ip", *words])
