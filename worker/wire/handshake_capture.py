"""Kernel time stamps of the three packets of TCP handshakes.

The kernel stamps no SYN for the socket that connects, so the packets are watched from beside: one packet socket for all
runs of the worker, with a filter for the local ports that are connecting at the moment. It is there only while runs
watch, because every packet of the host passes by its filter. Linux only, and it needs CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from worker.failures import error_text
from worker.probing import IPAddress
from worker.wire import options, stamps
from worker.wire.segments import ACK, SNAPPED, SYN, Segment, parse, port_filter
from worker.wire.source import IP_BIND_ADDRESS_NO_PORT
from worker.wire.turns import Turn

_ETH_P_ALL = 0x0003
_PACKET_OUTGOING = 4
_ANCILLARY_BYTES = 128
#: The kernel begins to stamp packets a moment after the first socket has asked for it.
_STAMPS_BEGIN_S = 0.02
#: How long the last packet may be on its way from the device to us once the connection is there.
_LAST_PACKET_S = 0.05


class CaptureUnavailableError(Exception):
    """Packets cannot be watched here; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The parts of one handshake, milliseconds."""

    syn_to_synack_ms: float
    synack_to_ack_ms: float


class Watch:
    """One connection being made, seen from beside."""

    def __init__(self, capture: HandshakeCapture, address: IPAddress, port: int) -> None:
        self._capture = capture
        self._far = (address.packed, port)
        self._complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._syn_ns: int | None = None
        self._synack_ns: int | None = None
        self._ack_ns: int | None = None
        #: What the third packet acknowledges.
        self._expected: int | None = None
        self._local_port: int | None = None

    def begin(self, sock: socket.socket) -> None:
        """Have the packets of a socket let through that is about to connect; it gets its local port now."""
        if not sock.getsockname()[1]:
            # Keep the address that it may be bound to.
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0)
            host, _port, *scope = sock.getsockname()
            sock.bind((host, 0, *scope))
        self._local_port = int(sock.getsockname()[1])
        self._capture.admit(self._local_port, self)

    def end(self) -> None:
        """Let no more of them through."""
        if self._local_port is not None:
            self._capture.dismiss(self._local_port)

    async def split(self) -> Split | None:
        """Return the parts of the handshake, or None when a packet or its stamp was not seen."""
        self._capture.read()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._complete, _LAST_PACKET_S)
        if self._syn_ns is None or self._synack_ns is None or self._ack_ns is None:
            return None
        parts = self._synack_ns - self._syn_ns, self._ack_ns - self._synack_ns
        if min(parts) < 0:  # stamps are wall clock, which was set meanwhile
            return None
        return Split(syn_to_synack_ms=parts[0] / 1e6, synack_to_ack_ms=parts[1] / 1e6)

    def take(self, segment: Segment, *, outgoing: bool, stamp_ns: int | None) -> None:
        """Take note of a segment from or to the local port."""
        far = (
            (segment.destination, segment.destination_port)
            if outgoing
            else (segment.source, segment.source_port)
        )
        if far != self._far or self._complete.done():
            return
        sort = segment.flags & (SYN | ACK)
        if outgoing and sort == SYN and self._expected is None:
            # Devices that lie above each other show the packet each: the last is nearest to the wire.
            self._syn_ns = stamp_ns
        elif not outgoing and sort == SYN | ACK and self._expected is None:
            self._synack_ns = stamp_ns
            self._expected = (segment.sequence + 1) & 0xFFFFFFFF
        elif outgoing and sort == ACK and segment.acknowledgement == self._expected:
            self._ack_ns = stamp_ns
            self._complete.set_result(None)


class HandshakeCapture:
    """The packet socket of an event loop, and who watches."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._watches: dict[int, Watch] = {}
        self._sock = _packet_socket()
        self._stamped_from = self._loop.time() + _STAMPS_BEGIN_S
        self._loop.add_reader(self._sock, self.read)
        #: Runs that have it open.
        self.users = 0

    async def ready(self) -> None:
        """Wait until packets bear stamps."""
        wait_s = self._stamped_from - self._loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    @contextlib.contextmanager
    def watch(self, address: IPAddress, port: int) -> Iterator[Watch]:
        """Watch one connection to an address."""
        watch = Watch(self, address, port)
        try:
            yield watch
        finally:
            watch.end()

    def admit(self, local_port: int, watch: Watch) -> None:
        """Let the packets of a local port through; raises OSError."""
        self._watches[local_port] = watch
        options.attach_filter(self._sock, port_filter(self._watches))

    def dismiss(self, local_port: int) -> None:
        """Keep them out again."""
        if self._watches.pop(local_port, None) is not None:
            options.attach_filter(self._sock, port_filter(self._watches))

    def read(self) -> None:
        """Hand the packets that have come to whom they concern, for a turn."""
        turn = Turn()
        while turn.goes_on():
            try:
                packet, ancillary, _flags, address = self._sock.recvmsg(SNAPPED, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            segment = parse(packet)
            if segment is None:
                continue
            outgoing = address[2] == _PACKET_OUTGOING
            watch = self._watches.get(segment.source_port if outgoing else segment.destination_port)
            if watch is not None:
                watch.take(segment, outgoing=outgoing, stamp_ns=stamps.stamp_in(ancillary))

    def close(self) -> None:
        """Close the socket, in a thread where one can be started: the kernel waits until all processors are done with it."""
        self._loop.remove_reader(self._sock)
        try:
            threading.Thread(target=self._sock.close, name="closing a packet socket", daemon=True).start()
        except RuntimeError:
            self._sock.close()


_open: dict[asyncio.AbstractEventLoop, HandshakeCapture] = {}


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[HandshakeCapture]:
    """Have this event loop's packet socket, shared with other runs; raises CaptureUnavailableError."""
    loop = asyncio.get_running_loop()
    shared = _open.get(loop)
    if shared is None:
        shared = _open[loop] = HandshakeCapture()
    shared.users += 1
    try:
        await shared.ready()
        yield shared
    finally:
        shared.users -= 1
        if not shared.users:
            del _open[loop]
            shared.close()


def _packet_socket() -> socket.socket:
    if not sys.platform.startswith("linux"):
        raise CaptureUnavailableError("packets can be watched on Linux only")
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    except PermissionError as error:
        raise CaptureUnavailableError(
            "watching packets needs CAP_NET_RAW, which the worker does not have; provision this host again"
        ) from error
    except OSError as error:
        raise CaptureUnavailableError(f"no packet socket could be opened: {error_text(error)}") from error
    try:
        sock.setblocking(False)
        options.attach_filter(sock, port_filter(()))
        stamps.enable_receiving(sock)
    except OSError as error:
        sock.close()
        raise CaptureUnavailableError(f"packets cannot be watched: {error_text(error)}") from error
    return sock
