"""Peers for the probes' tests: namespaces, a host behind a TUN device that follows a script, a recording guard."""

from __future__ import annotations

import contextlib
import ctypes
import heapq
import os
import secrets
import select
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from streamswarm.targets import IPNetwork
from streamswarm.v1 import probe_pb2
from worker.probing import IPAddress, Outcome, ProbeFailure

CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)

Probe = Callable[..., Awaitable[Outcome]]


@dataclass
class RecordingGuard:
    """Allows everything but what is named, and remembers what it was asked."""

    denied: set[str] = field(default_factory=set)
    asked: list[tuple[IPAddress, int | None]] = field(default_factory=list)
    networks: list[IPNetwork] = field(default_factory=list)

    def check(self, address: IPAddress, port: int | None = None) -> None:
        self.asked.append((address, port))
        if str(address) in self.denied or f"{address}:{port}" in self.denied:
            raise ProbeFailure(
                f"{address} is denied",
                source=probe_pb2.FAILURE_SOURCE_POLICY,
                reason=probe_pb2.FAILURE_REASON_FORBIDDEN,
                status=probe_pb2.STATUS_ERROR,
            )

    def check_network(self, network: IPNetwork) -> None:
        self.networks.append(network)
        if str(network) in self.denied:
            raise ProbeFailure(
                f"{network} is denied",
                source=probe_pb2.FAILURE_SOURCE_POLICY,
                reason=probe_pb2.FAILURE_REASON_FORBIDDEN,
                status=probe_pb2.STATUS_ERROR,
            )


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """A network namespace of the test's own."""

    name: str

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program inside and return it with its output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.name, *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done

    def limit(self, device: str, rate: str, *, burst: str = "10kb", queue: str = "200ms") -> None:
        """Let no more than a rate leave by a device, with a queue of that length before it."""
        self.run(
            "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", rate, "burst", burst, "latency", queue
        )

    def firewall(self, hook: str, rule: str) -> None:
        """Have packets that come by a hook meet one more rule, as nft writes it."""
        chain = f"inet t {hook}"
        self.run("nft", "add table inet t")
        self.run("nft", f"add chain {chain} {{ type filter hook {hook} priority 0; }}")
        self.run("nft", f"add rule {chain} {rule}")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Have sockets that this thread opens meanwhile belong to the namespace."""
        with (
            Path("/proc/thread-self/ns/net").open() as home,
            Path(f"/run/netns/{self.name}").open() as inside,
        ):
            _set_namespace(inside.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())


def _set_namespace(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


@contextlib.contextmanager
def namespaces(*roles: str) -> Iterator[list[Namespace]]:
    """Make namespaces with names of their own, and delete them afterwards."""
    made: list[Namespace] = []
    tag = secrets.token_hex(3)
    try:
        for role in roles:
            namespace = Namespace(name=f"ssw-{tag}-{role}")
            subprocess.run(["ip", "netns", "add", namespace.name], check=True)
            made.append(namespace)
            namespace.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        for namespace in made:
            subprocess.run(["ip", "netns", "delete", namespace.name], check=True)


@dataclass(frozen=True, kw_only=True)
class Path3:
    """near - router - far: 10.91.1.1 and .2, 10.91.2.1 and .2; the same in fd91:1:: and fd91:2::."""

    near: Namespace
    router: Namespace
    far: Namespace


def to_both(*names: str, ipv4: tuple[str, ...], ipv6: tuple[str, ...]) -> pytest.MarkDecorator:
    """Run a test with the far end's `address` of either family, and with values that go with it."""
    values = [("10.91.2.2", *ipv4), ("fd91:2::2", *ipv6)]
    return pytest.mark.parametrize(("address", *names), values, ids=["ipv4", "ipv6"])


def allow_datagram_pings(namespace: Namespace, sort: str) -> None:
    """Let the namespace hand out ICMP datagram sockets, or raw ones only."""
    allowed = "0 2147483647" if sort == "dgram" else "1 0"
    namespace.run("sysctl", "-qw", f"net.ipv4.ping_group_range={allowed}")


#: What a scripted host does with a request: packets to send back, each after so many seconds.
Script = Callable[[int, bytes], list[tuple[float, bytes]]]


@dataclass
class ScriptedHost:
    """The host 10.92.0.2 behind a TUN device: each echo request goes through a script of the test."""

    namespace: Namespace
    descriptor: int
    #: Called with the number of the request, from 0, and its IP packet.
    script: Script
    #: Every echo request that came, as an IP packet.
    requests: list[bytes] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)

    def serve(self) -> None:
        """Read packets, send what is due; runs in a thread."""
        due: list[tuple[float, int, bytes]] = []
        order = 0
        while not self.stopping.is_set():
            wait = 0.05 if not due else min(0.05, max(0.0, due[0][0] - time.monotonic()))
            if select.select([self.descriptor], [], [], wait)[0]:
                packet = os.read(self.descriptor, 65_535)
                arrived = time.monotonic()
                if packet[0] >> 4 == 4 and packet[9] == 1 and packet[20] == 8:
                    for delay, answer in self.script(len(self.requests), packet):
                        order += 1
                        heapq.heappush(due, (arrived + delay, order, answer))
                    self.requests.append(packet)
            while due and due[0][0] <= time.monotonic():
                os.write(self.descriptor, heapq.heappop(due)[2])


def checksum(data: bytes) -> int:
    """Return the Internet checksum, written apart from the code under test."""
    total = sum(data[0::2]) * 256 + sum(data[1::2])
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def echo_reply(packet: bytes, change: Callable[[bytearray], None] | None = None) -> bytes:
    """Return the reply to a request; `change` may alter its ICMP message before the checksum is made."""
    message = bytearray(packet[20:])
    message[0] = 0
    if change is not None:
        change(message)
    message[2:4] = b"\0\0"
    message[2:4] = checksum(bytes(message)).to_bytes(2, "big")
    header = bytearray(packet[:20])
    header[12:16], header[16:20] = packet[16:20], packet[12:16]
    header[8] = 57
    header[10:12] = b"\0\0"
    header[10:12] = checksum(bytes(header)).to_bytes(2, "big")
    return bytes(header) + bytes(message)
