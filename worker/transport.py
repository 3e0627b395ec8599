"""Streams to gateways over gRPC with mutual TLS 1.3, and the enrolment call.

grpc is imported here only, after the cipher list is set: the library has no other way to refuse TLS 1.2, and
`--once` does without the library altogether.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

from streamswarm.targets import shown
from streamswarm.v1 import gateway_pb2
from worker.errors import EnrolmentRefusedError, UnavailableError
from worker.identity import Identity

if TYPE_CHECKING:
    import grpc.aio

# Not the generated stubs: they insist on a grpc as new as the generator, and hosts may have an older one.
_SESSION = "/streamswarm.v1.Gateway/Session"
_ENROL = "/streamswarm.v1.Enrolment/Enrol"

_OPTIONS: tuple[tuple[str, int], ...] = (
    # Answered pings are most of what an idle gateway of thousands does; a gateway that is gone is found within 50 s.
    ("grpc.keepalive_time_ms", 40_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    (
        "grpc.http2.ping_timeout_ms",
        10_000,
    ),  # or an answer is waited for a minute, whatever the one above says
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # Messages to workers are small; gRPC would send a ping with each to find out how wide a window they need.
    ("grpc.http2.bdp_probe", 0),
    # A pool of its own, or a new certificate would be ignored while an old connection lives.
    ("grpc.use_local_subchannel_pool", 1),
    # A proxy for the web is no way to a gateway.
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    # So long a connection may take, handshake included, as long as the gateway lets it. By itself gRPC gives up after 20 s, and
    # a gateway to which thousands come back has one handshake more to do.
    ("grpc.min_reconnect_backoff_ms", 30_000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
)
_FAREWELL_S = 1.0


class StreamEndedError(Exception):
    """The stream is over. `refused` when the other side does not know or want this worker: dialling on is no use."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Stream(Protocol):
    """One session's stream. Simulations bring their own."""

    async def send(self, message: gateway_pb2.WorkerMessage) -> None:
        """Hand a message over; raises StreamEndedError."""

    async def receive(self) -> gateway_pb2.GatewayMessage:
        """Return the next message; raises StreamEndedError at the end."""

    async def close(self) -> None:
        """End the stream, whatever state it is in."""


#: Opens a stream to `host:port` with an identity.
Dial = Callable[[str, Identity], Awaitable[Stream]]


def load_grpc() -> Any:
    """Import grpc so that it speaks TLS 1.3 only."""
    # With elliptic-curve certificates this suite of TLS 1.2 can never be agreed on; those of 1.3 are not in this list.
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "ECDHE-RSA-AES128-GCM-SHA256"
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import grpc
    import grpc.aio

    return grpc


class GrpcStream:
    """A stream over grpc.aio."""

    def __init__(self, channel: grpc.aio.Channel, call: Any) -> None:
        self._channel = channel
        self._call = call
        self._grpc = load_grpc()
        # The library allows one write at a time.
        self._writing = asyncio.Lock()

    async def send(self, message: gateway_pb2.WorkerMessage) -> None:
        try:
            async with self._writing:
                await self._call.write(message)
        except (self._grpc.aio.AioRpcError, asyncio.InvalidStateError, self._grpc.aio.UsageError) as error:
            raise await self._ended() from error

    async def receive(self) -> gateway_pb2.GatewayMessage:
        try:
            message = await self._call.read()
        except (self._grpc.aio.AioRpcError, asyncio.InvalidStateError, self._grpc.aio.UsageError) as error:
            raise await self._ended() from error
        if message is self._grpc.aio.EOF:
            raise await self._ended()
        if not isinstance(message, gateway_pb2.GatewayMessage):
            raise StreamEndedError("the gateway sent something that is no message")
        return message

    async def close(self) -> None:
        if self._call is None:
            return
        with contextlib.suppress(Exception):  # it is over one way or the other
            if not self._call.done():
                await asyncio.wait_for(self._call.done_writing(), _FAREWELL_S)
                await asyncio.wait_for(self._call.code(), _FAREWELL_S)
        self._call.cancel()
        await self._channel.close()
        # The connection lives for as long as the call does, and what failed may know this stream until Python's collector comes.
        self._call = None

    async def _ended(self) -> StreamEndedError:
        code = await self._call.code()
        details = shown(await self._call.details() or "", 300)
        refusing = (self._grpc.StatusCode.UNAUTHENTICATED, self._grpc.StatusCode.PERMISSION_DENIED)
        return StreamEndedError(f"{code.name}: {details}" if details else code.name, refused=code in refusing)


async def dial(address: str, identity: Identity) -> Stream:
    """Open a session stream to a gateway. What is wrong with the way there shows at the first message."""
    grpc = load_grpc()
    credentials = grpc.ssl_channel_credentials(
        root_certificates=identity.ca_pem, private_key=identity.key_pem, certificate_chain=identity.chain_pem
    )
    channel = grpc.aio.secure_channel(address, credentials, options=_OPTIONS)
    session = channel.stream_stream(
        _SESSION,
        request_serializer=gateway_pb2.WorkerMessage.SerializeToString,
        response_deserializer=gateway_pb2.GatewayMessage.FromString,
    )
    return GrpcStream(channel, session())


async def enrol(
    address: str, *, ca_pem: bytes, request: gateway_pb2.EnrolRequest, timeout_s: float = 20.0
) -> gateway_pb2.EnrolReply:
    """Call the enrolment listener; raises EnrolmentRefusedError or UnavailableError."""
    grpc = load_grpc()
    credentials = grpc.ssl_channel_credentials(root_certificates=ca_pem)
    async with grpc.aio.secure_channel(address, credentials, options=_OPTIONS) as channel:
        try:
            reply = await channel.unary_unary(
                _ENROL,
                request_serializer=gateway_pb2.EnrolRequest.SerializeToString,
                response_deserializer=gateway_pb2.EnrolReply.FromString,
            )(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            text = shown(error.details() or error.code().name, 300)
            refusing = (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.PERMISSION_DENIED,
                grpc.StatusCode.INVALID_ARGUMENT,
                grpc.StatusCode.NOT_FOUND,
                grpc.StatusCode.FAILED_PRECONDITION,
            )
            if error.code() in refusing:
                raise EnrolmentRefusedError(
                    f"the controller at {address} refused to enrol this worker: {text}",
                    mend="make a new token for this host and put it into the configured `token_file`",
                ) from error
            raise UnavailableError(
                f"enrolment at {address} did not work: {text}",
                mend="see that the controller runs there and that `ca_file` is its CA; it is tried again",
            ) from error
    if not isinstance(reply, gateway_pb2.EnrolReply):
        raise UnavailableError(f"the controller at {address} answered with something that is no reply")
    return reply
