"""What runs say that could not send: the kernel's words, and the reason that they mean."""

from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from streamswarm.v1 import probe_pb2
from worker import failures
from worker.wire.echo import EchoUnavailableError
from worker.wire.icmp import sockets as echo_sockets
from worker.wire.trace import datagram_channel
from worker.wire.trace import sockets as trace_sockets
from worker.wire.trace.plan import TraceUnavailableError

NO_ROOM, CANNOT_SEND = probe_pb2.FAILURE_REASON_NO_ROOM, probe_pb2.FAILURE_REASON_CANNOT_SEND


@pytest.mark.parametrize(
    ("refused", "reason", "words"),
    [
        ({errno.ENOBUFS: 3}, NO_ROOM, "3 times No buffer space available (ENOBUFS)"),
        ({errno.ENOBUFS: 3, errno.ENOMEM: 1}, NO_ROOM, "1 times Cannot allocate memory (ENOMEM)"),
        ({errno.EPERM: 2}, CANNOT_SEND, "2 times Operation not permitted (EPERM); look at its routes and its firewall"),
        ({errno.EPERM: 2, errno.ENOBUFS: 1}, CANNOT_SEND, "1 times No buffer space available (ENOBUFS)"),
        ({}, CANNOT_SEND, "this host sent no request to 192.0.2.1"),
    ],
)  # fmt: skip
def test_what_the_kernel_said_decides_the_reason(refused: dict[int, int], reason: int, words: str) -> None:
    """A full queue is no missing route."""
    failure = failures.nothing_sent(refused, "request", "192.0.2.1")
    assert failure.reason == reason
    assert words in failure.message
    assert failure.source == probe_pb2.FAILURE_SOURCE_VANTAGE


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EAFNOSUPPORT, CANNOT_SEND),
        (errno.EPERM, probe_pb2.FAILURE_REASON_NO_PERMISSION),
    ],
)
def test_no_address_family_is_no_missing_permission(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: int
) -> None:
    """By every engine alike."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(EchoUnavailableError) as pinging:
        echo_sockets.open_socket(6)
    with pytest.raises(TraceUnavailableError) as tracing:
        trace_sockets._raw(6, socket.IPPROTO_RAW)
    with pytest.raises(TraceUnavailableError) as by_datagrams:
        datagram_channel.open_socket(6)
    for caught in (pinging, tracing, by_datagrams):
        assert caught.value.failure_reason == reason


def test_a_host_without_ports_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are in use."""

    def taken(*_: Any) -> socket.socket:
        raise OSError(errno.EADDRINUSE, "taken")

    monkeypatch.setattr(trace_sockets, "_bound", taken)
    with pytest.raises(TraceUnavailableError, match="no source ports are free") as caught:
        trace_sockets.reserve_block()
    assert caught.value.failure_reason == NO_ROOM
