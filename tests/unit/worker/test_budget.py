"""The policy's limits on packets and bytes bind, also for runs at the same time and for those that end badly."""

from __future__ import annotations

import asyncio
import ipaddress
from types import SimpleNamespace
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker import probes
from worker.budget import Budget, usual_need
from worker.clock import ControllerTime
from worker.policy import Policy
from worker.probing import Availability, Need, Outcome, ProbeFailure, Resolved
from worker.runner import Runner
from worker.wire.trace.plan import MOST_SHORTER

HttpResult = contract.kind("http").result_class


def need_of(kind: str, **values: Any) -> Need:
    """Return what the runner asks the budget for."""
    spec = contract.make_spec(kind, values)
    module = probes.load(kind)
    found: Need = module.need(getattr(spec, kind)) if hasattr(module, "need") else usual_need(spec)
    return found


def admits(budget: Budget, need: Need) -> bool:
    """Take what a run needs, if it may."""
    if budget.refusal(need):
        return False
    budget.take(need)
    return True


async def test_packets_are_budgeted(clock: Any) -> None:
    """Runs are refused beyond the rate, and let in again as time passes."""
    budget = Budget(Policy.parse({"packets_per_second": 2}), clock)
    need = need_of("ping", count=10)
    assert [admits(budget, need) for _ in range(2)] == [True, True]
    assert "2 packets per second" in budget.refusal(need)
    await clock.advance(5.1)
    assert budget.refusal(need) == ""


async def test_a_network_is_budgeted_by_its_addresses(clock: Any) -> None:
    """Ten packets to each of 254 addresses are 2,540."""
    budget = Budget(Policy.parse({"packets_per_second": 100}), clock)
    spec = contract.make_spec("ping", {"count": 10})
    assert admits(budget, usual_need(spec, 254))
    assert "100 packets per second" in budget.refusal(usual_need(spec))
    await clock.advance(15)
    assert "100 packets per second" in budget.refusal(usual_need(spec))
    await clock.advance(2)
    assert budget.refusal(usual_need(spec)) == ""


@pytest.mark.parametrize("key", ["packets_per_second", "bytes_per_day"])
def test_a_limit_of_nothing_lets_nothing_through(clock: Any, key: str) -> None:
    """Zero is a limit, not the absence of one; what crosses no network is not touched by it."""
    budget = Budget(Policy.parse({key: 0}), clock)
    for kind in contract.kinds().values():
        assert bool(budget.refusal(need_of(kind.name))) is (kind.target != "none"), kind.name


def test_a_run_of_more_packets_than_the_bucket_needs_a_full_one(clock: Any) -> None:
    """Otherwise a test of many packets could never run under a low limit."""
    budget = Budget(Policy.parse({"packets_per_second": 1}), clock)
    assert admits(budget, need_of("ping", count=100))
    assert budget.refusal(need_of("ping", count=1)) != ""


async def test_bytes_count_for_a_whole_day(clock: Any) -> None:
    """In any 24 hours no more than the limit: nothing trickles back before."""
    budget = Budget(Policy.parse({"bytes_per_day": 10_000}), clock)
    need = Need(packets=1, size=6_000)
    budget.settle(budget.take(need), HttpResult(bytes_sent=1_000, bytes_received=4_000))
    assert "5000 were used" in budget.refusal(need)
    assert budget.refusal(Need(packets=1, size=5_000)) == ""
    await clock.advance(86_400 - 1)
    assert budget.refusal(need) != ""
    await clock.advance(601)
    assert budget.refusal(need) == ""


async def test_what_is_given_back_is_given_back_to_when_it_was_taken(clock: Any) -> None:
    """A run across two steps of time leaves no credit that outlives its debt."""
    budget = Budget(Policy.parse({"bytes_per_day": 10_000}), clock)
    taken = budget.take(Need(packets=1, size=10_000))
    await clock.advance(700)
    budget.settle(taken, HttpResult(bytes_received=1_000))
    await clock.advance(86_400)
    assert budget.refusal(Need(packets=1, size=10_000)) == ""
    assert budget.refusal(Need(packets=1, size=10_001)) != ""


def test_a_run_that_may_move_more_than_a_day_has_does_not_start(clock: Any) -> None:
    """And the message says what to lower or raise."""
    words = Budget(Policy.parse({"bytes_per_day": 1_000}), clock).refusal(need_of("http"))
    assert "more than the policy's limit of 1000 bytes per day" in words
    assert "raise `bytes_per_day`" in words


@pytest.mark.parametrize(
    ("kind", "values", "packets", "size"),
    [
        ("http", {"max_body_bytes": 1_000_000, "requests": 20}, 20, 20_000_000),
        ("tcp_window", {"max_bytes": 10_000_000}, 10_000_000 // 1_448, 10_000_000),
        ("dns", {"transport": "https", "count": 3}, 3, 3 * 65_535),
        ("tls", {}, 1, 102_400),
        (
            "qos",
            {"classes": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], "burst": 1000},
            10_000 + 200,
            12_000_000,
        ),
        ("mtu", {"max_size_bytes": 1500}, 50, 50 * 1500),
        ("ping", {"count": 10, "size_bytes": 1000}, 10, 20_000),
        ("traceroute", {"rounds": 2, "max_ttl": 10}, 20, 20 * 60),
    ],
)
def test_what_a_kind_needs_covers_its_largest_run(
    kind: str, values: dict[str, Any], packets: int, size: int
) -> None:
    """Before it starts: the most that its parameters allow for, and not beyond all measure."""
    need = need_of(kind, **values)
    assert packets <= need.packets <= 20 * packets
    assert size <= need.size <= 20 * size


@pytest.mark.parametrize("size_bytes", [16, 56, 1400])
def test_the_need_of_a_ping_covers_errors_that_quote_its_requests(size_bytes: int) -> None:
    """Over IPv6: two headers of IPv6 and ICMP beside what was sent, as far as 1,280 bytes reach."""
    need = need_of("ping", count=5, size_bytes=size_bytes)
    request = 48 + size_bytes
    assert need == Need(packets=5, size=need.size)
    assert need.size >= 5 * (request + max(request, min(1280, 48 + request)))


@pytest.mark.parametrize("size_bytes", [12, 32, 1472])
@pytest.mark.parametrize("dont_fragment", [False, True])
def test_the_need_of_a_trace_covers_answers_that_are_longer_than_its_probes(
    size_bytes: int, dont_fragment: bool
) -> None:
    """An ICMPv6 error quotes the whole probe, as far as 1,280 bytes reach, with labels behind 128 of its bytes; and what was asked too fast is asked again."""
    need = need_of(
        "traceroute", rounds=3, max_ttl=4, size_bytes=size_bytes, dont_fragment=dont_fragment, protocol="udp"
    )
    probes = 3 * 4 * (1 + MOST_SHORTER if dont_fragment else 1)
    probe = 48 + size_bytes
    error = min(1280, 48 + max(128, probe) + 4 + 8 + 4 * 8)
    assert need.packets >= 2 * probes
    assert need.size >= probes * (2 * probe + error)


def runner(run: Any, clock: Any, **policy: Any) -> Runner:
    module = SimpleNamespace(
        run=run,
        availability=lambda: Availability(available=True),
        need=lambda spec: Need(packets=1, size=1_000),
    )

    async def resolve(host: str, family: str) -> Resolved:
        return Resolved((ipaddress.ip_address("192.0.2.1"),), None)

    return Runner(
        policy=Policy.parse(policy),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=lambda kind: module,
        resolve=resolve,
    )


JOB = probe_pb2.Job(job_id=1, version=1, target="http://192.0.2.1/", spec=contract.make_spec("http", {}))


async def test_runs_at_the_same_time_hold_what_they_may_need(clock: Any) -> None:
    """Of twenty at once only those start that fit together; what they did not need serves later ones."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        await clock.sleep(0.5)
        return Outcome(HttpResult(bytes_received=100))

    one = runner(run, clock, bytes_per_day=5_000)
    running = [asyncio.ensure_future(one.run(JOB, 1)) for _ in range(20)]
    await clock.advance(1)
    statuses = [(await each).status for each in running]
    assert statuses.count(probe_pb2.STATUS_OK) == 5
    assert statuses.count(probe_pb2.STATUS_MISSED) == 15
    running = [asyncio.ensure_future(one.run(JOB, 1)) for _ in range(20)]
    await clock.advance(1)
    assert [(await each).status for each in running].count(probe_pb2.STATUS_OK) == 4


@pytest.mark.parametrize("how", ["fault", "overrun"])
async def test_a_run_that_cannot_say_what_it_moved_keeps_what_it_took(clock: Any, how: str) -> None:
    """It was broken or stopped half-way: what it may have moved counts."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        if how == "fault":
            raise RuntimeError("broken")
        await clock.sleep(1_000)
        raise AssertionError

    one = runner(run, clock, bytes_per_day=2_500)
    found = []
    for _ in range(3):
        running = asyncio.ensure_future(one.run(JOB, 1))
        await clock.advance(100)
        found.append((await running).failure_reason)
    ends = probe_pb2.FAILURE_REASON_FAULT if how == "fault" else probe_pb2.FAILURE_REASON_OVERRAN
    assert found == [ends, ends, probe_pb2.FAILURE_REASON_LIMIT_USED_UP]


async def test_a_failure_counts_what_it_moved(clock: Any) -> None:
    """By its metrics; without any it moved nothing."""
    metrics: list[Any] = [None, None, None, HttpResult(bytes_received=1_500), None]

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise ProbeFailure(
            "no",
            source=probe_pb2.FAILURE_SOURCE_NETWORK,
            reason=probe_pb2.FAILURE_REASON_TIMED_OUT,
            metrics=metrics.pop(0),
        )

    one = runner(run, clock, bytes_per_day=2_000)
    reasons = [(await one.run(JOB, 1)).failure_reason for _ in range(5)]
    assert reasons == [probe_pb2.FAILURE_REASON_TIMED_OUT] * 4 + [probe_pb2.FAILURE_REASON_LIMIT_USED_UP]
