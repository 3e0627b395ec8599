"""How probes say that a run did not end well: one function per failure source, so that all kinds agree.

The rule: the run has STATUS_FAILED when the destination was measured and found wanting, because it answered
wrongly (TARGET) or did not answer (NETWORK). It has STATUS_ERROR when nothing was learnt about the destination:
its name did not resolve (RESOLVER), the policy forbids it (POLICY), this host could not measure (VANTAGE) or the
worker is at fault (INTERNAL).
"""

from __future__ import annotations

import errno
import os
from typing import Any

from streamswarm.v1 import probe_pb2
from worker.probing import ProbeFailure

#: What the system says when it, or this process, has no descriptor or no memory left for a socket.
NO_ROOM = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE})
#: What to do where a host cannot send.
LOOK = "; look at its routes and its firewall"


def target_failure(message: str, metrics: Any = None, *, reason: probe_pb2.FailureReason) -> ProbeFailure:
    """The destination answered, wrongly or with a refusal."""
    return ProbeFailure(message, source=probe_pb2.FAILURE_SOURCE_TARGET, reason=reason, metrics=metrics)


def network_failure(
    message: str,
    metrics: Any = None,
    *,
    reason: probe_pb2.FailureReason = probe_pb2.FAILURE_REASON_TIMED_OUT,
) -> ProbeFailure:
    """No answer came, or an ICMP error from the way."""
    return ProbeFailure(message, source=probe_pb2.FAILURE_SOURCE_NETWORK, reason=reason, metrics=metrics)


def resolver_failure(
    message: str,
    metrics: Any = None,
    *,
    reason: probe_pb2.FailureReason = probe_pb2.FAILURE_REASON_RESOLVER_FAILED,
) -> ProbeFailure:
    """The destination's name could not be resolved."""
    return _error(message, probe_pb2.FAILURE_SOURCE_RESOLVER, reason, metrics)


def vantage_failure(message: str, metrics: Any = None, *, reason: probe_pb2.FailureReason) -> ProbeFailure:
    """This host could not measure: no permission, no route, no memory, no such tool."""
    return _error(message, probe_pb2.FAILURE_SOURCE_VANTAGE, reason, metrics)


def vantage_broken(failure: ProbeFailure, fault: str) -> ProbeFailure:
    """This host's own access to the network explains a failure, which says nothing about the destination then."""
    broken = vantage_failure(
        f"this host cannot measure at present: {fault} ({failure.message})",
        failure.metrics,
        reason=probe_pb2.FAILURE_REASON_VANTAGE_BROKEN,
    )
    broken.detail = failure.detail
    return broken


def unsent(error: OSError, where: str, metrics: Any = None, *, advice: str = "") -> ProbeFailure:
    """This host cannot send to `where`, or has no room for what it takes; `advice` is for the former."""
    if error.errno in NO_ROOM:
        return vantage_failure(
            f"this host has no room for what is sent to {where}: {error_text(error)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        )
    return vantage_failure(
        f"this host cannot send to {where}: {error_text(error)}{advice}",
        metrics,
        reason=probe_pb2.FAILURE_REASON_CANNOT_SEND,
    )


def internal_failure(
    message: str, metrics: Any = None, *, reason: probe_pb2.FailureReason = probe_pb2.FAILURE_REASON_FAULT
) -> ProbeFailure:
    """The worker or the test's definition is at fault."""
    return _error(message, probe_pb2.FAILURE_SOURCE_INTERNAL, reason, metrics)


def error_text(error: OSError) -> str:
    """Return the system's words for an error with its symbolic name, such as `Connection refused (ECONNREFUSED)`."""
    if error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, str(error.errno))
    return f"{os.strerror(error.errno)} ({name})"


def _error(
    message: str, source: probe_pb2.FailureSource, reason: probe_pb2.FailureReason, metrics: Any
) -> ProbeFailure:
    return ProbeFailure(message, source=source, reason=reason, status=probe_pb2.STATUS_ERROR, metrics=metrics)
