"""How a session ends, and what the worker is told of it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from streamswarm.v1.gateway_pb2 import GatewayMessage, Goodbye


class Why(enum.Enum):
    """Why a session ended."""

    #: The worker closed the stream, or the connection broke.
    GONE = "gone"
    SUPERSEDED = "superseded"
    DRAINING = "draining"
    REVOKED = "revoked"
    CONTRACT_NEWER = "contract newer"
    EXPIRED = "expired"
    #: The session has lasted for long, and the worker is to begin another one.
    AGED = "aged"
    PROTOCOL = "protocol"
    #: The database could not be reached for the Hello, or the worker neither spoke nor took anything.
    UNAVAILABLE = "unavailable"


#: What a Goodbye says; endings without one are told by the call's status alone.
REASONS = {
    Why.SUPERSEDED: Goodbye.REASON_SUPERSEDED,
    Why.DRAINING: Goodbye.REASON_DRAINING,
    Why.REVOKED: Goodbye.REASON_REVOKED,
    Why.CONTRACT_NEWER: Goodbye.REASON_CONTRACT_NEWER,
    Why.EXPIRED: Goodbye.REASON_EXPIRED,
    Why.PROTOCOL: Goodbye.REASON_PROTOCOL,
    Why.AGED: Goodbye.REASON_UNSPECIFIED,
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a session ended."""

    why: Why
    message: str
    #: The worker should wait this long before it dials again.
    reconnect_after_ms: int = 0


def goodbye(ending: Ending) -> GatewayMessage:
    """Return the message that tells a worker of the ending."""
    return GatewayMessage(
        goodbye=Goodbye(
            reason=REASONS[ending.why],
            message=ending.message,
            reconnect_after_ms=ending.reconnect_after_ms,
        )
    )
