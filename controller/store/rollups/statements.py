"""The SQL that computes buckets of roll-ups, of results or of narrower buckets; of the contract's own names alone."""

from __future__ import annotations

from collections.abc import Mapping

from controller.store import results, rollups
from controller.store.results import ResultColumn
from controller.store.rollups import Layer, Source, sketches


def statement(source: Source, of: Layer) -> str:
    """Return the SQL that computes buckets; of the contract's own names alone."""
    names = [name for name, _ in rollups.columns(source)]
    if of.source is None:
        table, instant, sketch = source.table, "scheduled_at", _sketch_of_values
        # What is no measurement is left out once, where it is read: a lot is made of each value.
        parts = _from_results(source, {column.name: f"s.{column.name}" for column in source.metrics})
        own = ("job_id", instant, "status" if source.child is None else "key")
        read = ", ".join(
            (
                *(f"s.{name}" for name in own),
                *(f"{value_sql(column)} AS {column.name}" for column in source.metrics),
            )
        )
    else:
        table, instant = rollups.table_name(source, rollups.layer(of.source)), "bucket"
        sketch = _sketch_of_sketches
        parts, read = _from_rollups(source), "*"
    keys = ", ".join(rollups.key(source))
    child_key = ", s.key" if source.child is not None else ""
    base = (
        f"SELECT s.job_id, date_bin(:width, s.{instant}, timestamptz '{rollups.EPOCH.isoformat()}') "  # noqa: S608
        f"AS bucket{child_key}, %s "
        "FROM unnest(CAST(:jobs AS bigint[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) "
        "AS stretch(job_id, first, last) "
        # OFFSET 0 keeps each stretch a walk down the key, whatever the statistics of a growing table say.
        f"CROSS JOIN LATERAL (SELECT {read} FROM {table} s WHERE s.job_id = stretch.job_id "
        f"AND s.{instant} >= stretch.first AND s.{instant} < stretch.last "
        f"AND s.{instant} >= :first AND s.{instant} < :last OFFSET 0) s"
    )
    group = "1, 2" if source.child is None else "1, 2, 3"
    figures = base % ", ".join(f"{value} AS {name}" for name, value in parts.items()) + f" GROUP BY {group}"
    joins, sketched = "", []
    for column in source.metrics:
        if rollups.is_sketched(column):
            name = f"{column.name}_sketch"
            sketched.append(name)
            joins += f" LEFT JOIN ({sketch(base, column, keys)}) {name}_of USING ({keys})"
    selected = ", ".join(f"{name}_of.sketch" if name in sketched else name for name in names)
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in names if name not in rollups.key(source))
    return (
        f"INSERT INTO {rollups.table_name(source, of)} ({', '.join(names)}) "  # noqa: S608
        f"SELECT {selected} FROM ({figures}) figures{joins} "
        f"ON CONFLICT ({keys}) DO UPDATE SET {updates}"
    )


def parts_of(source: Source, *, rolled: bool) -> dict[str, str]:
    """Return the SQL of the figures of many rows `s`, results or rolled-up ones, by their columns' names."""
    if rolled:
        return _from_rollups(source)
    return _from_results(source, {column.name: value_sql(column) for column in source.metrics})


def _from_results(source: Source, values: Mapping[str, str]) -> dict[str, str]:
    parts = {}
    if source.child is None:
        for status, name in rollups.RUNS.items():
            parts[name] = f"count(*) FILTER (WHERE s.status = {status})"
    for name, value in values.items():
        parts[f"{name}_n"] = f"count({value})"
        for part in ("sum", "min", "max"):
            parts[f"{name}_{part}"] = f"{part}({value})"
    return parts


def _from_rollups(source: Source) -> dict[str, str]:
    parts = {}
    counts = [] if source.child is not None else list(rollups.RUNS.values())
    for name in counts:
        parts[name] = f"sum(s.{name})"
    for column in source.metrics:
        spoilt = spoilt_sql(column)
        parts[f"{column.name}_n"] = f"sum(CASE WHEN {spoilt} THEN 0 ELSE s.{column.name}_n END)"
        for part in ("sum", "min", "max"):
            kept = f"CASE WHEN {spoilt} THEN NULL ELSE s.{column.name}_{part} END"
            parts[f"{column.name}_{part}"] = f"{part}({kept})"
    return parts


def value_sql(column: ResultColumn) -> str:
    """Return the SQL of a metric of the row `s` as double precision, NULL for what is no measurement."""
    if column.type == "float8":
        return f"CASE WHEN abs(s.{column.name}) <= {results.GREATEST!r} THEN s.{column.name} END"
    # PostgreSQL casts a boolean to an integer only.
    return f"s.{column.name}::int4::float8" if column.type == "bool" else f"s.{column.name}::float8"


def spoilt_sql(column: ResultColumn) -> str:
    """Return the SQL of whether the bucket `s` has values of a metric that are no measurements; NULL without any values.

    Its figures are of no use: what they would be without those values is not known.
    """
    if column.type != "float8":
        return "false"
    return f"s.{column.name}_max > {results.GREATEST!r} OR s.{column.name}_min < -{results.GREATEST!r}"


def _sketch_of_values(base: str, column: ResultColumn, keys: str) -> str:
    value = f"s.{column.name}"
    found = base % f"{sketches.key_sql(value)} AS place" + f" WHERE {value} IS NOT NULL"
    return sketches.grouped_sql(f"SELECT {keys}, place, 1 AS count FROM ({found}) found", keys)  # noqa: S608


def _sketch_of_sketches(base: str, column: ResultColumn, keys: str) -> str:
    name = f"{column.name}_sketch"
    found = base % f"s.{name} AS sketch" + f" WHERE s.{name} IS NOT NULL AND NOT ({spoilt_sql(column)})"
    return sketches.grouped_sql(
        f"SELECT {keys}, place, count FROM ({found}) found "  # noqa: S608
        f"CROSS JOIN LATERAL {sketches.pairs_sql('found.sketch')} pairs",
        keys,
    )
