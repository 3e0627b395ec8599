"""The port that the policy of a host is asked about: that of the packets, and none where they have none."""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.failures import network_failure
from worker.policy import Policy
from worker.probes import traceroute
from worker.probing import ProbeContext, ProbeFailure, Resolved
from worker.wire.trace.plan import TracePlan


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ports of the traces that would have been run; none is."""
    ports: list[int] = []

    async def nothing(_address: object, plan: TracePlan) -> Any:
        ports.append(plan.port)
        raise network_failure("this far and no farther")

    monkeypatch.setattr(traceroute, "_trace", nothing)
    return ports


async def run(allowed: int, **values: Any) -> ProbeFailure:
    """Run a traceroute on a host whose policy allows one port; return how it ended."""

    async def resolve(host: str, _family: str) -> Resolved:
        return Resolved(addresses=(ipaddress.ip_address(host),), elapsed_ms=None)

    guard: Any = SimpleNamespace(check=Policy(ports=((allowed, allowed),)).check)
    kind = contract.kind("traceroute")
    spec = contract.make_spec("traceroute", values).traceroute
    with pytest.raises(ProbeFailure) as caught:
        await traceroute.run(
            contract.parse_target(kind, "192.0.2.1"), spec, ProbeContext(guard=guard, resolve=resolve)
        )
    return caught.value


@pytest.mark.parametrize("port", [0, 33_434])
async def test_icmp_has_no_port_that_a_policy_could_forbid(traced: list[int], port: int) -> None:
    """Whatever the test names: it is neither asked about nor told."""
    ended = await run(443, protocol="icmp", port=port)
    assert traced == [0]
    assert ended.reason == probe_pb2.FAILURE_REASON_TIMED_OUT
    assert "port" not in ended.detail


@pytest.mark.parametrize(("protocol", "port"), [("udp", 33_434), ("tcp", 443)])
async def test_port_0_stands_for_the_protocols_own(traced: list[int], protocol: str, port: int) -> None:
    """And it is that one which the policy must allow."""
    ended = await run(port, protocol=protocol, port=0)
    assert (traced, ended.detail["port"]) == ([port], port)
    forbidden = await run(port + 1, protocol=protocol, port=0)
    assert forbidden.reason == probe_pb2.FAILURE_REASON_FORBIDDEN
    assert f"port {port} is not among" in forbidden.message
    assert traced == [port]
