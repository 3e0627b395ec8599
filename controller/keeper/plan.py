"""Brings the jobs in line with the tests: reads, lets planning think, and writes the difference.

Whatever is asked, the jobs become what the tests say now; doing it twice, or by two keepers at once, changes
nothing more. The rows of the tests are locked meanwhile, and the workers' revisions grow in the same transaction,
so that gateways never see a half.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

from sqlalchemy import Engine, bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Session

from controller.keeper import abilities
from controller.keeper.precedence import Precedence
from controller.planning.difference import difference
from controller.planning.jobs import plan, plan_run_now
from controller.planning.records import Change, Difference, JobValues, Plan
from controller.planning.schedule import RUN_NOW_GRACE
from controller.store.commands import tests as commands
from controller.store.entities import Job, Test, Worker
from controller.store.queries import plans
from streamswarm.zones import to_microseconds

_log = logging.getLogger(__name__)

#: Tests that are locked and planned in one transaction.
_CHUNK = 50
#: Tests by workers in one transaction: a keeper that thinks about more for longer than its time-out loses it.
_MOST_PAIRS = 10_000


#: What of a job can change; the rest is its identity.
_CHANGEABLE = {
    "kind": "text",
    "target": "text",
    "spec": "jsonb",
    "interval_us": "bigint",
    "anchor_us": "bigint",
    "cron": "text",
    "zone": "text",
    "windows": "jsonb",
    "starts_at": "timestamptz",
    "ends_at": "timestamptz",
    "paused": "boolean",
    "expires_at": "timestamptz",
}
_CHANGE = text(
    f"""
    UPDATE jobs j SET {", ".join(f"{name} = c.{name}" for name in _CHANGEABLE)},
        version = j.version + 1, retired_at = NULL, updated_at = now()
    FROM jsonb_to_recordset(:rows)
        AS c(id bigint, seen integer, {", ".join(f"{name} {kind}" for name, kind in _CHANGEABLE.items())})
    WHERE j.id = c.id AND j.version = c.seen
    """  # noqa: S608  fixed text
).bindparams(bindparam("rows", type_=JSONB))


#: What of a job its versions keep: all that tells when it was due.
_SCHEDULED = "interval_us, anchor_us, cron, zone, windows, starts_at, ends_at, paused"
_CLOSE_VERSIONS = text(
    "UPDATE job_versions SET valid_until = :at WHERE job_id = ANY(:jobs) AND valid_until IS NULL"
)
_OPEN_VERSIONS = text(
    f"""
    INSERT INTO job_versions (job_id, version, valid_from, {_SCHEDULED})
    SELECT id, version, :at, {_SCHEDULED} FROM jobs WHERE id = ANY(:jobs)
    """  # noqa: S608  fixed text
)


_precedence = Precedence()


class PlanConflictError(Exception):
    """A job was changed by somebody who did not hold its test; the task runs again."""


def plan_everything(engine: Engine) -> int:
    """Plan every test whose jobs are not what they should be; return how many jobs changed."""
    return _plan_found(engine, workers=None)


def plan_worker(engine: Engine, worker_id: uuid.UUID) -> int:
    """Plan the jobs on one worker; return how many changed."""
    return _plan_found(engine, workers=[worker_id])


def plan_destination(engine: Engine, destination_id: int) -> int:
    """Plan the tests of a destination; return how many jobs changed."""
    with Session(engine) as session:
        tests = plans.tests_of_destination(session, destination_id)
    return plan_tests(engine, tests)


def plan_tests(
    engine: Engine, test_ids: Collection[int], *, workers: Collection[uuid.UUID] | None = None
) -> int:
    """Plan these tests, on all workers or on some; return how many jobs changed."""
    changed = 0
    if workers is None:
        with Session(engine) as session:
            width = plans.count_workers(session)
    else:
        width = len(workers)
    for chunk in _chunks(sorted(test_ids), width):
        with _precedence.taken(), Session(engine) as session, session.begin():
            tests = plans.read_tests(session, ids=chunk, lock=True)
            found = plans.read_workers(session, ids=workers)
            existing = plans.read_jobs(session, tests=chunk, workers=workers)
            now = _now(session)
            changed += apply(session, difference(plan(tests, found, now=now), existing, now=now))
            if workers is None:
                session.execute(
                    update(Test)
                    .where(Test.id.in_(chunk), Test.planned_version != Test.version)
                    .values(planned_version=Test.version)
                )
    return changed


def run_now(engine: Engine, test_id: int, requested_at: dt.datetime) -> int:
    """Make the one-shot jobs of one "run now"; return how many, none when they are there already.

    Where nobody runs it, why is noted for whoever asked.
    """
    with Session(engine) as session, session.begin():
        tests = plans.read_tests(session, ids=[test_id], lock=True)
        if not tests or tests[0].deleted:
            _log.info("test %s is to run now, but there is no such test any more", test_id)
            return 0
        made = plan_run_now(
            tests[0], plans.read_workers(session), requested_at=requested_at, now=_now(session)
        )
        known = {job.values.identity for job in plans.read_jobs(session, tests=[test_id])}
        create = tuple(values for values in made.jobs if values.identity not in known)
        if not create and not _was_made(session, test_id, requested_at):
            commands.run_failed(
                session, test_id, requested_at, reason=_why_none(made, requested_at, _now(session))
            )
        return apply(session, Difference(create=create, change=(), retire=()))


def _was_made(session: Session, test_id: int, requested_at: dt.datetime) -> bool:
    """Whether there are jobs of a "run now", over or not."""
    made = select(Job.id).where(
        Job.test_id == test_id, Job.one_shot, Job.anchor_us == to_microseconds(requested_at)
    )
    return session.scalars(made.limit(1)).first() is not None


def _why_none(made: Plan, requested_at: dt.datetime, now: dt.datetime) -> str:
    """Return why nobody runs a test now."""
    if requested_at + RUN_NOW_GRACE <= now:
        return f"no keeper took it up within {RUN_NOW_GRACE.total_seconds():g} s"
    if not made.skipped:
        return "there is no worker"
    skip, *more = sorted(made.skipped, key=lambda each: (each.worker_name, each.destination_name))
    names = " \N{RIGHTWARDS ARROW} ".join(filter(None, (skip.worker_name, skip.destination_name)))
    why = f"{names}: {skip.reason}" if names else skip.reason
    return f"{why}; and {len(more)} more like it" if more else why


def _plan_found(engine: Engine, *, workers: Sequence[uuid.UUID] | None) -> int:
    """Look for differences without locking anything, then plan only the tests that have some."""
    abilities.take_over(engine, workers=workers)
    with Session(engine) as session:
        found = plans.read_workers(session, ids=workers)
        ids = plans.ids_to_look_at(session, workers=workers)
        wrong: set[int] = set()
        if workers is None:
            wrong |= set(session.scalars(select(Test.id).where(Test.planned_version != Test.version)))
    for chunk in _chunks(ids, len(found)):
        _precedence.give_way()
        with Session(engine) as session:
            session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            now = _now(session)
            tests = plans.read_tests(session, ids=chunk)
            existing = plans.read_jobs(session, tests=chunk, workers=workers)
        wrong |= difference(plan(tests, found, now=now), existing, now=now).tests
    return plan_tests(engine, wrong, workers=workers)


def apply(session: Session, todo: Difference) -> int:
    """Write a difference and let the gateways know; return how many jobs changed."""
    if not todo:
        return 0
    now = _now(session)
    _change(session, todo.change)
    retired: Sequence[int] = ()
    if todo.retire:
        retired = session.scalars(
            update(Job)
            .where(Job.id.in_([job.id for job in todo.retire]), Job.retired_at.is_(None))
            .values(retired_at=now, updated_at=now)
            .returning(Job.id)
        ).all()
    created: Sequence[int] = ()
    if todo.create:
        created = session.scalars(
            insert(Job).returning(Job.id), [_columns(values) for values in todo.create]
        ).all()
    changed = [change.job.id for change in todo.change]
    keep_versions(session, ended=[*changed, *retired], begun=[*changed, *created])
    bump_revisions(session, todo.workers)
    return len(todo.change) + len(todo.retire) + len(todo.create)


def _change(session: Session, changes: Sequence[Change]) -> None:
    """Rewrite jobs in one statement; those of another version than was seen are a conflict."""
    if not changes:
        return
    rows = [
        {
            "id": change.job.id,
            "seen": change.job.version,
            **{name: _plain(getattr(change.values, name)) for name in _CHANGEABLE},
        }
        for change in changes
    ]
    changed = session.connection().execute(_CHANGE, {"rows": rows}).rowcount
    if changed != len(rows):
        raise PlanConflictError(
            f"{len(rows) - changed} of {len(rows)} jobs are no longer at the version that was planned from"
        )


def keep_versions(session: Session, *, ended: Sequence[int], begun: Sequence[int]) -> None:
    """Note that versions of jobs have ended and others begun, at one instant."""
    # Not that at which the transaction began: it may have waited for one that began later and is done.
    at = session.scalars(select(func.clock_timestamp())).one()
    if ended:
        session.execute(_CLOSE_VERSIONS, {"jobs": list(ended), "at": at})
    if begun:
        session.flush()
        session.execute(_OPEN_VERSIONS, {"jobs": list(begun), "at": at})


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value.isoformat() if isinstance(value, dt.datetime) else value


def bump_revisions(session: Session, workers: Iterable[uuid.UUID]) -> None:
    """Let the gateways know that the jobs of these workers have changed."""
    # Gateways lock workers in the order of their ids; so is it done here.
    ordered = select(Worker.id).where(Worker.id.in_(list(workers))).order_by(Worker.id)
    locked = session.scalars(ordered.with_for_update(key_share=True)).all()
    session.execute(
        update(Worker).where(Worker.id.in_(locked)).values(jobs_revision=Worker.jobs_revision + 1)
    )


def _columns(values: JobValues) -> dict[str, Any]:
    columns = {item.name: getattr(values, item.name) for item in fields(values)}
    return columns | {"windows": list(values.windows)}


def _now(session: Session) -> dt.datetime:
    return session.scalars(select(func.now())).one()


def _chunks(items: Sequence[int], workers: int) -> Iterator[list[int]]:
    """Part tests so that none has too many jobs on so many workers for one transaction."""
    size = max(1, min(_CHUNK, _MOST_PAIRS // max(1, workers)))
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
