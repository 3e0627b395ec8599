"""The roll-up tables, made from the contract as the result tables are: one for each result table and layer.

A row is one bucket of one job (and of one key, where the metrics are of a repeated group): its runs by how they ended,
and for every metric how often it was measured, its sum, minimum and maximum. Metrics that the contract marks
`distribution` have a sketch too (`controller.store.rollups.sketches`). What was never measured in a bucket is 0 times measured
and otherwise NULL. `(job_id, bucket)` is the key; tables are partitioned by month.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Double, Integer, PrimaryKeyConstraint, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.types import TypeEngine

from controller.store import results
from controller.store.entities import Base
from controller.store.results import ResultColumn
from streamswarm import contract
from streamswarm.contract import ContractError
from streamswarm.v1 import probe_pb2

#: Width of the buckets in which late results are marked, seconds; that of the narrowest layer.
BUCKET_S = 300
#: So long after its end a bucket is closed: it is rolled up, and what comes later marks it as dirty.
GRACE_S = 60
#: Results mark a bucket so long before it is closed: two readings of one clock may be a moment apart.
MARGIN_S = 5
#: Jobs that run more often than this have the narrowest layer; for others it would hold little more than their runs.
FAST_S = 60


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Roll-ups of one width."""

    #: Last part of its tables' names.
    name: str
    width: dt.timedelta
    #: Whether it is kept for fast jobs only.
    fast_only: bool
    #: What it is made from: None for the results themselves, else the name of a narrower layer.
    source: str | None


FIVE_MINUTES = Layer(name="5m", width=dt.timedelta(minutes=5), fast_only=True, source=None)
HOUR = Layer(name="1h", width=dt.timedelta(hours=1), fast_only=False, source=None)
DAY = Layer(name="1d", width=dt.timedelta(days=1), fast_only=False, source="1h")
#: Narrowest first; each width is a multiple of the one before, and buckets begin at whole multiples since 2000.
LAYERS = (FIVE_MINUTES, HOUR, DAY)

#: Columns that count the runs of a bucket, by the status that they ended with.
RUNS = {
    probe_pb2.STATUS_OK: "runs_ok",
    probe_pb2.STATUS_FAILED: "runs_failed",
    probe_pb2.STATUS_ERROR: "runs_error",
    probe_pb2.STATUS_MISSED: "runs_missed",
}


@dataclass(frozen=True, kw_only=True)
class Source:
    """A result table that is rolled up."""

    kind: str
    #: The repeated group; None for the kind's own table.
    child: str | None

    @property
    def table(self) -> str:
        """Name of the result table."""
        if self.child is None:
            return results.table_name(self.kind)
        return results.child_table_name(self.kind, self.child)

    @property
    def metrics(self) -> tuple[ResultColumn, ...]:
        """The columns that are summed up."""
        if self.child is None:
            columns = results.columns(self.kind)
        else:
            columns = results.child_columns(self.kind, self.child)
        return tuple(column for column in columns if column.metric is not None)


def sources(kind: str) -> tuple[Source, ...]:
    """Return what is rolled up of a kind: its own table first."""
    children = contract.kind(kind).children
    return (Source(kind=kind, child=None), *(Source(kind=kind, child=child.name) for child in children))


def layer(name: str) -> Layer:
    """Return the layer of that name."""
    return next(known for known in LAYERS if known.name == name)


def table_name(source: Source, of: Layer) -> str:
    """Return the name of a roll-up table."""
    return f"rollup_{source.table.removeprefix('result_')}_{of.name}"


def table(source: Source, of: Layer) -> Table:
    """Return a roll-up table."""
    with _making:
        made = Base.metadata.tables.get(table_name(source, of))
        return _make_table(source, of) if made is None else made


def all_tables() -> tuple[Table, ...]:
    """Return all roll-up tables of this release; from then on they are among the entities' metadata.

    They have thousands of columns and describing them takes longer than anything else of a start, so it is left to those who
    ask for a table.
    """
    return tuple(table(source, of) for source, of in _all())


def all_table_names() -> tuple[str, ...]:
    """Return the names of all roll-up tables."""
    return tuple(table_name(source, of) for source, of in _all())


@cache
def columns(source: Source) -> tuple[tuple[str, str], ...]:
    """Return name and SQL type of the columns of a source's roll-ups, in the tables' order."""
    found = [("job_id", "bigint"), ("bucket", "timestamptz")]
    for column in source.metrics:
        found += [(f"{column.name}_{part}", "double precision") for part in ("sum", "min", "max")]
    if source.child is None:
        found += [(name, "integer") for name in RUNS.values()]
    found += [(f"{column.name}_n", "integer") for column in source.metrics]
    if source.child is not None:
        found.append(("key", "text"))
    found += [(f"{column.name}_sketch", "integer[]") for column in source.metrics if is_sketched(column)]
    return tuple(found)


def is_sketched(column: ResultColumn) -> bool:
    """Return whether a metric has sketches."""
    return column.metric is not None and column.metric.distribution


def key(source: Source) -> tuple[str, ...]:
    """Return the key of a source's roll-ups."""
    return ("job_id", "bucket") if source.child is None else ("job_id", "bucket", "key")


def floor(instant: dt.datetime, width: dt.timedelta) -> dt.datetime:
    """Return the beginning of the bucket that an instant lies in."""
    return EPOCH + (instant - EPOCH) // width * width


def ceil(instant: dt.datetime, width: dt.timedelta) -> dt.datetime:
    """Return the first beginning of a bucket that is no earlier than an instant."""
    return EPOCH - (EPOCH - instant) // width * width


#: Buckets begin at whole multiples of their width since then: midnight in UTC, for widths that divide a day.
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)

#: Two threads may ask for a table for the first time at once.
_making = threading.Lock()
_LONGEST_NAME = 63 - len("_2026_11_pkey")
_TYPES: dict[str, TypeEngine[Any]] = {
    "bigint": BigInteger(),
    "timestamptz": DateTime(timezone=True),
    "double precision": Double(),
    "integer": Integer(),
    "text": Text(),
    "integer[]": ARRAY(Integer()),
}


def _make_table(source: Source, of: Layer) -> Table:
    name = table_name(source, of)
    described = columns(source)
    names = [column for column, _ in described]
    if len(name) > _LONGEST_NAME or len(set(names)) != len(names):
        raise ContractError(
            f"{name} cannot be made: its name is too long, or two columns would have the same name"
        )
    optional = ("_sum", "_min", "_max", "_sketch")
    return Table(
        name,
        Base.metadata,
        *(Column(column, _TYPES[kind], nullable=column.endswith(optional)) for column, kind in described),
        PrimaryKeyConstraint(*key(source)),
        postgresql_partition_by="RANGE (bucket)",
    )


def _all() -> Iterator[tuple[Source, Layer]]:
    for kind in contract.kinds():
        for source in sources(kind):
            for of in LAYERS:
                yield source, of
