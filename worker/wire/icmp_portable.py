"""ICMP echo where the kernel gives no transmit stamps: icmplib's sockets and the clock of this process."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import time
from typing import TYPE_CHECKING

from streamswarm.v1 import probe_pb2
from worker.probing import IPAddress
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


def open_socket(version: int, source: IPAddress | None = None) -> icmplib.ICMPv4Socket | icmplib.ICMPv6Socket:
    """Return an ICMP socket that sends from an address, or raise EchoUnavailableError."""
    import icmplib

    sort = icmplib.ICMPv4Socket if version == 4 else icmplib.ICMPv6Socket
    failure: Exception | None = None
    for privileged in (False, True):
        try:
            return sort(address=None if source is None else str(source), privileged=privileged)
        except (icmplib.SocketPermissionError, icmplib.SocketUnavailableError, OSError) as error:
            failure = error
    raise EchoUnavailableError(
        f"this process may open neither ICMP nor raw sockets (IPv{version})",
        "run the worker as administrator",
    ) from failure


async def echo(plan: EchoPlan) -> EchoRecord:
    """Send the requests of a plan one after the other, each with its own wait.

    The next request leaves no earlier than the interval says, and not before the last one was answered or given
    up. Raises EchoUnavailableError without permission, EchoSendError when this host cannot send there at all.
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
    with icmplib.AsyncSocket(open_socket(version, plan.source)) as sock:
        for index in range(plan.count):
            started_s = time.monotonic()
            request = icmplib.ICMPRequest(
                str(plan.address), ident, index, payload=payload, ttl=plan.ttl, traffic_class=plan.dscp << 2
            )
            try:
                sock.send(request)
                sent += 1
                reply = await sock.receive(request, plan.timeout_s)
                received_ns = time.time_ns()
                reply.raise_for_status()
                rtt_ns = max(0, received_ns - round(request.time * 1e9))
                replies.append(EchoReply(request=index, rtt_ns=rtt_ns, kernel=False, ttl=None))
            except icmplib.TimeoutExceeded:
                pass
            except icmplib.ICMPError as error:
                cause = error.reply
                # Its asynchronous sockets do not say who sent a message.
                errors.append(EchoError(index=index, type=cause.type, code=cause.code, offender=None))
            except (icmplib.ICMPSocketError, OSError) as error:
                number = _errno(error)
                if not sent:
                    raise EchoSendError(number, os.strerror(number)) from error
                refused[number] = refused.get(number, 0) + 1
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


def _errno(error: BaseException) -> int:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return errno.EIO
