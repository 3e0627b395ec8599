"""When the jobs of lines are first due in their worker's session: before that, nothing of them can be missed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from sqlalchemy import Connection, and_, func, select
from sqlalchemy.orm import Session

from controller.store.entities import Job, JobVersion, Worker
from controller.store.queries.results import Line
from controller.store.schedules import schedule_of
from streamswarm.zones import from_microseconds, to_microseconds


def first_due(connection: Connection | Session, wanted: Iterable[Line]) -> dict[Line, dt.datetime]:
    """Return of each line its first due instant since its worker connected last, and since its job was changed last.

    It may lie ahead. A line that is paused or never due again has none, nor one whose worker never connected.
    """
    lines = {job_id: line for line in wanted for job_id in line.job_ids}
    rows = connection.execute(
        select(
            Job.id,
            Job.anchor_us,
            Job.interval_us,
            Job.cron,
            Job.zone,
            Job.windows,
            Job.starts_at,
            Job.ends_at,
            func.greatest(JobVersion.valid_from, Worker.connected_at).label("begun_at"),
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
        due = schedule_of(row).next_after(to_microseconds(row.begun_at))
        if due is not None:
            found[lines[row.id]] = from_microseconds(due)
    return found
