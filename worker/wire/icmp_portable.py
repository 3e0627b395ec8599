"""ICMP echo where the kernel gives no transmit stamps: icmplib's sockets and the clock of this process."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from typing import TYPE_CHECKING

from streamswarm.v1 import probe_pb2
from worker.failures import NO_ROOM, error_text
from worker.probing import IPAddress
from worker.wire.addresses import socket_address
from worker.wire.echo import (
    EchoError,
    EchoPlan,
    EchoRecord,
    EchoReplies,
    EchoReply,
    EchoSendError,
    EchoUnavailableError,
)
from worker.wire.icmp_messages import HEADER_BYTES, ip_bytes

if TYPE_CHECKING:
    import icmplib


#: What a system says that does not let this process have one sort of socket; it may have the other.
_NOT_ALLOWED = frozenset({errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT})


def open_socket(version: int, source: IPAddress | None = None) -> icmplib.ICMPv4Socket | icmplib.ICMPv6Socket:
    """Return an ICMP socket that sends from an address; raises EchoUnavailableError, or OSError when this host cannot."""
    import icmplib

    sort = icmplib.ICMPv4Socket if version == 4 else icmplib.ICMPv6Socket
    failure: Exception | None = None
    for privileged in (False, True):
        try:
            return sort(address=None if source is None else str(source), privileged=privileged)
        except icmplib.ICMPSocketError as error:
            failure = error
            number = _errno(error)
            if number == errno.EAFNOSUPPORT:
                raise EchoUnavailableError(
                    f"this host has no IPv{version}", "", probe_pb2.FAILURE_REASON_CANNOT_SEND
                ) from error
            if number not in _NOT_ALLOWED:
                raise OSError(number, os.strerror(number)) from error
    raise EchoUnavailableError(
        f"this process may open neither ICMP nor raw sockets (IPv{version})",
        "run the worker as administrator",
    ) from failure


async def echo(plan: EchoPlan) -> EchoRecord:
    """Send the requests of a plan one after the other, each with its own wait.

    The next request leaves no earlier than the interval says, and not before the last one was answered or given
    up. Raises EchoUnavailableError without permission and where replies cannot be read, EchoSendError when this host
    cannot send there at all.
    """
    import icmplib

    if plan.dont_fragment:
        raise EchoUnavailableError(
            "this system gives no way to forbid fragmentation of ICMP packets",
            "",
            probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        )
    if plan.hosts > 1:
        raise EchoUnavailableError(
            "whole networks can be asked from Linux only", "", probe_pb2.FAILURE_REASON_NOT_AVAILABLE
        )
    if plan.flow_label:
        raise EchoUnavailableError(
            "flow labels can be set on Linux only", "", probe_pb2.FAILURE_REASON_NOT_AVAILABLE
        )
    if plan.interface:
        raise EchoUnavailableError(
            "an interface to send through can be chosen on Linux only",
            "",
            probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        )
    interval_s = 0.0 if plan.burst else plan.interval_s
    version = plan.address.version
    ident = secrets.randbelow(0x10000)
    payload = secrets.token_bytes(plan.size)
    size = ip_bytes(version, HEADER_BYTES + plan.size, None)
    sent = 0
    refused: dict[int, int] = {}
    replies: list[EchoReply] = []
    errors: list[EchoError] = []
    with icmplib.AsyncSocket(_opened(plan)) as sock:
        for index in range(plan.count):
            started_s = time.monotonic()
            request = icmplib.ICMPRequest(
                str(plan.address), ident, index, payload=payload, ttl=plan.ttl, traffic_class=plan.dscp << 2
            )
            try:
                sock.send(request)
            except icmplib.ICMPSocketError as error:
                number = _errno(error)
                if not sent:
                    raise EchoSendError(number, os.strerror(number)) from error
                refused[number] = refused.get(number, 0) + 1
            else:
                sent += 1
                answer = await _answer(sock, request, index, plan.timeout_s)
                if isinstance(answer, EchoReply):
                    replies.append(answer)
                elif answer is not None:
                    errors.append(answer)
            if index + 1 < plan.count:
                await asyncio.sleep(max(0.0, started_s + interval_s - time.monotonic()))
    return EchoRecord(
        sent=sent,
        refused=refused,
        replies=EchoReplies.of(replies),
        errors=tuple(errors),
        bytes_sent=sent * size,
        bytes_received=len(replies) * size,
        all_taken=False,
    )


def _opened(plan: EchoPlan) -> icmplib.ICMPv4Socket | icmplib.ICMPv6Socket:
    """Return the socket of a plan; raises EchoUnavailableError and EchoSendError."""
    try:
        socket_address(plan.address, 0)  # a zone that is not there: the library would ask the resolver for it
        return open_socket(plan.address.version, plan.source)
    except OSError as error:
        number = _errno(error)
        raise EchoSendError(number, os.strerror(number)) from error


async def _answer(
    sock: icmplib.AsyncSocket, request: icmplib.ICMPRequest, index: int, timeout_s: float
) -> EchoReply | EchoError | None:
    """Return what comes to a request; None when nothing does in time. Raises EchoUnavailableError."""
    import icmplib

    try:
        reply = await sock.receive(request, timeout_s)
        received_ns = time.time_ns()
        reply.raise_for_status()
    except icmplib.TimeoutExceeded:
        return None
    except icmplib.ICMPError as error:
        cause = error.reply
        # Its asynchronous sockets do not say who sent a message.
        return EchoError(index=index, type=cause.type, code=cause.code, offender=None)
    except icmplib.ICMPSocketError as error:
        number = _errno(error)
        raise EchoUnavailableError(
            f"replies cannot be read: {error_text(OSError(number, os.strerror(number)))}",
            "",
            probe_pb2.FAILURE_REASON_NO_ROOM if number in NO_ROOM else probe_pb2.FAILURE_REASON_NOT_AVAILABLE,
        ) from error
    rtt_ns = max(0, received_ns - round(request.time * 1e9))
    return EchoReply(request=index, rtt_ns=rtt_ns, kernel=False, ttl=None)


def _errno(error: BaseException) -> int:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return errno.EIO
