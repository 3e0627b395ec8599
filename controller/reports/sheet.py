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
from controller.store.queries.exports import RUN_STATUS
from controller.store.queries.schedules import ScheduledJob
from streamswarm.contract import Child, Kind, Metric
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


#: The columns of a repeated group before those of its key and its metrics; `job_id` and `scheduled_at` name the run.
_FIRST_OF_ROWS = ("test", "worker", "destination", "target", "job_id", "scheduled_at", RUN_STATUS)


def header(kind: Kind) -> list[str]:
    """Return the names of the columns, metrics with their UCUM units."""
    return [*_FIRST, *_named(kind.metrics)]


def header_of_rows(child: Child) -> list[str]:
    """Return the names of the columns of a repeated group, metrics with their UCUM units."""
    return [*_FIRST_OF_ROWS, child.key, *_named(child.metrics)]


def text_of(kind: Kind, test: str, runs: Iterable[tuple[ScheduledJob, Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the CSV of runs, header first, in pieces of some size."""
    names = {column.metric.name: column.name for column in results.columns(kind.name) if column.metric}
    columns = [names[metric.name] for metric in kind.metrics]
    cells = (
        [
            *_whose(test, job),
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
        for job, run in runs
    )
    return _written(header(kind), cells)


def text_of_rows(
    kind: Kind, child: Child, test: str, rows: Iterable[tuple[ScheduledJob, Mapping[str, Any]]]
) -> Iterator[str]:
    """Yield the CSV of a repeated group, a line for every row of every run, header first, in pieces of some size."""
    described = results.child_columns(kind.name, child.name)
    names = {column.metric.name: column.name for column in described if column.metric}
    columns = [names[metric.name] for metric in child.metrics]
    cells = (
        [
            *_whose(test, job),
            row["job_id"],
            _instant(row["scheduled_at"]),
            status_name(row[RUN_STATUS]),
            neutral(row["key"]),
            *(_number(row[column]) for column in columns),
        ]
        for job, row in rows
    )
    return _written(header_of_rows(child), cells)


def _named(metrics: Iterable[Metric]) -> list[str]:
    return [
        f"{metric.name} [{metric.unit}]" if metric.unit not in ("", "1") else metric.name
        for metric in metrics
    ]


def _whose(test: str, job: ScheduledJob) -> list[str]:
    return [neutral(text) for text in (test, job.worker_name, job.destination_name, job.target)]


def _written(names: list[str], rows: Iterable[list[Any]]) -> Iterator[str]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(names)
    for cells in rows:
        writer.writerow(cells)
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
