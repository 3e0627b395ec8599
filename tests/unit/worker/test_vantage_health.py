"""Which failures have this host looked at."""

import ipaddress

import pytest

from streamswarm.v1 import probe_pb2
from worker.clock import SystemClock
from worker.failures import network_failure
from worker.policy import Policy
from worker.vantage.health import Vantage, Way
from worker.wire import netlink
from worker.wire.source import BY_ROUTES


async def test_what_was_measured_and_breaks_a_bound_is_no_fault_of_this_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answers came, so that the way to them was there; silence has the way looked at."""

    async def broken(vantage: Vantage, way: Way, since_us: int) -> str:
        return "the gateway 192.0.2.1 does not answer"

    monkeypatch.setattr(netlink, "SUPPORTED", True)
    monkeypatch.setattr(Vantage, "_fault_on", broken)
    vantage = Vantage(SystemClock(), Policy(), servers=lambda: ())
    address = ipaddress.ip_address("192.0.2.9")
    silence = network_failure("no answer")
    breach = network_failure("the MTU is too small", reason=probe_pb2.FAILURE_REASON_OUT_OF_BOUNDS)
    assert await vantage.fault(silence, address, BY_ROUTES, started_us=0)
    assert await vantage.fault(breach, address, BY_ROUTES, started_us=0) == ""
