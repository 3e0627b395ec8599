"""Which failures have this host looked at."""

import asyncio
import ipaddress
import logging
from types import SimpleNamespace
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import runner
from worker.clock import ControllerTime, SystemClock
from worker.failures import network_failure
from worker.policy import Policy
from worker.probing import Availability, Outcome, Resolved
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


async def test_a_look_at_this_host_that_does_not_end_holds_up_no_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The run ended as its probe said, and the log says that nobody knows better."""
    ended: list[str] = []

    async def endless(*_: object, **__: object) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("the look")
        raise AssertionError

    async def silent(_target: Any, _spec: Any, context: Any) -> Outcome:
        context.guard.check(ipaddress.ip_address("192.0.2.9"), 80)
        raise network_failure("no answer")

    monkeypatch.setattr(runner, "_LOOK_S", 0.05)
    monkeypatch.setattr(Vantage, "fault", endless)
    clock = SystemClock()

    async def resolve(host: str, _family: str) -> Resolved:
        return Resolved((ipaddress.ip_address(host),), None)

    runs = runner.Runner(
        policy=Policy(),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=lambda _: SimpleNamespace(run=silent, availability=lambda: Availability(available=True)),
        resolve=resolve,
        vantage=Vantage(clock, Policy(), servers=lambda: ()),
    )
    job = probe_pb2.Job(job_id=7, version=3, target="192.0.2.9:80", spec=contract.make_spec("tcp", {}))
    with caplog.at_level(logging.WARNING):
        result = await asyncio.wait_for(runs.run(job, 1), 10)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_FAILED,
        probe_pb2.FAILURE_SOURCE_NETWORK,
    )
    assert result.error == "no answer"
    assert ended == ["the look"]
    assert "access to the network took longer than 0.05 s" in caplog.text
