"""Peers on this machine: a routed path in namespaces of its own, and a host behind a TUN device with a script."""

from __future__ import annotations

import fcntl
import ipaddress
import os
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.probes.longer import Path4, longer_path
from integration.probes.marked import KEY
from integration.probes.peers import (
    Path3,
    Probe,
    RecordingGuard,
    ScriptedHost,
    allow_datagram_pings,
    echo_reply,
    namespaces,
)
from support import surroundings

from streamswarm import contract
from worker import probes
from worker.probes import qos
from worker.probing import Outcome, ProbeContext, Resolved
from worker.resolving import system_resolver
from worker.wire import icmp


@pytest.fixture
def guard() -> RecordingGuard:
    return RecordingGuard()


@pytest.fixture
def names() -> dict[str, str]:
    """Names that resolve within a test, without any name server, after 20 ms."""
    return {}


@pytest.fixture
def probe(guard: RecordingGuard, names: dict[str, str]) -> Probe:
    """Return a function that runs a kind against a target given as text, as the runner does."""
    system = system_resolver()

    async def resolve(host: str, family: str) -> Resolved:
        if host in names:
            return Resolved(addresses=(ipaddress.ip_address(names[host]),), elapsed_ms=20.0)
        return await system(host, family)

    async def run(kind: str, target: str = "", **values: Any) -> Outcome:
        known = contract.kind(kind)
        spec = getattr(contract.make_spec(kind, values), kind)
        context = ProbeContext(guard=guard, resolve=resolve)
        return await probes.load(kind).run(contract.parse_target(known, target), spec, context)

    return run


@pytest.fixture
def keyed_probe(guard: RecordingGuard) -> Probe:
    """Return a function that runs `qos` as a worker does that has the key of responders."""
    context = ProbeContext(guard=guard, resolve=system_resolver(), responder_keys=(KEY,))

    async def run(kind: str, target: str = "", **values: Any) -> Outcome:
        spec = contract.make_spec(kind, values).qos
        return await qos.run(contract.parse_target(contract.kind(kind), target), spec, context)

    return run


@pytest.fixture
async def no_leak() -> AsyncIterator[None]:
    """Fail a test that leaves a file descriptor open."""
    before = _descriptors()
    yield
    # Sockets for pings are kept a while for the next run; one that a run still uses stays open, and is found here.
    icmp.close_unused()
    deadline = time.monotonic() + 1
    while _descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)  # a thread of the resolver may still hold one
    assert _descriptors() <= before


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture(scope="session")
def _root() -> None:
    if os.geteuid() != 0:
        reason = "needs root for network namespaces; run `sudo make test` to include it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(params=["dgram", "raw"])
def sort_of_socket(request: pytest.FixtureRequest) -> str:
    """Both sorts of ICMP socket, by what the namespace allows."""
    return str(request.param)


@pytest.fixture
def path4(_root: None) -> Iterator[Path4]:
    """A routed path of three links, both families, whose end reports every packet to a closed port."""
    with longer_path() as path:
        path.far.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        yield path


@pytest.fixture
def path3(_root: None, sort_of_socket: str) -> Iterator[Path3]:
    """A routed path of two links, both families."""
    with namespaces("near", "router", "far") as (near, router, far):
        for namespace in (near, router, far):
            # Looking for twins of a new IPv6 address takes a second or two.
            namespace.run("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        for number, (end, other) in enumerate(((near, router), (router, far)), start=1):
            left, right = (f"sw{number}a", f"sw{number}b")
            end.run("ip", "link", "add", left, "type", "veth", "peer", "name", right, "netns", other.name)
            for side, device, host in ((end, left, 1), (other, right, 2)):
                side.run("ip", "address", "add", f"10.91.{number}.{host}/24", "dev", device)
                side.run("ip", "address", "add", f"fd91:{number}::{host}/64", "dev", device, "nodad")
                side.run("ip", "link", "set", device, "up")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        router.run("sysctl", "-qw", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        near.run("ip", "route", "add", "default", "via", "10.91.1.2")
        near.run("ip", "route", "add", "default", "via", "fd91:1::2")
        far.run("ip", "route", "add", "default", "via", "10.91.2.1")
        far.run("ip", "route", "add", "default", "via", "fd91:2::1")
        allow_datagram_pings(near, sort_of_socket)
        # The first packets after a link comes up wait for its neighbours to be found.
        for address in ("10.91.2.2", "fd91:2::2"):
            near.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", address)
        yield Path3(near=near, router=router, far=far)


@pytest.fixture
def scripted_host(_root: None, sort_of_socket: str) -> Iterator[ScriptedHost]:
    """A host that answers as its `script` says; without one at once."""
    with namespaces("tun") as (namespace,):
        with namespace.entered():
            descriptor = os.open("/dev/net/tun", os.O_RDWR)
            # TUNSETIFF with IFF_TUN | IFF_NO_PI
            fcntl.ioctl(descriptor, 0x400454CA, struct.pack("16sH14x", b"swtun", 0x1001))
        namespace.run("ip", "address", "add", "10.92.0.1/24", "dev", "swtun")
        namespace.run("ip", "link", "set", "swtun", "up")
        allow_datagram_pings(namespace, sort_of_socket)
        host = ScriptedHost(
            namespace=namespace,
            descriptor=descriptor,
            script=lambda _number, packet: [(0.0, echo_reply(packet))],
        )
        thread = threading.Thread(target=host.serve)
        thread.start()
        try:
            yield host
        finally:
            host.stopping.set()
            thread.join()
            os.close(descriptor)


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    return surroundings.free_port()
