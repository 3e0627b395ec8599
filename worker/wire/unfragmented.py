"""IP packets of an exact size that nobody may fragment, one at a time, and what became of each (Linux).

The kernel neither fragments them nor holds them back because of a path MTU that it has learnt (PMTUDISC_PROBE). Echo
requests are told apart by their sequence number; each packet has a socket of its own, so that a late error meets nobody.
A raw socket is not connected: errors come to it as packets of whoever sends them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from worker.probing import IPAddress
from worker.wire import icmp_messages, options, own_word, stamps
from worker.wire.addresses import family_of, set_dscp, socket_address
from worker.wire.icmp import errors, filters, open_socket
from worker.wire.icmp.errors import Error
from worker.wire.readiness import readable
from worker.wire.source import BY_ROUTES, Source
from worker.wire.turns import Turn

#: ICMP echo: type, code, checksum, identifier, sequence number. A UDP header is as long.
_HEADER = struct.Struct("!BBHHH")
#: Random bytes that begin the payload, so that a reply proves to be one to this packet.
_COOKIE_BYTES = 8
_LONGEST = 65_535
DEFAULT_TTL = 64
#: So often a packet is handed to the kernel while errors come for something else.
_ATTEMPTS = 16
_ANCILLARY_BYTES = 128

Fate = Literal["passed", "too_big", "expired", "refused", "silent"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one packet."""

    fate: Fate
    #: Who sent the answer or the error; None for silence, and for an error of this host.
    reporter: str | None = None
    #: Of a packet that was too big: the MTU that the router named, None for none.
    mtu: int | None = None
    #: Of a packet that was refused: the words for the ICMP error.
    words: str = ""
    rtt_ms: float | None = None
    #: Octet with DSCP and ECN of the destination's reply, as it arrived; None where there is none.
    octet: int | None = None


class _Sent:
    """The instant at which a packet leaves, which is that of its making."""

    def __init__(self) -> None:
        self._at_ns = time.perf_counter_ns()
        self._arrivals = stamps.Arrivals()

    def rtt_ms(self, stamp_ns: int | None) -> float:
        """Return the time until what came for it, by the kernel's receive stamp where there is one."""
        return (self._arrivals.take(stamp_ns, time.perf_counter_ns()) - self._at_ns) / 1e6


class Prober:
    """Sends to one address; counts what it sends and gets."""

    def __init__(
        self, address: IPAddress, *, method: str, port: int, dscp: int, source: Source = BY_ROUTES
    ) -> None:
        self._address = address
        self._method = method
        self._port = port
        self._dscp = dscp
        self._source = source
        self._header = 20 if address.version == 4 else 40
        self._sequence = secrets.randbelow(0x10000)
        self.packets_sent = 0
        self.packets_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    async def send(self, size: int, *, ttl: int = DEFAULT_TTL, wait_s: float) -> Verdict:
        """Send one packet of so many bytes and wait for its fate; raises OSError when this host cannot send, also by its own word."""
        with self._open(ttl) as sock:
            request = self._request(sock, size - self._header)
            data = request if self._method == "icmp" else request[_HEADER.size :]
            sent = _Sent()
            try:
                self._hand_over(sock, data)
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    return Verdict(fate="too_big", mtu=self.kernel_mtu())
                raise
            self.packets_sent += 1
            self.bytes_sent += size
            return await self._listen(sock, request, sent, wait_s)

    def _hand_over(self, sock: socket.socket, data: bytes) -> None:
        if self._is_raw(sock):
            sock.sendto(data, socket_address(self._address, 0))
            return
        for attempt in range(_ATTEMPTS):
            try:
                sock.send(data)
                return
            except OSError:
                # It may be the pending error of a message from outside, which is about nothing that this socket sent.
                queued = list(stamps.read_error_queue(sock))
                outside = any(
                    isinstance(each, stamps.QueuedError) and each.origin in (2, 3) for each in queued
                )
                if not outside or attempt + 1 == _ATTEMPTS:
                    raise

    def kernel_mtu(self) -> int | None:
        """Return the path MTU that the kernel works with; raises OSError when there is no route."""
        with socket.socket(family_of(self._address), socket.SOCK_DGRAM) as opened:
            self._source.bind(opened)
            opened.connect(socket_address(self._address, self._port))
            return options.kernel_mtu(opened)

    @contextlib.contextmanager
    def _open(self, ttl: int) -> Iterator[socket.socket]:
        if self._method == "icmp":
            sock = open_socket(self._address.version)
        else:
            sock = socket.socket(family_of(self._address), socket.SOCK_DGRAM)
            sock.setblocking(False)
        with sock:
            if self._address.version == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
            if stamps.SUPPORTED:
                stamps.enable_receiving(sock)
            options.receive_octets(sock)
            options.set_dont_fragment(sock, True)
            set_dscp(sock, self._dscp)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * _LONGEST)
            self._source.bind(sock)
            if not self._is_raw(sock):
                stamps.enable_errors(sock)
                sock.connect(socket_address(self._address, self._port if self._method == "udp" else 0))
            yield sock

    def _is_raw(self, sock: socket.socket) -> bool:
        return self._method == "icmp" and sock.type == socket.SOCK_RAW

    def _request(self, sock: socket.socket, length: int) -> bytes:
        """Return an echo request; its checksum is filled in for IPv4, by the kernel for IPv6."""
        # The identifier of a datagram socket is the kernel's choice.
        own = self._method == "icmp" and not self._is_raw(sock)
        ident = int(sock.getsockname()[1]) if own else secrets.randbelow(0x10000)
        if self._is_raw(sock):
            filters.take(sock, self._address.version, ident, replies=True, errors=True)
        self._sequence = (self._sequence + 1) & 0xFFFF
        payload = secrets.token_bytes(_COOKIE_BYTES).ljust(length - _HEADER.size, b"\x5a")
        kind = icmp_messages.REQUEST_TYPE[self._address.version]
        check = 0
        if self._address.version == 4:
            check = 0xFFFF - icmp_messages.internet_sum(
                _HEADER.pack(kind, 0, 0, ident, self._sequence) + payload
            )
        return _HEADER.pack(kind, 0, check, ident, self._sequence) + payload

    def _is_reply(self, sock: socket.socket, message: bytes, request: bytes) -> bool:
        """Whether a message is the whole of a request, come back."""
        if self._address.version == 4 and self._is_raw(sock):
            message = message[(message[0] & 0x0F) * 4 :] if message else message
        return (
            message[:2] == bytes([icmp_messages.REPLY_TYPE[self._address.version], 0])
            and message[4:] == request[4:]
        )

    async def _listen(self, sock: socket.socket, request: bytes, sent: _Sent, wait_s: float) -> Verdict:
        deadline = time.monotonic() + wait_s
        while True:
            verdict = self._read(sock, request, sent)
            if verdict is not None:
                return verdict
            # Whatever else comes meanwhile: the wait ends at its time.
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return Verdict(fate="silent")
            try:
                await readable(sock, left_s)
            except asyncio.TimeoutError:
                return self._read(sock, request, sent) or Verdict(fate="silent")

    def _read(self, sock: socket.socket, request: bytes, sent: _Sent) -> Verdict | None:
        """Read what is there, for a turn; return the fate once it is known."""
        turn = Turn()
        while turn.goes_on():
            try:
                data, ancillary, _flags, sender = sock.recvmsg(_LONGEST, _ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                # The short form of what stands in the error queue.
                verdict = self._read_errors(sock, request, sent)
                if verdict is not None:
                    return verdict
                continue
            raw = self._is_raw(sock)
            error = errors.parse(self._address.version, data, str(sender[0])) if raw else None
            if error is not None:
                verdict = self._take_error(error, stamps.stamp_in(ancillary), request, sent)
                if verdict is not None:
                    return verdict
            elif raw and not self._is_from_there(sender):
                continue
            elif self._method == "udp" or self._is_reply(sock, data, request):
                self.packets_received += 1
                # An IPv4 packet comes with its header by a raw socket.
                whole = raw and self._address.version == 4
                self.bytes_received += len(data) + (0 if whole else self._header)
                return self._passed(sent, stamps.stamp_in(ancillary), options.octet_in(ancillary))
        return self._read_errors(sock, request, sent)

    def _read_errors(self, sock: socket.socket, request: bytes, sent: _Sent) -> Verdict | None:
        for entry in stamps.read_error_queue(sock):
            if not isinstance(entry, stamps.QueuedError) or entry.origin not in (2, 3):
                continue
            queued = errors.queued(entry, b"", self._address.version)
            if self._method == "udp":  # whose header the kernel has taken off what is quoted
                queued = queued._replace(size=queued.size + _HEADER.size)
            verdict = self._take_error(queued._replace(low=self._low()), entry.stamped_ns, request, sent)
            if verdict is not None:
                return verdict
        return None

    def _take_error(self, error: Error, stamp_ns: int | None, request: bytes, sent: _Sent) -> Verdict | None:
        """Return what an ICMP error makes of the request; None when it quotes another."""
        if self._method == "icmp":
            # Routers need not quote more than 8 bytes (RFC 792): identifier and sequence number, and the cookie as far as
            # it is there.
            quoted = error.quoted[: _HEADER.size + _COOKIE_BYTES]
            if len(quoted) < _HEADER.size or error.low != self._low():
                return None
            if quoted[4:] != request[4 : len(quoted)]:
                return None
        self.packets_received += 1
        self.bytes_received += error.size
        return self._judge(error, stamp_ns, sent)

    def _low(self) -> bytes:
        return self._address.packed[-4:]

    def _is_from_there(self, sender: tuple[str, int]) -> bool:
        return ipaddress.ip_address(sender[0].partition("%")[0]).packed == self._address.packed

    def _judge(self, error: Error, stamp_ns: int | None, sent: _Sent) -> Verdict:
        version = self._address.version
        kind = (error.type, error.code) if version == 4 else (error.type,)
        if kind in ((3, 4), (2,)):
            return Verdict(fate="too_big", reporter=error.offender, mtu=error.mtu)
        if error.type == (11 if version == 4 else 3) and error.code == 0:
            return Verdict(fate="expired", reporter=error.offender)
        closed = (error.type, error.code) == ((3, 3) if version == 4 else (1, 4))
        if self._method == "udp" and closed and error.offender == str(self._address).partition("%")[0]:
            return self._passed(sent, stamp_ns)
        if own_word.is_unsent(version, error.type, error.code, error.offender):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        words = icmp_messages.error_name(version, error.type, error.code)
        return Verdict(fate="refused", reporter=error.offender, words=words)

    def _passed(self, sent: _Sent, stamp_ns: int | None, octet: int | None = None) -> Verdict:
        return Verdict(fate="passed", reporter=str(self._address), rtt_ms=sent.rtt_ms(stamp_ns), octet=octet)
