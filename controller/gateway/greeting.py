"""How a session begins: whether what came first is a Hello that can be answered, and what the database says to it."""

from __future__ import annotations

import logging

from controller.gateway.arrivals import NotListedError, OpenedSession
from controller.gateway.credit import CREDIT_BYTES, CREDIT_RESULTS
from controller.gateway.ending import Why
from controller.gateway.identity import Peer
from controller.gateway.reception import BusyError, Reception
from streamswarm import CONTRACT_VERSION
from streamswarm.v1.gateway_pb2 import GatewayMessage, Hello, Welcome, WorkerMessage

_log = logging.getLogger(__name__)

_MOST_NAME = 100


class RefusedError(Exception):
    """No session comes of this Hello; the message is the worker's to read."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


def hello_of(message: WorkerMessage) -> Hello:
    """Return the Hello that a stream's first message must be; raises RefusedError."""
    if message.WhichOneof("message") != "hello":
        raise RefusedError(Why.PROTOCOL, "the first message of a stream must be Hello")
    hello = message.hello
    if hello.contract_version > CONTRACT_VERSION:
        raise RefusedError(
            Why.CONTRACT_NEWER,
            f"this worker speaks contract {hello.contract_version}, the gateway {CONTRACT_VERSION}: "
            "upgrade the controller first",
        )
    if not 1 <= len(hello.spool_id) <= _MOST_NAME or "\0" in hello.spool_id:
        raise RefusedError(Why.PROTOCOL, f"Hello must name a spool, in at most {_MOST_NAME} characters")
    if hello.first_unacked_seq < 0 or hello.next_seq < 0:
        raise RefusedError(Why.PROTOCOL, "sequence numbers are never negative")
    return hello


async def opened(reception: Reception, peer: Peer, hello: Hello) -> OpenedSession:
    """Open the worker's newest session in the database; raises RefusedError."""
    try:
        return await reception.open(peer, hello)
    except NotListedError:
        raise RefusedError(
            Why.REVOKED, "this certificate is not listed as valid; enrol the host anew"
        ) from None
    except BusyError as error:
        _log.warning("worker %s has to wait for the database: %s", peer.worker_id, error)
        raise RefusedError(
            Why.UNAVAILABLE, "the controller's database cannot be reached now; try again"
        ) from error


def welcome(
    peer: Peer, hello: Hello, session: OpenedSession, *, heartbeat_s: int, now_us: int
) -> GatewayMessage:
    """Return the answer to a Hello; `now_us` is the controller's time, microseconds since 1970-01-01 UTC."""
    return GatewayMessage(
        welcome=Welcome(
            session_epoch=session.epoch,
            spool_id=hello.spool_id,
            acked_seq=session.acked_seq,
            credit_results=CREDIT_RESULTS,
            credit_bytes=CREDIT_BYTES,
            clock_us=now_us,
            hello_clock_us=hello.clock_us,
            worker_id=str(peer.worker_id),
            worker_name=session.worker_name,
            heartbeat_s=heartbeat_s,
        )
    )
