"""How often workers send heartbeats, and what is concluded from them."""

from __future__ import annotations

from controller.gateway.sessions import heartbeat_s
from controller.store.health import PATIENCE


def test_a_spool_is_called_stuck_after_two_heartbeats_at_least() -> None:
    """Also those of a gateway with more workers than it could hear more often."""
    assert heartbeat_s(10) == 10
    assert 2 * heartbeat_s(1_000_000) < PATIENCE.total_seconds()
