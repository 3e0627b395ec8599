"""Sockets that never run dry: each reader comes to an end, and waits end at their time."""

from __future__ import annotations

import asyncio
import errno
import functools
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from worker.wire import stamps
from worker.wire.datagram import DatagramExchange
from worker.wire.far_end import FarEnd, NoFarEndError
from worker.wire.handshake_capture import HandshakeCapture
from worker.wire.icmp import errors
from worker.wire.trace import decoding
from worker.wire.trace.channel import RawChannel
from worker.wire.trace.datagram_channel import DatagramChannel
from worker.wire.trace.plan import Probe
from worker.wire.turns import LONGEST_NS, Turn
from worker.wire.unfragmented import Prober

HOST = ipaddress.ip_address("127.0.0.1")


class Endless:
    """A socket with one more packet whenever it is asked, and one more ICMP error in its queue of errors."""

    family, type = socket.AF_INET, socket.SOCK_DGRAM

    def __init__(self, data: bytes = b"x" * 52) -> None:
        self._data = data
        self._began = time.monotonic()
        # An event that stays signalled: there is always something to read.
        self._descriptor = os.eventfd(1)

    def fileno(self) -> int:
        return self._descriptor

    def setsockopt(self, *_values: int) -> None:
        """Take every option."""

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, *_values: int) -> bytes:
        if time.monotonic() - self._began > 1:
            raise RuntimeError("nothing else got its turn")
        return self._data

    def recvfrom(self, *values: int) -> tuple[bytes, tuple[str, int]]:
        return self.recv(*values), ("127.0.0.1", 0)

    def recvmsg(self, *values: int) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        content = bytes([0] * 4 + [2, 3, 1] + [0] * 17)
        return self.recv(*values), [(socket.IPPROTO_IP, 11, content)], 0, ("127.0.0.1", 0, 4, 0, b"")

    def close(self) -> None:
        os.close(self._descriptor)


@pytest.fixture
def endless() -> Iterator[Any]:
    sock = Endless()
    yield sock
    sock.close()


def _prober(method: str) -> Prober:
    return Prober(HOST, method=method, port=33434, dscp=0)


def _bare(sort: type, **values: Any) -> Any:
    """Return an object of which only what reading needs is there."""
    made = object.__new__(sort)
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _read_raw_trace(sock: Any) -> None:
    channel = _bare(RawChannel, _unstamped=0, version=4, _take=lambda *_values: None)
    channel._incoming = _Full(sock)
    channel._receive(sock, lambda _table, _count: iter(()))


class _Full:
    """A table that every call fills."""

    slots = decoding.SLOTS

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def receive(self, _sock: Any, _flags: int = 0) -> int:
        self._sock.recv()
        return self.slots


def _read_datagram_trace(sock: Any, what: str) -> None:
    channel = _bare(DatagramChannel, _sock=sock, version=4, _ident=7, _header=20, _take=lambda *_values: None)
    getattr(channel, what)()


READERS: dict[str, Callable[[Any], object]] = {
    "queue of errors": lambda sock: list(stamps.read_error_queue(sock)),
    "errors of raw pings": lambda sock: list(errors.read(sock, 4)),
    "errors of one query": lambda sock: DatagramExchange(sock)._read_queue(),
    "packets of a path MTU": lambda sock: _prober("icmp")._read(sock, b"y" * 52, 0),
    "answers of traces": _read_raw_trace,
    "datagram answers of traces": functools.partial(_read_datagram_trace, what="_receive"),
    "datagram errors of traces": functools.partial(_read_datagram_trace, what="_read_errors"),
    "packets of handshakes": lambda sock: _bare(HandshakeCapture, _sock=sock, _watches={}).read(),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
async def test_a_reader_comes_to_an_end(endless: Any, read: Callable[[Any], object]) -> None:
    """However much more is there."""
    read(endless)


class Reluctant(Endless):
    """Tells at each of the first calls to send that there is no way, as of another packet."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 5
        self.sent: list[bytes] = []

    def sendmsg(self, parts: list[bytes], *_values: object) -> None:
        self.send(parts[0])

    def send(self, data: bytes) -> int:
        if self.refusals:
            self.refusals -= 1
            raise OSError(errno.EHOSTUNREACH, "No route to host")
        self.sent.append(data)
        return len(data)

    def setsockopt(self, *_values: int) -> None:
        """Stamps are switched on."""


@pytest.fixture
def reluctant() -> Iterator[Any]:
    sock = Reluctant()
    yield sock
    sock.close()


async def test_errors_for_others_keep_no_packet_from_being_sent(reluctant: Any) -> None:
    """Of a path MTU."""
    _prober("icmp")._hand_over(reluctant, b"packet")
    assert reluctant.sent == [b"packet"]


async def test_errors_for_others_keep_no_probe_from_being_sent(reluctant: Any) -> None:
    """Of a trace."""
    channel = _bare(
        DatagramChannel, _sock=reluctant, version=4, _ident=7, _header=20, _take=lambda *_values: None, _numbered={},
        _next_number=0,
    )  # fmt: skip
    template = SimpleNamespace(length=28, write=lambda *_values: None)
    course: Any = SimpleNamespace(
        templates=[template], control=None, address=("127.0.0.1", 0), sent=lambda _probe: None,
        plan=SimpleNamespace(flow_label=0, dscp=0, ecn=0),
    )  # fmt: skip
    assert channel._send(Probe(course, 1, 0)) == 0
    assert reluctant.sent == [bytes(8)]


async def test_a_far_end_is_waited_for_no_longer_than_said(endless: Any) -> None:
    """Datagrams that answer nothing keep coming: 50 ms for each time that it is asked, as in silence."""
    far = FarEnd(endless, [b"k" * 32], where="127.0.0.1:7", timeout_s=0.05, ahead_s=0.0)
    with pytest.raises(NoFarEndError):
        await asyncio.wait_for(far.find(), 2)
    assert far.bytes_received > 0


async def test_a_packet_is_waited_for_no_longer_than_said(endless: Any) -> None:
    """Echo replies that are none to the packet keep coming."""
    began = time.monotonic()
    verdict = await asyncio.wait_for(_prober("icmp")._listen(endless, b"y" * 52, 0, 0.05), 2)
    assert verdict.fate == "silent"
    assert time.monotonic() - began < 1


def test_a_turn_ends_by_number_and_by_time() -> None:
    """Three reads; and none after its time."""
    turn = Turn(3)
    assert [turn.goes_on() for _ in range(4)] == [True, True, True, False]
    late = Turn()
    time.sleep(LONGEST_NS / 1e9)
    assert not late.goes_on()
