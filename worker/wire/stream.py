"""A byte stream over a connected socket, in the clear or under TLS, that knows when bytes came.

TLS runs in memory (ssl.MemoryBIO), so that connection and handshake are timed apart and a cancelled run leaves
nothing behind but a socket to close.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import socket
import ssl
import termios
import time
from collections import deque
from collections.abc import Callable

from worker.wire import stamps
from worker.wire.readiness import either, readable, writable
from worker.wire.volume import SpentError, Volume

_CHUNK_BYTES = 16_384
#: What a peer can have sent that is not read, at most as systems begin (Linux: the second of `net.ipv4.tcp_rmem`).
UNREAD_BYTES = 131_072
#: What is taken in of an answer while its request is still being sent.
_MOST_EARLY_BYTES = 131_072
#: Room for the kernel's stamps beside what is received.
_ANCILLARY_BYTES = 128
#: A peer that always has more to say must not keep every other run from being served: so long it may in a row.
_TURN_NS = 5_000_000


class PeerClosedError(Exception):
    """The peer closed the connection before what it had to say was complete."""


class ByteStream:
    """Sends and receives on a non-blocking connected socket, within the volume of a run; the holder closes it.

    Whatever moves bytes raises SpentError when the run has moved all that it may. `since_ns` is when the connection was
    there, by time.perf_counter_ns; without it that is now.
    """

    def __init__(self, sock: socket.socket, volume: Volume, *, since_ns: int | None = None) -> None:
        self._sock = sock
        self._volume = volume
        self._tls: ssl.SSLObject | None = None
        self._turn_began_ns = time.perf_counter_ns()
        #: What came while something was being sent, each with its instant; and its bytes.
        self._early: deque[tuple[int, bytes]] = deque()
        self._early_bytes = 0
        self._arrivals = stamps.Arrivals(since_ns)
        #: Instant at which the bytes last received came in, by time.perf_counter_ns.
        self.received_ns = 0
        #: How much sooner they would have been read by a worker that looks at once, and had at each answer before.
        self.late_ns = 0 if since_ns is None else time.perf_counter_ns() - since_ns
        #: How much of it goes back to before the far end was asked last.
        self._asked_late_ns = 0
        #: Bytes that went over the socket: payload of the TCP connection, TLS included.
        self.bytes_sent = 0
        self.bytes_received = 0

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session, or None in the clear."""
        return self._tls

    async def start_tls(self, context: ssl.SSLContext, server_name: str) -> int:
        """Shake hands; return the nanoseconds that it took, less those by which this worker was late.

        Raises ssl.SSLError, or PeerClosedError when the peer hangs up meanwhile.
        """
        began_ns = time.perf_counter_ns() - self.late_ns
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    self._ask()
                await self._flush()
                await self._feed()
            except ssl.SSLError:
                await self._flush()  # the alert that tells the peer why
                raise
        await self._flush()
        self._tls = tls
        return time.perf_counter_ns() - self.late_ns - began_ns

    async def send(self, data: bytes, *, asks: bool = True) -> None:
        """Send everything; what came before is no answer to what `asks` for something."""
        if asks:
            self._ask()
        if self._tls is None:
            await self._write(data)
            return
        self._tls.write(data)
        await self._flush()

    @property
    def heard(self) -> bool:
        """Whether something came while something was being sent, and was not received yet."""
        return bool(self._early)

    def count_unread(self) -> None:
        """Count what has come and will not be read; to be called before the socket is closed."""
        waiting = array.array("i", [0])
        with contextlib.suppress(OSError, ValueError):  # it is closed already
            fcntl.ioctl(self._sock.fileno(), termios.FIONREAD, waiting)
        self._count_received(waiting[0])

    def overhears(self, refused: Callable[[bytes], bool]) -> bool:
        """Take in what has come, for `receive`; True when it was refused by it, or the peer has closed its side."""
        if self._early_bytes >= _MOST_EARLY_BYTES:
            return False
        said = self._take_now()
        if said is None:
            return False
        self._early.append((self.received_ns, said))
        self._early_bytes += len(said)
        return not said or refused(said)

    async def send_unless(self, data: bytes, refused: Callable[[bytes], bool]) -> bool:
        """Send everything; False when the peer said something by which it was refused, before or while it took no more.

        What it says meanwhile is left for `receive`; of a peer that closes its side nothing more is to be expected. Raises
        SpentError when it says much, and takes nothing.
        """
        self._ask()
        if self.overhears(refused):
            return False
        if self._tls is not None:
            self._tls.write(data)
            data = self._outgoing.read()
        left = memoryview(data)
        while True:
            try:
                count = self._send(left)
            except BlockingIOError:
                if self._early_bytes >= _MOST_EARLY_BYTES:
                    # Neither side would go on: who sends back what it is sent takes no more until that is read.
                    raise SpentError(
                        f"it sent {self._early_bytes} bytes while it had not taken the whole request; "
                        "use a destination that takes what it is sent before it answers"
                    ) from None
                await either(self._sock)
                if self.overhears(refused):
                    return False
                continue
            if count == len(left):
                break
            left = left[count:]
        if self._tls is not None:
            await self._flush()  # what TLS had to say to what came
        return True

    async def give_way(self) -> None:
        """Let other runs go on, if this one has long been busy without waiting; to be called for each piece of work."""
        if time.perf_counter_ns() - self._turn_began_ns >= _TURN_NS:
            left_ns = time.perf_counter_ns()
            await asyncio.sleep(0)
            self._turn_began_ns = time.perf_counter_ns()
            self.late_ns += self._turn_began_ns - left_ns

    async def receive(self, limit: int = _CHUNK_BYTES) -> bytes:
        """Return the next bytes, empty at the end of the stream."""
        if self._early:
            return self._heard(limit)
        if self._tls is None:
            return await self._read(limit)
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLWantReadError:
                await self._flush()
                try:
                    await self._feed()
                except PeerClosedError:
                    return b""  # closed without a closing alert, as many servers do
            except ssl.SSLZeroReturnError:
                return b""

    def receive_now(self) -> bytes | None:
        """Return what has come already, empty at the end of the stream, None when nothing has."""
        return self._heard(_CHUNK_BYTES) if self._early else self._take_now()

    def _take_now(self) -> bytes | None:
        data: bytes | None = None
        with contextlib.suppress(BlockingIOError):
            data = self._take_in(self._volume.room(_CHUNK_BYTES), time.perf_counter_ns())
            self._count_received(len(data))
        if self._tls is None:
            return data
        if data:
            self._incoming.write(data)
        elif data is not None:
            self._incoming.write_eof()
        try:
            return self._tls.read(_CHUNK_BYTES)
        except ssl.SSLWantReadError:
            return None  # the beginning of a record, or one that carries no data
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""

    async def receive_exactly(self, count: int) -> bytes:
        """Return that many bytes, or raise PeerClosedError at the end of the stream."""
        parts: list[bytes] = []
        while count:
            data = await self.receive(count)
            if not data:
                raise PeerClosedError("closed the connection before its answer was complete")
            parts.append(data)
            count -= len(data)
        return b"".join(parts)

    def _heard(self, limit: int) -> bytes:
        """Return what came while something was being sent, as if it came now."""
        self.received_ns, data = self._early.popleft()
        if len(data) > limit:
            self._early.appendleft((self.received_ns, data[limit:]))
        self._early_bytes -= len(data[:limit])
        return data[:limit]

    def _ask(self) -> None:
        """Note that what comes from now on is the answer to what is sent now, and comes as late as that is sent."""
        self._arrivals.begin()
        self._asked_late_ns = self.late_ns

    async def _feed(self) -> None:
        data = await self._read()
        if not data:
            self._incoming.write_eof()
            raise PeerClosedError("closed the connection")
        self._incoming.write(data)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while True:
            try:
                count = self._send(left)
            except BlockingIOError:
                await writable(self._sock)
                continue
            if count == len(left):
                return
            left = left[count:]

    def _send(self, data: memoryview) -> int:
        count = self._sock.send(data[: self._volume.room(len(data))])
        self.bytes_sent += count
        self._volume.sent += count
        return count

    def _count_received(self, count: int) -> None:
        self.bytes_received += count
        self._volume.received += count

    async def _read(self, limit: int = _CHUNK_BYTES) -> bytes:
        limit = self._volume.room(limit)
        called_ns = time.perf_counter_ns()
        try:
            data = self._take_in(limit, called_ns)
        except BlockingIOError:
            data = await self._wait_and_read(limit, called_ns)
        else:
            await self.give_way()
        self._count_received(len(data))
        return data

    async def _wait_and_read(self, limit: int, called_ns: int) -> bytes:
        while True:
            ready_ns = await readable(self._sock)
            self._turn_began_ns = time.perf_counter_ns()
            with contextlib.suppress(BlockingIOError):
                return self._take_in(limit, called_ns, ready_ns)

    def _take_in(self, limit: int, called_ns: int, ready_ns: int | None = None) -> bytes:
        """Read what is there, or was at `ready_ns`, for whom wants it since `called_ns`; note when it came, and how late that is."""
        data, ancillary, _flags, _address = self._sock.recvmsg(limit, _ANCILLARY_BYTES)
        read_ns = time.perf_counter_ns()
        self.received_ns = self._arrivals.take(stamps.stamp_in(ancillary), ready_ns or read_ns)
        late_ns = self.late_ns - self._asked_late_ns
        self.late_ns = self._asked_late_ns + read_ns - max(self.received_ns, called_ns - late_ns)
        return data
