"""How instants are shown."""

from __future__ import annotations

from worker.instants import shown_instant


def test_instants_beyond_the_calendar_can_still_be_shown() -> None:
    """A message about an impossible instant must not fail itself."""
    assert shown_instant(0) == "1970-01-01T00:00:00.000Z"
    assert "µs since 1970" in shown_instant(2**63 - 1)
