"""ICMP without the right to send raw packets: Linux' ICMP datagram sockets, where `net.ipv4.ping_group_range` allows.

The kernel writes the identifier and the checksum, and hands over of an ICMP error no more than who sent it, its type
and the quoted probe from the ICMP header on: no quoted IP header, no extensions.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import socket
import struct
from collections.abc import Iterator

from streamswarm.v1 import probe_pb2
from worker.wire import flow_labels, options, readiness, stamps
from worker.wire.trace import sockets
from worker.wire.trace.channel import BUSY, Refuse, Take
from worker.wire.trace.decoding import Seen
from worker.wire.trace.plan import Probe, TraceUnavailableError
from worker.wire.turns import Turn

PING_GROUP_RANGE = 'sudo sysctl -w net.ipv4.ping_group_range="0 2147483647"'

_IP_RECVTTL, _IPV6_RECVHOPLIMIT = 12, 51
_TTL = {4: (socket.IPPROTO_IP, 2), 6: (socket.IPPROTO_IPV6, 52)}
_CLASS = {4: (socket.IPPROTO_IP, 1), 6: (socket.IPPROTO_IPV6, 67)}
_ECHO = struct.Struct("!BBHHH")
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_PROTOCOL = {4: 1, 6: 58}
_MSG_ERRQUEUE = 0x2000
_INT = struct.Struct("=i")
#: So often a probe is handed to the kernel while errors come for others.
_ATTEMPTS = 16


class DatagramChannel:
    """One ICMP datagram socket. Has the functions of `RawChannel`."""

    def __init__(self, version: int, *, take: Take, refuse: Refuse) -> None:
        self.version = version
        self._take = take
        self._refuse = refuse
        self._loop = asyncio.get_running_loop()
        self.ready: list[Probe] = []
        self._sock = open_socket(version)
        options.enlarge_receiving(self._sock, sockets.RECEIVE_BYTES)
        try:
            if version == 4:
                self._sock.setsockopt(socket.IPPROTO_IP, _IP_RECVTTL, 1)
            else:
                self._sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
            stamps.enable_errors(self._sock)
            self._stamped = stamps.enable(self._sock)
            self._ident = _bind(self._sock)
        except OSError:
            self._sock.close()
            raise
        self._header = 20 if version == 4 else 40
        self._numbered: dict[int, Probe] = {}
        self._next_number = 0
        readiness.add_reader(self._loop, self._sock, self._receive)

    def ident(self, flow: int) -> int:
        """Return the ICMP identifier."""
        return self._ident

    def overflows(self) -> int:
        """Return how many packets came for which the receive buffer had no room."""
        return options.dropped(self._sock)

    def close(self) -> None:
        """Close the socket."""
        readiness.remove_reader(self._loop, self._sock)
        self._sock.close()

    def transmit(self, batch: list[Probe]) -> list[Probe]:
        """Send probes one by one; returns those that the kernel has no room for now."""
        for number, probe in enumerate(batch):
            errno_ = self._send(probe)
            if errno_ in BUSY:
                return batch[number:]
            if errno_:
                self._restart_numbers()
                self._refuse(probe, errno_)
        return []

    def _send(self, probe: Probe) -> int:
        """Send one probe; returns 0, or the errno."""
        course = probe.course
        packet = bytearray(course.templates[probe.flow].length)
        course.templates[probe.flow].write(packet, 0, probe.ttl, probe.slot)
        label = course.plan.flow_label
        ancillary = [
            (*_TTL[self.version], _INT.pack(probe.ttl)),
            (*_CLASS[self.version], _INT.pack(course.plan.dscp << 2 | course.plan.ecn)),
            *([] if course.control is None else [course.control]),
            *([flow_labels.control(label + probe.flow & 0xFFFFF)] if label else []),
        ]
        errors = 0
        for attempt in range(_ATTEMPTS):
            sent = stamps.now()
            try:
                self._sock.sendmsg([packet[self._header :]], ancillary, 0, course.address)
            except OSError as error:
                # An ICMP error for an earlier probe is handed to the next call on the socket, which clears it; whoever
                # forges errors must not win the race for each call, so that they are read but once.
                if not attempt:
                    errors = self._read_errors()
                if errors and error.errno not in BUSY and attempt + 1 < _ATTEMPTS:
                    self._begin_count()
                    continue
                return error.errno or errno.EIO
            probe.sent = sent
            course.sent(probe)
            self._numbered[self._next_number & 0xFFFF] = probe
            self._next_number += 1
            return 0
        return errno.EIO

    def _restart_numbers(self) -> None:
        """Begin a new count: whether the kernel counted a refused packet depends on its version."""
        self._read_errors()
        self._begin_count()

    def _begin_count(self) -> None:
        self._next_number = 0
        self._stamped = stamps.enable(self._sock)

    def _receive(self) -> None:
        # Stamps first: an answer's time needs the one of its probe.
        self._read_errors()
        turn = Turn()
        while self._sock.fileno() >= 0 and turn.goes_on():
            try:
                data, ancillary, _flags, address = self._sock.recvmsg(2048, 512)
            except BlockingIOError:
                return
            except OSError:
                # The pending error of an ICMP message; the error queue has it in full.
                if not self._read_errors():
                    return
                continue
            if len(data) >= _ECHO.size and data[0] == _REPLY[self.version]:
                self._take(self.version, iter([self._reply(data, ancillary, address[0])]), stamps.now())

    def _reply(self, data: bytes, ancillary: stamps.Ancillary, text: str) -> Seen:
        source = ipaddress.ip_address(text.partition("%")[0]).packed
        kind, code, _check, ident, slot = _ECHO.unpack_from(data)
        stamp_ns = stamps.stamp_in(ancillary)
        ttl = next(
            (_INT.unpack_from(each[2])[0] for each in ancillary if each[:2] == _TTL[self.version]), None
        )
        size = self._header + len(data)
        head = _REQUEST[self.version] << 56 | ident << 16 | slot
        return Seen(
            slot, _PROTOCOL[self.version], head, None, source, source, kind, code, True, size, ttl, None, None, None,
            stamp_ns, None,
        )  # fmt: skip

    def _read_errors(self) -> int:
        """Read the error queue, for a turn; return how many ICMP errors (not stamps) were in it."""
        errors: list[Seen] = []
        count = 0
        turn = Turn()
        while turn.goes_on():
            try:
                data, ancillary, _flags, address = self._sock.recvmsg(2048, 512, _MSG_ERRQUEUE)
            except OSError:  # nothing there
                break
            entry = stamps.parse_queued(data, ancillary)
            if isinstance(entry, stamps.TransmitStamp):
                probe = self._numbered.get(entry.key & 0xFFFF)
                if probe is not None and probe.sent is not None and entry.wall_ns >= probe.sent.wall_ns:
                    probe.transmitted_ns = entry.wall_ns
                    del self._numbered[entry.key & 0xFFFF]
            elif entry is not None and entry.origin in (2, 3):
                count += 1
                errors.extend(self._error(entry, address[0] if address else ""))
        if errors:
            self._take(self.version, iter(errors), stamps.now())
        return count

    def _error(self, entry: stamps.QueuedError, text: str) -> Iterator[Seen]:
        if entry.offender is None or len(entry.quoted) < _ECHO.size:
            return
        slot = _ECHO.unpack_from(entry.quoted)[-1]
        head = int.from_bytes(entry.quoted[: _ECHO.size], "big")
        with contextlib.suppress(ValueError):  # an address of another family says nothing
            # The address of such a message is whom the probe was sent to.
            destination = ipaddress.ip_address(text.partition("%")[0]).packed
            source = ipaddress.ip_address(entry.offender).packed
            # Header of the error, ICMP header, quoted IP header, quoted message.
            size = 2 * self._header + 8 + len(entry.quoted)
            yield Seen(
                slot, _PROTOCOL[self.version], head, None, destination, source, entry.type, entry.code, False, size,
                None, None, None, None, entry.stamped_ns, None,
            )  # fmt: skip


def open_socket(version: int) -> socket.socket:
    """Return a non-blocking ICMP datagram socket, or raise TraceUnavailableError."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    try:
        sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            raise TraceUnavailableError(
                f"this host has no IPv{version}", "", probe_pb2.FAILURE_REASON_CANNOT_SEND
            ) from error
        if error.errno not in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT):
            raise
        raise TraceUnavailableError(
            "this process may open neither raw nor ICMP datagram sockets: it lacks CAP_NET_RAW and its group is outside "
            "net.ipv4.ping_group_range",
            PING_GROUP_RANGE,
        ) from error
    sock.setblocking(False)
    return sock


def _bind(sock: socket.socket) -> int:
    """Give the socket a random identifier; left to itself the kernel counts upwards."""
    host = "0.0.0.0" if sock.family == socket.AF_INET else "::"  # noqa: S104  an identifier, not a listener
    for _ in range(16):
        with contextlib.suppress(OSError):  # taken by another socket
            sock.bind((host, 1 + secrets.randbelow(0xFFFF)))
            break
    else:
        sock.bind((host, 0))
    return int(sock.getsockname()[1])
