"""Runs as CSV (RFC 4180) that is safe to open in a spreadsheet. Pure.

A cell of text that begins like a formula gets an apostrophe before it, which spreadsheets show as text. Numbers
are numbers: a negative one is no formula.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from controller.store import results
from controller.store.queries.schedules import ScheduledJob
from streamswarm.contract import Kind
from streamswarm.outcomes import failure_reason_name, failure_source_name, status_name

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
#: Bytes of text that are handed on together.
_CHUNK = 64 * 1024
_FIRST = (
    "test",
    "worker",
    "destination",
    "target",
    "job_id",
    "job_version",
    "scheduled_at",
    "started_at",
    "duration_ms [ms]",
    "status",
    "failure_source",
    "failure_reason",
    "error",
    "clock_offset_ms [ms]",
)


def header(kind: Kind) -> list[str]:
    """Return the names of the columns, metrics with their UCUM units."""
    metrics = (
        f"{metric.name} [{metric.unit}]" if metric.unit not in ("", "1") else metric.name
        for metric in kind.metrics
    )
    return [*_FIRST, *metrics]


def text_of(kind: Kind, test: str, runs: Iterable[tuple[ScheduledJob, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the CSV, header first, in pieces of some size."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(header(kind))
    names = {column.metric.name: column.name for column in results.columns(kind.name) if column.metric}
    columns = [names[metric.name] for metric in kind.metrics]
    for job, run in runs:
        writer.writerow(
            [
                neutral(test),
                neutral(job.worker_name),
                neutral(job.destination_name),
                neutral(job.target),
                run["job_id"],
                run["job_version"],
                _instant(run["scheduled_at"]),
                _instant(run["started_at"]),
                _number(run["duration_ms"]),
                status_name(run["status"]),
                failure_source_name(run["failure_source"]),
                failure_reason_name(run["failure_reason"]) or "",
                neutral(run["error"] or ""),
                _number(run["clock_offset_ms"]),
                *(_number(run[column]) for column in columns),
            ]
        )
        if buffer.tell() >= _CHUNK:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


def neutral(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _number(value: float | int | bool | None) -> str:
    """Return a number to its last digit; what was not measured is empty."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value)


def _instant(value: dt.datetime) -> str:
    return value.astimezone(dt.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
