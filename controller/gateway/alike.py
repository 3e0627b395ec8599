"""Packs results that look alike, hundreds at a time, straight from their bytes on the wire.

Results of one kind that measured the same metrics are serialised with the same tags at the same places, and every
metric has a fixed width. So the first result of a length is walked through once; whichever others of that length
have its tags, byte for byte, have its layout, and their columns are taken from all of them at a time. What is in
the least unusual is left to `controller.gateway.packing`, result by result: a text, a row of a child table, a
field out of order or unknown, a value that may not be stored. Both give the same bytes; a test holds them to it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from numpy.typing import NDArray

from controller.gateway.packing import (
    EARLIEST_US,
    LATEST_US,
    POSTGRES_EPOCH_US,
    REASONS,
    SOURCES,
    STATUSES,
)
from controller.store import results
from controller.store.results import ColumnType, ResultColumn
from streamswarm.v1 import probe_pb2

#: Fewer results than this are not worth looking for likeness.
FEWEST = 24
#: Results that are walked through in one call; what is then still left goes the plain way. A worker whose results are
#: all different would otherwise cost more here than it could spare.
_MOST_WALKS = 64
#: Layouts that are remembered.
_MOST_LAYOUTS = 256

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FORMATS: dict[int, tuple[int, str]] = {
    FieldDescriptor.TYPE_SFIXED64: (_FIXED64, "<i8"),
    FieldDescriptor.TYPE_DOUBLE: (_FIXED64, "<f8"),
    FieldDescriptor.TYPE_SFIXED32: (_FIXED32, "<i4"),
    FieldDescriptor.TYPE_BOOL: (_VARINT, "u1"),
    FieldDescriptor.TYPE_ENUM: (_VARINT, "u1"),
}
_SIZES = {_FIXED64: 8, _FIXED32: 4, _VARINT: 1}
_COPY_FORMATS: dict[ColumnType, str] = {
    "int8": ">i8",
    "timestamptz": ">i8",
    "float8": ">f8",
    "int4": ">i4",
    "int2": ">i2",
    "bool": "u1",
}
#: Columns that are shown by another clock than the wire's, which counts from 1970.
_INSTANTS = {"scheduled_at": "scheduled_at_us", "started_at": "started_at_us"}
#: Missed runs bear their reason, so they are never alike: blocks hold runs that started.
_GOOD_STATUS = np.isin(np.arange(256), sorted(STATUSES - {probe_pb2.STATUS_MISSED}))
_GOOD_SOURCE = np.isin(np.arange(256), sorted(SOURCES))
_GOOD_REASON = np.isin(np.arange(256), sorted(REASONS))

Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of one kind's table with the same columns set; all arrays have one element a row."""

    kind: str
    #: Each element is a row in the binary COPY format.
    rows: NDArray[Any]
    #: Where each came in what was handed in.
    places: Integers
    job_ids: Integers
    scheduled_at_us: Integers

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, flags: Flags) -> Block:
        """Return the block with the flagged rows only."""
        return Block(
            kind=self.kind,
            rows=self.rows[flags],
            places=self.places[flags],
            job_ids=self.job_ids[flags],
            scheduled_at_us=self.scheduled_at_us[flags],
        )


def pack_alike(wire: Sequence[bytes]) -> tuple[list[Block], list[int]]:
    """Pack serialised results; return the blocks, and the places of what must be packed one by one."""
    if len(wire) < FEWEST:
        return [], list(range(len(wire)))
    lengths = np.fromiter(map(len, wire), dtype=np.int64, count=len(wire))
    walks = iter(range(_MOST_WALKS))
    blocks: list[Block] = []
    left: list[int] = []
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        if len(places) < FEWEST:
            left += _listed(places)
            continue
        some = wire if len(places) == len(wire) else [wire[place] for place in places.tolist()]
        content = np.frombuffer(b"".join(some), dtype=np.uint8).reshape(len(places), length)
        left += _pack_length(content, places, blocks, walks)
    return blocks, sorted(left)


def _pack_length(
    content: NDArray[np.uint8], places: Integers, blocks: list[Block], walks: Iterator[int]
) -> list[int]:
    """Pack results of one length into blocks; return the places of those that are left."""
    left: list[int] = []
    while len(places) >= FEWEST and next(walks, None) is not None:
        layout = _layout_of(content[0].tobytes())
        if layout is None:
            left.append(int(places[0]))
            content, places = content[1:], places[1:]
            continue
        same = (content[:, layout.tag_places] == layout.tags).all(axis=1)
        everyone = bool(same.all())
        block, good = layout.pack(
            content if everyone else content[same], places if everyone else places[same]
        )
        if len(block):
            blocks.append(block)
        left += _listed((places if everyone else places[same])[~good])
        if everyone:
            return left
        content, places = content[~same], places[~same]
    return left + _listed(places)


@dataclass(frozen=True, kw_only=True)
class _Anatomy:
    """Where the parts of one result lie."""

    kind: str
    length: int
    #: Every byte that is no value, with its place: tags and the length of the metrics.
    tags: tuple[tuple[int, int], ...]
    #: Name, place and format of every value.
    fields: tuple[tuple[str, int, str], ...]


class _Layout:
    """Where the fields of like results lie, and how their rows are made."""

    def __init__(self, anatomy: _Anatomy) -> None:
        fields = {name: (place, form) for name, place, form in anatomy.fields}
        self._kind = anatomy.kind
        self.tag_places = np.array([place for place, _ in anatomy.tags], dtype=np.int64)
        self.tags = np.array([byte for _, byte in anatomy.tags], dtype=np.uint8)
        self._source = np.dtype(
            {
                "names": list(fields),
                "formats": [form for _, form in fields.values()],
                "offsets": [place for place, _ in fields.values()],
                "itemsize": anatomy.length,
            }
        )
        self._flags = [name for name, (_, form) in fields.items() if form == "u1"]
        self._floats = [name for name, (_, form) in fields.items() if form == "<f8"]
        columns = results.columns(anatomy.kind)
        self._copies: list[tuple[str, str]] = []
        row: list[tuple[str, str]] = [("count", ">i2")]
        template = struct.pack(">h", len(columns))
        for column in columns:
            row.append((f"{column.name} width", ">i4"))
            name = _source_of(column)
            if name not in fields and not (column.metric is None and name in _ENVELOPE_DEFAULTS):
                template += struct.pack(">i", -1)
                continue
            form = _COPY_FORMATS[column.type]
            width = np.dtype(form).itemsize
            row.append((column.name, form))
            template += struct.pack(">i", width) + bytes(width)
            if name in fields:
                self._copies.append((column.name, name))
        self._row = np.dtype(row)
        #: A row as nothing but bytes: choosing some of many goes field by field otherwise, forty times slower.
        self._whole = np.dtype((np.void, self._row.itemsize))
        self._template = template

    def pack(self, content: NDArray[np.uint8], places: Integers) -> tuple[Block, Flags]:
        """Pack results that have this layout; return the rows that may be stored, and which they are."""
        source = np.ascontiguousarray(content).view(self._source).reshape(len(content))
        good = self._storable(source)
        if not good.all():
            source, places = source[good], places[good]
        rows = np.frombuffer(bytearray(self._template * len(source)), dtype=self._row)
        for column, name in self._copies:
            if column in _INSTANTS:
                rows[column] = source[name] - POSTGRES_EPOCH_US
            else:
                rows[column] = source[name]
        return (
            Block(
                kind=self._kind,
                rows=rows.view(self._whole),
                places=places,
                job_ids=source["job_id"].astype(np.int64),
                scheduled_at_us=source["scheduled_at_us"].astype(np.int64),
            ),
            good,
        )

    def _storable(self, source: NDArray[Any]) -> Flags:
        """Return which results have only values that may be stored; the others are judged one by one."""
        names = self._source.names or ()
        good: Flags = _GOOD_STATUS[source["status"]]
        if "failure_source" in names:
            good &= _GOOD_SOURCE[source["failure_source"]]
        if "failure_reason" in names:
            good &= _GOOD_REASON[source["failure_reason"]]
        if "started_at_us" in names:
            good &= (source["started_at_us"] >= EARLIEST_US) & (source["started_at_us"] < LATEST_US)
        # Within the calendar, so that the two clocks' difference cannot overflow; ingest judges the rest.
        good &= (source["scheduled_at_us"] >= EARLIEST_US) & (source["scheduled_at_us"] < LATEST_US)
        for name in self._floats:
            good &= np.abs(source[name]) <= results.GREATEST  # which NaN is not either
        for name in self._flags:
            if name not in ("status", "failure_source", "failure_reason"):
                good &= source[name] <= 1  # one byte, canonical: no continuation, no odd truth
        return good


#: Fields of the envelope that are zero, not missing, when the wire does not have them.
_ENVELOPE_DEFAULTS = frozenset(("job_id", "job_version", "duration_ms", "failure_source"))


def _source_of(column: ResultColumn) -> str:
    """Return the name of the field that fills a column: a metric's is marked, for the envelope may have the same."""
    if column.metric is not None:
        return f"metric {column.metric.name}"
    return _INSTANTS.get(column.name, column.name)


_METRICS = probe_pb2.Result.DESCRIPTOR.oneofs_by_name["metrics"]
#: Fields without which a result is judged by itself; of these three and the status the wire has none that is zero.
_NEEDED = frozenset(("job_id", "scheduled_at_us", "started_at_us", "status"))


def _listed(places: Integers) -> list[int]:
    numbers: list[int] = places.tolist()
    return numbers


def _layout_of(first: bytes) -> _Layout | None:
    """Return the layout of a result; None when it is to be packed by itself."""
    anatomy = _dissect(first)
    return None if anatomy is None else _layout(anatomy)


@lru_cache(_MOST_LAYOUTS)
def _layout(anatomy: _Anatomy) -> _Layout:
    return _Layout(anatomy)


def _dissect(result: bytes) -> _Anatomy | None:
    """Walk through a result; None when anything in it has no fixed width, comes twice or out of order."""
    walk = _Walk(result)
    kind = ""
    while walk.place < len(result):
        field = walk.tag(probe_pb2.Result.DESCRIPTOR)
        if field is None:
            return None
        if field.containing_oneof is _METRICS and not kind:
            kind = field.name
            end = walk.length()
            if end is None:
                return None
            walk.last_number = 0
            while walk.place < end:
                metric = walk.tag(field.message_type)
                if metric is None or not walk.value(metric, f"metric {metric.name}"):
                    return None
            if walk.place != end:
                return None
            walk.last_number = field.number
        elif not walk.value(field, field.name):
            return None
    if not kind or not {name for name, _, _ in walk.fields} >= _NEEDED:
        return None
    return _Anatomy(kind=kind, length=len(result), tags=tuple(walk.tags), fields=tuple(walk.fields))


class _Walk:
    """A walk over the fields of a message."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.place = 0
        #: Of the last field; they must grow.
        self.last_number = 0
        self.tags: list[tuple[int, int]] = []
        self.fields: list[tuple[str, int, str]] = []

    def tag(self, message: Any) -> FieldDescriptor | None:
        """Read a tag; return its field, None when the message has no such field here."""
        tag = self._varint()
        if tag is None:
            return None
        field: FieldDescriptor | None = message.fields_by_number.get(tag >> 3)
        if field is None or field.number <= self.last_number or field.is_repeated:
            return None
        if _FORMATS.get(field.type, (_BYTES, ""))[0] != tag & 7:
            return None
        self.last_number = field.number
        return field

    def length(self) -> int | None:
        """Read the length of a message; return where it ends."""
        length = self._varint()
        end = None if length is None else self.place + length
        return end if end is not None and end <= len(self._content) else None

    def value(self, field: FieldDescriptor, name: str) -> bool:
        """Note a value and pass over it; False when it has no fixed width."""
        if field.type not in _FORMATS:
            return False
        wire_type, form = _FORMATS[field.type]
        if wire_type == _VARINT and self._content[self.place : self.place + 1] > b"\x7f":
            return False
        self.fields.append((name, self.place, form))
        self.place += _SIZES[wire_type]
        return self.place <= len(self._content)

    def _varint(self) -> int | None:
        """Read a number whose bytes are the same in like results; None when it is cut off or has no end."""
        number = shift = 0
        while self.place < len(self._content) and shift < 64:
            byte = self._content[self.place]
            self.tags.append((self.place, byte))
            self.place += 1
            number |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return number
            shift += 7
        return None
