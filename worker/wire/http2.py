"""HTTP/2 on one stream (RFC 9113), by the library h2."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

from worker.wire.http_body import Body
from worker.wire.http_exchange import (
    LONGEST_HEAD,
    BadAnswerError,
    Exchange,
    FieldLimit,
    HeaderTooLargeError,
    Request,
    closed_early,
    headers_of,
)
from worker.wire.stream import ByteStream, PeerClosedError

#: How much may be under way to us unacknowledged: enough for 80 Mbit/s over 100 ms.
_WINDOW = 1_048_576
_FIRST_WINDOW = 65_535
_FRAME_HEAD_BYTES = 9
#: What we have not allowed a peer to exceed (RFC 9113, section 4.2).
_LONGEST_FRAME = 16_384
_DATA, _HEADERS, _RST_STREAM, _GOAWAY = 0, 1, 3, 7
_END_STREAM = 1
#: What GOAWAY begins with: the last request that was taken, and the error.
_LEAVE = struct.Struct("!II")
#: Events that bring sections of header fields.
_HEADS = (
    h2.events.InformationalResponseReceived,
    h2.events.ResponseReceived,
    h2.events.TrailersReceived,
)
#: So many frames, which may be empty, the library takes before other runs may go on.
_FRAMES_AT_A_TIME = 64


class Http2Session:
    """One connection, one request at a time on it; see Session."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        # Field values are any bytes: they are decoded where they are taken over.
        self._connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self._connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={
                h2.settings.SettingCodes.ENABLE_PUSH: 0,
                h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW,
                h2.settings.SettingCodes.MAX_HEADER_LIST_SIZE: LONGEST_HEAD,
            },
        )
        self._connection.initiate_connection()
        self._connection.increment_flow_control_window(_WINDOW - _FIRST_WINDOW)
        self._leave_takings = _LeaveTakings()
        self.reusable = True

    async def converse(
        self,
        request: Request,
        exchange: Exchange,
        body: Body,
        *,
        last: bool,
        wants_body: Callable[[Exchange], bool],
    ) -> None:
        """Send a request and read its answer; `last` needs no word in HTTP/2."""
        self.reusable = False
        exchange.begun_ns = time.perf_counter_ns()
        try:
            number = self._connection.get_next_available_stream_id()
            self._connection.send_headers(number, _head(request), end_stream=not request.body)
            one = _One(number=number, exchange=exchange, body=body, wants_body=wants_body)
            await self._send(one, request.body)
            exchange.sent_ns = time.perf_counter_ns()
            while not one.ended:
                await self._receive(one)
            self.reusable = one.complete and not one.cut_off and not self._leave_takings.seen
        except h2.exceptions.DenialOfServiceError as error:
            raise HeaderTooLargeError.by_bytes() from error
        except h2.exceptions.ProtocolError as error:
            raise BadAnswerError(str(error) or type(error).__name__) from error

    async def _send(self, one: _One, body: bytes) -> None:
        """Send the request, as much of its body at a time as the peer gives room for."""
        left = memoryview(body)
        await self._hand_over(one)
        while left and not one.ended and not one.cut_off:
            room = min(
                self._connection.local_flow_control_window(one.number),
                self._connection.max_outbound_frame_size,
                len(left),
            )
            if room <= 0:
                await self._receive(one)  # until there is room again
                continue
            piece, left = left[:room], left[room:]
            self._connection.send_data(one.number, bytes(piece), end_stream=not left)
            await self._hand_over(one)

    async def _hand_over(self, one: _One) -> None:
        """Send what the library has ready; a peer that has answered, and takes no more, ends the sending."""
        ending = _Ending(one.number, self._leave_takings.unread)
        try:
            one.cut_off = not await self._stream.send_unless(
                self._connection.data_to_send(), ending.stands_in
            )
        except (ConnectionResetError, BrokenPipeError):
            # Who refuses a body may answer, and close before all of it has come.
            self._stream.overhears(ending.stands_in)
            if not self._stream.heard:
                raise
            one.cut_off = True
        while self._stream.heard and not one.ended:
            await self._receive(one)

    async def _receive(self, one: _One) -> None:
        data = await self._stream.receive()
        if not data:
            raise PeerClosedError(closed_early(one.exchange))
        frames = self._leave_takings.without(data)
        for start in range(0, len(frames), _FRAMES_AT_A_TIME):
            some = b"".join(frames[start : start + _FRAMES_AT_A_TIME])
            for event in self._connection.receive_data(some):
                await self._take(event, one)
            await self._stream.give_way()
        if self._leave_takings.seen and not one.ended:
            self._leave_takings.check(one.number)
        answer = self._connection.data_to_send()
        if answer and not one.ended and not one.cut_off:
            await self._stream.send(answer, asks=False)

    async def _take(self, event: Any, one: _One) -> None:
        if one.ended or getattr(event, "stream_id", None) != one.number:
            return
        exchange = one.exchange
        if isinstance(event, _HEADS):
            one.fields.take(event.headers)
        if isinstance(event, h2.events.InformationalResponseReceived):
            exchange.first_byte_ns = exchange.first_byte_ns or self._stream.received_ns
        elif isinstance(event, h2.events.ResponseReceived):
            exchange.first_byte_ns = exchange.first_byte_ns or self._stream.received_ns
            _take_head(event, exchange)
            if not one.wants_body(exchange):
                one.ended = True
                exchange.end_ns = self._stream.received_ns
            else:
                one.body.begin(exchange.headers.get("content-encoding", ""))
        elif isinstance(event, h2.events.DataReceived):
            await one.body.feed(event.data)
            self._connection.acknowledge_received_data(event.flow_controlled_length, one.number)
        elif isinstance(event, h2.events.StreamReset):
            raise PeerClosedError(f"reset the request ({_error_name(event.error_code)})")
        elif isinstance(event, h2.events.StreamEnded):
            one.ended = one.complete = True
            exchange.end_ns = self._stream.received_ns
            one.body.finish()


class _LeaveTakings:
    """Takes GOAWAY frames out of what is received (RFC 9113, section 6.8).

    A server that takes its leave still answers the requests that it has taken; the library would refuse the answers.
    """

    def __init__(self) -> None:
        #: The beginning of a frame of which more is to come.
        self.unread = b""
        #: Whether one came.
        self.seen = False
        self._last_number = 0
        self._error = 0

    def without(self, data: bytes) -> list[bytes]:
        """Return what else has come, in whole frames."""
        unread = self.unread + data
        kept: list[bytes] = []
        start = 0
        while len(unread) - start >= _FRAME_HEAD_BYTES:
            length = int.from_bytes(unread[start : start + 3], "big")
            if length > _LONGEST_FRAME:  # for the library to complain of
                kept.append(unread[start:])
                start = len(unread)
                break
            end = start + _FRAME_HEAD_BYTES + length
            if len(unread) < end:
                break
            frame, start = unread[start:end], end
            if frame[3] == _GOAWAY and length >= 8:
                self.seen = True
                taken, self._error = _LEAVE.unpack_from(frame, _FRAME_HEAD_BYTES)
                self._last_number = taken & 0x7FFFFFFF
            else:
                kept.append(frame)
        self.unread = unread[start:]
        return kept

    def check(self, number: int) -> None:
        """Raise PeerClosedError unless the peer still answers that request."""
        if self._error or self._last_number < number:
            raise PeerClosedError(f"ended the HTTP/2 connection ({_error_name(self._error)})")


class _Ending:
    """Finds in frames that come while a request is being sent whether its stream has ended.

    The library reads them afterwards (RFC 9113, section 4.1).
    """

    def __init__(self, number: int, unread: bytes) -> None:
        self._number = number
        self._unread = unread

    def stands_in(self, data: bytes) -> bool:
        """Take the next bytes."""
        self._unread += data
        while len(self._unread) >= _FRAME_HEAD_BYTES:
            length = int.from_bytes(self._unread[:3], "big")
            kind, flags = self._unread[3:5]
            number = int.from_bytes(self._unread[5:9], "big") & 0x7FFFFFFF
            last = kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM)
            if length > _LONGEST_FRAME or (last and number == self._number):
                return True
            if len(self._unread) < _FRAME_HEAD_BYTES + length:
                break
            if kind == _GOAWAY:  # the other requests are given up, or all
                taken, error = _LEAVE.unpack_from(
                    self._unread.ljust(_FRAME_HEAD_BYTES + _LEAVE.size, b"\0"), 9
                )
                if error or taken & 0x7FFFFFFF < self._number:
                    return True
            self._unread = self._unread[_FRAME_HEAD_BYTES + length :]
        return False


class _One:
    """The exchange under way."""

    def __init__(
        self, *, number: int, exchange: Exchange, body: Body, wants_body: Callable[[Exchange], bool]
    ) -> None:
        self.number = number
        self.exchange = exchange
        self.body = body
        self.wants_body = wants_body
        self.fields = FieldLimit()
        #: Nothing further is waited for.
        self.ended = False
        #: The answer was read to its end.
        self.complete = False
        #: The rest of the request was not wanted; nothing more can be sent over the connection.
        self.cut_off = False


def _head(request: Request) -> list[tuple[str, str]]:
    headers = [
        (":method", request.method),
        (":scheme", request.scheme),
        (":authority", request.authority),
        (":path", request.path),
    ]
    headers += [(name.lower(), value) for name, value in request.headers]
    if request.says_length:
        headers.append(("content-length", str(len(request.body))))
    return headers


def _take_head(event: Any, exchange: Exchange) -> None:
    headers = headers_of(event.headers)
    status = headers.pop(":status", "")
    if not (status.isascii() and status.isdecimal() and len(status) == 3):
        raise BadAnswerError("the answer has no status")
    exchange.version = 2.0
    exchange.status = int(status)
    exchange.headers = headers


def _error_name(code: int) -> str:
    try:
        return h2.errors.ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
