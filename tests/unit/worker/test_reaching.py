"""Whether a run reached its destination, and what a test makes of it that must not get through."""

from __future__ import annotations

from typing import Any

import pytest

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.failures import (
    internal_failure,
    network_failure,
    resolver_failure,
    target_failure,
    vantage_failure,
)
from worker.probing import Outcome, ProbeFailure
from worker.reaching import reached, turn_round

PING, TCP, HTTP, WINDOW, MTU, QOS = (
    contract.kind(name) for name in ("ping", "tcp", "http", "tcp_window", "mtu", "qos")
)
#: What the destination itself, or the way to it, may do to a run; everything else is an error.
OF_THE_DESTINATION = {
    "TIMED_OUT": False,
    "UNREACHABLE": False,
    "REFUSED": False,
    "BROKEN_OFF": False,
    "BAD_ANSWER": True,
    "TLS_FAILED": True,
    "BAD_CERTIFICATE": True,
    "WRONG_STATUS": True,
    "WRONG_CONTENT": True,
    "TOO_MUCH": True,
    "OUT_OF_BOUNDS": True,
}


def metrics(kind: contract.Kind, **values: Any) -> Any:
    return kind.result_class(**values)


@pytest.mark.parametrize(("name", "expected"), OF_THE_DESTINATION.items())
def test_the_reason_tells_whether_a_run_got_through(name: str, expected: bool) -> None:
    """Wrong answers are answers; refusals and silence are none."""
    reason = probe_pb2.FailureReason.Value(f"FAILURE_REASON_{name}")
    assert reached(TCP, target_failure("x", reason=reason)) is expected
    assert reached(TCP, network_failure("x", metrics(TCP), reason=reason)) is expected


@pytest.mark.parametrize(
    "failure",
    [
        resolver_failure("x"),
        vantage_failure("x", reason=probe_pb2.FAILURE_REASON_CANNOT_SEND),
        internal_failure("x"),
        ProbeFailure(
            "x",
            source=probe_pb2.FAILURE_SOURCE_POLICY,
            reason=probe_pb2.FAILURE_REASON_FORBIDDEN,
            status=probe_pb2.STATUS_ERROR,
        ),
    ],
)
def test_errors_say_nothing(failure: ProbeFailure) -> None:
    """They stay what they are, whatever the test demands."""
    assert reached(TCP, failure) is None
    with pytest.raises(ProbeFailure) as caught:
        turn_round(TCP, failure)
    assert caught.value is failure


@pytest.mark.parametrize(
    ("kind", "reason", "values", "expected"),
    [
        # A reply that came too late came from the destination.
        (PING, "TIMED_OUT", {"bytes_received": 84, "late": 1}, True),
        (PING, "TIMED_OUT", {"bytes_received": 0, "loss_pct": 100}, False),
        (HTTP, "TIMED_OUT", {"bytes_received": 84}, True),
        # The bytes are those of routers' errors.
        (PING, "TIMED_OUT", {"bytes_received": 56, "icmp_errors": 1}, False),
        (PING, "UNREACHABLE", {"bytes_received": 56, "icmp_errors": 1}, False),
        # The connection was accepted, then nothing more came, or it was broken off.
        (HTTP, "TIMED_OUT", {"connect_ms": 1.5}, True),
        (HTTP, "BROKEN_OFF", {"connect_ms": 1.5}, True),
        (HTTP, "TIMED_OUT", {"dns_ms": 1.5}, False),
        (TCP, "BROKEN_OFF", {}, False),
        (WINDOW, "TIMED_OUT", {"connect_ms": 1.5}, True),
        (WINDOW, "TIMED_OUT", {"dns_ms": 1.5}, False),
        # Small packets were answered before a router turned a large one away.
        (MTU, "UNREACHABLE", {"rtt_ms": 1.5, "bytes_received": 68}, True),
        (MTU, "UNREACHABLE", {"bytes_received": 68}, False),
        (PING, "UNREACHABLE", {"late": 1, "icmp_errors": 1}, True),
        (QOS, "TIMED_OUT", {"bytes_received": 84}, False),
    ],
)
def test_what_was_heard_before_counts(
    kind: contract.Kind, reason: str, values: dict[str, Any], expected: bool
) -> None:
    """A time-out after a sign of life is no proof that nothing gets through."""
    number = probe_pb2.FailureReason.Value(f"FAILURE_REASON_{reason}")
    assert reached(kind, network_failure("x", metrics(kind, **values), reason=number)) is expected


@pytest.mark.parametrize(("late", "expected"), [(2, True), (0, False)])
def test_late_replies_in_the_detail_count(late: int, expected: bool) -> None:
    """For a kind that has no metric for them."""
    failure = network_failure("x", metrics(QOS, worst_loss_pct=100))
    failure.detail = {"late": late}
    assert reached(QOS, failure) is expected


def test_not_reached_is_ok_with_everything_that_was_measured() -> None:
    """And says how it was turned away."""
    failure = network_failure("no answer", metrics(PING, loss_pct=100))
    failure.detail = {"address": "192.0.2.1"}
    outcome = turn_round(PING, failure)
    assert outcome.metrics.loss_pct == 100
    assert outcome.detail == {"address": "192.0.2.1", "not_reached": "no answer"}


def test_nothing_measured_is_an_empty_message_of_the_kind() -> None:
    """So that the result goes into the kind's table."""
    assert turn_round(TCP, network_failure("no answer")).metrics == metrics(TCP)


@pytest.mark.parametrize(
    "ending",
    [
        Outcome(metrics=metrics(TCP, connect_ms=1), detail={"port": 1}),
        target_failure(
            "status 404", metrics(TCP, connect_ms=1), reason=probe_pb2.FAILURE_REASON_WRONG_STATUS
        ),
    ],
)
def test_reached_is_failed_with_everything_that_was_measured(ending: Outcome | ProbeFailure) -> None:
    """A wrong status is an answer, and its words are kept."""
    with pytest.raises(ProbeFailure, match="must_be_unreachable") as caught:
        turn_round(TCP, ending)
    failure = caught.value
    assert (failure.status, failure.source) == (probe_pb2.STATUS_FAILED, probe_pb2.FAILURE_SOURCE_TARGET)
    assert failure.reason == probe_pb2.FAILURE_REASON_REACHED
    assert failure.metrics.connect_ms == 1
    assert failure.detail == ending.detail
