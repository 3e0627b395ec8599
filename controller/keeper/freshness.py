"""Jobs that are scheduled and do not deliver: of connected workers, whose due runs have not come although they should.

Every look is at the stretch of time since the last one, a grace ago: a job that was due in it and of which nothing has
come since is noted, whatever has come of a noted one clears it. A worker without a session is not looked at, nor one
that still empties its spool: what it will deliver is on its way, and the outage is a matter of the worker.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, bindparam, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from controller.planning.schedule import least_run_s
from controller.store import results
from controller.store.entities import Job, JobVersion, Mark, OverdueJob, Worker
from controller.store.schedules import schedule_of
from streamswarm import contract
from streamswarm.zones import from_microseconds, to_microseconds

_log = logging.getLogger(__name__)

_MARK = "freshness"
#: Beyond the longest that a run may take, a result may be so long on its way: spool, session, ingest.
GRACE = dt.timedelta(seconds=30)
#: After a session begins, or a change of the job, so long nothing is expected.
SETTLING = dt.timedelta(seconds=60)
#: No look goes back further: after a long pause of the keepers it starts anew.
_LONGEST_LOOK = dt.timedelta(hours=26)
#: A worker with more records than one batch in its spool is emptying it.
_BACKLOG = 500
#: Jobs that are looked at in one transaction.
_CHUNK = 2000


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one look has found."""

    #: Jobs that were due.
    due: int = 0
    #: Jobs that are overdue from now on.
    noticed: int = 0
    #: Jobs that are no longer.
    cleared: int = 0


def look(engine: Engine) -> Look:
    """Look once; return what changed. Doing it again at once changes nothing more."""
    with Session(engine) as session:
        now: dt.datetime = session.scalars(select(func.now())).one()
        mark = session.scalar(select(Mark.until).where(Mark.name == _MARK))
    until = now - GRACE
    since = max(mark or until - SETTLING, now - _LONGEST_LOOK)
    cleared = _clear(engine)
    due = noticed = after = 0
    while True:
        with Session(engine) as session, session.begin():
            rows = _candidates(session, after)
            found = [job for row in rows if (job := _due(row, since=since, until=until)) is not None]
            due += len(found)
            noticed += _notice(session, found)
        if len(rows) < _CHUNK:
            break
        after = rows[-1].id
    with engine.begin() as connection:
        moved = insert(Mark).values(name=_MARK, until=until)
        connection.execute(
            moved.on_conflict_do_update(
                index_elements=["name"], set_={"until": func.greatest(Mark.until, moved.excluded.until)}
            )
        )
    if noticed:
        _log.warning("%s jobs of connected workers do not deliver what is due", noticed)
    return Look(due=due, noticed=noticed, cleared=cleared)


@dataclass(frozen=True, kw_only=True)
class _DueJob:
    id: int
    kind: str
    due_at: dt.datetime


_COLUMNS = (
    Job.id,
    Job.kind,
    Job.spec,
    Job.interval_us,
    Job.anchor_us,
    Job.cron,
    Job.zone,
    Job.windows,
    Job.starts_at,
    Job.ends_at,
)


def _candidates(session: Session, after: int) -> Sequence[Any]:
    """Return live jobs of workers that are connected and have nothing to catch up with."""
    # Columns, not entities: there may be a hundred thousand of them every half a minute.
    return session.execute(
        select(*_COLUMNS, JobVersion.valid_from, Worker.connected_at)
        .join(Worker, Worker.id == Job.worker_id)
        .join(JobVersion, (JobVersion.job_id == Job.id) & (JobVersion.version == Job.version))
        .where(
            Job.id > after,
            Job.retired_at.is_(None),
            ~Job.one_shot,
            ~Job.paused,
            Job.kind.in_(results.kinds()),
            Worker.gateway_id.is_not(None),
            Worker.revoked_at.is_(None),
            Worker.spool_records <= _BACKLOG,
        )
        .order_by(Job.id)
        .limit(_CHUNK)
    ).all()


def _due(row: Any, *, since: dt.datetime, until: dt.datetime) -> _DueJob | None:
    """Return the last instant in (since, until], less the time that a run may take, at which a job was due."""
    kind = contract.kind(row.kind)
    run = dt.timedelta(seconds=least_run_s(row.spec) + kind.timeout_s)
    instant = schedule_of(row).last_until(to_microseconds(until - run))
    if instant is None:
        return None
    due_at = from_microseconds(instant)
    settled = max(row.valid_from, row.connected_at) + SETTLING
    return _DueJob(id=row.id, kind=row.kind, due_at=due_at) if due_at > max(since - run, settled) else None


def _notice(session: Session, due: Sequence[_DueJob]) -> int:
    """Note the jobs of which nothing has come that was due since; return how many are new."""
    noticed = 0
    for kind in sorted({job.kind for job in due}):
        mine = [job for job in due if job.kind == kind]
        statement = text(
            f"""
            INSERT INTO overdue_jobs (job_id, due_at)
            SELECT d.job_id, d.due_at FROM unnest(:jobs ::bigint[], :dues ::timestamptz[]) AS d(job_id, due_at)
            WHERE NOT EXISTS (
                SELECT FROM {results.table_name(kind)} r WHERE r.job_id = d.job_id AND r.scheduled_at >= d.due_at
            )
            ON CONFLICT (job_id) DO NOTHING
            """  # noqa: S608  a kind's table, named by the contract
        ).bindparams(
            bindparam("jobs", [job.id for job in mine]), bindparam("dues", [job.due_at for job in mine])
        )
        noticed += session.connection().execute(statement).rowcount
    return noticed


def _clear(engine: Engine) -> int:
    """Remove what is no longer overdue: something came, nothing is asked of it any more, or its worker is away."""
    idle = select(Job.id).join(Worker, Worker.id == Job.worker_id)
    idle = idle.where(or_(Job.retired_at.is_not(None), Job.paused, Worker.gateway_id.is_(None)))
    cleared = 0
    with engine.begin() as connection:
        cleared += connection.execute(delete(OverdueJob).where(OverdueJob.job_id.in_(idle))).rowcount
        for kind in results.kinds():
            table = results.table(kind)
            came = select(table.c.job_id).where(
                table.c.job_id == OverdueJob.job_id, table.c.scheduled_at >= OverdueJob.due_at
            )
            cleared += connection.execute(delete(OverdueJob).where(came.exists())).rowcount
    return cleared
