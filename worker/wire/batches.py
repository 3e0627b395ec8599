"""Many packets with one system call: sendmmsg and recvmmsg of Linux, called through ctypes.

A packet of its own call costs several microseconds of Python. Here the messages of one call lie in a `Table`: row
after row of memory, each with a payload, a socket address and control data at the same offsets. Fields of many rows
are read at once with `struct.iter_unpack` over `Table.filled`, or as a strided view with `Table.column`, so that what
Python does for a packet stays below a microsecond.

The layout of `struct mmsghdr` is the one of 64-bit systems, the same with glibc and musl. `SUPPORTED` is False
elsewhere, and where the C library lacks the calls; nothing here may be used then.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import sys
from collections.abc import Iterator
from typing import Literal

#: Longest socket address: `struct sockaddr_in6`.
ADDRESS_BYTES = 28
MSG_DONTWAIT = 0x40
MSG_ERRQUEUE = 0x2000
MSG_TRUNC = 0x20
MSG_CTRUNC = 0x08

#: `struct mmsghdr` in words of 8 bytes: address, its length, iovec, their number, control data, its length, flags,
#: and the length of the message. The length of the address, the flags and the length of the message have 4 bytes.
_HEAD_BYTES = 64
_ADDRESS, _VECTOR, _VECTORS, _CONTROL, _CONTROL_LENGTH = 0, 2, 3, 4, 5
_ADDRESS_LENGTH_32, _FLAGS_32, _LENGTH_32 = 2, 12, 14
_ALIGNMENT = 64
#: `struct cmsghdr`: length with the header, level, type.
_CONTROL_HEADER = struct.Struct("=Qii")


def _call(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
    if name == "recvmmsg":
        function.argtypes += [ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]  # a library's functions are attributes made at run time


_sendmmsg = _call("sendmmsg")
_recvmmsg = _call("recvmmsg")

#: Whether this system has both calls.
SUPPORTED = _sendmmsg is not None and _recvmmsg is not None


class Table:
    """Rows for `slots` messages with up to `payload` bytes each and up to `control` bytes of control data.

    In each row the payload stands at 0, the address at `address_at`, the control data at `control_at`; rows are
    `stride` bytes apart.
    """

    def __init__(self, slots: int, *, payload: int, control: int = 0) -> None:
        self.slots = slots
        self.payload_bytes = payload
        self.control_bytes = control
        self.address_at = _rounded(payload, 8)
        self.control_at = self.address_at + _rounded(ADDRESS_BYTES, 8)
        self.stride = _rounded(self.control_at + control, _ALIGNMENT)
        self._memory = (ctypes.c_char * (slots * self.stride))()
        #: All rows, byte by byte.
        self.rows = memoryview(self._memory).cast("B")
        vectors = (ctypes.c_uint64 * (slots * 2))()
        heads = (ctypes.c_uint64 * (slots * _HEAD_BYTES // 8))()
        self._kept = vectors, heads
        self._vectors = memoryview(vectors).cast("B").cast("Q")
        self._heads = memoryview(heads).cast("B")
        self._words = self._heads.cast("Q")
        self._halves = self._heads.cast("I")
        self._at = ctypes.addressof(heads)
        start = ctypes.addressof(self._memory)
        for slot in range(slots):
            row = start + slot * self.stride
            self._vectors[2 * slot] = row
            self._vectors[2 * slot + 1] = payload
            word = slot * _HEAD_BYTES // 8
            self._words[word + _ADDRESS] = row + self.address_at
            self._halves[2 * word + _ADDRESS_LENGTH_32] = ADDRESS_BYTES
            self._words[word + _VECTOR] = ctypes.addressof(vectors) + 16 * slot
            self._words[word + _VECTORS] = 1
            self._words[word + _CONTROL] = row + self.control_at
            self._words[word + _CONTROL_LENGTH] = control
        self._fresh = bytes(self._heads)
        self._used = 0

    def column(self, code: Literal["B", "H", "I", "Q", "i", "q"], offset: int) -> memoryview[int]:
        """Return one field of every row: `code` is its format in `struct`, `offset` a multiple of its size."""
        cells = self.rows.cast(code)
        return cells[offset // cells.itemsize :: self.stride // cells.itemsize]

    def describe(self, slot: int, *, payload: int, address: int, control: int = 0) -> None:
        """Say how many bytes of a row are to be sent: of its payload, its address and its control data."""
        word = slot * _HEAD_BYTES // 8
        self._vectors[2 * slot + 1] = payload
        self._halves[2 * word + _ADDRESS_LENGTH_32] = address
        self._words[word + _CONTROL_LENGTH] = control

    def send(self, sock: socket.socket, first: int, count: int) -> int:
        """Send rows from `first` on with one call; returns how many were taken, at least one.

        Raises OSError when the first one was not taken; why a later one was not is told by the next call.
        """
        assert _sendmmsg is not None, "asked SUPPORTED before"  # noqa: S101
        taken: int = _sendmmsg(sock.fileno(), self._at + first * _HEAD_BYTES, count, MSG_DONTWAIT)
        if taken < 0:
            raise _error()
        return taken

    def receive(self, sock: socket.socket, flags: int = 0) -> int:
        """Fill rows from the first on with what has come, without waiting; returns how many.

        With MSG_ERRQUEUE from the socket's error queue. Raises BlockingIOError when there is nothing, OSError for
        the socket's pending error.
        """
        assert _recvmmsg is not None, "asked SUPPORTED before"  # noqa: S101
        if self._used:
            # The kernel has written over the lengths.
            end = self._used * _HEAD_BYTES
            self._heads[:end] = self._fresh[:end]
            self._used = 0
        taken: int = _recvmmsg(sock.fileno(), self._at, self.slots, flags | MSG_DONTWAIT, None)
        if taken < 0:
            raise _error()
        self._used = taken
        return taken

    def filled(self, count: int) -> memoryview:
        """Return the first `count` rows, for `struct.iter_unpack` with a format as long as `stride`."""
        return self.rows[: count * self.stride]

    def lengths(self, count: int) -> list[int]:
        """Return the lengths of the first messages as received."""
        return self._halves[_LENGTH_32 : count * 16 : 16].tolist()

    def control_lengths(self, count: int) -> list[int]:
        """Return the bytes of control data of the first messages as received."""
        return self._words[_CONTROL_LENGTH : count * 8 : 8].tolist()

    def flags(self, slot: int) -> int:
        """Return the flags of a received message: MSG_TRUNC, MSG_CTRUNC and the like."""
        return self._halves[slot * 16 + _FLAGS_32]

    def payload(self, slot: int) -> bytes:
        """Return what was received in a slot."""
        start = slot * self.stride
        length = min(self._halves[slot * 16 + _LENGTH_32], self.payload_bytes)
        return bytes(self.rows[start : start + length])

    def address(self, slot: int) -> bytes:
        """Return the socket address of a received message; empty when it has none."""
        start = slot * self.stride + self.address_at
        length = min(self._halves[slot * 16 + _ADDRESS_LENGTH_32], ADDRESS_BYTES)
        return bytes(self.rows[start : start + length])

    def control(self, slot: int) -> list[tuple[int, int, bytes]]:
        """Return the control messages of a slot as `socket.recvmsg` does: level, type, data of each."""
        start = slot * self.stride + self.control_at
        length = min(self._words[slot * 8 + _CONTROL_LENGTH], self.control_bytes)
        return list(control_messages(bytes(self.rows[start : start + length])))


def control_messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield level, type and data of the control messages in a buffer; what is cut short is left out."""
    at = 0
    while at + _CONTROL_HEADER.size <= len(data):
        length, level, kind = _CONTROL_HEADER.unpack_from(data, at)
        if length < _CONTROL_HEADER.size or at + length > len(data):
            return
        yield level, kind, data[at + _CONTROL_HEADER.size : at + length]
        at += _rounded(length, 8)


def control_message(level: int, kind: int, data: bytes) -> bytes:
    """Return a control message as it stands in a buffer, with the padding that the next one needs."""
    length = _CONTROL_HEADER.size + len(data)
    return (_CONTROL_HEADER.pack(length, level, kind) + data).ljust(_rounded(length, 8), b"\0")


def packed_address(address: tuple[str, int] | tuple[str, int, int, int]) -> bytes:
    """Return a socket address, as `socket.connect` takes it, as the kernel has it (sockaddr_in, sockaddr_in6)."""
    if len(address) == 2:
        host, port = address
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
    host, port, flow, scope = address
    return (
        struct.pack("=H", socket.AF_INET6)
        + struct.pack("!HI16s", port, flow, socket.inet_pton(socket.AF_INET6, host))
        + struct.pack("=I", scope)
    )


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


def _rounded(value: int, step: int) -> int:
    return (value + step - 1) // step * step
