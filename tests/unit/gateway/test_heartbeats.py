"""How often workers send heartbeats, and what is concluded from them."""

from __future__ import annotations

from controller.gateway.sessions import heartbeat_s
from controller.store.health import PATIENCE


def test_no_spool_is_called_stuck_between_two_heartbeats() -> None:
    """Also those of a gateway with so many workers that it hears each seldom; half as long again is to spare."""
    assert heartbeat_s(10) == 10
    assert 1.5 * heartbeat_s(1_000_000) < PATIENCE.total_seconds()
