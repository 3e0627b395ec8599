"""Tests that must not get through: whether a run reached its destination, and what that means for one that must not.

A test whose `must_be_unreachable` is set proves that something keeps its packets out, such as a firewall. Which kind
it is makes no difference: the probe measures as always, and its ending is turned round here. What says nothing about
the destination (the name did not resolve, the policy forbids it, this host could not send) stays what it is.
"""

from __future__ import annotations

from typing import Any

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.failures import target_failure
from worker.probing import Outcome, ProbeFailure

#: Ways to fail that leave open whether anything came back: metrics may show that something did.
_SILENT = frozenset({probe_pb2.FAILURE_REASON_TIMED_OUT, probe_pb2.FAILURE_REASON_BROKEN_OFF})
#: Ways to fail in which something between here and the destination, or its own system, turned the run away.
_TURNED_AWAY = frozenset({probe_pb2.FAILURE_REASON_UNREACHABLE, probe_pb2.FAILURE_REASON_REFUSED})


def must_be_unreachable(spec: Any) -> bool:
    """Whether a kind's spec asks for a destination that does not answer."""
    return bool(getattr(spec, "must_be_unreachable", False))


def reached(kind: contract.Kind, failure: ProbeFailure) -> bool | None:
    """Return whether a run that failed reached its destination; None when the failure says nothing about that.

    - An answer that is wrong in whatever way (status, content, certificate, protocol, too late a reply) has reached it.
    - A refusal, an ICMP error from the way, silence, and a connection that was broken off have not; unless the run
      had heard of the destination before: it has a time of it (any latency but that of the name's resolution), replies
      that came late (`late` among the metrics, or in the detail of a kind without that metric), or bytes over a
      connection. One that was accepted and then stayed silent has been reached.
    - Bytes count for kinds that aim at a port, which hear nothing but their destination; those that aim at a host hear
      routers, too.
    - Errors (name, policy, this host, the worker) say nothing.
    """
    if failure.status != probe_pb2.STATUS_FAILED:
        return None
    if failure.reason in _SILENT:
        return _has_time(kind, failure.metrics) or _has_late(failure) or _has_bytes(kind, failure.metrics)
    if failure.reason in _TURNED_AWAY:
        return _has_time(kind, failure.metrics) or _has_late(failure)
    return True


def turn_round(kind: contract.Kind, ending: Outcome | ProbeFailure) -> Outcome:
    """Return the outcome of a run that must not reach its destination, from how its probe ended.

    Raises ProbeFailure: with FAILURE_REASON_REACHED when the destination answered, the probe's own when it says
    nothing about the destination. Metrics and detail are kept in any case.
    """
    if isinstance(ending, Outcome):
        raise _reached(ending.metrics, ending.detail, "")
    answered = reached(kind, ending)
    if answered is None:
        raise ending
    if answered:
        raise _reached(ending.metrics, ending.detail, f": {ending.message}")
    metrics = kind.result_class() if ending.metrics is None else ending.metrics
    return Outcome(metrics=metrics, detail=ending.detail | {"not_reached": ending.message})


def _reached(metrics: Any, detail: dict[str, Any], how: str) -> ProbeFailure:
    failure = target_failure(
        f"the destination was reached, which this test forbids (`must_be_unreachable`){how}",
        metrics,
        reason=probe_pb2.FAILURE_REASON_REACHED,
    )
    failure.detail = detail
    return failure


def _has_late(failure: ProbeFailure) -> bool:
    return bool(getattr(failure.metrics, "late", 0) or failure.detail.get("late"))


def _has_bytes(kind: contract.Kind, metrics: Any) -> bool:
    return kind.target in ("host_port", "url") and bool(getattr(metrics, "bytes_received", 0))


def _has_time(kind: contract.Kind, metrics: Any) -> bool:
    return metrics is not None and any(
        metric.role == "latency" and metric.layer != "resolver" and metrics.HasField(metric.name)
        for metric in kind.metrics
    )
