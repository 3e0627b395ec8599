"""Opening TCP connections with a clock of our own, for every kind that needs one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from streamswarm.v1 import probe_pb2
from worker.failures import (
    LOOK,
    NO_ROOM,
    error_text,
    network_failure,
    target_failure,
    unsent,
    vantage_failure,
)
from worker.probing import IPAddress, ProbeFailure
from worker.wire import icmp_messages, own_word, stamps, tcp_info
from worker.wire.addresses import endpoint, family_of, set_dscp, socket_address
from worker.wire.readiness import writable
from worker.wire.source import BY_ROUTES, Source
from worker.wire.volume import SpentError

_REFUSALS = {errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOPROTOOPT, errno.ECONNABORTED}

_UNDER_WAY = {errno.EALREADY, errno.EINPROGRESS}


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An open connection; whoever holds it closes the socket."""

    #: Connected and non-blocking; what it receives has the kernel's stamps, where there are any.
    sock: socket.socket
    #: Instants of the connect call and of the connection being established, by time.perf_counter_ns.
    started_ns: int
    connected_ns: int
    #: How much later the event loop came to know of it.
    late_ns: int

    @property
    def connect_ms(self) -> float:
        """Time that the handshake took."""
        return (self.connected_ns - self.started_ns) / 1e6


async def connect(
    address: IPAddress,
    port: int,
    *,
    timeout_s: float | None,
    dscp: int = 0,
    source: Source = BY_ROUTES,
    metrics: Any = None,
    on_socket: Callable[[socket.socket], None] | None = None,
) -> Connection:
    """Connect, or raise ProbeFailure with `metrics` as what was measured so far.

    Without a time-out the caller has one of its own around the call. `on_socket` sees the socket before anything is
    sent, to bind it or to watch it; what it raises as OSError is an error of this host.

    A worker with other things to do learns late that a connection is there: it was after the connect call had returned
    by the kernel's round-trip time at the latest.

    A refusal is the target's, a time-out or an ICMP error the network's; that a port is closed is the target's own to say,
    a router that says so has turned the connection away. An error that the connect call itself
    returns, or that this host tells itself by ICMP, comes from its routing or rules: the vantage's.
    """
    sock = _open(address, metrics)
    try:
        sock.setblocking(False)
        if dscp:
            set_dscp(sock, dscp)
        source.bind(sock)
        # Small writes (a query, a request) must not wait for the answer to an earlier one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stamps.SUPPORTED:
            with contextlib.suppress(OSError):  # there are none: what comes is timed when it is read
                stamps.enable_receiving(sock)
            stamps.enable_errors(sock)
        if on_socket is not None:
            on_socket(sock)
        target = socket_address(address, port)
        started_ns = time.perf_counter_ns()
        code = sock.connect_ex(target)
        asked_ns = time.perf_counter_ns()
        if code not in (0, errno.EINPROGRESS):
            raise failure_at_once(OSError(code, os.strerror(code)), endpoint(address, port), metrics)
        # A handshake with a near host may be over by now; the way through the event loop would be added to its time.
        code = sock.connect_ex(target) if code else 0
        connected_ns = known_ns = time.perf_counter_ns()
        if code in _UNDER_WAY:
            ready_ns = await writable(sock, timeout_s)
            known_ns = time.perf_counter_ns()
            handshake_ns = _handshake_ns(sock)
            connected_ns = ready_ns if handshake_ns is None else min(ready_ns, asked_ns + handshake_ns)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code not in (0, errno.EISCONN):
            raise _turned_away(sock, OSError(code, os.strerror(code)), address, port, metrics)
        if stamps.SUPPORTED:
            # Once it is there, no report from the way ends a connection.
            stamps.enable_errors(sock, on=False)
    except asyncio.TimeoutError:
        sock.close()
        raise network_failure(
            f"{endpoint(address, port)} did not answer the connection request within {(timeout_s or 0) * 1000:.0f} ms",
            metrics,
        ) from None
    except OSError as error:
        sock.close()
        raise failure_at_once(error, endpoint(address, port), metrics) from error
    except BaseException:
        sock.close()
        raise
    return Connection(
        sock=sock, started_ns=started_ns, connected_ns=connected_ns, late_ns=known_ns - connected_ns
    )


def _handshake_ns(sock: socket.socket) -> int | None:
    """Return the longest that a handshake can have taken by the kernel's clock; None where that is not known."""
    info = tcp_info.read(sock)
    # The kernel counts from the last SYN, in whole microseconds.
    if info is None or info.rtt_us is None or info.total_retrans != 0:
        return None
    return (info.rtt_us + 1) * 1000


def _turned_away(
    sock: socket.socket, error: OSError, address: IPAddress, port: int, metrics: Any
) -> ProbeFailure:
    """Return the failure for an error that came back, by a report from the way or by the destination itself."""
    queued = (each for each in stamps.read_error_queue(sock) if isinstance(each, stamps.QueuedError))
    told = next((each for each in queued if each.origin in (2, 3)), None)
    where = endpoint(address, port)
    if told is None or told.offender in (None, str(address).partition("%")[0]):
        return failure_of(error, where, metrics)
    words = icmp_messages.error_name(address.version, told.type, told.code)
    if own_word.is_unsent(address.version, told.type, told.code, told.offender):
        return unsent(OSError(errno.EPERM, ""), where, metrics, advice=f": it says {words}{LOOK}")
    return network_failure(
        f"{where} could not be reached: {told.offender} reported {words} ({error_text(error)})",
        metrics,
        reason=probe_pb2.FAILURE_REASON_UNREACHABLE,
    )


def _open(address: IPAddress, metrics: Any) -> socket.socket:
    try:
        return socket.socket(family_of(address), socket.SOCK_STREAM)
    except OSError as error:
        raise vantage_failure(
            f"no TCP socket could be opened: {error_text(error)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        ) from error


def spent(error: SpentError, where: str, metrics: Any = None) -> ProbeFailure:
    """Return the failure of a run that the far end had move all that it may."""
    return target_failure(f"{where}: {error}", metrics, reason=probe_pb2.FAILURE_REASON_TOO_MUCH)


def failure_of(error: OSError, where: str, metrics: Any = None) -> ProbeFailure:
    """Return the failure for an error that came back over the network."""
    if error.errno == errno.ECONNREFUSED:
        return target_failure(
            f"{where} refused the connection", metrics, reason=probe_pb2.FAILURE_REASON_REFUSED
        )
    if error.errno in _REFUSALS:
        return target_failure(
            f"{where} broke the connection: {error_text(error)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_BROKEN_OFF,
        )
    if error.errno in NO_ROOM:
        return vantage_failure(
            f"this host has no room for the connection: {error_text(error)}",
            metrics,
            reason=probe_pb2.FAILURE_REASON_NO_ROOM,
        )
    # The kernel gives up by itself after minutes; whatever else it says has come as an ICMP error.
    silent = error.errno == errno.ETIMEDOUT
    return network_failure(
        f"{where} could not be reached: {error_text(error)}",
        metrics,
        reason=probe_pb2.FAILURE_REASON_TIMED_OUT if silent else probe_pb2.FAILURE_REASON_UNREACHABLE,
    )


def failure_at_once(error: OSError, where: str, metrics: Any = None) -> ProbeFailure:
    """Return the failure for an error that a call on the socket returned, before anything came back."""
    # On loopback the refusal is there before connect returns.
    if error.errno in _REFUSALS:
        return failure_of(error, where, metrics)
    return unsent(error, where, metrics, advice=LOOK)
