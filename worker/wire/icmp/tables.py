"""The engine's tables of packets, with their fields where echo messages, addresses and control data have them.

They are filled and read within one call of the engine, so that all lanes of an engine use the same ones. Payloads come
in few sizes, because nearly all echo requests are small and a table for the longest has room for few.
"""

from __future__ import annotations

import socket
import struct
import sys
from array import array
from collections.abc import Iterator
from typing import Any

from worker.wire import batches, icmp_messages, stamps
from worker.wire.icmp.run import COOKIE_AT, INDEX_AT, LOW_AT, NO_TTL, Run, native

#: Payload bytes and slots of the tables.
_SIZES = ((128, 256), (2048, 64), (65_600, 8))
#: Control data of a reply: stamps and TTL; of an entry of the error queue: stamps, TTL, error with its sender.
_REPLY_CONTROL, _QUEUE_CONTROL, _REQUEST_CONTROL = 96, 192, 96
#: The longest that ICMP errors are read: more than any of the two protocols' errors quotes (RFC 1812, RFC 4443).
_QUOTED_BYTES = 1280
#: In control data: level and type of the first message, its stamp; level and type of the second, its value.
_KIND_AT, _SECONDS_AT, _NANOSECONDS_AT = 8, 16, 24
_SECOND_KIND_AT, _SECOND_VALUE_AT = 72, 80
#: In `struct sock_extended_err`: origin, and the number of the packet.
_ORIGIN_AT, _KEY_AT = 4, 12
#: Below this many, fields of all rows at once are no gain.
WORTHWHILE = 16

_CHECK_IDENT_SEQUENCE = struct.Struct("=HHH")
_INDEX = struct.Struct("=I")
_ADDRESS_LENGTH = {4: 16, 6: batches.ADDRESS_BYTES}
_TTL_KIND = {4: (socket.IPPROTO_IP, 2), 6: (socket.IPPROTO_IPV6, 52)}
_ERROR_KIND = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}


def _kind(level: int, kind: int) -> int:
    """Return level and type of a control message as one number, as they stand there."""
    return int.from_bytes(struct.pack("=ii", level, kind), sys.byteorder)


_STAMP_KIND = _kind(socket.SOL_SOCKET, stamps.SO_TIMESTAMPING)


#: Sequence numbers as this host's byte order reads them in a packet, by number.
_NATIVE = memoryview(array("H", map(native, range(0x10000))))


class SendRows:
    """Requests to be sent, of one IP version and up to one size."""

    def __init__(self, version: int, payload: int, slots: int) -> None:
        self.table = batches.Table(slots, payload=payload, control=_REQUEST_CONTROL)
        self._low_at = self.table.address_at + LOW_AT[version]
        self._address_length = _ADDRESS_LENGTH[version]
        self._checks = self.table.column("H", 2)
        self._numbers = self.table.column("H", 6)
        self._indexes = self.table.column("I", INDEX_AT)
        self._lows = self.table.column("I", self._low_at)
        self._shapes: list[tuple[int, int]] = [(0, 0)] * slots

    def fill(self, slot: int, run: Run, first: int, numbers: range, *, ident: int, checksum: bool) -> None:
        """Put consecutive requests of a run into rows from `slot` on, with their sequence numbers.

        `ident` is as this host's byte order reads it. The checksum is the kernel's, except for raw
        sockets of IPv4.
        """
        table, count = self.table, len(numbers)
        shape = (run.length, len(run.control))
        for row in range(slot, slot + count):
            if self._shapes[row] != shape:
                self._shapes[row] = shape
                table.describe(
                    row, payload=run.length, address=self._address_length, control=len(run.control)
                )
        image = run.image or self._image(run)
        start = slot * table.stride
        if count == 1:
            table.rows[start : start + len(image)] = image
            number = _NATIVE[numbers.start]
            check = _checksum(run, ident, number, first) if checksum else 0
            _CHECK_IDENT_SEQUENCE.pack_into(table.rows, start + 2, check, ident, number)
            _INDEX.pack_into(table.rows, start + INDEX_AT, first)
            if run.hosts > 1:
                _INDEX.pack_into(table.rows, start + self._low_at, run.lows[first % run.hosts])
            return
        row_image = bytearray(image.ljust(table.stride, b"\0"))
        _CHECK_IDENT_SEQUENCE.pack_into(row_image, 2, 0, ident, 0)
        table.rows[start : start + count * table.stride] = bytes(row_image) * count
        rows = slice(slot, slot + count)
        self._numbers[rows] = _NATIVE[numbers.start : numbers.stop]
        self._indexes[rows] = memoryview(array("I", range(first, first + count)))
        if run.hosts > 1:
            self._lows[rows] = memoryview(_lows(run, first, count))
        if checksum:
            checks = [_checksum(run, ident, _NATIVE[number], first + n) for n, number in enumerate(numbers)]
            self._checks[rows] = memoryview(array("H", checks))

    def _image(self, run: Run) -> bytes:
        """Return a whole row for a run: request, address, control data."""
        table = self.table
        row = bytearray(table.control_at + len(run.control))
        row[: run.length] = run.message
        row[table.address_at : table.address_at + len(run.address)] = run.address
        row[table.control_at :] = run.control
        run.image = bytes(row)
        run.sum = icmp_messages.internet_sum(run.message, "=")
        return run.image


def _lows(run: Run, first: int, count: int) -> array[int]:
    start = first % run.hosts
    if start + count <= run.hosts:
        return run.lows[start : start + count]
    return array("I", [run.lows[index % run.hosts] for index in range(first, first + count)])


def _checksum(run: Run, ident: int, number: int, index: int) -> int:
    """Return the checksum of a request from the sum of what all requests of the run share (RFC 1071)."""
    total = run.sum + ident + number + (index >> 16) + (index & 0xFFFF)
    total = (total & 0xFFFF) + (total >> 16)
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


class ReplyRows:
    """What a lane's socket receives."""

    def __init__(self, version: int, *, raw: bool, payload: int, slots: int) -> None:
        #: Bytes of IP header before the message: raw sockets of IPv4 deliver it, without options as echo has none.
        self.header = 20 if raw and version == 4 else 0
        #: Longest message.
        self.payload = payload
        self.table = batches.Table(slots, payload=_rounded(payload + self.header), control=_REPLY_CONTROL)
        at = self.header
        table = self.table
        self.stamp_kind = _STAMP_KIND
        self.ttl_kind = _kind(*_TTL_KIND[version])
        self._numbers = table.column("H", at + 6)
        self.indexes = table.column("I", at + INDEX_AT)
        self.lows = table.column("I", table.address_at + LOW_AT[version])
        self.ttls = table.column("i", table.control_at + _SECOND_VALUE_AT)
        self._version = version
        self._kinds = table.column("H", at)
        self._idents = table.column("H", at + 4)
        self._cookies = table.column("I", at + COOKIE_AT), table.column("I", at + COOKIE_AT + 4)
        self._stamp_kinds = table.column("Q", table.control_at + _KIND_AT)
        self._ttl_kinds = table.column("Q", table.control_at + _SECOND_KIND_AT)
        self._seconds = table.column("q", table.control_at + _SECONDS_AT)
        self._nanoseconds = table.column("q", table.control_at + _NANOSECONDS_AT)
        self._row = struct.Struct(
            f"={at}xH2xHH8sI{table.address_at + LOW_AT[version] - at - INDEX_AT - 4}xI"
            f"{table.control_at - table.address_at - LOW_AT[version] - 4}x8xQqq40xQi"
            f"{table.stride - table.control_at - _SECOND_VALUE_AT - 4}x"
        )

    def unpack(self, count: int) -> Iterator[tuple[Any, ...]]:
        """Yield kind, identifier, sequence number, cookie, index, address, stamp and TTL with their types."""
        return self._row.iter_unpack(self.table.filled(count))

    def control(self, slot: int) -> tuple[int, int]:
        """Return stamp and TTL of a message whose control data is not as usual; 0 and NO_TTL where they are missing."""
        ancillary = self.table.control(slot)
        for level, kind, data in ancillary:
            if (level, kind) == _TTL_KIND[self._version] and len(data) >= 4:
                return stamps.stamp_in(ancillary) or 0, struct.unpack_from("=i", data)[0]
        return stamps.stamp_in(ancillary) or 0, NO_TTL

    def numbers(self, count: int) -> array[int]:
        """Return the sequence numbers of the first messages."""
        found = array("H", self._numbers[:count].tobytes())
        if sys.byteorder == "little":
            found.byteswap()
        return found

    def alike(self, count: int, kind: int, ident: int, cookie: bytes, length: int) -> bool:
        """Say whether the first messages are all of one kind, identifier, cookie and length, stamped and with TTL."""
        half = len(cookie) // 2
        return (
            self.table.lengths(count) == [length + self.header] * count
            and self._kinds[:count].tolist() == [kind] * count
            and self._idents[:count].tolist() == [ident] * count
            and self._cookies[0][:count].tobytes() == cookie[:half] * count
            and self._cookies[1][:count].tobytes() == cookie[half:] * count
            and self._stamp_kinds[:count].tolist() == [self.stamp_kind] * count
            and self._ttl_kinds[:count].tolist() == [self.ttl_kind] * count
        )

    def stamps(self, count: int) -> list[int]:
        """Return the stamps of the first messages."""
        pairs = zip(self._seconds[:count].tolist(), self._nanoseconds[:count].tolist(), strict=False)
        return [seconds * 1_000_000_000 + nanoseconds for seconds, nanoseconds in pairs]


class QueueRows:
    """What comes from the error queue: transmit stamps and ICMP errors."""

    def __init__(self, version: int, payload: int, slots: int) -> None:
        self.table = batches.Table(slots, payload=payload, control=_QUEUE_CONTROL)
        at = self.table.control_at
        self.stamp_kind = _STAMP_KIND
        self.error_kind = _kind(*_ERROR_KIND[version])
        self._stamp_kinds = self.table.column("Q", at + _KIND_AT)
        self._error_kinds = self.table.column("Q", at + _SECOND_KIND_AT)
        self._seconds = self.table.column("q", at + _SECONDS_AT)
        self._nanoseconds = self.table.column("q", at + _NANOSECONDS_AT)
        self._origins = self.table.column("B", at + _SECOND_VALUE_AT + _ORIGIN_AT)
        self._keys = self.table.column("I", at + _SECOND_VALUE_AT + _KEY_AT)
        self._row = struct.Struct(
            f"={at + _KIND_AT}xQqq40xQ4xB7xI{self.table.stride - at - _SECOND_VALUE_AT - _KEY_AT - 4}x"
        )

    def unpack(self, count: int) -> Iterator[tuple[Any, ...]]:
        """Yield the stamp with its type, and the error with its type: origin and number of the packet."""
        return self._row.iter_unpack(self.table.filled(count))

    def consecutive_stamps(self, count: int) -> tuple[int, list[int]] | None:
        """Return the first number and the stamps when all are transmit stamps of consecutive packets."""
        keys = self._keys[:count].tolist()
        if (
            keys != list(range(keys[0], keys[0] + count))
            or self._stamp_kinds[:count].tolist() != [self.stamp_kind] * count
            or self._error_kinds[:count].tolist() != [self.error_kind] * count
            or bytes(self._origins[:count]) != bytes([stamps.ORIGIN_TIMESTAMPING]) * count
        ):
            return None
        pairs = zip(self._seconds[:count].tolist(), self._nanoseconds[:count].tolist(), strict=False)
        return keys[0], [seconds * 1_000_000_000 + nanoseconds for seconds, nanoseconds in pairs]


class Tables:
    """The tables of one engine, each made when it is first needed."""

    def __init__(self) -> None:
        self._send: dict[tuple[int, int], SendRows] = {}
        self._replies: dict[tuple[int, bool, int], ReplyRows] = {}
        self._queues: dict[tuple[int, int], QueueRows] = {}

    def send(self, version: int, length: int) -> SendRows:
        """Return the table for requests of a length."""
        size, slots = _size(length)
        if (version, size) not in self._send:
            self._send[version, size] = SendRows(version, size, slots)
        return self._send[version, size]

    def replies(self, version: int, *, raw: bool, length: int) -> ReplyRows:
        """Return the table for messages of up to a length."""
        size, slots = _size(length)
        if (version, raw, size) not in self._replies:
            self._replies[version, raw, size] = ReplyRows(version, raw=raw, payload=size, slots=slots)
        return self._replies[version, raw, size]

    def queue(self, version: int, length: int) -> QueueRows:
        """Return the table for error queues, where requests of up to a length are quoted."""
        size, slots = _size(length)
        size = min(size, _QUOTED_BYTES)
        if (version, size) not in self._queues:
            self._queues[version, size] = QueueRows(version, size, slots)
        return self._queues[version, size]


def _size(length: int) -> tuple[int, int]:
    return next((size, slots) for size, slots in _SIZES if length <= size)


def _rounded(value: int) -> int:
    return (value + 7) // 8 * 8
