"""The envelope of a result: which run it was, when it was due, and the host's clock beside the controller's."""

from __future__ import annotations

from streamswarm.targets import shown
from streamswarm.v1 import probe_pb2
from worker.clock import Clock, ControllerTime

LONGEST_ERROR = 500
#: About 35 minutes, which is what the field holds; no run starts so late.
_LONGEST_START_ERROR_US = 2**31 - 1


def envelope(
    job: probe_pb2.Job, scheduled_at_us: int, *, clock: Clock, controller_time: ControllerTime
) -> probe_pb2.Result:
    """Return the result of a run that starts now, with nothing measured yet."""
    late_us = controller_time.now_us() - scheduled_at_us
    result = probe_pb2.Result(
        job_id=job.job_id,
        job_version=job.version,
        scheduled_at_us=scheduled_at_us,
        started_at_us=clock.wall_us(),
        kind=job.spec.WhichOneof("kind") or "",
        start_error_us=max(-_LONGEST_START_ERROR_US, min(late_us, _LONGEST_START_ERROR_US)),
    )
    offset_ms = controller_time.offset_ms()
    if offset_ms is not None:
        result.clock_offset_ms = offset_ms
    return result


def missed(
    job: probe_pb2.Job,
    scheduled_at_us: int,
    error: str,
    *,
    reason: probe_pb2.FailureReason,
    clock: Clock,
    controller_time: ControllerTime,
    source: probe_pb2.FailureSource = probe_pb2.FAILURE_SOURCE_SCHEDULE,
) -> probe_pb2.Result:
    """Return the result of a run that was due and did not start."""
    result = envelope(job, scheduled_at_us, clock=clock, controller_time=controller_time)
    result.started_at_us = scheduled_at_us
    return ended(result, probe_pb2.STATUS_MISSED, source, reason, error)


def ended(
    result: probe_pb2.Result,
    status: probe_pb2.Status,
    source: probe_pb2.FailureSource,
    reason: probe_pb2.FailureReason,
    error: str,
) -> probe_pb2.Result:
    """Fill in how the run ended, the text made safe and short."""
    result.status = status
    if status == probe_pb2.STATUS_MISSED:
        result.ClearField("start_error_us")  # it did not start
    result.failure_source = source
    result.failure_reason = reason
    result.error = shown(error, LONGEST_ERROR)
    return result
