"""The schedules of jobs and of their versions, from their rows."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy.orm import InstrumentedAttribute

from controller.store.entities import Job, JobVersion
from streamswarm import windows
from streamswarm.schedules import Schedule
from streamswarm.zones import to_microseconds


class Scheduled(Protocol):
    """A job, one of its versions, or a row with these columns of either."""

    anchor_us: Any
    interval_us: Any
    cron: Any
    zone: Any
    windows: Any
    starts_at: Any
    ends_at: Any


def columns(entity: type[Job | JobVersion]) -> tuple[InstrumentedAttribute[Any], ...]:
    """Return the columns that `schedule_of` reads, of jobs or of their versions."""
    return (
        entity.anchor_us,
        entity.interval_us,
        entity.cron,
        entity.zone,
        entity.windows,
        entity.starts_at,
        entity.ends_at,
    )


def schedule_of(row: Scheduled) -> Schedule:
    """Return when a job is due, or was by one of its versions."""
    return Schedule(
        anchor_us=row.anchor_us,
        interval_us=row.interval_us,
        cron=row.cron,
        zone=row.zone,
        windows=windows.read(row.windows),
        starts_us=None if row.starts_at is None else to_microseconds(row.starts_at),
        ends_us=None if row.ends_at is None else to_microseconds(row.ends_at),
    )


def pace_us(row: Scheduled, instant_us: int) -> int:
    """Return how far apart the runs of a job are around an instant (`Schedule.pace_us`)."""
    if row.cron or row.windows:
        return schedule_of(row).pace_us(instant_us)
    return int(row.interval_us)
