"""Jobs that are scheduled and do not deliver: of connected workers, whose due runs have not come although they should.

Every look is at the stretch of time since the last one, a grace ago: a job that was due in it and of which nothing has
come since is noted, with the first instant of which nothing has come; whatever has come of a noted one clears it. What
was due is worked out for each test, so that only jobs that were due are read, however many there are. A worker without
a session is not looked at, nor one that empties its spool: what it will deliver is on its way, and the outage is a
matter of the worker. One whose spool does not shrink is looked at like any other. What claims to have been due only
later than now, by the database's clock, tells of nothing: a clock that is wrong would silence its job until then.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, Result, bindparam, case, delete, func, or_, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from controller.planning.due import Stretch
from controller.planning.records import PlannedTest
from controller.planning.schedule import end_of, least_run_s
from controller.planning.schedule import schedule_of as planned_schedule
from controller.store import results
from controller.store.entities import Job, Mark, OverdueJob, Worker
from controller.store.health import BACKLOG, PATIENCE
from controller.store.queries import plans
from controller.store.schedules import schedule_of
from streamswarm import contract
from streamswarm.schedules import Schedule
from streamswarm.zones import from_microseconds, to_microseconds

_log = logging.getLogger(__name__)

_MARK = "freshness"
#: Beyond the longest that a run may take, a result may be so long on its way: spool, session, ingest.
GRACE = dt.timedelta(seconds=30)
#: After a session begins, or a change of the job, so long nothing is expected.
SETTLING = dt.timedelta(seconds=60)
#: No look goes back further, nor for the first instant that lacks: after a long pause of the keepers it starts anew.
_LONGEST_LOOK = dt.timedelta(hours=26)
#: Jobs that are read at a time.
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
        tests = plans.read_repeating(session)
    until = now - GRACE
    if mark is None or mark > now:  # the database's clock had leapt, and was set back
        mark = until - SETTLING
    since = max(mark, now - _LONGEST_LOOK)
    cleared = _clear(engine)
    _watch_spools(engine)
    stretches = _due_tests(tests, since=since, until=until)
    due = noticed = 0
    # The rows come in portions while they are read; what is found in one is noted before the next.
    with engine.connect().execution_options(yield_per=_CHUNK) as connection:
        for rows in _candidates(connection, stretches).partitions() if stretches else ():
            found = [
                job
                for row in rows
                if (job := _due(row, stretches[row.test_id], earliest=now - _LONGEST_LOOK)) is not None
            ]
            due += len(found)
            noticed += _notice(engine, found)
    with engine.begin() as connection:
        moved = insert(Mark).values(name=_MARK, until=until)
        further = case(
            (Mark.until > func.now(), moved.excluded.until),
            else_=func.greatest(Mark.until, moved.excluded.until),
        )
        connection.execute(moved.on_conflict_do_update(index_elements=["name"], set_={"until": further}))
    if noticed:
        _log.warning("%s jobs of connected workers do not deliver what is due", noticed)
    return Look(due=due, noticed=noticed, cleared=cleared)


@dataclass(frozen=True, kw_only=True)
class _DueJob:
    id: int
    kind: str
    schedule: Schedule
    #: The last instant in the stretch at which it was due.
    due_at: dt.datetime
    #: Nothing that was due until then is asked for.
    since: dt.datetime


def _due_tests(tests: Sequence[PlannedTest], *, since: dt.datetime, until: dt.datetime) -> dict[int, Stretch]:
    """Return the stretch to look at of each test of which some job may have been due in it."""
    stretches: dict[float, Stretch] = {}
    found = {}
    for test in tests:
        if test.kind not in results.kinds():
            continue
        run_s = least_run_s(test.spec) + contract.kind(test.kind).timeout_s
        if run_s not in stretches:
            run = dt.timedelta(seconds=run_s)
            stretches[run_s] = Stretch(to_microseconds(since - run) + 1, to_microseconds(until - run))
        schedule = planned_schedule(test)
        ends_at = end_of(test, schedule)
        schedule = replace(schedule, ends_us=None if ends_at is None else to_microseconds(ends_at))
        if stretches[run_s].may_be_due(schedule):
            found[test.id] = stretches[run_s]
    return found


#: Jobs by interval whose grid has no instant in the stretch are not even read; the rest is worked out from the rows.
_CANDIDATES = text(
    """
    SELECT j.id, j.test_id, j.kind, j.interval_us, j.anchor_us, j.cron, j.zone, j.windows, j.starts_at, j.ends_at,
        greatest(v.valid_from, w.connected_at) AS begun_at
    FROM unnest(CAST(:tests AS bigint[]), CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
        AS d (test_id, first_us, last_us)
    JOIN jobs j ON j.test_id = d.test_id
    JOIN workers w ON w.id = j.worker_id
    JOIN job_versions v ON v.job_id = j.id AND v.version = j.version
    LEFT JOIN backlogs b ON b.worker_id = w.id
    WHERE j.retired_at IS NULL AND NOT j.one_shot AND NOT j.paused AND (j.ends_at IS NULL OR j.ends_at > now())
        AND (j.cron <> '' OR j.anchor_us + (d.last_us - j.anchor_us) / nullif(j.interval_us, 0) * j.interval_us >= d.first_us)
        AND w.gateway_id IS NOT NULL AND w.revoked_at IS NULL
        AND (w.spool_records <= :backlog OR greatest(b.since, w.connected_at) < now() - CAST(:patience AS interval))
    """
)


def _candidates(connection: Connection, stretches: Mapping[int, Stretch]) -> Result[Any]:
    """Return live jobs of these tests that may have been due, of workers that are connected and not catching up."""
    return connection.execute(
        _CANDIDATES,
        {
            "tests": list(stretches),
            "firsts": [stretch.first_us for stretch in stretches.values()],
            "lasts": [stretch.last_us for stretch in stretches.values()],
            "backlog": BACKLOG,
            "patience": PATIENCE,
        },
    )


def _due(row: Any, stretch: Stretch, *, earliest: dt.datetime) -> _DueJob | None:
    """Return a job with the last instant in the stretch at which it was due, if it was."""
    schedule = schedule_of(row)
    instant = stretch.last_due(schedule)
    if instant is None:
        return None
    due_at = from_microseconds(instant)
    begun = row.begun_at + SETTLING
    if due_at <= begun:
        return None
    return _DueJob(id=row.id, kind=row.kind, schedule=schedule, due_at=due_at, since=max(begun, earliest))


def _notice(engine: Engine, due: Sequence[_DueJob]) -> int:
    """Note the jobs of which nothing has come that was due since; return how many are new."""
    noticed = 0
    for kind in sorted({job.kind for job in due}):
        silent = _silent(engine, kind, [job for job in due if job.kind == kind])
        if not silent:
            continue
        with engine.begin() as connection:
            noted = insert(OverdueJob).values(
                [{"job_id": job_id, "due_at": due_at} for job_id, due_at in silent.items()]
            )
            noticed += connection.execute(noted.on_conflict_do_nothing()).rowcount
    return noticed


def _silent(engine: Engine, kind: str, due: Sequence[_DueJob]) -> dict[int, dt.datetime]:
    """Return the jobs that have delivered nothing from their due instant on and are not noted yet.

    Each with the first instant that lacks: the one after the latest that has come, which may lie before the stretch.
    """
    statement = text(
        f"""
        SELECT d.job_id, (
            SELECT max(r.scheduled_at) FROM {results.table_name(kind)} r
            WHERE r.job_id = d.job_id AND r.scheduled_at > d.since AND r.scheduled_at < d.due_at
        ) AS latest
        FROM unnest(:jobs ::bigint[], :dues ::timestamptz[], :sinces ::timestamptz[]) AS d(job_id, due_at, since)
        WHERE NOT EXISTS (SELECT FROM overdue_jobs o WHERE o.job_id = d.job_id) AND NOT EXISTS (
            SELECT FROM {results.table_name(kind)} r
            WHERE r.job_id = d.job_id AND r.scheduled_at >= d.due_at AND r.scheduled_at <= now()
        )
        """  # noqa: S608  a kind's table, named by the contract
    ).bindparams(
        bindparam("jobs", [job.id for job in due]),
        bindparam("dues", [job.due_at for job in due]),
        bindparam("sinces", [job.since for job in due]),
    )
    with engine.connect() as connection:
        latest = {row.job_id: row.latest for row in connection.execute(statement)}
    return {job.id: _first_lacking(job, latest[job.id] or job.since) for job in due if job.id in latest}


def _first_lacking(job: _DueJob, latest: dt.datetime) -> dt.datetime:
    instant = job.schedule.next_after(to_microseconds(latest))
    return job.due_at if instant is None else min(job.due_at, from_microseconds(instant))


_FORGET_SPOOLS = text(
    """
    DELETE FROM backlogs b USING workers w
    WHERE w.id = b.worker_id AND (w.gateway_id IS NULL OR w.spool_records <= :backlog)
    """
)
_NOTE_SPOOLS = text(
    """
    INSERT INTO backlogs (worker_id, least, since)
    SELECT w.id, w.spool_records, now() FROM workers w LEFT JOIN backlogs b ON b.worker_id = w.id
    WHERE w.gateway_id IS NOT NULL AND w.spool_records > :backlog
        AND (b.worker_id IS NULL OR w.spool_records < b.least OR w.connected_at > b.since)
    ON CONFLICT (worker_id) DO UPDATE SET least = excluded.least, since = excluded.since
    """
)


def _watch_spools(engine: Engine) -> None:
    """Note of the workers that are catching up when they last had fewer records than ever in this session."""
    with engine.begin() as connection:
        for statement in (_FORGET_SPOOLS, _NOTE_SPOOLS):
            connection.execute(statement, {"backlog": BACKLOG})


def _clear(engine: Engine) -> int:
    """Remove what is no longer overdue: something came, nothing is asked of it any more, or its worker is away.

    Nor is what is still to come: the database's clock had leapt when it was noted.
    """
    idle = select(Job.id).join(Worker, Worker.id == Job.worker_id)
    idle = idle.where(
        or_(Job.retired_at.is_not(None), Job.paused, Job.ends_at <= func.now(), Worker.gateway_id.is_(None))
    )
    cleared = 0
    with engine.begin() as connection:
        over = or_(OverdueJob.job_id.in_(idle), OverdueJob.due_at > func.now())
        cleared += connection.execute(delete(OverdueJob).where(over)).rowcount
        for kind in results.kinds():
            table = results.table(kind)
            came = select(table.c.job_id).where(
                table.c.job_id == OverdueJob.job_id,
                table.c.scheduled_at >= OverdueJob.due_at,
                table.c.scheduled_at <= func.now(),
            )
            cleared += connection.execute(delete(OverdueJob).where(came.exists())).rowcount
    return cleared
