"""A worker whose process has no file descriptor left: its own want, told as such, and over when there are some again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from integration.probes.peers import Probe

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure
from worker.wire import icmp

pytestmark = pytest.mark.usefixtures("_root")

#: What each kind is asked; `:port` stands for a host with a port that takes connections and says nothing.
ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("ping", "127.0.0.1", {"count": 1, "timeout_ms": 200}),
    ("mtu", "127.0.0.1", {"timeout_ms": 200}),
    ("qos", "127.0.0.1", {"count": 1, "timeout_ms": 200, "trace": False, "ecn": False}),
    ("traceroute", "127.0.0.1", {"rounds": 1, "protocol": "icmp"}),
    ("traceroute", "127.0.0.1", {"rounds": 1, "protocol": "udp"}),
    ("traceroute", "127.0.0.1", {"rounds": 1, "protocol": "tcp"}),
    ("tcp", "127.0.0.1:port", {}),
    ("tcp", "127.0.0.1:port", {"split": True}),
    ("tls", "127.0.0.1:port", {"timeout_ms": 100}),
    ("http", "http://127.0.0.1:port/", {"timeout_ms": 100}),
    ("tcp_window", "http://127.0.0.1:port/", {"timeout_ms": 100}),
    ("dns", "127.0.0.1:port", {"query_name": "a.test", "timeout_ms": 100}),
    ("dns", "127.0.0.1:port", {"query_name": "a.test", "timeout_ms": 100, "transport": "tcp"}),
    ("dns", "127.0.0.1:port", {"query_name": "a.test", "timeout_ms": 100, "transport": "https"}),
]


@pytest.fixture
def port() -> Iterator[int]:
    """A port whose listener is silent, over TCP and UDP."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(listener.getsockname())
        yield listener.getsockname()[1]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def exhausted() -> Iterator[None]:
    """Leave this process no file descriptor meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def ending(probe: Probe, kind: str, target: str, values: dict[str, Any]) -> ProbeFailure | None:
    """Return how a run failed, None when it did not."""
    try:
        await probe(kind, target, **values)
    except ProbeFailure as failure:
        return failure
    return None


@pytest.mark.parametrize(("kind", "target", "values"), ASKED)
async def test_no_descriptor_is_the_vantage_points_fault(
    probe: Probe, port: int, kind: str, target: str, values: dict[str, Any], no_leak: None
) -> None:
    """Before and after it, the run ends as it should."""
    target = target.replace("port", str(port))
    at_first = descriptors()
    before = await ending(probe, kind, target, values)
    icmp.close_unused()
    while descriptors() > at_first:  # packet sockets are closed in a thread
        await asyncio.sleep(0.01)
    with exhausted():
        meanwhile = await ending(probe, kind, target, values)
    assert meanwhile is not None
    assert (meanwhile.status, meanwhile.source) == (probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE)
    assert meanwhile.reason == probe_pb2.FAILURE_REASON_NO_ROOM
    assert "EMFILE" in meanwhile.message
    after = await ending(probe, kind, target, values)
    assert (after and after.message) == (before and before.message)
    assert after is None or after.reason == probe_pb2.FAILURE_REASON_TIMED_OUT


async def test_a_trace_that_cannot_listen_for_tcp_spoils_no_other(probe: Probe, no_leak: None) -> None:
    """Neither the one that shares its sockets, nor the next one by TCP."""
    values = {"rounds": 1, "protocol": "tcp"}
    assert await ending(probe, "traceroute", "127.0.0.1", values) is None
    shared = asyncio.ensure_future(
        probe("traceroute", "127.0.0.1", protocol="icmp", rounds=5, round_interval_ms=200)
    )
    await asyncio.sleep(0.3)
    with exhausted():
        refused = await ending(probe, "traceroute", "127.0.0.1", values)
    assert refused is not None
    assert refused.source == probe_pb2.FAILURE_SOURCE_VANTAGE
    outcome = await probe("traceroute", "127.0.0.1", **values)
    assert outcome.metrics.reached
    assert not shared.done()
    assert (await shared).metrics.loss_pct == 0
