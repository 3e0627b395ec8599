"""The SQL that computes buckets of roll-ups, of results or of narrower buckets; of the contract's own names alone."""

from __future__ import annotations

from controller.store import rollups
from controller.store.rollups import Layer, Source, sketches


def statement(source: Source, of: Layer) -> str:
    """Return the SQL that computes buckets; of the contract's own names alone."""
    names = [name for name, _ in rollups.columns(source)]
    if of.source is None:
        table, instant, sketch = source.table, "scheduled_at", _sketch_of_values
    else:
        table, instant = rollups.table_name(source, rollups.layer(of.source)), "bucket"
        sketch = _sketch_of_sketches
    parts = parts_of(source, rolled=of.source is not None)
    keys = ", ".join(rollups.key(source))
    child_key = ", s.key" if source.child is not None else ""
    base = (
        f"SELECT s.job_id, date_bin(:width, s.{instant}, timestamptz '{rollups.EPOCH.isoformat()}') "  # noqa: S608
        f"AS bucket{child_key}, %s "
        "FROM unnest(CAST(:jobs AS bigint[]), CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[])) "
        "AS stretch(job_id, first, last) "
        # OFFSET 0 keeps each stretch a walk down the key, whatever the statistics of a growing table say.
        f"CROSS JOIN LATERAL (SELECT * FROM {table} t WHERE t.job_id = stretch.job_id "
        f"AND t.{instant} >= stretch.first AND t.{instant} < stretch.last "
        f"AND t.{instant} >= :first AND t.{instant} < :last OFFSET 0) s"
    )
    group = "1, 2" if source.child is None else "1, 2, 3"
    figures = base % ", ".join(f"{value} AS {name}" for name, value in parts.items()) + f" GROUP BY {group}"
    joins, sketched = "", []
    for column in source.metrics:
        if rollups.is_sketched(column):
            name = f"{column.name}_sketch"
            sketched.append(name)
            joins += f" LEFT JOIN ({sketch(base, column.name, keys)}) {name}_of USING ({keys})"
    selected = ", ".join(f"{name}_of.sketch" if name in sketched else name for name in names)
    updates = ", ".join(f"{name} = EXCLUDED.{name}" for name in names if name not in rollups.key(source))
    return (
        f"INSERT INTO {rollups.table_name(source, of)} ({', '.join(names)}) "  # noqa: S608
        f"SELECT {selected} FROM ({figures}) figures{joins} "
        f"ON CONFLICT ({keys}) DO UPDATE SET {updates}"
    )


def parts_of(source: Source, *, rolled: bool) -> dict[str, str]:
    """Return the SQL of the figures of many rows `s`, results or rolled-up ones, by their columns' names."""
    return _from_rollups(source) if rolled else _from_results(source)


def _from_results(source: Source) -> dict[str, str]:
    parts = {}
    if source.child is None:
        for status, name in rollups.RUNS.items():
            parts[name] = f"count(*) FILTER (WHERE s.status = {status})"
    for column in source.metrics:
        value = value_sql(column.name, column.type)
        parts[f"{column.name}_n"] = f"count({value})"
        for part in ("sum", "min", "max"):
            parts[f"{column.name}_{part}"] = f"{part}({value})"
    return parts


def _from_rollups(source: Source) -> dict[str, str]:
    parts = {}
    counts = [] if source.child is not None else list(rollups.RUNS.values())
    for name in (*counts, *(f"{column.name}_n" for column in source.metrics)):
        parts[name] = f"sum(s.{name})"
    for column in source.metrics:
        for part in ("sum", "min", "max"):
            parts[f"{column.name}_{part}"] = f"{part}(s.{column.name}_{part})"
    return parts


def value_sql(column: str, kind: str) -> str:
    """Return the SQL of a metric of the row `s` as double precision."""
    # PostgreSQL casts a boolean to an integer only.
    return f"s.{column}::int4::float8" if kind == "bool" else f"s.{column}::float8"


def _sketch_of_values(base: str, column: str, keys: str) -> str:
    value = f"s.{column}::float8"
    found = base % f"{sketches.key_sql(value)} AS place" + f" WHERE s.{column} IS NOT NULL"
    return sketches.grouped_sql(f"SELECT {keys}, place, 1 AS count FROM ({found}) found", keys)  # noqa: S608


def _sketch_of_sketches(base: str, column: str, keys: str) -> str:
    found = base % f"s.{column}_sketch AS sketch" + f" WHERE s.{column}_sketch IS NOT NULL"
    return sketches.grouped_sql(
        f"SELECT {keys}, place, count FROM ({found}) found "  # noqa: S608
        f"CROSS JOIN LATERAL {sketches.pairs_sql('found.sketch')} pairs",
        keys,
    )
