"""Figures of metrics in buckets of time, from the layer that serves: roll-ups where they are whole, results elsewhere.

A range is covered by as few rows as its buckets allow: the widest layer in the middle, narrower ones beside it, and
the results themselves at both ends and where nothing is rolled up yet. So the figures are those of exactly the runs
due in [start, end), whichever layers they come from; only percentiles are off, by the sketches' error. Where results
have expired, the range is widened to whole buckets of what is left.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from controller.store import results, rollups
from controller.store.results import ResultColumn
from controller.store.rollups import DAY, FIVE_MINUTES, HOUR, LAYERS, Layer, Source, sketches, statements

SHARES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One metric in one bucket; all but `count` are None where it was not measured."""

    #: Runs in which it was measured.
    count: int
    mean: float | None
    min: float | None
    max: float | None
    #: 50th, 95th and 99th; empty unless they were asked for and the contract says `distribution`.
    percentiles: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """The runs due in one stretch of time, of which there is at least one."""

    start: dt.datetime
    #: Counts of runs by how they ended; 0 for metrics of a repeated group.
    ok: int
    failed: int
    error: int
    missed: int
    #: By the metric's name.
    figures: dict[str, Figures]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Part of a range, and what it is read from."""

    #: None for the results themselves.
    layer: Layer | None
    start: dt.datetime
    end: dt.datetime


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How far a kind is rolled up, and what of it has expired, by layer; `raw` stands for the results."""

    done_until: dict[str, dt.datetime]
    gone_before: dict[str, dt.datetime]


def buckets(
    connection: Connection | Session,
    source: Source,
    metrics: Sequence[str],
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
    key: str | None = None,
    percentiles: bool = False,
) -> tuple[Bucket, ...]:
    """Return the buckets in which there are runs, in order of time; they begin at whole multiples since 2000.

    KeyError when the source has no such metric. `key` is that of the row, where the metrics are of a repeated group.
    """
    columns = [_column(source, metric) for metric in metrics]
    rows: list[tuple[Sequence[int], list[Piece]]] = []
    standing = _standing(connection, source.kind)
    start, end = _widened(start, end, standing)
    usable = [of for of in LAYERS if of.width <= width and width % of.width == dt.timedelta(0)]
    narrow = cover(start, end, usable, standing)
    fast = _with_narrow_layer(connection, source.kind, job_ids, narrow)
    others = sorted(set(job_ids) - set(fast))
    if fast:
        rows.append((fast, narrow))
    if others:
        rows.append((others, cover(start, end, [of for of in usable if not of.fast_only], standing)))
    parts = [(jobs, piece) for jobs, pieces in rows for piece in pieces]
    if not parts:
        return ()
    values: dict[str, Any] = {"width": width, "key": key}
    figures = connection.execute(text(_figures_sql(source, columns, parts, values, key)), values).all()
    sketched = _sketches(connection, source, columns, parts, width, key) if percentiles else {}
    return tuple(_bucket(row, columns, sketched) for row in figures)


def narrowest(connection: Connection | Session, kind: str, start: dt.datetime) -> dt.timedelta | None:
    """Return the width of the narrowest buckets that are left of a kind at an instant; None while results are."""
    standing = _standing(connection, kind)
    width = None
    for finer, coarser in (("raw", HOUR), (HOUR.name, DAY)):
        if start < standing.gone_before.get(finer, start):
            width = coarser.width
    return width


def cover(start: dt.datetime, end: dt.datetime, layers: Sequence[Layer], standing: Standing) -> list[Piece]:
    """Cover [start, end) without gap or overlap, by the widest layers wherever whole buckets of them are done."""
    if start >= end:
        return []
    if not layers:
        return [Piece(layer=None, start=start, end=end)]
    *narrower, widest = layers
    first = rollups.ceil(start, widest.width)
    last = min(rollups.floor(end, widest.width), standing.done_until.get(widest.name, first))
    if first >= last:
        return cover(start, end, narrower, standing)
    return [
        *cover(start, first, narrower, standing),
        Piece(layer=widest, start=first, end=last),
        *cover(last, end, narrower, standing),
    ]


def _widened(start: dt.datetime, end: dt.datetime, standing: Standing) -> tuple[dt.datetime, dt.datetime]:
    """Widen a range to whole buckets of the narrowest layer that is still there where it begins and ends."""
    for finer, coarser in (("raw", HOUR), (HOUR.name, DAY)):
        gone_before = standing.gone_before.get(finer)
        if gone_before is not None and start < gone_before:
            start = rollups.floor(start, coarser.width)
        if gone_before is not None and end < gone_before:
            end = rollups.ceil(end, coarser.width)
    return start, end


def _standing(connection: Connection | Session, kind: str) -> Standing:
    done = connection.execute(
        text("SELECT layer, done_until FROM rollup_frontiers WHERE kind = :kind"), {"kind": kind}
    )
    gone = connection.execute(
        text("SELECT layer, gone_before FROM expiries WHERE kind = :kind"), {"kind": kind}
    )
    done_until = {row.layer: row.done_until for row in done}
    if {FIVE_MINUTES.name, HOUR.name} <= done_until.keys():
        # Beyond the hours nothing says whether the narrowest layer is whole.
        done_until[FIVE_MINUTES.name] = min(done_until[FIVE_MINUTES.name], done_until[HOUR.name])
    return Standing(
        done_until=done_until,
        gone_before={row.layer: row.gone_before for row in gone},
    )


def _with_narrow_layer(
    connection: Connection | Session, kind: str, job_ids: Collection[int], pieces: Sequence[Piece]
) -> list[int]:
    """Return the jobs whose narrowest roll-ups are whole in these pieces: they hold as many runs as the hours do.

    A job that ran less often for part of the range has hours that the narrowest layer knows nothing of.
    """
    spans = [
        (rollups.floor(piece.start, HOUR.width), rollups.ceil(piece.end, HOUR.width))
        for piece in pieces
        if piece.layer == FIVE_MINUTES
    ]
    if not spans:
        return []
    source = Source(kind=kind, child=None)
    runs = " + ".join(rollups.RUNS.values())
    values: dict[str, Any] = {"jobs": list(job_ids)}
    parts = []
    for number, (first, last) in enumerate(spans):
        values |= {f"first_{number}": first, f"last_{number}": last}
        parts += [
            f"SELECT job_id, {sign} sum({runs}) AS runs FROM {rollups.table_name(source, of)} "  # noqa: S608
            f"WHERE job_id = ANY(:jobs) AND bucket >= :first_{number} AND bucket < :last_{number} GROUP BY job_id"
            for of, sign in ((FIVE_MINUTES, ""), (HOUR, "-"))
        ]
    each = " UNION ALL ".join(parts)
    return list(
        connection.execute(
            text(
                f"SELECT job_id FROM ({each}) each GROUP BY job_id HAVING sum(runs) = 0 ORDER BY job_id"  # noqa: S608
            ),
            values,
        ).scalars()
    )


def _from(
    source: Source, piece: Piece, jobs: Sequence[int], number: int, values: dict[str, Any], key: str | None
) -> str:
    """Return the FROM and WHERE of a part of the rows, as `s`, and fill in its values."""
    values |= {f"jobs_{number}": list(jobs), f"start_{number}": piece.start, f"end_{number}": piece.end}
    table, instant = _place(source, piece)
    keyed = " AND s.key = :key" if key is not None else ""
    return (
        f"FROM {table} s WHERE s.job_id = ANY(:jobs_{number}) AND s.{instant} >= :start_{number} "
        f"AND s.{instant} < :end_{number}{keyed}"
    )


def _place(source: Source, piece: Piece) -> tuple[str, str]:
    if piece.layer is None:
        return source.table, "scheduled_at"
    return rollups.table_name(source, piece.layer), "bucket"


def _begin(instant: str) -> str:
    return f"date_bin(:width, s.{instant}, timestamptz '{rollups.EPOCH.isoformat()}')"


def _figures_sql(
    source: Source,
    columns: Sequence[ResultColumn],
    parts: Sequence[tuple[Sequence[int], Piece]],
    values: dict[str, Any],
    key: str | None,
) -> str:
    counts = list(rollups.RUNS.values()) if source.child is None else []
    names = [*counts, *(f"{column.name}_{part}" for column in columns for part in ("n", "sum", "min", "max"))]
    selects = []
    for number, (jobs, piece) in enumerate(parts):
        expressions = statements.parts_of(source, rolled=piece.layer is not None)
        chosen = ", ".join(f"{expressions[name]} AS {name}" for name in names)
        _, instant = _place(source, piece)
        selects.append(
            f"SELECT {_begin(instant)} AS begin, {chosen} {_from(source, piece, jobs, number, values, key)} GROUP BY 1"
        )
    sums = ", ".join(
        f"{'min' if name.endswith('_min') else 'max' if name.endswith('_max') else 'sum'}({name})"
        for name in names
    )
    return f"SELECT begin, {sums} FROM ({' UNION ALL '.join(selects)}) parts GROUP BY begin ORDER BY begin"  # noqa: S608


def _sketches(
    connection: Connection | Session,
    source: Source,
    columns: Sequence[ResultColumn],
    parts: Sequence[tuple[Sequence[int], Piece]],
    width: dt.timedelta,
    key: str | None,
) -> dict[tuple[str, dt.datetime], tuple[float, ...]]:
    """Return the percentiles of what has a distribution: exact ones when only results are read."""
    found: dict[tuple[str, dt.datetime], tuple[float, ...]] = {}
    exact = all(piece.layer is None for _, piece in parts)
    for column in columns:
        if not rollups.is_sketched(column):
            continue
        metric = column.metric.name if column.metric else column.name
        values: dict[str, Any] = {"width": width, "key": key, "shares": list(SHARES)}
        selects = [
            _spread_sql(source, column, piece, exact, _from(source, piece, jobs, number, values, key))
            for number, (jobs, piece) in enumerate(parts)
        ]
        rows = " UNION ALL ".join(selects)
        if exact:
            query = (
                "SELECT begin, percentile_cont(CAST(:shares AS float8[])) WITHIN GROUP (ORDER BY value) "  # noqa: S608
                f"FROM ({rows}) found GROUP BY begin"
            )
            found |= {
                (metric, begin): tuple(answer) for begin, answer in connection.execute(text(query), values)
            }
            continue
        gathered: dict[dt.datetime, list[Sequence[int]]] = {}
        for begin, sketch in connection.execute(text(rows), values):
            gathered.setdefault(begin, []).append(sketch)
        for begin, of_bucket in gathered.items():
            found[metric, begin] = sketches.percentiles(sketches.merged(of_bucket), SHARES)
    return found


def _spread_sql(source: Source, column: ResultColumn, piece: Piece, exact: bool, origin: str) -> str:
    """Return the SQL of a piece's values, or of its sketches, each with the beginning of its bucket."""
    _, instant = _place(source, piece)
    begin, value = _begin(instant), statements.value_sql(column.name, column.type)
    if exact:
        return f"SELECT {begin} AS begin, {value} AS value {origin} AND s.{column.name} IS NOT NULL"
    if piece.layer is not None:
        return f"SELECT {begin} AS begin, s.{column.name}_sketch AS sketch {origin} AND s.{column.name}_n > 0"
    places = (
        f"SELECT {begin} AS begin, {sketches.key_sql(value)} AS place, 1 AS count {origin} "
        f"AND s.{column.name} IS NOT NULL"
    )
    return f"({sketches.grouped_sql(places, 'begin')})"


def _bucket(
    row: Any, columns: Sequence[ResultColumn], sketched: dict[tuple[str, dt.datetime], tuple[float, ...]]
) -> Bucket:
    counts = [0, 0, 0, 0] if len(row) == 1 + 4 * len(columns) else [int(count) for count in row[1:5]]
    first = len(row) - 4 * len(columns)
    figures = {}
    for number, column in enumerate(columns):
        count, total, low, high = row[first + 4 * number : first + 4 * number + 4]
        metric = column.metric.name if column.metric else column.name
        figures[metric] = Figures(
            count=int(count),
            mean=total / int(count) if count else None,
            min=low,
            max=high,
            percentiles=sketched.get((metric, row[0]), ()),
        )
    return Bucket(
        start=row[0], ok=counts[0], failed=counts[1], error=counts[2], missed=counts[3], figures=figures
    )


def _column(source: Source, metric: str) -> ResultColumn:
    for column in source.metrics:
        if column.metric is not None and column.metric.name == metric:
            return column
    if source.child is None:
        return results.metric_column(source.kind, metric)
    raise KeyError(f"`{metric}` is not a metric of `{source.kind}.{source.child}`")
