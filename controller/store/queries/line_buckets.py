"""Buckets of several lines, read at once and kept by column: what a chart of many lines draws.

Of thousands of buckets a record of each and of its figures would cost several times what reading them does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from controller.store import rollups
from controller.store.queries import layers
from controller.store.queries.figures import column_of, figures_sql, usable
from controller.store.results import ResultColumn
from controller.store.rollups import Source
from streamswarm.v1 import probe_pb2

_BAD = tuple(
    rollups.RUNS[status]
    for status in (probe_pb2.STATUS_FAILED, probe_pb2.STATUS_ERROR, probe_pb2.STATUS_MISSED)
)
#: Sums below it may be of values that are no number of normal size any more.
_LEAST = 1e-290
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Band:
    """One metric of a line: its values, and in buckets their extremes too; None where it was not measured."""

    mean: Sequence[float | None]
    #: Empty when every point is a run.
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True, kw_only=True)
class LineBuckets:
    """The buckets of one line in which there are runs, in order of time; sequences have the length of `start`."""

    start: Sequence[dt.datetime]
    #: How many runs did not end well, by how; empty where none did in any bucket.
    failed: Sequence[int]
    error: Sequence[int]
    missed: Sequence[int]
    #: By the metric's name.
    bands: Mapping[str, Band]


def read(
    connection: Connection | Session,
    source: Source,
    metrics: Sequence[str],
    lines: Sequence[Collection[int]],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
) -> list[LineBuckets]:
    """Return the buckets of lines, each told by its jobs; they begin at whole multiples since 2000.

    KeyError when the source has no such metric.
    """
    columns = {name: column_of(source, name) for name in metrics}
    line_of = {job_id: number for number, of_line in enumerate(lines) for job_id in of_line}
    parts = layers.parts(connection, source.kind, line_of, (start, end), usable(width))
    found: dict[int, LineBuckets] = {}
    if parts:
        values: dict[str, Any] = {"width": width}
        figures = figures_sql(
            source, list(columns.values()), parts, values, by="line", counts=True, line_of=line_of
        )
        for number, *gathered in connection.execute(
            text(_by_line_sql(figures, list(columns.values()))), values
        ):
            found[number] = _line(columns, gathered)
    empty = _line(columns, [()] * (1 + len(_BAD) + 3 * len(columns)))
    return [found.get(number, empty) for number in range(len(lines))]


def _by_line_sql(figures: str, columns: Sequence[ResultColumn]) -> str:
    """Return the SQL of a line's number, and of its buckets' beginnings (seconds since 1970), counts and figures as arrays."""
    chosen = [_array_sql("extract(epoch FROM begin)::bigint")]
    chosen += [f"CASE WHEN max({name}) > 0 THEN {_array_sql(name)} END" for name in _BAD]
    for column in columns:
        chosen += [
            _array_sql(value) for value in (_mean_sql(column), f"{column.name}_min", f"{column.name}_max")
        ]
    return f"SELECT line, {', '.join(chosen)} FROM ({figures}) buckets GROUP BY line"  # noqa: S608  our own SQL


def _mean_sql(column: ResultColumn) -> str:
    """Return the SQL of a mean; what is too small to be divided is 0, where PostgreSQL would end the statement."""
    total, count = f"{column.name}_sum", f"{column.name}_n"
    return (
        f"CASE WHEN {count} > 0 THEN CASE WHEN abs({total}) < {_LEAST} THEN 0 ELSE {total} / {count} END END"
    )


def _array_sql(value: str) -> str:
    return f"array_agg({value} ORDER BY begin)"


def _line(columns: Mapping[str, ResultColumn], gathered: Sequence[Sequence[Any]]) -> LineBuckets:
    begins, failed, error, missed, *figures = gathered
    bands = {}
    for number, name in enumerate(columns):
        mean, low, high = figures[3 * number : 3 * number + 3]
        bands[name] = Band(mean=mean, low=low, high=high)
    return LineBuckets(
        start=[_EPOCH + dt.timedelta(seconds=begin) for begin in begins],
        failed=failed or (),
        error=error or (),
        missed=missed or (),
        bands=bands,
    )
