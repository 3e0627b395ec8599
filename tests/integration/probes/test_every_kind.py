"""What all kinds that cross a network have in common: where packets leave from, DSCP, tests that must not get through."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from integration.probes.answering import AIMS, answering, network_kinds, way, ways
from integration.probes.cancelling import cancelled_at_every_step
from integration.probes.peers import Path3, Probe, RecordingGuard, to_both

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.clock import ControllerTime, SystemClock
from worker.policy import Policy
from worker.probing import Outcome, ProbeContext, ProbeFailure, Resolved
from worker.resolving import system_resolver
from worker.runner import Runner
from worker.vantage.health import Vantage

KINDS = network_kinds()

pytestmark = pytest.mark.namespaces
either_socket = pytest.mark.parametrize("sort_of_socket", ["dgram", "raw"], indirect=True)
one_socket = pytest.mark.parametrize("sort_of_socket", ["dgram"], indirect=True)

#: For runs that are answered, which a busy machine may do late.
PATIENT = {"timeout_ms": 5000}


@pytest.fixture
def runner() -> Runner:
    clock, policy = SystemClock(), Policy(allow_loopback=True)
    return Runner(
        policy=policy,
        clock=clock,
        controller_time=ControllerTime(clock),
        load=probes.load,
        resolve=system_resolver(),
        vantage=Vantage(clock, policy),
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
        await run(kind, source=source, **PATIENT)
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
        await run(kind, source="sw3a", **PATIENT)
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
async def test_every_packet_bears_the_dscp_that_a_test_names(
    far: Path3, probe: Probe, address: str, family: str
) -> None:
    """In every way that a kind can ask: none without it leaves this host; beside neighbours' that IPv6 looks for."""
    near = far.near
    near.run("nft", "add table inet marks; add counter inet marks named; add counter inet marks others")
    near.run("nft", "add chain inet marks out { type filter hook output priority 0; }")
    near.run("nft", "add rule inet marks out icmpv6 type 130-143 accept")
    near.run(
        "nft", "add rule inet marks out tcp flags rst accept"
    )  # the kernel's own, of what it does not know
    near.run("nft", f"add rule inet marks out {family} dscp ef counter name named accept")
    near.run("nft", "add rule inet marks out counter name others")
    with near.entered():
        for name in set(ways()) - {"qos", "qos-marks"}:  # which have classes of traffic instead
            kind, target, values = way(name, address)
            await probe(kind, target, **values | {"dscp": 46} | PATIENT)
            counted = near.run("nft", "reset", "counters", "table", "inet", "marks").stdout
            marked, others = (int(packets) for packets in re.findall(r"packets (\d+)", counted))
            assert marked > 0, name
            assert others == 0, name


@one_socket
@to_both("other", ipv4=("fd91:2::2",), ipv6=("10.91.2.2",))
async def test_packets_are_of_the_family_that_a_test_names(
    far: Path3, guard: RecordingGuard, address: str, other: str
) -> None:
    """Of a name with addresses of both; an address of the other is the name's fault, and nothing is sent."""
    family, unwanted = ("ipv6", "ipv4") if ":" in address else ("ipv4", "ipv6")
    near, system = far.near, system_resolver()
    near.run("nft", "add table inet seen; add counter inet seen ipv4; add counter inet seen ipv6")
    near.run("nft", "add chain inet seen out { type filter hook output priority 0; }")
    near.run("nft", "add rule inet seen out icmpv6 type 130-143 accept")
    for version in ("ipv4", "ipv6"):
        near.run("nft", f"add rule inet seen out meta nfproto {version} counter name {version}")

    async def resolve(host: str, wanted: str) -> Resolved:
        if host != "both.test":
            return await system(host, wanted)
        found = {family: address, unwanted: other}
        return Resolved((ipaddress.ip_address(found[wanted]),), 1.0)

    async def run(kind: str, host: str) -> Outcome:
        target, values = AIMS[kind](host)
        known = contract.kind(kind)
        spec = getattr(contract.make_spec(kind, {**values, "address_family": family, **PATIENT}), kind)
        context = ProbeContext(guard=guard, resolve=resolve)
        return await probes.load(kind).run(contract.parse_target(known, target), spec, context)

    with near.entered():
        for kind in KINDS:
            outcome = await run(kind, "both.test")
            assert address in json.dumps(outcome.detail), kind
            counted = near.run("nft", "reset", "counters", "table", "inet", "seen").stdout
            seen = dict(re.findall(r"counter (\w+) \{\s*packets (\d+)", counted))
            assert int(seen[family]) > 0, kind
            with pytest.raises(ProbeFailure, match="as the test asks for") as caught:
                await run(kind, other)
            assert caught.value.source == probe_pb2.FAILURE_SOURCE_RESOLVER, kind
            assert caught.value.reason == probe_pb2.FAILURE_REASON_NO_SUCH_NAME, kind
            counted += near.run("nft", "reset", "counters", "table", "inet", "seen").stdout
            assert (
                sum(int(packets) for packets in re.findall(rf"{unwanted} \{{\s*packets (\d+)", counted)) == 0
            ), kind


@one_socket
async def test_an_ipv4_address_in_an_ipv6_one_is_what_it_stands_for(far: Path3, runner: Runner) -> None:
    """What a test names is in each packet that goes there, and silence is the network's, no want of a route."""
    address = "::ffff:10.91.2.2"
    far.far.firewall("input", "ip dscp != ef drop")
    with far.near.entered():
        for kind in sorted({*KINDS} - {"qos"}):  # which has classes of traffic instead
            result = await runner.run(job_of(kind, address, dscp=46, **PATIENT), 1)
            assert result.status == probe_pb2.STATUS_OK, (kind, result.error)
        far.router.firewall("forward", "drop")
        for kind in KINDS:
            result = await runner.run(job_of(kind, address), 1)
            assert result.status == probe_pb2.STATUS_FAILED, (kind, result.error)
            assert result.failure_source == probe_pb2.FAILURE_SOURCE_NETWORK, (kind, result.error)


@one_socket
@to_both(ipv4=(), ipv6=())
async def test_nothing_is_sent_to_what_the_policy_denies(
    far: Path3, probe: Probe, guard: RecordingGuard, address: str
) -> None:
    """In every way that a kind can ask, of the address that is used."""
    guard.denied.add(address)
    near = far.near
    near.run("nft", "add table inet sent; add counter inet sent every")
    near.run("nft", "add chain inet sent out { type filter hook output priority 0; }")
    near.run("nft", "add rule inet sent out icmpv6 type 130-143 accept")
    near.run("nft", "add rule inet sent out counter name every")
    with near.entered():
        for name in ways():
            kind, target, values = way(name, address)
            with pytest.raises(ProbeFailure) as caught:
                await probe(kind, target, **values)
            assert caught.value.reason == probe_pb2.FAILURE_REASON_FORBIDDEN, name
            assert caught.value.source == probe_pb2.FAILURE_SOURCE_POLICY, name
    assert "packets 0 " in near.run("nft", "list", "counters").stdout


@one_socket
@to_both(ipv4=(), ipv6=())
@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("drop", probe_pb2.FAILURE_REASON_TIMED_OUT),
        ("reject", probe_pb2.FAILURE_REASON_UNREACHABLE),
        ("reject with icmpx admin-prohibited", probe_pb2.FAILURE_REASON_UNREACHABLE),
        ("reject with icmpx host-unreachable", probe_pb2.FAILURE_REASON_UNREACHABLE),
    ],
)
async def test_what_a_router_does_is_the_networks(
    far: Path3, probe: Probe, address: str, rule: str, reason: probe_pb2.FailureReason
) -> None:
    """In every way that a kind can ask: silence, and whatever a router says; never a refusal of the destination."""
    far.router.firewall("forward", f"iifname sw1b {rule}")
    with far.near.entered():
        for name in ways():
            kind, target, values = way(name, address)
            with pytest.raises(ProbeFailure) as caught:
                await probe(kind, target, **values)
            assert caught.value.status == probe_pb2.STATUS_FAILED, name
            assert caught.value.source == probe_pb2.FAILURE_SOURCE_NETWORK, (name, caught.value.message)
            assert caught.value.reason == reason, (name, caught.value.message)


#: Kinds that a host without anything that listens answers all the same.
_WITHOUT_SERVERS = {"ping", "traceroute", "qos", "mtu"}


@one_socket
@to_both(ipv4=(), ipv6=())
async def test_where_nothing_listens_the_destination_has_refused(
    path3: Path3, probe: Probe, address: str
) -> None:
    """In every way that a kind can ask for something that listens."""
    with path3.near.entered():
        for name in ways():
            kind, target, values = way(name, address)
            if kind in _WITHOUT_SERVERS:
                continue
            with pytest.raises(ProbeFailure) as caught:
                await probe(kind, target, **values | PATIENT)
            assert caught.value.source == probe_pb2.FAILURE_SOURCE_TARGET, (name, caught.value.message)
            assert caught.value.reason == probe_pb2.FAILURE_REASON_REFUSED, (name, caught.value.message)


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
            result = await runner.run(job_of(kind, address, must_be_unreachable=True, **PATIENT), 1)
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
@to_both("family", ipv4=("ip",), ipv6=("ip6",))
@pytest.mark.parametrize("verdict", ["reject", "reject with icmpx admin-prohibited"])
async def test_a_worker_whose_own_firewall_rejects_proves_nothing(
    far: Path3, runner: Runner, address: str, family: str, verdict: str
) -> None:
    """Its words are an ICMP error, too, which comes from this host; the network has said nothing."""
    far.near.firewall("output", f"{family} daddr {address} {verdict}")
    with far.near.entered():
        for name in ways():
            kind, target, values = way(name, address)
            spec = contract.make_spec(kind, values | {"must_be_unreachable": True})
            result = await runner.run(probe_pb2.Job(job_id=1, target=target, spec=spec), 1)
            assert result.status == probe_pb2.STATUS_ERROR, (name, result.detail_json)
            assert result.failure_source == probe_pb2.FAILURE_SOURCE_VANTAGE, (name, result.error)
            assert result.failure_reason == probe_pb2.FAILURE_REASON_CANNOT_SEND, (name, result.error)


@one_socket
async def test_a_neighbour_that_is_not_there_is_no_want_of_this_host(far: Path3, runner: Runner) -> None:
    """Though it is this host that says so in the end, to itself."""
    with far.near.entered():
        for address in ("10.91.1.77", "fd91:1::99"):
            result = await runner.run(job_of("tcp", address, timeout_ms=5000), 1)
            assert result.status == probe_pb2.STATUS_FAILED, result.error
            assert result.failure_source == probe_pb2.FAILURE_SOURCE_NETWORK
            assert result.failure_reason == probe_pb2.FAILURE_REASON_UNREACHABLE


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
@pytest.mark.parametrize("name", ways())
async def test_a_run_that_is_cancelled_leaves_nothing_open(far: Path3, probe: Probe, name: str) -> None:
    """At whatever step it is; sockets that runs share have been opened before."""
    kind, target, values = way(name, "10.91.2.2")
    with far.near.entered():
        await cancelled_at_every_step(lambda: probe(kind, target, **values))


def test_every_kind_is_tested() -> None:
    """A new kind gets its line in `AIMS`."""
    assert sorted(AIMS) == sorted(KINDS)
