"""Turns results into rows of PostgreSQL's binary COPY format, as the contract describes the columns.

For each kind a layout is made once. For each pattern of NULLs one `struct` packs the whole row in a single call;
the patterns that occur are few, so their structs are kept. What has no fixed width (text, JSON, a child row's key)
stands last in every table and is appended.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from controller.gateway.plain import read_json, without_nul
from controller.store import results
from controller.store.results import ResultColumn
from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: What stands before the first and after the last row of a COPY.
HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)

#: PostgreSQL counts microseconds from 2000-01-01.
POSTGRES_EPOCH_US = 946_684_800_000_000
_CODES = {"int8": "q", "timestamptz": "q", "float8": "d", "int4": "i", "int2": "h", "bool": "?"}
_WIDTHS = {"int8": 8, "timestamptz": 8, "float8": 8, "int4": 4, "int2": 2, "bool": 1}
_NULL = struct.pack(">i", -1)
_MOST_PATTERNS = 4096


@dataclass(frozen=True, kw_only=True)
class PackedResult:
    """One result as rows, ready for COPY."""

    kind: str
    #: The natural key.
    job_id: int
    scheduled_at_us: int
    #: Whether it tells of a run that did not start.
    missed: bool
    #: The row of the kind's table.
    row: bytes
    #: Rows of child tables, each with the name of its group.
    children: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class CopyTarget:
    """A table and the columns that a packed row fills, in order."""

    table: str
    columns: tuple[str, ...]

    @property
    def column_list(self) -> str:
        """The columns as SQL writes them."""
        return ", ".join(f'"{column}"' for column in self.columns)


class _Layout:
    """Packs rows of one table from the values of its columns in order."""

    def __init__(self, columns: Sequence[ResultColumn]) -> None:
        fixed = [column for column in columns if column.type in _CODES]
        if list(columns[: len(fixed)]) != fixed:
            raise contract.ContractError("columns of fixed width must stand before the others")
        self._fixed = len(fixed)
        self._codes = [(_WIDTHS[column.type], _CODES[column.type]) for column in fixed]
        self._count = len(columns)
        self._patterns: dict[int, tuple[Callable[..., bytes], tuple[int, ...]]] = {}

    def pack(self, values: Sequence[Any], variable: Sequence[bytes | None]) -> bytes:
        """Pack one row: `values` of the columns of fixed width (None is NULL), then the encoded `variable` ones."""
        mask = 0
        for position, value in enumerate(values):
            if value is None:
                mask |= 1 << position
        known = self._patterns.get(mask)
        if known is None:
            known = self._learn(mask)
        pack, template = known
        arguments = list(template)
        place = 2
        for value in values:
            if value is not None:
                arguments[place] = value
                place += 2
            else:
                place += 1
        parts = [pack(*arguments)]
        for text in variable:
            parts.append(_NULL if text is None else struct.pack(">i", len(text)) + text)
        return b"".join(parts)

    def _learn(self, mask: int) -> tuple[Callable[..., bytes], tuple[int, ...]]:
        """Make the struct of one pattern of NULLs, and the arguments with places left for the values."""
        code, template = ">h", [self._count]
        for position, (width, letter) in enumerate(self._codes):
            if mask >> position & 1:
                code += "i"
                template.append(-1)
            else:
                code += "i" + letter
                template += [width, 0]
        if len(self._patterns) >= _MOST_PATTERNS:
            self._patterns.clear()
        learnt = (struct.Struct(code).pack, tuple(template))
        self._patterns[mask] = learnt
        return learnt


class UnstorableError(Exception):
    """A result that can never be stored as it is; the message says why."""


@dataclass(frozen=True, kw_only=True)
class _Table:
    target: CopyTarget
    layout: _Layout
    #: What fills the columns of fixed width, in order: the name of a metric or of a field of the envelope.
    #: (A column may have another name than its metric: that of an envelope's column comes first.)
    fixed: tuple[tuple[bool, str], ...]
    #: Names of the columns without fixed width, in order.
    variable: tuple[str, ...]

    def pack(
        self, envelope: Mapping[str, Any], metrics: Mapping[str, Any], texts: Mapping[str, bytes | None]
    ) -> bytes:
        """Pack one row."""
        _check_size(envelope)
        _check_size(metrics)
        return self.layout.pack(
            [(metrics if is_metric else envelope).get(name) for is_metric, name in self.fixed],
            [texts[name] for name in self.variable],
        )


_MOST_ERROR_CHARACTERS = 2_000
_MOST_KEY_CHARACTERS = 300
_MOST_CHILDREN = 2_000
STATUSES = frozenset(probe_pb2.Status.values()) - {probe_pb2.STATUS_UNSPECIFIED}
SOURCES = frozenset(probe_pb2.FailureSource.values())
REASONS = frozenset(probe_pb2.FailureReason.values())
#: The instants that a timestamptz can hold are wider; what lies outside of these is no clock's reading.
EARLIEST_US, LATEST_US = -62_135_596_800_000_000, 253_402_300_800_000_000  # years 1 and 10000


def kind_name(result: probe_pb2.Result) -> str:
    """Return the kind that a result says it is of; it need not exist."""
    return result.WhichOneof("metrics") or result.kind


def pack(result: probe_pb2.Result) -> PackedResult:
    """Pack a result of a known kind, or raise UnstorableError."""
    name = kind_name(result)
    table = _table(name)
    if result.status not in STATUSES:
        raise UnstorableError(f"status {result.status} is not one that this release knows")
    if result.failure_source not in SOURCES:
        raise UnstorableError(f"failure source {result.failure_source} is not one that this release knows")
    if result.failure_reason not in REASONS:
        raise UnstorableError(f"failure reason {result.failure_reason} is not one that this release knows")
    for instant in ("scheduled_at", "started_at"):
        if not EARLIEST_US <= getattr(result, f"{instant}_us") < LATEST_US:
            raise UnstorableError(f"{instant} lies outside of the calendar")
    metrics = getattr(result, name) if result.WhichOneof("metrics") else None
    present: dict[str, Any] = {}
    if metrics is not None:
        present = {field.name: value for field, value in metrics.ListFields()}
    groups = {child.name: present.pop(child.name, ()) for child in contract.kind(name).children}
    scheduled_at = result.scheduled_at_us - POSTGRES_EPOCH_US
    envelope = {
        "job_id": result.job_id,
        "scheduled_at": scheduled_at,
        "started_at": result.started_at_us - POSTGRES_EPOCH_US,
        "duration_ms": result.duration_ms,
        "clock_offset_ms": result.clock_offset_ms if result.HasField("clock_offset_ms") else None,
        "job_version": result.job_version,
        "start_error_us": result.start_error_us if result.HasField("start_error_us") else None,
        "status": result.status,
        "failure_source": result.failure_source,
        "failure_reason": result.failure_reason if result.HasField("failure_reason") else None,
    }
    texts = {"error": _clean(result.error, _MOST_ERROR_CHARACTERS) or None, "detail": _detail(result)}
    return PackedResult(
        kind=name,
        job_id=result.job_id,
        scheduled_at_us=result.scheduled_at_us,
        missed=result.status == probe_pb2.STATUS_MISSED,
        row=table.pack(envelope, present, texts),
        children=tuple(_pack_children(name, groups, result.job_id, scheduled_at)),
    )


def copy_target(kind: str, child: str | None = None) -> CopyTarget:
    """Return where packed rows of a kind, or of one of its groups, go."""
    return _table(kind, child).target


def _pack_children(
    kind: str, groups: dict[str, Sequence[Any]], job_id: int, scheduled_at: int
) -> Iterator[tuple[str, bytes]]:
    for child in contract.kind(kind).children:
        messages = groups[child.name]
        if len(messages) > _MOST_CHILDREN:
            raise UnstorableError(f"{child.name} has {len(messages)} rows; {_MOST_CHILDREN} is the most")
        table = _table(kind, child.name)
        seen = set()
        for message in messages:
            present = {field.name: value for field, value in message.ListFields()}
            key = _clean(present.pop(child.key, ""), _MOST_KEY_CHARACTERS)
            if key in seen:  # the first row of a name stands; the table's key has room for one
                continue
            seen.add(key)
            envelope = {"job_id": job_id, "scheduled_at": scheduled_at}
            yield child.name, table.pack(envelope, present, {"key": key})


@cache
def _table(kind: str, child: str | None = None) -> _Table:
    if child is None:
        columns, name = results.columns(kind), results.table_name(kind)
    else:
        columns, name = results.child_columns(kind, child), results.child_table_name(kind, child)
    return _Table(
        target=CopyTarget(table=name, columns=tuple(column.name for column in columns)),
        layout=_Layout(columns),
        fixed=tuple(
            (False, column.name) if column.metric is None else (True, column.metric.name)
            for column in columns
            if column.type in _CODES
        ),
        variable=tuple(column.name for column in columns if column.type not in _CODES),
    )


def _check_size(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, float) and not abs(value) <= results.GREATEST:
            raise UnstorableError(f"{name} is {value}, which is no measurement")


def _clean(value: str, longest: int) -> bytes:
    """Return text as PostgreSQL takes it: no NUL, and no longer than people read."""
    return value.replace("\0", "")[:longest].encode()


def _detail(result: probe_pb2.Result) -> bytes | None:
    """Return the detail as jsonb takes it in binary: a version byte and the text."""
    text = result.detail_json
    if not text:
        return None
    if len(text) > contract.MOST_DETAIL_CHARACTERS:
        raise UnstorableError(
            f"detail has {len(text)} characters; {contract.MOST_DETAIL_CHARACTERS} is the most"
        )
    try:
        value = read_json(text)
        # Written anew: escapes may hide what PostgreSQL refuses (NUL, half of a surrogate pair), and it would keep and
        # give back every digit of 1e-16000.
        text = json.dumps(without_nul(value), ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise UnstorableError(f"detail cannot be kept: {error}") from error
    if not isinstance(value, dict):
        raise UnstorableError("detail is JSON, but not an object")
    return b"\x01" + text.encode("utf-8", "replace")
