"""The session service over gRPC: finds out who calls, runs the session, ends the call as the session ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from typing import Any

import grpc
from grpc import aio

from controller.gateway.ending import Why
from controller.gateway.identity import NotIdentifiedError, Peer, identify
from controller.gateway.lately import Lately
from controller.gateway.limits import RateLimit
from controller.gateway.outbox import Outgoing
from controller.gateway.session import Session, Stream
from streamswarm.v1 import gateway_pb2
from streamswarm.v1.gateway_pb2 import WorkerMessage

_log = logging.getLogger(__name__)

Context = aio.ServicerContext[WorkerMessage, Outgoing]
OpenSession = Callable[[Peer, Stream], Session]

#: Workers dial again after every code but UNAUTHENTICATED and PERMISSION_DENIED.
_CODES = {
    Why.SUPERSEDED: grpc.StatusCode.ABORTED,
    Why.DRAINING: grpc.StatusCode.UNAVAILABLE,
    Why.REVOKED: grpc.StatusCode.UNAUTHENTICATED,
    Why.CONTRACT_NEWER: grpc.StatusCode.FAILED_PRECONDITION,
    Why.EXPIRED: grpc.StatusCode.UNAVAILABLE,
    Why.AGED: grpc.StatusCode.UNAVAILABLE,
    Why.PROTOCOL: grpc.StatusCode.INVALID_ARGUMENT,
    Why.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
}
_SERVICE = gateway_pb2.DESCRIPTOR.services_by_name["Gateway"].full_name
#: Ending a call waits for the peer to take its last bytes; one that never reads is left to the connection's end.
_ABORT_S = 5.0
#: Sessions that a worker may begin: so many a second, and so many at once after a rest. Each costs the database a
#: transaction, and a fresh allowance comes with it.
SESSIONS_PER_S, SESSIONS_AT_ONCE = 2.0, 120.0
#: Calls beyond that are ended after so long, and told again after the second figure.
_TURNED_AWAY_S, _TOLD_AGAIN_S = 5.0, 600.0


class Gateway:
    """Serves the session listener."""

    def __init__(self, trust_domain: str, open_session: OpenSession, limit: RateLimit) -> None:
        self._trust_domain = trust_domain
        self._open_session = open_session
        self._limit = limit
        self._told: Lately[uuid.UUID] = Lately(_TOLD_AGAIN_S)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return what a server is given. Not by the generated code: that serialises what is bytes already."""
        session = grpc.stream_stream_rpc_method_handler(
            self.session,
            request_deserializer=WorkerMessage.FromString,
            response_serializer=_serialise,
        )
        return grpc.method_handlers_generic_handler(_SERVICE, {"Session": session})

    async def session(self, _requests: Any, context: Context) -> None:
        """Hold one worker's session."""
        try:
            peer = identify(context.auth_context(), self._trust_domain)
        except NotIdentifiedError as error:
            _log.warning("%s was refused: %s", context.peer(), error)
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        if not self._limit.allow(str(peer.worker_id)):
            await self._turn_away(peer.worker_id, context)
        ending = await self._open_session(peer, GrpcStream(context)).run()
        log = _log.info if ending.why in (Why.GONE, Why.DRAINING, Why.AGED) else _log.warning
        log("session of worker %s ended: %s", peer.worker_id, ending.message)
        if ending.why is not Why.GONE:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ABORT_S):
                    await context.abort(_CODES[ending.why], ending.message)

    async def _turn_away(self, worker_id: uuid.UUID, context: Context) -> None:
        """End the call of a worker that begins one session after the other.

        Not at once: of a connection's few calls each then keeps the next one waiting.
        """
        if worker_id not in self._told:
            self._told.add(worker_id)
            _log.warning(
                "worker %s begins more sessions than any worker does, and is kept waiting: see what runs on its host; "
                "`streamswarm ca revoke` ends it",
                worker_id,
            )
        await asyncio.sleep(_TURNED_AWAY_S)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "too many sessions were begun; wait a little")


class GrpcStream:
    """A gRPC call as a session sees it."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def read(self) -> WorkerMessage | None:
        """Return the next message; None when the worker has closed its side."""
        try:
            message = await self._context.read()
        except Exception as error:
            # gRPC has several unrelated exceptions for a call that is no more, and for a message that is none.
            raise ConnectionError(str(error)) from error
        return message if isinstance(message, WorkerMessage) else None

    async def write(self, message: Outgoing) -> None:
        """Send a message."""
        try:
            await self._context.write(message)
        except Exception as error:
            raise ConnectionError(str(error)) from error


def _serialise(message: Outgoing) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
