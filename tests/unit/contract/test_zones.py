"""Instants as text, with every Python that the contract runs with."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from streamswarm.zones import read_instant


@pytest.mark.parametrize(
    ("text", "hours"),
    [("2026-03-29T02:30:00Z", 0), ("2026-03-29T02:30:00+02:00", 2), ("2026-03-29T02:30Z", 0)],
)
def test_an_instant_has_an_offset_or_its_short_form(text: str, hours: int) -> None:
    """`Z` is what suites, forms and other programs write; Python 3.10 does not know it by itself."""
    zone = timezone(timedelta(hours=hours))
    found = read_instant(text)
    assert found == datetime(2026, 3, 29, 2, 30, tzinfo=zone)
    assert found.utcoffset() == timedelta(hours=hours)


def test_a_time_without_zone_stays_one() -> None:
    """Whoever asks for an instant can tell that it lacks its zone."""
    assert read_instant("2026-03-29T02:30").tzinfo is None
    with pytest.raises(ValueError, match="isoformat"):
        read_instant("tomorrow")
