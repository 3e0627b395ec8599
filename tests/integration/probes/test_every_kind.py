"""What all kinds that cross a network have in common: where packets leave from, DSCP, tests that must not get through."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.probes.answering import AIMS, answering, network_kinds
from integration.probes.cancelling import cancelled_at_every_step
from integration.probes.peers import Path3, Probe, to_both

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.probing import ProbeFailure
from worker.resolving import system_resolver
from worker.runner import Runner

KINDS = network_kinds()

pytestmark = pytest.mark.namespaces
either_socket = pytest.mark.parametrize("sort_of_socket", ["dgram", "raw"], indirect=True)
one_socket = pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)


@pytest.fixture
def runner() -> Runner:
    clock = SystemClock()
    return Runner(
        policy=Policy(allow_loopback=True),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=probes.load,
        resolve=system_resolver(),
    )


@pytest.fixture
def far(path3: Path3) -> Iterator[Path3]:
    """The path, with a host at its far end that answers everything, and a second address at its near end."""
    path3.near.run("ip", "address", "add", "10.91.1.7/24", "dev", "sw1a")
    path3.near.run("ip", "address", "add", "fd91:1::7/64", "dev", "sw1a", "nodad", "preferred_lft", "0")
    with path3.far.entered():
        host = answering()
        host.__enter__()
    yield path3
    host.__exit__(None, None, None)


def job_of(kind: str, host: str, **values: Any) -> probe_pb2.Job:
    target, short = AIMS[kind](host)
    return probe_pb2.Job(job_id=1, target=target, spec=contract.make_spec(kind, {**short, **values}))


def everyone(probe: Probe, host: str) -> Callable[..., Any]:
    """Return a function that runs a kind against the host."""

    async def run(kind: str, **values: Any) -> Any:
        target, short = AIMS[kind](host)
        return await probe(kind, target, **{**short, **values})

    return run


@either_socket
@to_both("usual", "source", ipv4=("10.91.1.1", "10.91.1.7"), ipv6=("fd91:1::1", "fd91:1::7"))
async def test_packets_leave_from_the_address_that_a_test_names(
    far: Path3, probe: Probe, address: str, usual: str, source: str
) -> None:
    """The far end hears nothing that comes from the usual address: without a source nothing gets through."""
    family = "ip6" if ":" in address else "ip"
    far.far.firewall("input", f"{family} saddr {usual} drop")
    run = everyone(probe, address)

    async def check(kind: str) -> None:
        await run(kind, source=source)
        with pytest.raises(ProbeFailure) as caught:
            await run(kind)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT, kind

    with far.near.entered():
        await asyncio.gather(*map(check, KINDS))


@either_socket
@to_both("prefix", "other", ipv4=("10.91.3.", "10.91.3.2"), ipv6=("fd91:3::", "fd91:3::2"))
async def test_packets_leave_by_the_interface_that_a_test_names(
    far: Path3, probe: Probe, address: str, prefix: str, other: str
) -> None:
    """The way by default is cut; another interface has one as well."""
    far.near.run("ip", "link", "add", "sw3a", "type", "veth", "peer", "name", "sw3b", "netns", far.far.name)
    for side, device, host in ((far.near, "sw3a", 1), (far.far, "sw3b", 2)):
        size = ("/64", "nodad") if ":" in address else ("/24",)
        side.run("ip", "address", "add", f"{prefix}{host}{size[0]}", "dev", device, *size[1:])
        side.run("ip", "link", "set", device, "up")
    far.near.run("ip", "route", "add", "default", "via", other, "dev", "sw3a", "metric", "5000")
    far.near.run("fping", "-r", "40", "-t", "50", "-B", "1", "-q", other)  # its link has only just come up
    far.router.firewall("forward", "drop")
    run = everyone(probe, address)

    async def check(kind: str) -> None:
        await run(kind, source="sw3a")
        with pytest.raises(ProbeFailure) as caught:
            await run(kind, source="sw1a")
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT, kind

    with far.near.entered():
        await asyncio.gather(*map(check, KINDS))


@either_socket
@to_both(
    "wrong",
    "problem",
    ipv4=("10.91.1.99", "this host has no address 10.91.1.99"),
    ipv6=("fd91:1::99", "this host has no address fd91:1::99"),
)
async def test_a_source_that_this_host_does_not_have_is_the_vantages(
    far: Path3, probe: Probe, address: str, wrong: str, problem: str
) -> None:
    """An address or interface that is not there: nothing is measured, and the message says what to mend."""
    run = everyone(probe, address)
    with far.near.entered():
        for kind in KINDS:
            for source, text in ((wrong, problem), ("nowhere0", "this host has no interface `nowhere0`")):
                with pytest.raises(ProbeFailure, match=text) as caught:
                    await run(kind, source=source)
                assert caught.value.status == probe_pb2.STATUS_ERROR
                assert caught.value.source == probe_pb2.FAILURE_SOURCE_VANTAGE
                assert caught.value.reason == probe_pb2.FAILURE_REASON_CANNOT_SEND


@one_socket
@to_both("source", ipv4=("fd91:1::7",), ipv6=("10.91.1.7",))
async def test_a_source_of_the_other_family_is_the_tests_fault(
    far: Path3, probe: Probe, address: str, source: str
) -> None:
    """Told as such, not as loss."""
    run = everyone(probe, address)
    with far.near.entered():
        for kind in KINDS:
            with pytest.raises(ProbeFailure, match="name a `source` of the destination's family") as caught:
                await run(kind, source=source)
            assert caught.value.reason == probe_pb2.FAILURE_REASON_INVALID_TEST, kind


@either_socket
@to_both("family", ipv4=("ip",), ipv6=("ip6",))
async def test_packets_bear_the_dscp_that_a_test_names(
    far: Path3, probe: Probe, address: str, family: str
) -> None:
    """The router lets nothing through but what is marked."""
    far.router.firewall("forward", f"iifname sw1b {family} dscp != ef drop")
    run = everyone(probe, address)

    async def check(kind: str) -> None:
        await run(kind, dscp=46)
        with pytest.raises(ProbeFailure) as caught:
            await run(kind)
        assert caught.value.reason == probe_pb2.FAILURE_REASON_TIMED_OUT, kind

    with far.near.entered():
        await asyncio.gather(*map(check, set(KINDS) - {"qos"}))  # which has classes of traffic instead


@one_socket
@to_both(ipv4=(), ipv6=())
@pytest.mark.parametrize("verdict", ["drop", "reject"])
async def test_what_must_be_unreachable_is_ok_behind_a_firewall(
    far: Path3, runner: Runner, address: str, verdict: str
) -> None:
    """Silence and a rejection both: ok, with what was measured and why it was not reached."""
    far.router.firewall("forward", verdict)
    jobs = [job_of(kind, address, must_be_unreachable=True) for kind in KINDS]
    with far.near.entered():
        results = await asyncio.gather(*(runner.run(job, 1) for job in jobs))
    for kind, result in zip(KINDS, results, strict=True):
        assert result.status == probe_pb2.STATUS_OK, (kind, result.error)
        assert result.WhichOneof("metrics") == kind
        assert result.error == ""
        assert not result.HasField("failure_reason")
        assert json.loads(result.detail_json)["not_reached"]


@one_socket
@to_both(ipv4=(), ipv6=())
async def test_what_must_be_unreachable_and_answers_has_failed(
    far: Path3, runner: Runner, address: str
) -> None:
    """With a reason of its own, and the metrics of the answer."""
    with far.near.entered():
        for kind in KINDS:
            result = await runner.run(job_of(kind, address, must_be_unreachable=True), 1)
            assert result.status == probe_pb2.STATUS_FAILED, kind
            assert result.failure_source == probe_pb2.FAILURE_SOURCE_TARGET
            assert result.failure_reason == probe_pb2.FAILURE_REASON_REACHED
            assert any(metric.name.endswith("_ms") for metric, _ in getattr(result, kind).ListFields()), kind


@one_socket
async def test_a_worker_that_cannot_send_proves_nothing(far: Path3, runner: Runner) -> None:
    """Without a route a test that must not get through is an error, not a success."""
    far.near.run("ip", "route", "delete", "default")
    with far.near.entered():
        for kind in KINDS:
            result = await runner.run(job_of(kind, "10.91.2.2", must_be_unreachable=True), 1)
            assert result.status == probe_pb2.STATUS_ERROR, kind
            assert result.failure_reason == probe_pb2.FAILURE_REASON_CANNOT_SEND


@one_socket
async def test_a_resolver_that_hangs_is_told_as_such(
    far: Path3, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every kind, also where the test's own times are shorter than the resolver's: never the worker's fault."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_keywords: release.wait() and [])
    try:
        with far.near.entered():
            results = await asyncio.gather(*(runner.run(job_of(kind, "hung.invalid"), 1) for kind in KINDS))
    finally:
        release.set()
    for kind, result in zip(KINDS, results, strict=True):
        assert result.failure_source == probe_pb2.FAILURE_SOURCE_RESOLVER, (kind, result.error)
        assert result.failure_reason in (
            probe_pb2.FAILURE_REASON_RESOLVER_FAILED,
            probe_pb2.FAILURE_REASON_TIMED_OUT,
        ), (kind, result.error)


@one_socket
@pytest.mark.parametrize("kind", KINDS)
async def test_a_run_that_is_cancelled_leaves_nothing_open(far: Path3, probe: Probe, kind: str) -> None:
    """At whatever step it is; sockets that runs share have been opened before."""
    target, values = AIMS[kind]("10.91.2.2")
    with far.near.entered():
        await cancelled_at_every_step(lambda: probe(kind, target, **values))


def test_every_kind_is_tested() -> None:
    """A new kind gets its line in `AIMS`."""
    assert sorted(AIMS) == sorted(KINDS)
