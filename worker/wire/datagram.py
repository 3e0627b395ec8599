"""A connected UDP socket whose packets carry kernel time stamps and whose ICMP errors say who sent them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from worker.probing import IPAddress
from worker.wire import stamps
from worker.wire.addresses import family_of, set_dscp, socket_address
from worker.wire.readiness import readable
from worker.wire.source import BY_ROUTES, Source

_LONGEST_DATAGRAM = 65_535
_ANCILLARY_BYTES = 512


@dataclass(frozen=True, kw_only=True)
class Datagram:
    """One datagram that came."""

    data: bytes
    received: stamps.Instant
    #: The kernel's receive stamp.
    stamped_ns: int | None


class DatagramExchange:
    """One query and whatever comes back, from the connected address only."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sent: stamps.Instant | None = None
        self._transmitted_ns: int | None = None
        #: The first that was not told yet.
        self._error: stamps.QueuedError | None = None

    def send(self, data: bytes) -> None:
        """Send one datagram; raises OSError when this host cannot."""
        self._sent = stamps.now()
        self._sock.send(data)

    async def receive(self) -> Datagram | stamps.QueuedError:
        """Return the next datagram or ICMP error; raises OSError where the system tells no more than that."""
        while True:
            pending: OSError | None = None
            try:
                data, ancillary, _flags, _address = self._sock.recvmsg(_LONGEST_DATAGRAM, _ANCILLARY_BYTES)
                return Datagram(data=data, received=stamps.now(), stamped_ns=stamps.stamp_in(ancillary))
            except BlockingIOError:
                pass
            except OSError as error:
                pending = error
            self._read_queue()
            if self._error is not None:
                # The socket's error was the short form of this one.
                told, self._error = self._error, None
                return told
            if pending is not None:
                raise pending
            await readable(self._sock)

    def elapsed_ms(self, datagram: Datagram) -> float:
        """Return the time from sending to receiving, by the kernel's stamps where both are there."""
        self._read_queue()
        if self._sent is None:
            raise RuntimeError("nothing was sent before elapsed_ms was asked for")
        nanoseconds, _kernel = stamps.elapsed(
            self._sent, self._transmitted_ns, datagram.received, datagram.stamped_ns
        )
        return nanoseconds / 1e6

    def _read_queue(self) -> None:
        for entry in stamps.read_error_queue(self._sock):
            if isinstance(entry, stamps.QueuedError):
                self._error = self._error or entry
            elif self._transmitted_ns is None:
                self._transmitted_ns = entry.wall_ns


@contextlib.contextmanager
def open_exchange(
    address: IPAddress, port: int, *, dscp: int = 0, source: Source = BY_ROUTES
) -> Iterator[DatagramExchange]:
    """Open a connected socket on a random port for one exchange; raises OSError when this host cannot."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        if stamps.SUPPORTED:
            stamps.enable(sock)
            stamps.enable_errors(sock)
        if dscp:
            set_dscp(sock, dscp)
        source.bind(sock)
        sock.connect(socket_address(address, port))
        yield DatagramExchange(sock)
