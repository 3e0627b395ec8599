"""ICMP echo on Linux: the kernel's time stamps, no threads, one socket per run.

An ICMP datagram socket serves where `net.ipv4.ping_group_range` allows it, a raw socket otherwise (CAP_NET_RAW).
The socket is connected: the kernel then delivers replies of that address only, and knows the MTU.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import struct
import time
from dataclasses import dataclass, field

from worker.wire import icmp_messages, stamps
from worker.wire.addresses import set_dscp, socket_address
from worker.wire.echo import EchoError, EchoPlan, EchoRecord, EchoReply, EchoSendError, EchoUnavailableError
from worker.wire.source import Source

PING_GROUP_RANGE = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'

_SOL_RAW = 255
_ICMP_FILTER = 1
_ICMP6_FILTER = 1
_IP_MTU_DISCOVER, _IP_MTU = 10, 14
_IP_RECVTTL, _IP_TTL = 12, 2
_IPV6_MTU_DISCOVER, _IPV6_MTU, _IPV6_DONTFRAG = 23, 24, 62
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_PMTUDISC_DONT, _PMTUDISC_WANT = 0, 1
#: Sets "don't fragment" and does not hold packets back that exceed a path MTU learnt earlier: each one is tried.
_PMTUDISC_PROBE = 3

_LONGEST_MESSAGE = 65_535
_ANCILLARY_BYTES = 512
#: How long to wait for transmit stamps when every request has been answered.
_STAMP_GRACE_S = 0.05
#: The kernel switches receive stamps on from a work queue; the first packets must not outrun it.
_STAMP_WARM_UP_S = 0.002
_BUSY = {errno.ENOBUFS, errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOMEM, errno.EPERM}


def open_socket(version: int) -> socket.socket:
    """Return a non-blocking ICMP socket, or raise EchoUnavailableError."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                continue
            if error.errno == errno.EAFNOSUPPORT:
                raise EchoUnavailableError(f"this host has no IPv{version}", "") from error
            raise
        sock.setblocking(False)
        return sock
    raise EchoUnavailableError(
        f"this process may open neither ICMP nor raw sockets (IPv{version}): its group is outside "
        "net.ipv4.ping_group_range and it lacks CAP_NET_RAW",
        PING_GROUP_RANGE,
    )


async def echo(plan: EchoPlan) -> EchoRecord:
    """Send the requests of a plan and listen for what comes back.

    Raises EchoUnavailableError without permission, EchoSendError when this host cannot send there at all.
    """
    try:
        sock = open_socket(plan.address.version)
    except OSError as error:
        raise EchoSendError(error.errno, os.strerror(error.errno or 0)) from error
    with sock:
        try:
            ident = _prepare(sock, plan)
            sock.connect(socket_address(plan.address, 0))
        except OSError as error:
            raise EchoSendError(error.errno, os.strerror(error.errno or 0)) from error
        stream = icmp_messages.Stream(
            version=plan.address.version,
            ident=ident,
            first_sequence=secrets.randbelow(0x10000),
            cookie=secrets.token_bytes(8),
            size=plan.size,
            count=plan.count,
        )
        return await _Run(sock, plan, stream).run()


def _prepare(sock: socket.socket, plan: EchoPlan) -> int:
    """Set the socket's options; return the identifier of its requests."""
    v4 = sock.family == socket.AF_INET
    raw = sock.type == socket.SOCK_RAW
    if v4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, plan.ttl)
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        discover = _PMTUDISC_PROBE if plan.dont_fragment else _PMTUDISC_DONT
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, discover)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, plan.ttl)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
        discover = _PMTUDISC_PROBE if plan.dont_fragment else _PMTUDISC_WANT
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, discover)
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, int(plan.dont_fragment))
    set_dscp(sock, plan.dscp)
    stamps.enable_errors(sock)
    if not raw:
        return _bind_random_ident(sock, plan.source)
    plan.source.bind(sock)
    # Everything but echo replies is blocked: bits set in the mask are dropped by the kernel.
    if v4:
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~1))
    else:
        mask = [0xFFFFFFFF] * 8
        mask[129 >> 5] &= ~(1 << (129 & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *mask))
    return secrets.randbelow(0x10000)


def _bind_random_ident(sock: socket.socket, source: Source) -> int:
    """Give a datagram socket a random identifier; left to itself the kernel counts upwards."""
    for _ in range(16):
        with contextlib.suppress(OSError):  # taken by another socket
            source.bind(sock, 1 + secrets.randbelow(0xFFFF))
            break
    else:
        source.bind(sock, 0)
    return int(sock.getsockname()[1])


@dataclass
class _Request:
    """One request on its way."""

    sent: stamps.Instant
    transmitted_ns: int | None = None
    answered: bool = False


@dataclass(frozen=True)
class _Arrival:
    index: int
    received: stamps.Instant
    stamped_ns: int | None
    ttl: int | None


@dataclass
class _Run:
    """The sending and listening of one run; the event loop calls `_drain` whenever something has come."""

    sock: socket.socket
    plan: EchoPlan
    stream: icmp_messages.Stream
    requests: dict[int, _Request] = field(default_factory=dict)
    #: Index of the request that carries a transmit stamp's number.
    numbered: list[int] = field(default_factory=list)
    arrivals: list[_Arrival] = field(default_factory=list)
    errors: list[EchoError] = field(default_factory=list)
    refused: dict[int, int] = field(default_factory=dict)
    bytes_sent: int = 0
    bytes_received: int = 0
    stamped: bool = False
    #: Set whenever something was read.
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> EchoRecord:
        loop = asyncio.get_running_loop()
        self.stamped = stamps.enable(self.sock)
        mtu = self._mtu()
        size = icmp_messages.ip_bytes(self.stream.version, icmp_messages.HEADER_BYTES + self.plan.size, mtu)
        loop.add_reader(self.sock, self._drain)
        try:
            await asyncio.sleep(_STAMP_WARM_UP_S)
            for index in range(self.plan.count):
                message = self.stream.request(index)
                sent_s = time.monotonic()
                if self._send(index, message):
                    self.bytes_sent += size
                # The reply to a loopback address is there already.
                self._drain()
                if index + 1 < self.plan.count:
                    await asyncio.sleep(max(0.0, sent_s + self.plan.interval_s - time.monotonic()))
            await self._listen(self.plan.timeout_s)
        finally:
            loop.remove_reader(self.sock)
        return self._record()

    def _send(self, index: int, message: bytes) -> bool:
        """Send one request; False when the kernel refused it. Raises EchoSendError when it never took any."""
        for attempt in (1, 2):
            request = _Request(sent=stamps.now())
            try:
                self.sock.send(message)
            except OSError as error:
                # An ICMP error for an earlier request is handed to the next call on the socket.
                if attempt == 1 and self._drain_errors():
                    continue
                number = error.errno or 0
                if not self.requests and number not in _BUSY:
                    raise EchoSendError(number, os.strerror(number)) from error
                self.refused[number] = self.refused.get(number, 0) + 1
                # Whether the kernel counted the refused packet depends on its version: begin a new count.
                self._restart_numbers()
                return False
            self.requests[index] = request
            self.numbered.append(index)
            return True
        return False

    def _restart_numbers(self) -> None:
        self._drain_errors()
        self.numbered.clear()
        self.stamped = stamps.enable(self.sock)

    async def _listen(self, timeout_s: float) -> None:
        """Wait until every request is answered and stamped, at most the time-out after the last request."""
        deadline = time.monotonic() + timeout_s
        while not all(request.answered for request in self.requests.values()):
            if not await self._wait(deadline):
                return
        deadline = min(deadline, time.monotonic() + _STAMP_GRACE_S)
        while self.stamped and any(request.transmitted_ns is None for request in self.requests.values()):
            if not await self._wait(deadline):
                return

    async def _wait(self, deadline: float) -> bool:
        """Wait for something to be read; False at the deadline."""
        self.progress.clear()
        try:
            await asyncio.wait_for(self.progress.wait(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            self._drain()
            return False
        return True

    def _drain(self) -> None:
        """Read everything that is there: replies, transmit stamps, ICMP errors."""
        while True:
            try:
                data, ancillary, _flags, _address = self.sock.recvmsg(_LONGEST_MESSAGE, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                # The pending error of an ICMP message; the error queue has it in full.
                if not self._drain_errors():
                    break
                continue
            self._take(data, ancillary, stamps.now())
        self._drain_errors()
        self.progress.set()

    def _take(self, data: bytes, ancillary: stamps.Ancillary, received: stamps.Instant) -> None:
        message: bytes | None = data
        total = len(data)
        if self.stream.version == 4 and self.sock.type == socket.SOCK_RAW:
            message = icmp_messages.without_ip_header(data)
        else:
            total += 20 if self.stream.version == 4 else 40
        index = self.stream.index_of_reply(message) if message is not None else None
        if index is None or index not in self.requests:
            return
        self.bytes_received += total
        self.requests[index].answered = True
        self.arrivals.append(_Arrival(index, received, stamps.stamp_in(ancillary), _ttl_in(ancillary)))

    def _drain_errors(self) -> int:
        """Empty the error queue; return how many errors (not stamps) were in it."""
        errors = 0
        for entry in stamps.read_error_queue(self.sock):
            if isinstance(entry, stamps.TransmitStamp):
                self._stamp(entry)
                continue
            errors += 1
            index = self.stream.index_of_quoted(entry.quoted)
            if index is None or index not in self.requests or entry.origin not in (2, 3):
                continue
            header = 20 if self.stream.version == 4 else 40
            self.bytes_received += 2 * header + icmp_messages.HEADER_BYTES + len(entry.quoted)
            self.requests[index].answered = True
            self.errors.append(
                EchoError(index=index, type=entry.type, code=entry.code, offender=entry.offender)
            )
        return errors

    def _stamp(self, entry: stamps.TransmitStamp) -> None:
        if entry.key >= len(self.numbered):
            return
        request = self.requests[self.numbered[entry.key]]
        # A stamp from before the request is one of an earlier count.
        if request.transmitted_ns is None and entry.wall_ns >= request.sent.wall_ns:
            request.transmitted_ns = entry.wall_ns

    def _mtu(self) -> int | None:
        level, option = (socket.IPPROTO_IP, _IP_MTU)
        if self.stream.version == 6:
            level, option = (socket.IPPROTO_IPV6, _IPV6_MTU)
        try:
            return self.sock.getsockopt(level, option)
        except OSError:
            return None

    def _record(self) -> EchoRecord:
        replies = []
        for arrival in self.arrivals:
            request = self.requests[arrival.index]
            rtt_ns, kernel = stamps.elapsed(
                request.sent, request.transmitted_ns, arrival.received, arrival.stamped_ns
            )
            replies.append(EchoReply(index=arrival.index, rtt_ns=rtt_ns, kernel=kernel, ttl=arrival.ttl))
        return EchoRecord(
            sent=len(self.requests),
            refused=self.refused,
            replies=tuple(replies),
            errors=tuple(self.errors),
            bytes_sent=self.bytes_sent,
            bytes_received=self.bytes_received,
        )


def _ttl_in(ancillary: stamps.Ancillary) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) in (
            (socket.IPPROTO_IP, _IP_TTL),
            (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT),
        ) and len(data) >= 4:
            value: int = struct.unpack_from("=i", data)[0]
            return value
    return None
