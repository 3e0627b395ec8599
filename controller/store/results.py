"""The result tables, made from the contract: one table per kind, one child table per repeated group of metrics.

A row is one run. `(job_id, scheduled_at)` is its key, so the same run is never stored twice, and `scheduled_at`
is what the tables are partitioned by, so a run always meets its own copy. Columns stand widest first, which
saves PostgreSQL the padding between them. `columns` and `child_columns` give the order in which binary COPY
packs them. A metric's column bears the metric's name, except where the envelope has that name already: then the
kind's name stands before it (`http_status`); `metric_column` tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from controller.store.entities import Base
from streamswarm import contract
from streamswarm.contract import Child, ContractError, Kind, Metric

ColumnType = Literal["int8", "timestamptz", "float8", "int4", "int2", "bool", "text", "jsonb"]

_SQL_TYPES: dict[ColumnType, TypeEngine[Any]] = {
    "int8": BigInteger(),
    "timestamptz": DateTime(timezone=True),
    "float8": Double(),
    "int4": Integer(),
    "int2": SmallInteger(),
    "bool": Boolean(),
    "text": Text(),
    "jsonb": JSONB(),
}
#: Bytes to which PostgreSQL aligns a value; the order of columns follows it, widest first, variable width last.
_ALIGNMENT: dict[ColumnType, int] = {
    "int8": 8,
    "timestamptz": 8,
    "float8": 8,
    "int4": 4,
    "int2": 2,
    "bool": 1,
    "text": 0,
    "jsonb": 0,
}
_LONGEST_NAME = 63 - len("_2026_11_20_pkey")


@dataclass(frozen=True, kw_only=True)
class ResultColumn:
    """One column of a result table."""

    name: str
    #: PostgreSQL's name of the type; binary COPY packs by it.
    type: ColumnType
    nullable: bool
    #: The metric that it holds; None for a column of the envelope and for the key of a child row.
    metric: Metric | None = None


#: No measurement is larger. Sums of squares of larger ones do not fit into a double: one such value from one worker would
#: make every roll-up, mean and diagnosis fail that comes across it. Gateways set results aside that have one; where one
#: is stored all the same, by an earlier release or another hand, it is read as not measured.
GREATEST = 1e100

_T = TypeVar("_T")


def measured(value: _T) -> _T | None:
    """Return a stored value of a metric, None for one that is no measurement."""
    return None if isinstance(value, float) and not abs(value) <= GREATEST else value


_ENVELOPE = (
    ResultColumn(name="job_id", type="int8", nullable=False),
    ResultColumn(name="scheduled_at", type="timestamptz", nullable=False),
    ResultColumn(name="started_at", type="timestamptz", nullable=False),
    ResultColumn(name="duration_ms", type="float8", nullable=False),
    ResultColumn(name="clock_offset_ms", type="float8", nullable=True),
    ResultColumn(name="job_version", type="int4", nullable=False),
    ResultColumn(name="start_error_us", type="int4", nullable=True),
    ResultColumn(name="status", type="int2", nullable=False),
    ResultColumn(name="failure_source", type="int2", nullable=False),
    ResultColumn(name="failure_reason", type="int2", nullable=True),
    ResultColumn(name="error", type="text", nullable=True),
    ResultColumn(name="detail", type="jsonb", nullable=True),
)
_CHILD_ENVELOPE = (
    ResultColumn(name="job_id", type="int8", nullable=False),
    ResultColumn(name="scheduled_at", type="timestamptz", nullable=False),
    ResultColumn(name="key", type="text", nullable=False),
)


#: What is read of every row that a chart or an account looks at, and is never NULL. Behind the first NULL of a row
#: PostgreSQL finds a value by walking over all before it, so these stand first where a day is rewritten; together they
#: need no padding.
_FIRST = (
    "job_id", "scheduled_at", "key", "started_at", "duration_ms", "job_version", "status", "failure_source"
)  # fmt: skip


@cache
def columns(kind: str) -> tuple[ResultColumn, ...]:
    """Return the columns of a kind's table in the table's order."""
    known = contract.kind(kind)
    return _arrange(kind, _ENVELOPE, known.metrics)


@cache
def child_columns(kind: str, child: str) -> tuple[ResultColumn, ...]:
    """Return the columns of a kind's child table in the table's order; the row's key is `key`."""
    return _arrange(child, _CHILD_ENVELOPE, _child(contract.kind(kind), child).metrics)


def metric_column(kind: str, metric: str) -> ResultColumn:
    """Return the column that holds a metric of a kind; KeyError names the kind."""
    known = contract.kind(kind).metric(metric)
    return next(column for column in columns(kind) if column.metric == known)


def table_name(kind: str) -> str:
    """Return the name of a kind's table."""
    return f"result_{kind}"


def child_table_name(kind: str, child: str) -> str:
    """Return the name of a child table."""
    return f"result_{kind}_{child}"


def table(kind: str) -> Table:
    """Return a kind's table."""
    return Base.metadata.tables[table_name(contract.kind(kind).name)]


def child_table(kind: str, child: str) -> Table:
    """Return a kind's child table."""
    return Base.metadata.tables[child_table_name(kind, _child(contract.kind(kind), child).name)]


def table_names(kind: str) -> tuple[str, ...]:
    """Return the names of a kind's table and of its child tables."""
    known = contract.kind(kind)
    return (table_name(kind), *(child_table_name(kind, child.name) for child in known.children))


def kinds() -> tuple[str, ...]:
    """Return the names of all kinds that have a table."""
    return tuple(contract.kinds())


def described(name: str) -> Table:
    """Return the result table of that name."""
    return Base.metadata.tables[name]


def reading_order(names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a result table in the order in which a rewritten day has them: what is always read first."""
    first = [name for name in _FIRST if name in names]
    return (*first, *(name for name in names if name not in first))


def carried(name: str) -> tuple[str, ...]:
    """Return the columns that a result table's key carries beside its own: the headline, whose chart reads the key alone."""
    return tuple(described(name).primary_key.dialect_options["postgresql"]["include"] or ())


def all_table_names() -> tuple[str, ...]:
    """Return the names of all result tables."""
    return tuple(name for kind in contract.kinds() for name in table_names(kind))


def add_tables(kind: Kind, metadata: MetaData) -> tuple[Table, ...]:
    """Describe the tables of a kind in `metadata` and return them, the kind's own first."""
    name = table_name(kind.name)
    described = _arrange(kind.name, _ENVELOPE, kind.metrics)
    headline = [column.name for column in described if column.metric == kind.headline]
    made = [_make_table(metadata, name, described, ("job_id", "scheduled_at"), carried=headline)]
    for child in kind.children:
        name = child_table_name(kind.name, child.name)
        made.append(
            _make_table(
                metadata,
                name,
                _arrange(child.name, _CHILD_ENVELOPE, child.metrics),
                ("job_id", "scheduled_at", "key"),
            )
        )
    return tuple(made)


def _make_table(
    metadata: MetaData,
    name: str,
    described: tuple[ResultColumn, ...],
    key: tuple[str, ...],
    *,
    carried: Sequence[str] = (),
) -> Table:
    if len(name) > _LONGEST_NAME:
        raise ContractError(f"the table name {name} is longer than {_LONGEST_NAME} characters")
    return Table(
        name,
        metadata,
        *(Column(column.name, _SQL_TYPES[column.type], nullable=column.nullable) for column in described),
        PrimaryKeyConstraint(*key, postgresql_include=list(carried)),
        postgresql_partition_by="RANGE (scheduled_at)",
    )


def _arrange(
    prefix: str, envelope: tuple[ResultColumn, ...], metrics: tuple[Metric, ...]
) -> tuple[ResultColumn, ...]:
    taken = {column.name for column in envelope}
    described = list(envelope)
    for metric in metrics:
        name = f"{prefix}_{metric.name}" if metric.name in taken else metric.name
        described.append(_metric_column(name, metric))
    names = [column.name for column in described]
    for name in names:
        if names.count(name) > 1:
            raise ContractError(f"`{prefix}` would have two columns `{name}`: rename a metric")
    return tuple(sorted(described, key=lambda column: -_ALIGNMENT[column.type]))


def _metric_column(name: str, metric: Metric) -> ResultColumn:
    if metric.type == "integer":
        column_type: ColumnType = "int8" if metric.bits == 64 else "int4"
    else:
        column_type = "float8" if metric.type == "number" else "bool"
    return ResultColumn(name=name, type=column_type, nullable=True, metric=metric)


def _child(kind: Kind, name: str) -> Child:
    for child in kind.children:
        if child.name == name:
            return child
    raise KeyError(f"`{name}` is not a repeated group of `{kind.name}`")


def _describe_all() -> Iterator[Table]:
    for kind in contract.kinds().values():
        yield from add_tables(kind, Base.metadata)


#: Every result table of this release; making them here joins them to the entities' metadata.
TABLES: tuple[Table, ...] = tuple(_describe_all())
