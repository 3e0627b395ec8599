"""Every run ends in a result that says what happened and whose fault it is."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.clock import ControllerTime, SystemClock
from worker.failures import target_failure
from worker.policy import Policy
from worker.probing import Availability, Outcome, ProbeFailure, Resolved
from worker.runner import Runner, asked_time_s
from worker.vantage.health import Vantage

TcpResult = contract.kind("tcp").result_class


async def _resolve(host: str, family: str) -> Resolved:
    return Resolved((ipaddress.ip_address("192.0.2.1"),), 1.0)


def _runner(
    run: Any, *, clock: Any = None, policy: Policy | None = None, places: int = 4, **module: Any
) -> Runner:
    clock = clock or SystemClock()
    probe = SimpleNamespace(**{"run": run, "availability": lambda: Availability(available=True), **module})
    return Runner(
        policy=policy or Policy(),
        clock=clock,
        controller_time=ControllerTime(clock),
        load=lambda kind: probe,
        resolve=_resolve,
        places=places,
    )


def _job(**more: Any) -> probe_pb2.Job:
    values = {"target": "192.0.2.1:80", "spec": contract.make_spec("tcp", {"timeout_ms": 1000}), **more}
    return probe_pb2.Job(job_id=7, version=3, **values)


async def _good(target: Any, spec: Any, context: Any) -> Outcome:
    return Outcome(TcpResult(connect_ms=1.5), {"seen": str(target)})


async def test_a_good_run_fills_the_envelope() -> None:
    """Job, version, instant, metrics, detail; no kind beside the metrics, no error."""
    result = await _runner(_good).run(_job(), 123)
    assert (result.job_id, result.job_version, result.scheduled_at_us) == (7, 3, 123)
    assert (result.status, result.failure_source, result.error) == (probe_pb2.STATUS_OK, 0, "")
    assert result.tcp.connect_ms == 1.5
    assert result.kind == ""
    assert json.loads(result.detail_json) == {"seen": "192.0.2.1:80"}
    assert result.duration_ms >= 0
    assert not result.HasField("clock_offset_ms")
    assert result.HasField("start_error_us")


async def test_a_failure_keeps_what_was_measured() -> None:
    """Status, source and words are the probe's."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise ProbeFailure(
            "refused\n",
            source=probe_pb2.FAILURE_SOURCE_TARGET,
            reason=probe_pb2.FAILURE_REASON_REFUSED,
            metrics=TcpResult(connect_ms=2),
            detail={"address": "192.0.2.1"},
        )

    result = await _runner(run).run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_FAILED,
        probe_pb2.FAILURE_SOURCE_TARGET,
    )
    assert result.failure_reason == probe_pb2.FAILURE_REASON_REFUSED
    assert result.error == "refused\\n"
    assert result.tcp.connect_ms == 2
    assert json.loads(result.detail_json) == {"address": "192.0.2.1"}


async def test_a_failure_without_metrics_names_its_kind() -> None:
    """Or nobody would know which table it belongs to."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise ProbeFailure(
            "no answer",
            source=probe_pb2.FAILURE_SOURCE_NETWORK,
            reason=probe_pb2.FAILURE_REASON_TIMED_OUT,
        )

    result = await _runner(run).run(_job(), 1)
    assert result.kind == "tcp"
    assert result.WhichOneof("metrics") is None


@pytest.mark.parametrize(
    "error", [RuntimeError("broken " * 500), OSError(5, "x"), KeyError("x"), asyncio.TimeoutError()]
)
async def test_a_probe_that_breaks_is_an_internal_error(error: Exception) -> None:
    """With a short text, and the worker lives on."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise error

    result = await _runner(run).run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_INTERNAL,
    )
    assert type(error).__name__ in result.error
    assert len(result.error) <= 500


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EMFILE, "Too many open files")])
async def test_a_host_without_room_is_the_vantage_points_error(error: Exception) -> None:
    """Wherever a probe meets it."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise error

    result = await _runner(run).run(_job(), 1)
    assert (result.status, result.failure_source, result.failure_reason) == (
        probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_NO_ROOM,
    )  # fmt: skip
    assert type(error).__name__ in result.error


@pytest.mark.parametrize(
    ("hours", "verify_code", "source"),
    [
        (-3, 9, probe_pb2.FAILURE_SOURCE_VANTAGE),
        (3, 10, probe_pb2.FAILURE_SOURCE_VANTAGE),
        (0.5, 10, probe_pb2.FAILURE_SOURCE_TARGET),
        (3, 62, probe_pb2.FAILURE_SOURCE_TARGET),  # for another name
        (None, 10, probe_pb2.FAILURE_SOURCE_TARGET),
    ],
)
async def test_a_wrong_clock_blames_no_certificate(
    hours: float | None, verify_code: int, source: probe_pb2.FailureSource
) -> None:
    """Out of its time it is by this host's clock alone, which is hours off the controller's."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        cause = ssl.SSLCertVerificationError("certificate verify failed")
        cause.verify_code = verify_code
        raise target_failure("not valid", reason=probe_pb2.FAILURE_REASON_BAD_CERTIFICATE) from cause

    clock = SystemClock()
    time = ControllerTime(clock)
    if hours is not None:
        steady_us = clock.steady_us()
        controller_us = round(clock.wall_us() - hours * 3.6e9)
        time.observe(sent_steady_us=steady_us, received_steady_us=steady_us, controller_us=controller_us)
    probe = SimpleNamespace(run=run, availability=lambda: Availability(available=True))
    runner = Runner(
        policy=Policy(),
        clock=clock,
        controller_time=time,
        load=lambda kind: probe,
        resolve=_resolve,
        vantage=Vantage(clock, Policy()),
    )
    result = await runner.run(_job(), 1)
    assert result.failure_source == source
    if source == probe_pb2.FAILURE_SOURCE_VANTAGE:
        assert result.failure_reason == probe_pb2.FAILURE_REASON_VANTAGE_BROKEN
        side = "ahead of" if hours and hours > 0 else "behind"
        assert f"its clock is 3.0 h {side} the controller's (not valid)" in result.error


@pytest.mark.parametrize("metrics", [None, contract.kind("ping").result_class(), 5])
async def test_wrong_metrics_are_an_internal_error(metrics: Any) -> None:
    """They must not end in another kind's table."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        return Outcome(metrics)

    result = await _runner(run).run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_INTERNAL,
    )


async def test_a_run_is_stopped_at_its_limit(clock: Any) -> None:
    """The limit is what its parameters ask for and the kind's allowance beyond."""
    stopped: list[bool] = []

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(True)
        raise AssertionError

    running = asyncio.ensure_future(_runner(run, clock=clock).run(_job(), 1))
    limit_s = 1.0 + 0.2 + contract.kind("tcp").timeout_s  # its time-out and its interval
    await clock.advance(limit_s - 0.01)
    assert not running.done()
    await clock.advance(0.02)
    result = await running
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_INTERNAL,
    )
    assert f"{limit_s:g} s" in result.error
    assert stopped == [True]
    assert result.duration_ms == pytest.approx(limit_s * 1000, abs=20)


async def test_a_module_may_say_how_long_it_takes(clock: Any) -> None:
    """`duration_s` goes before the general rule."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        await clock.sleep(99)
        return Outcome(TcpResult())

    running = asyncio.ensure_future(_runner(run, clock=clock, duration_s=lambda spec: 100.0).run(_job(), 1))
    await clock.advance(99.1)
    assert (await running).status == probe_pb2.STATUS_OK


def test_the_general_rule_counts_intervals_per_packet() -> None:
    """A ping of 100 packets each second may take its hundred seconds."""
    spec = contract.make_spec("ping", {"count": 100, "interval_ms": 1000, "timeout_ms": 2000})
    assert asked_time_s(spec.ping) == 102.0
    assert asked_time_s(contract.make_spec("http", {"timeout_ms": 700}).http) == 0.7


async def test_runs_beyond_the_places_are_missed(clock: Any) -> None:
    """They wait a moment for a place, then say that there was none."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        await clock.sleep(2.5)
        return Outcome(TcpResult())

    runner = _runner(run, clock=clock, places=2)
    running = [asyncio.ensure_future(runner.run(_job(), number)) for number in range(3)]
    await clock.advance(1.2)
    assert running[2].done()
    result = running[2].result()
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_MISSED,
        probe_pb2.FAILURE_SOURCE_VANTAGE,
    )
    assert "2 runs are under way" in result.error
    assert runner.running == 2
    await clock.advance(2)
    assert runner.running == 0
    assert [(await one).status for one in running[:2]] == [probe_pb2.STATUS_OK] * 2


async def test_an_unavailable_kind_is_the_hosts_fault_and_never_loss(clock: Any) -> None:
    """With the reason and the command; once mended it runs without a restart."""
    state = [Availability(available=False, reason="no raw sockets", mend="setcap cap_net_raw+ep python3")]
    runner = _runner(_good, clock=clock, availability=lambda: state[0])
    result = await runner.run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_VANTAGE,
    )
    assert "no raw sockets" in result.error
    assert "setcap" in result.error
    announced = {item.kind: item for item in runner.availabilities()}
    assert not announced["tcp"].available
    assert announced["tcp"].mend == "setcap cap_net_raw+ep python3"
    state[0] = Availability(available=True)
    await clock.advance(31)
    assert (await runner.run(_job(), 2)).status == probe_pb2.STATUS_OK


async def test_a_probe_that_cannot_be_loaded_is_unavailable() -> None:
    """One kind that lacks a library leaves the others alone."""

    def load(kind: str) -> Any:
        raise ImportError("no module named quic")

    clock = SystemClock()
    runner = Runner(
        policy=Policy(), clock=clock, controller_time=ControllerTime(clock), load=load, resolve=_resolve
    )
    result = await runner.run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_VANTAGE,
    )
    assert "quic" in result.error
    assert not any(item.available for item in runner.availabilities())


@pytest.mark.parametrize(
    ("job", "said"),
    [
        (_job(spec=probe_pb2.Spec()), "names no kind that this release knows"),
        (_job(target="http://x/"), "target"),
        (_job(target="2852039166"), "target"),
        (_job(target="a;b"), "target"),
        (_job(target="-f"), "target"),
        (_job(target="x" * 300), "target"),
        (_job(target=""), "target"),
        (_job(spec=probe_pb2.Spec(tcp={"port": 70000, "timeout_ms": 100})), "spec.port"),
    ],
)
async def test_jobs_that_break_the_contract_are_not_run(job: probe_pb2.Job, said: str) -> None:
    """A controller that sends nonsense gets an error result, and nothing is sent."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        pytest.fail("the probe was called")

    result = await _runner(run).run(job, 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_INTERNAL,
    )
    assert said in result.error


@pytest.mark.parametrize(
    ("policy", "target"),
    [
        ({}, "169.254.169.254:80"),
        ({}, "[::ffff:a9fe:a9fe]:80"),
        ({}, "[fd00:ec2::254]:80"),
        ({}, "127.0.0.1:80"),
        ({"kinds": ["ping"]}, "192.0.2.1:80"),
        ({"ports": ["443"]}, "192.0.2.1:80"),
        ({"allow": ["::/0"]}, "[::ffff:192.0.2.1]:80"),
    ],
)
async def test_what_the_policy_forbids_is_not_run(policy: dict[str, Any], target: str) -> None:
    """Before the probe is even called."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        pytest.fail("the probe was called")

    result = await _runner(run, policy=Policy.parse(policy)).run(_job(target=target), 1)
    assert (result.status, result.failure_source) == (probe_pb2.STATUS_ERROR, probe_pb2.FAILURE_SOURCE_POLICY)


async def test_runs_over_the_budget_are_missed(clock: Any) -> None:
    """The policy's limits say when, not whether."""
    runner = _runner(_good, clock=clock, policy=Policy.parse({"packets_per_second": 0}))
    result = await runner.run(_job(), 1)
    assert (result.status, result.failure_source) == (
        probe_pb2.STATUS_MISSED,
        probe_pb2.FAILURE_SOURCE_POLICY,
    )


@pytest.mark.parametrize("characters", [65_000, 66_000, 1_000_000])
async def test_detail_that_is_too_large_is_left_out(characters: int) -> None:
    """A gateway stores no more, and would set the whole result aside."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        return Outcome(TcpResult(), {"text": "ä" * (characters // 6)})

    result = await _runner(run).run(_job(), 1)
    assert result.status == probe_pb2.STATUS_OK
    assert len(result.detail_json) <= contract.MOST_DETAIL_CHARACTERS
    assert ("left_out" in result.detail_json) is (characters > 65_536)


async def test_a_refusal_is_known_without_running() -> None:
    """What the policy forbids, or this host cannot measure, is told as a result; the probe is not called."""

    async def run(target: Any, spec: Any, context: Any) -> Outcome:
        raise AssertionError("nothing may be sent")

    assert _runner(run).refusal(_job()) is None
    forbidden = _runner(run).refusal(_job(target="169.254.169.254:80"))
    assert forbidden is not None
    assert (forbidden.status, forbidden.failure_source) == (
        probe_pb2.STATUS_ERROR,
        probe_pb2.FAILURE_SOURCE_POLICY,
    )
    unable = _runner(run, availability=lambda: Availability(available=False, reason="no tool")).refusal(
        _job()
    )
    assert unable is not None
    assert "no tool" in unable.error
    nonsense = _runner(run).refusal(_job(target="a b"))
    assert nonsense is not None
    assert "cannot be run by this worker" in nonsense.error
