"""Figures of metrics in buckets of time, from the layers that serve.

They are those of exactly the runs due in a range, whichever layers they come from; only percentiles are off, by the
sketches' error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Boolean, ColumnElement, Connection, Double, Integer, case, cast, func, text
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.queries import layers
from controller.store.queries.layers import Piece
from controller.store.results import ResultColumn
from controller.store.rollups import DAY, HOUR, LAYERS, Layer, Source, sketches, statements

SHARES = (0.5, 0.95, 0.99)
#: What buckets are told apart by beside time.
By = Literal["", "key", "line"]
#: Metric, key, and beginning.
_Place = tuple[str, str, dt.datetime]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One metric in one bucket; all but `count` are None where it was not measured."""

    #: Runs in which it was measured.
    count: int
    mean: float | None
    min: float | None
    max: float | None
    #: 50th, 95th and 99th; empty unless they were asked for and the contract says `distribution`, and where some of the
    #: values were rolled up before it said so.
    percentiles: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Spread:
    """Percentiles, and of how many values."""

    count: int
    percentiles: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The runs due in one stretch of time, of which there is at least one."""

    start: dt.datetime
    #: Counts of runs by how they ended; 0 for metrics of a repeated group, and where they were not asked for.
    ok: int
    failed: int
    error: int
    missed: int
    #: By the metric's name.
    figures: dict[str, Figures]


def buckets(
    connection: Connection | Session,
    source: Source,
    metrics: Sequence[str],
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
    percentiles: bool = False,
    counts: bool = True,
) -> tuple[Bucket, ...]:
    """Return the buckets in which there are runs, in order of time; they begin at whole multiples since 2000.

    KeyError when the source has no such metric.
    """
    found: Mapping[str, tuple[Bucket, ...]] = _read(
        connection, source, metrics, job_ids, (start, end), width, percentiles=percentiles, counts=counts
    )
    return found.get("", ())


def buckets_by_key(
    connection: Connection | Session,
    source: Source,
    metrics: Sequence[str],
    job_ids: Collection[int],
    keys: Collection[str],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
    percentiles: bool = False,
) -> Mapping[str, tuple[Bucket, ...]]:
    """Return the same for these rows of a repeated group, by key; a bucket without the row is not among its own."""
    return _read(
        connection,
        source,
        metrics,
        job_ids,
        (start, end),
        width,
        by="key",
        keys=list(keys),
        percentiles=percentiles,
    )


def keys(
    connection: Connection | Session,
    source: Source,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    most: int,
    only: Collection[str] | None = None,
) -> list[str]:
    """Return the first `most` keys of a repeated group that any run due in [start, end) had, results expired or not.

    A worker that is broken makes up keys without end. Those in `only` are looked for alone.
    """
    values: dict[str, Any] = {"keys": None if only is None else list(only), "most": most}
    selects = [
        f"SELECT s.key {_from(source, piece, jobs, number, values, keyed=only is not None)}"
        for number, (jobs, piece) in enumerate(
            layers.parts(connection, source.kind, job_ids, (start, end), [HOUR, DAY])
        )
    ]
    if not selects:
        return []
    found = f"SELECT DISTINCT key FROM ({' UNION ALL '.join(selects)}) found ORDER BY key LIMIT :most"  # noqa: S608
    return list(connection.execute(text(found), values).scalars())


def as_number(column: ColumnElement[Any]) -> ColumnElement[float]:
    """Return a metric's column as double precision, NULL for what is no measurement."""
    if isinstance(column.type, Double):
        return case((func.abs(column) <= results.GREATEST, column))
    # PostgreSQL casts a boolean to an integer only.
    return cast(cast(column, Integer) if isinstance(column.type, Boolean) else column, Double)


def _read(
    connection: Connection | Session,
    source: Source,
    metrics: Sequence[str],
    job_ids: Collection[int],
    span: tuple[dt.datetime, dt.datetime],
    width: dt.timedelta,
    *,
    by: By = "",
    keys: Sequence[str] | None = None,
    percentiles: bool = False,
    counts: bool = False,
) -> dict[Any, tuple[Bucket, ...]]:
    """Return buckets by what they are gathered by, all under an empty key where that is time alone; `keys` go with keys."""
    columns = [column_of(source, metric) for metric in metrics]
    parts = layers.parts(connection, source.kind, job_ids, span, usable(width))
    if not parts:
        return {}
    values: dict[str, Any] = {"width": width, "keys": keys}
    query = figures_sql(source, columns, parts, values, by=by, counts=counts)
    figures = connection.execute(text(query), values).all()
    sketched = _sketches(connection, source, columns, parts, width, by, keys) if percentiles else {}
    names = [_name(column) for column in columns]
    found: dict[Any, list[Bucket]] = {}
    for key, begin, *parts_of_row in figures:
        found.setdefault(key, []).append(_bucket(key, begin, parts_of_row, names, sketched))
    return {key: tuple(of_key) for key, of_key in found.items()}


def usable(width: dt.timedelta) -> list[Layer]:
    """Return the layers that buckets of a width can be made of."""
    return [of for of in LAYERS if of.width <= width and width % of.width == dt.timedelta(0)]


def _from(
    source: Source,
    piece: Piece,
    jobs: Sequence[int],
    number: int,
    values: dict[str, Any],
    *,
    keyed: bool,
    line_of: Mapping[int, int] | None = None,
) -> str:
    """Return the FROM and WHERE of a part of the rows, as `s`, and fill in its values.

    `keyed` takes `:keys` alone; with `line_of`, the number of its line by job, `l.line` is there too.
    """
    values |= {f"jobs_{number}": list(jobs), f"start_{number}": piece.start, f"end_{number}": piece.end}
    table, instant = _place(source, piece)
    wanted = " AND s.key = ANY(:keys)" if keyed else ""
    lines = ""
    if line_of is not None:
        values[f"lines_{number}"] = [line_of[job_id] for job_id in jobs]
        lines = (
            f" JOIN unnest(CAST(:jobs_{number} AS bigint[]), CAST(:lines_{number} AS integer[])) AS l (job_id, line)"
            " ON l.job_id = s.job_id"
        )
    return (
        f"FROM {table} s{lines} WHERE s.job_id = ANY(:jobs_{number}) AND s.{instant} >= :start_{number} "
        f"AND s.{instant} < :end_{number}{wanted}"
    )


def _place(source: Source, piece: Piece) -> tuple[str, str]:
    if piece.layer is None:
        return source.table, "scheduled_at"
    return rollups.table_name(source, piece.layer), "bucket"


def _begin(instant: str, by: By) -> str:
    """Return the SQL of what a row is gathered by: the beginning of its bucket, and its key or line."""
    begin = f"date_bin(:width, s.{instant}, timestamptz '{rollups.EPOCH.isoformat()}') AS begin"
    return {"": begin, "key": f"{begin}, s.key AS key", "line": f"{begin}, l.line AS line"}[by]


def _gathered_by(by: By) -> str:
    return f"begin, {by}" if by else "begin"


def figures_sql(
    source: Source,
    columns: Sequence[ResultColumn],
    parts: Sequence[tuple[Sequence[int], Piece]],
    values: dict[str, Any],
    *,
    by: By,
    counts: bool,
    line_of: Mapping[int, int] | None = None,
) -> str:
    """Return the SQL of key or line, beginning, runs by how they ended if asked (own metrics only), and figures, in order of time.

    It fills in what it needs beside `width` and `keys`; `line_of` goes with lines.
    """
    of_runs = list(rollups.RUNS.values()) if counts and source.child is None else []
    names = [
        *of_runs,
        *(f"{column.name}_{part}" for column in columns for part in ("n", "sum", "min", "max")),
    ]
    gathered_by = _gathered_by(by)
    selects = []
    for number, (jobs, piece) in enumerate(parts):
        expressions = statements.parts_of(source, rolled=piece.layer is not None)
        chosen = "".join(f", {expressions[name]} AS {name}" for name in names)
        _, instant = _place(source, piece)
        origin = _from(source, piece, jobs, number, values, keyed=by == "key", line_of=line_of)
        selects.append(f"SELECT {_begin(instant, by)}{chosen} {origin} GROUP BY {gathered_by}")
    # The usual chart is from one place only: nothing is to be gathered once more.
    gathered = names if len(selects) == 1 else [_gather(name) for name in names]
    key, again = by or "''", "" if len(selects) == 1 else f"GROUP BY {gathered_by} "
    return (
        f"SELECT {', '.join([key, 'begin', *gathered])} FROM ({' UNION ALL '.join(selects)}) parts "  # noqa: S608
        f"{again}ORDER BY {gathered_by}"
    )


def _gather(name: str) -> str:
    """Return the SQL that makes one figure of the figures of several places."""
    if name.endswith(("_min", "_max")):
        return f"{name[-3:]}({name}) AS {name}"
    # Counts are whole and far below 2^53, and sums of them would be numeric, which is slow to add and to read.
    return f"sum({name}) AS {name}" if name.endswith("_sum") else f"sum({name}::float8)::bigint AS {name}"


def _sketches(
    connection: Connection | Session,
    source: Source,
    columns: Sequence[ResultColumn],
    parts: Sequence[tuple[Sequence[int], Piece]],
    width: dt.timedelta,
    by: By,
    keys: Sequence[str] | None,
) -> dict[_Place, _Spread]:
    """Return the spread of what has a distribution by metric, key, and bucket: exact when only results are read."""
    found: dict[_Place, _Spread] = {}
    exact = all(piece.layer is None for _, piece in parts)
    gathered_by = _gathered_by(by)
    for column in columns:
        if not rollups.is_sketched(column):
            continue
        metric = _name(column)
        values: dict[str, Any] = {"width": width, "keys": keys, "shares": list(SHARES)}
        selects = [
            _spread_sql(
                source,
                column,
                piece,
                exact,
                _from(source, piece, jobs, number, values, keyed=by == "key"),
                by,
            )
            for number, (jobs, piece) in enumerate(parts)
        ]
        rows = " UNION ALL ".join(selects)
        if exact:
            query = (
                "SELECT count(value), percentile_cont(CAST(:shares AS float8[])) WITHIN GROUP (ORDER BY value), "  # noqa: S608
                f"{gathered_by} FROM ({rows}) found GROUP BY {gathered_by}"
            )
            for count, answer, *place in connection.execute(text(query), values).all():
                found[_place_of(metric, place)] = _Spread(count=count, percentiles=tuple(answer))
            continue
        gathered: dict[_Place, list[Sequence[int]]] = {}
        sent = sketches.sent_sql("sketch")
        query = f"SELECT {sent}, {gathered_by} FROM ({rows}) found WHERE sketch IS NOT NULL"  # noqa: S608
        for sketch, *place in connection.execute(text(query), values).all():
            gathered.setdefault(_place_of(metric, place), []).append(sketches.received(sketch))
        for at, of_bucket in gathered.items():
            count, answer = sketches.percentiles(sketches.merged(of_bucket), SHARES)
            found[at] = _Spread(count=count, percentiles=answer)
    return found


def _place_of(metric: str, place: Sequence[Any]) -> _Place:
    begin, *key = place
    return metric, key[0] if key else "", begin


def _spread_sql(source: Source, column: ResultColumn, piece: Piece, exact: bool, origin: str, by: By) -> str:
    """Return the SQL of a piece's values, or of its sketches, each with the beginning of its bucket and its key."""
    _, instant = _place(source, piece)
    begin, value = _begin(instant, by), statements.value_sql(column)
    if exact:
        return f"SELECT {begin}, {value} AS value {origin} AND {value} IS NOT NULL"
    if piece.layer is not None:
        whole = f"s.{column.name}_n > 0 AND NOT ({statements.spoilt_sql(column)})"
        return f"SELECT {begin}, s.{column.name}_sketch AS sketch {origin} AND {whole}"
    places = (
        f"SELECT {begin}, {sketches.key_sql(value)} AS place, 1 AS count {origin} AND {value} IS NOT NULL"
    )
    return f"({sketches.grouped_sql(places, _gathered_by(by))})"


def _bucket(
    key: str,
    begin: dt.datetime,
    parts: Sequence[Any],
    metrics: Sequence[str],
    sketched: Mapping[_Place, _Spread],
) -> Bucket:
    """Return a bucket of its parts: runs by how they ended, if they were asked for, then four for each metric."""
    first = len(parts) - 4 * len(metrics)
    ok, failed, error, missed = map(int, parts[:first]) if first else (0, 0, 0, 0)
    figures = {}
    for number, metric in enumerate(metrics):
        place = first + 4 * number
        counted, total, low, high = parts[place : place + 4]
        count = int(counted)
        spread = sketched.get((metric, key, begin))
        figures[metric] = Figures(
            count=count,
            mean=total / count if count else None,
            min=low,
            max=high,
            percentiles=spread.percentiles if spread and spread.count == count else (),
        )
    return Bucket(start=begin, ok=ok, failed=failed, error=error, missed=missed, figures=figures)


def _name(column: ResultColumn) -> str:
    return column.metric.name if column.metric else column.name


def column_of(source: Source, metric: str) -> ResultColumn:
    """Return the column that holds a metric of a result table; KeyError when it has no such metric."""
    for column in source.metrics:
        if column.metric is not None and column.metric.name == metric:
            return column
    if source.child is None:
        return results.metric_column(source.kind, metric)
    raise KeyError(f"`{metric}` is not a metric of `{source.kind}.{source.child}`")
