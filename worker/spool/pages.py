"""Finds records in the pages of a spool without SQLite, for a file whose tree of pages is broken.

The format is that of https://www.sqlite.org/fileformat2.html: a leaf of a table's tree holds whole rows, and can be read
whatever became of the pages above it. A record's check sum says whether it is as it was written.
"""

from __future__ import annotations

import contextlib
import errno
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

#: Bytes of a page, by which every spool is made.
PAGE = 4096
_LEAF = 13
_LOG_HEADER, _FRAME_HEADER = 32, 24
#: The largest part of a row that stands in its leaf, and the least of one that goes on in other pages.
_MOST_IN_LEAF = PAGE - 35
_LEAST_IN_LEAF = (PAGE - 12) * 32 // 255 - 23
_LONGEST_ROW = 64 * 1024 * 1024
#: Of a row: its own length, and up to nine bytes for the type of each of three columns.
_LONGEST_HEADER = 1 + 3 * 9
#: Bytes of an integer by its serial type.
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def records(path: Path, *, all_readable: bool) -> Iterator[tuple[int, bytes]]:
    """Yield number and body of every record that stands in a page of a spool or its log, as it was written.

    Among them are some that were deleted, and some are there twice. Raises OSError; where not all pages are
    `all_readable`, those that the disk cannot read are passed over.
    """
    with contextlib.ExitStack() as files:
        sources = []
        for name, first, between in (("", 0, 0), ("-wal", _LOG_HEADER, _FRAME_HEADER)):
            with contextlib.suppress(FileNotFoundError):
                file = files.enter_context(path.with_name(path.name + name).open("rb", buffering=0))
                sources.append(_Pages(file, first, between, all_readable=all_readable))
        for source in sources:
            for page in source:
                yield from _rows(page, sources)


class _Pages:
    """The pages of a file, or of a log, where each stands behind a header that tells its number."""

    def __init__(self, file: BinaryIO, first: int, between: int, *, all_readable: bool) -> None:
        self._file = file
        self._first = first
        self._between = between
        self._all_readable = all_readable
        self._count = max(0, file.seek(0, 2) - first) // (PAGE + between)
        #: Where the newest of each number stands in a log: frames of its present round, told by its salts, before others.
        self._newest: dict[int, int] = {}
        if between:
            salts = self._read(16, 8)
            headers = [self._read(self._at(index), 16) for index in range(self._count)]
            order = sorted(range(self._count), key=lambda index: (headers[index][8:] == salts, index))
            self._newest = {int.from_bytes(headers[index][:4], "big"): index for index in order}

    def __iter__(self) -> Iterator[bytes]:
        for index in range(self._count):
            yield self._read(self._at(index) + self._between, PAGE)

    def numbered(self, number: int) -> bytes:
        """Return the page of a number, or none of its bytes."""
        index = self._newest.get(number, -1) if self._between else number - 1
        if not 0 <= index < self._count:
            return b""
        return self._read(self._at(index) + self._between, PAGE)

    def _at(self, index: int) -> int:
        return self._first + index * (PAGE + self._between)

    def _read(self, at: int, count: int) -> bytes:
        self._file.seek(at)
        try:
            return self._file.read(count)
        except OSError as error:
            if self._all_readable or error.errno != errno.EIO:
                raise
            return b""


def _rows(page: bytes, sources: list[_Pages]) -> Iterator[tuple[int, bytes]]:
    """Yield the records of a page, if it is a leaf and has any."""
    count = int.from_bytes(page[3:5], "big")
    if len(page) < PAGE or page[0] != _LEAF or count > PAGE // 2:
        return
    for index in range(count):
        pointer = page[8 + 2 * index : 10 + 2 * index]
        with contextlib.suppress(IndexError):  # it leads out of the page: whatever this is, it is no row
            length, at = _varint(page, int.from_bytes(pointer, "big"))
            number, at = _varint(page, at)
            if length > _LONGEST_ROW:
                continue
            # Pages that a row goes on in may be newer in the log than in the file.
            for source in sources if length > _MOST_IN_LEAF else sources[:1]:
                body = _body(_row(page, at, length, source))
                if body is not None:
                    yield number, body
                    break


def _row(page: bytes, at: int, length: int, source: _Pages) -> bytes:
    """Return a row, with what stands of it in other pages."""
    if length <= _MOST_IN_LEAF:
        return page[at : at + length]
    here = _LEAST_IN_LEAF + (length - _LEAST_IN_LEAF) % (PAGE - 4)
    if here > _MOST_IN_LEAF:
        here = _LEAST_IN_LEAF
    parts, left, following = [page[at : at + here]], length - here, page[at + here : at + here + 4]
    gone: set[bytes] = set()
    while left > 0:
        more = source.numbered(int.from_bytes(following, "big"))
        if not more or following in gone:
            break
        gone.add(following)
        parts.append(more[4 : 4 + left])
        left -= PAGE - 4
        following = more[:4]
    return b"".join(parts)


def _body(row: bytes) -> bytes | None:
    """Return the body of a row that is a record (its number stands before it; check sum, body), None when it is none."""
    end, at = _varint(row, 0)
    if end > _LONGEST_HEADER:
        return None
    types = []
    while at < end:
        kind, at = _varint(row, at)
        types.append(kind)
    if len(types) != 3 or types[0] != 0 or types[1] not in _INTEGERS or types[2] <= 12 or types[2] % 2:
        return None
    begin = end + _INTEGERS[types[1]]
    body = row[begin:]
    whole = len(body) == (types[2] - 12) // 2
    return body if whole and zlib.crc32(body) == int.from_bytes(row[end:begin], "big", signed=True) else None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of up to nine bytes, and where the next begins; raises IndexError behind the end."""
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at
    return value << 8 | data[at], at + 1
