"""How a session with a gateway ends, and what the worker does then."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from streamswarm.targets import shown
from streamswarm.v1 import gateway_pb2


class End(Enum):
    """What to do after a session."""

    #: Dial again, backing off as long as it does not work.
    RETRY = "retry"
    #: Dial again at once, with the new certificate.
    RENEWED = "renewed"
    #: Dial again, another gateway first.
    ELSEWHERE = "elsewhere"
    #: The controller does not want this worker: dial slowly.
    REFUSED = "refused"
    #: The controller has revoked this worker: dial slowly and start no run.
    REVOKED = "revoked"


@dataclass(frozen=True, kw_only=True)
class SessionEnd:
    """How a session ended."""

    end: End
    #: For the log.
    reason: str
    #: True when the gateway had answered with Welcome.
    welcomed: bool
    #: Wait at least this long.
    wait_s: float = 0.0
    #: Wait for anything up to this, since others have lost the same gateway.
    spread_s: float = 0.0


_GOODBYES = {
    gateway_pb2.Goodbye.REASON_DRAINING: End.ELSEWHERE,
    gateway_pb2.Goodbye.REASON_REVOKED: End.REVOKED,
    gateway_pb2.Goodbye.REASON_CONTRACT_NEWER: End.REFUSED,
}
_KNOWN_REASONS = frozenset(gateway_pb2.Goodbye.Reason.values())


class OverError(Exception):
    """The session is over for a reason of the worker's own, or by the gateway's Goodbye."""

    def __init__(self, end: End, reason: str, *, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.end = end
        self.wait_s = wait_s


def told_by(goodbye: gateway_pb2.Goodbye) -> OverError:
    """Return how a Goodbye ends the session."""
    name = gateway_pb2.Goodbye.Reason.Name(goodbye.reason) if goodbye.reason in _KNOWN_REASONS else "unknown"
    reason = f"the gateway said goodbye: {name.removeprefix('REASON_').lower()} {shown(goodbye.message, 300)}"
    return OverError(
        _GOODBYES.get(goodbye.reason, End.RETRY),
        reason.rstrip(),
        wait_s=max(0, goodbye.reconnect_after_ms) / 1000,
    )
