"""Echo where the kernel gives no stamps: what a host that cannot do it says to people and to machines."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import icmplib
import pytest
from integration.probes.peers import RecordingGuard

from streamswarm import contract
from streamswarm.v1 import probe_pb2
from worker.probes import ping
from worker.probing import ProbeContext, ProbeFailure
from worker.resolving import system_resolver
from worker.wire import icmp_portable


@pytest.fixture(autouse=True)
def _portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `ping` use the engine of other systems."""
    monkeypatch.setattr(ping, "echo", icmp_portable.echo)
    monkeypatch.setattr(ping, "open_socket", icmp_portable.open_socket)


class FakeSocket:
    """A socket that refuses something; what is sent is lost."""

    family, type = socket.AF_INET, socket.SOCK_DGRAM

    def __init__(self, *, sending: int = 0) -> None:
        self._sending = sending
        self._ends = socket.socketpair()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ends[0], name)

    def setsockopt(self, *_: object) -> None:
        pass

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 7

    def sendto(self, *_: object) -> None:
        if self._sending:
            raise OSError(self._sending, os.strerror(self._sending))

    def close(self) -> None:
        for end in self._ends:
            end.close()


async def failure(target: str, **values: Any) -> ProbeFailure:
    """Return how a ping fails."""
    spec = contract.make_spec("ping", {"count": 2, "interval_ms": 10, "timeout_ms": 50} | values).ping
    context = ProbeContext(guard=RecordingGuard(), resolve=system_resolver())
    with pytest.raises(ProbeFailure) as caught:
        await ping.run(contract.parse_target(contract.kind("ping"), target), spec, context)
    return caught.value


@pytest.mark.parametrize("target", ["192.0.2.1", "2001:db8::1"])
@pytest.mark.parametrize(
    ("number", "reason", "words"),
    [
        (errno.EACCES, probe_pb2.FAILURE_REASON_NO_PERMISSION, "may open neither ICMP nor raw sockets"),
        (errno.EPROTONOSUPPORT, probe_pb2.FAILURE_REASON_NO_PERMISSION, "may open neither ICMP nor raw"),
        (errno.EMFILE, probe_pb2.FAILURE_REASON_NO_ROOM, "EMFILE"),
        (errno.ENOBUFS, probe_pb2.FAILURE_REASON_NO_ROOM, "ENOBUFS"),
        (errno.EAFNOSUPPORT, probe_pb2.FAILURE_REASON_CANNOT_SEND, "this host has no IPv"),
        (errno.EADDRNOTAVAIL, probe_pb2.FAILURE_REASON_CANNOT_SEND, "EADDRNOTAVAIL"),
    ],
)
async def test_a_socket_that_cannot_be_opened_says_why(
    monkeypatch: pytest.MonkeyPatch, target: str, number: int, reason: probe_pb2.FailureReason, words: str
) -> None:
    """Rights, room, families and addresses that are not there are told apart; none is the program's fault."""

    def refused(_self: object, _sort: int) -> None:
        raise OSError(number, os.strerror(number))

    for sort in (icmplib.ICMPv4Socket, icmplib.ICMPv6Socket):
        monkeypatch.setattr(sort, "_create_socket", refused)
    found = await failure(target)
    assert (found.source, found.reason) == (probe_pb2.FAILURE_SOURCE_VANTAGE, reason)
    assert words in found.message
    state = ping.availability()
    assert not state.available
    assert state.reason


async def test_a_host_without_ipv6_may_ping_over_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one family lacks does not keep the other from being used."""

    def created(self: Any, _sort: int) -> FakeSocket:
        if isinstance(self, icmplib.ICMPv6Socket):
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return FakeSocket()

    for sort in (icmplib.ICMPv4Socket, icmplib.ICMPv6Socket):
        monkeypatch.setattr(sort, "_create_socket", created)
    state = ping.availability()
    assert state.available
    assert "IPv4 only" in state.reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETUNREACH, probe_pb2.FAILURE_REASON_CANNOT_SEND),
        (errno.EPERM, probe_pb2.FAILURE_REASON_CANNOT_SEND),
        (errno.ENOBUFS, probe_pb2.FAILURE_REASON_NO_ROOM),
    ],
)
async def test_a_request_that_is_refused_says_why(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: probe_pb2.FailureReason
) -> None:
    """A route or a firewall of this host, or want of room; the library's own words for a firewall are of broadcasts."""
    monkeypatch.setattr(icmplib.ICMPv4Socket, "_create_socket", lambda *_: FakeSocket(sending=number))
    found = await failure("192.0.2.1")
    assert (found.source, found.reason) == (probe_pb2.FAILURE_SOURCE_VANTAGE, reason)
    assert errno.errorcode[number] in found.message


async def test_a_zone_that_is_not_there_is_told() -> None:
    """The system's resolver would only know that it has no such name."""
    found = await failure("fe80::1%nowhere0")
    assert (found.source, found.reason) == (
        probe_pb2.FAILURE_SOURCE_VANTAGE, probe_pb2.FAILURE_REASON_CANNOT_SEND,
    )  # fmt: skip
    assert "ENODEV" in found.message


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENETDOWN, probe_pb2.FAILURE_REASON_NOT_AVAILABLE),
        (errno.ENOBUFS, probe_pb2.FAILURE_REASON_NO_ROOM),
    ],
)
async def test_replies_that_cannot_be_read_are_no_requests_that_were_refused(
    monkeypatch: pytest.MonkeyPatch, number: int, reason: probe_pb2.FailureReason
) -> None:
    """Whether the destination answers is not known then: neither loss nor its silence."""

    async def broken(*_: object) -> None:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise icmplib.ICMPSocketError(str(error))  # noqa: B904  as the library does

    monkeypatch.setattr(icmplib.ICMPv4Socket, "_create_socket", lambda *_: FakeSocket())
    monkeypatch.setattr(icmplib.AsyncSocket, "receive", broken)
    found = await failure("192.0.2.1")
    assert (found.source, found.reason) == (probe_pb2.FAILURE_SOURCE_VANTAGE, reason)
    assert f"replies cannot be read: {os.strerror(number)} ({errno.errorcode[number]})" in found.message
