"""The words for how a run ended, as everything outside of the wire says them."""

from __future__ import annotations

from streamswarm.v1 import probe_pb2


def status_name(number: int) -> str:
    """Return `ok`, `failed`, `error` or `missed` for the number of a Status."""
    return probe_pb2.Status.Name(number).removeprefix("STATUS_").lower()


def failure_source_name(number: int) -> str:
    """Return `none`, `target`, `network`, … for the number of a FailureSource."""
    return probe_pb2.FailureSource.Name(number).removeprefix("FAILURE_SOURCE_").lower()


def failure_reason_name(number: int | None) -> str | None:
    """Return `timed_out`, `refused`, … for the number of a FailureReason; None for a run that has none."""
    if not number:
        return None
    return probe_pb2.FailureReason.Name(number).removeprefix("FAILURE_REASON_").lower()
