"""When the jobs of lines are first due in their worker's session, and were due last: nothing else of them can be missed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.orm import Session

from controller.store.entities import Job, JobVersion, Worker
from controller.store.queries.results import Line
from controller.store.schedules import columns, schedule_of
from streamswarm.zones import from_microseconds, to_microseconds


@dataclass(frozen=True, kw_only=True)
class Due:
    """The due instants of a line since its worker connected last, and since its job was changed last."""

    #: It may lie ahead.
    first: dt.datetime
    #: The newest until now: before now where a window has closed, or the job has ended. None before the first.
    last: dt.datetime | None


def due(connection: Connection | Session, wanted: Iterable[Line]) -> dict[Line, Due]:
    """Return when lines are due. One that is paused or never due again is left out, as one whose worker never connected."""
    lines = {job_id: line for line in wanted for job_id in line.job_ids}
    rows = connection.execute(
        select(
            Job.id,
            *columns(Job),
            func.greatest(JobVersion.valid_from, Worker.connected_at).label("begun_at"),
            func.now().label("now"),
        )
        .join(Worker, Worker.id == Job.worker_id)
        .join(JobVersion, and_(JobVersion.job_id == Job.id, JobVersion.version == Job.version))
        .where(
            Job.id.in_(lines),
            Job.retired_at.is_(None),
            ~Job.one_shot,
            ~Job.paused,
            Worker.connected_at.is_not(None),
        )
    )
    found = {}
    for row in rows:
        schedule = schedule_of(row)
        first = schedule.next_after(to_microseconds(row.begun_at))
        if first is None:
            continue
        last = schedule.last_until(to_microseconds(row.now))
        found[lines[row.id]] = Due(
            first=from_microseconds(first),
            last=from_microseconds(last) if last is not None and last >= first else None,
        )
    return found
