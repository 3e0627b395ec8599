"""Schedules and instants, written short, and zones and moments that are odd."""

from __future__ import annotations

from zoneinfo import ZoneInfo

from streamswarm.schedules import Schedule
from streamswarm.zones import from_microseconds, read_instant, to_microseconds

MINUTE_US, HOUR_US = 60_000_000, 3_600_000_000
#: Changes by an hour, by half an hour, offsets of 45 and 30 minutes, at midnight, none at all, and moved by Ramadan.
ZONES = (
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Beirut",
    "America/Havana",
    "Africa/Casablanca",
    "America/Scoresbysund",
    "UTC",
)


def at(text: str) -> int:
    """Return an instant given in ISO form."""
    return to_microseconds(read_instant(text))


def shown(schedule: Schedule, first: str, last: str) -> list[str]:
    """Return due instants as the clocks of the schedule's zone show them."""
    zone = ZoneInfo(schedule.zone)
    found = schedule.instants(at(first), at(last))
    return [from_microseconds(due).astimezone(zone).isoformat(timespec="minutes") for due in found]


def cron(text: str, zone: str = "UTC", **values: object) -> Schedule:
    """Return a schedule by cron without a phase."""
    return Schedule(**{"anchor_us": 0, "cron": text, "zone": zone, **values})  # type: ignore[arg-type]


#: Around changes of clocks, leap days and turns of the year.
MOMENTS = (
    "2024-02-27T00:00Z",
    "2024-03-29T00:00Z",
    "2024-04-05T00:00Z",
    "2024-09-27T00:00Z",
    "2024-10-04T00:00Z",
    "2024-10-25T00:00Z",
    "2024-11-01T00:00Z",
    "2024-12-30T00:00Z",
    "2025-02-27T00:00Z",
    "2025-03-07T00:00Z",
    "2025-04-04T00:00Z",
)
