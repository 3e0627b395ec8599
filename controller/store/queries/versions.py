"""Reads how jobs were scheduled in the past, and when nobody waited for them: for accounts and the gaps of charts alike."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, and_, cast, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session

from controller.planning.accounts import Period, Version
from controller.store.entities import Drain, Job, JobVersion
from controller.store.schedules import schedule_of
from streamswarm.zones import to_microseconds

#: A run is counted, and lacks, when it was due so long ago: its result has had time to arrive.
SETTLING = dt.timedelta(minutes=1)


def read_versions(
    connection: Connection | Session,
    job_ids: Collection[int],
    *,
    start: dt.datetime,
    end: dt.datetime,
    ran: Collection[tuple[int, int]],
) -> dict[int, list[Version]]:
    """Return the versions of jobs that say what was due in [start, end), oldest first.

    Those that held at some time in it, those that are due once, whenever they were made, and those that have `ran` in it
    (job and number of each): a worker that was cut off goes on by a version that has ended.
    """
    found: dict[int, list[Version]] = {job_id: [] for job_id in job_ids}
    pairs = func.unnest(numbers([job_id for job_id, _ in ran]), numbers([number for _, number in ran]))
    known = pairs.table_valued("job_id", "version").render_derived()
    once = and_(JobVersion.interval_us == 0, JobVersion.cron == "")
    rows = connection.execute(
        select(JobVersion.__table__)
        .where(
            JobVersion.job_id == func.any(numbers(job_ids)),
            or_(
                and_(
                    or_(JobVersion.valid_until.is_(None), JobVersion.valid_until > start),
                    or_(JobVersion.valid_from < end, once),
                ),
                tuple_(JobVersion.job_id, JobVersion.version).in_(select(known.c.job_id, known.c.version)),
            ),
        )
        .order_by(JobVersion.job_id, JobVersion.version)
    )
    for row in rows:
        found[row.job_id].append(
            Version(
                number=row.version,
                valid_from_us=to_microseconds(row.valid_from),
                valid_until_us=None if row.valid_until is None else to_microseconds(row.valid_until),
                schedule=schedule_of(row),
                paused=row.paused,
            )
        )
    return found


def read_drains(
    connection: Connection | Session, job_ids: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> dict[int, tuple[Period, ...]]:
    """Return by job the times in [start, end) in which its worker was drained; they do not overlap."""
    found: dict[int, tuple[Period, ...]] = dict.fromkeys(job_ids, ())
    rows = connection.execute(
        select(Job.id, Drain.since, Drain.until)
        .join(Drain, Drain.worker_id == Job.worker_id)
        .where(
            Job.id == func.any(numbers(job_ids)),
            Drain.since < end,
            or_(Drain.until.is_(None), Drain.until > start),
        )
        .order_by(Drain.since)
    )
    for row in rows:
        period = (to_microseconds(max(row.since, start)), to_microseconds(min(row.until or end, end)))
        found[row.id] += (period,)
    return found


def numbers(values: Collection[int]) -> ColumnElement[Any]:
    """One parameter, however many there are."""
    return cast(list(values), ARRAY(BigInteger))
