"""Removes what nobody needs any more, and retires one-shot jobs that are over."""

from __future__ import annotations

import datetime as dt
from typing import Any

from sqlalchemy import ColumnElement, Engine, exists, func, literal_column, or_, select, text, update
from sqlalchemy.orm import Session

from controller.keeper.given_up import give_up_abandoned
from controller.keeper.plan import bump_revisions
from controller.keeper.versions import prune_versions
from controller.planning.schedule import ONE_SHOT_GRACE
from controller.store import health, results
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM
from controller.store.entities import Job, Test
from controller.store.queries.expiries import results_gone
from controller.store.queries.tests import runs_once
from controller.store.upkeep import believed

_DAY_S = 86_400.0
#: Tests that are deleted in one transaction.
_TOGETHER = 500
#: Rows that are deleted in one.
_ROWS_TOGETHER = 10_000
#: What is deleted, by table, with its condition; `:now` is the time that removal goes by.
_RULES = {
    "login_attempts": "at < :now - interval '1 day'",
    "login_links": "expires_at < :now - interval '1 day'",
    # None lives so long, whatever has become of it.
    "web_sessions": "created_at < :now - interval '1 day'",
    # Expired ones are refused for that alone; who held which is looked up for as long as other traces are kept.
    "certificates": "not_after < :now - interval '90 days'",
    "enrolment_tokens": "expires_at < :now - interval '7 days'",
    "reports": "expires_at < :now",
    # What happened in detail is wanted for a while; that it happened, as long as charts may show the time.
    "operation_events": "operation_id IN (SELECT id FROM operations WHERE finished_at < :now - interval '30 days')",
    "operations": "finished_at < :now - interval '400 days'",
    "quarantine": "received_at < :now - interval '30 days'",
    "api_tokens": "expires_at < :now - interval '30 days'",
    "diagnosis_states": "job_id IN (SELECT id FROM jobs WHERE retired_at < :now - interval '7 days')",
    "diagnosis_seasons": "job_id IN (SELECT id FROM jobs WHERE retired_at < :now - interval '7 days')",
    "procrastinate_jobs": (
        "status IN ('succeeded', 'failed', 'cancelled', 'aborted') AND NOT EXISTS (SELECT FROM "
        "procrastinate_events e WHERE e.job_id = procrastinate_jobs.id AND e.at > :now - interval '7 days')"
    ),
}
#: After its expiry a one-shot job stays for a while: a run that began in time may still go on.
_LATE = dt.timedelta(minutes=1)
_EPOCH: ColumnElement[Any] = literal_column("timestamptz 'epoch'")


def prune(engine: Engine) -> dict[str, int]:
    """Delete what is old: of `_RULES`, tests of expired runs, versions of jobs, processes; return how many of each.

    Reports and operations that wait in vain are among it: they end, and go when their time comes.
    """
    with engine.connect() as connection:
        now = believed.read(connection)
    done = {table: _delete(engine, table, condition, now) for table, condition in _RULES.items()}
    done["tests"] = delete_expired_runs(engine)
    done["job_versions"] = prune_versions(engine)
    done["abandoned"] = give_up_abandoned(engine)
    with engine.begin() as connection:
        done["processes"] = health.prune_processes(connection, older_than_s=_DAY_S)
    return done


def _delete(engine: Engine, table: str, condition: str, now: dt.datetime) -> int:
    """Delete rows some at a time, for all of them may take longer than a statement may; return how many."""
    some = f"SELECT ctid FROM {table} WHERE {condition} LIMIT :most"  # noqa: S608  fixed text
    deleted = 0
    while True:
        with engine.begin() as connection:
            part = connection.execute(
                text(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({some}))"),  # noqa: S608
                {"most": _ROWS_TOGETHER, "now": now},
            ).rowcount
        deleted += part
        if part < _ROWS_TOGETHER:
            return deleted


def delete_expired_runs(engine: Engine) -> int:
    """Delete the tests that others have made for one run each, once their results have expired; return how many.

    As people delete tests: the row stays as a tombstone. A run that somebody has made into a test that repeats stays,
    and so does one that ran again since.
    """
    deleted = 0
    with engine.connect() as connection:
        gone = results_gone(connection)
    for kind, before in gone:
        while part := _delete_runs(engine, kind, before):
            deleted += part
    return deleted


def _delete_runs(engine: Engine, kind: str, before: dt.datetime) -> int:
    later = exists().where(Job.test_id == Test.id, or_(Job.retired_at.is_(None), Job.retired_at >= before))
    with Session(engine) as session, session.begin():
        over = session.execute(
            select(Test.id, Test.name, Test.origin_id)
            .where(
                Test.kind == kind,
                Test.origin_id.is_not(None),
                Test.deleted_at.is_(None),
                runs_once(),
                func.coalesce(Test.starts_at, Test.created_at) < before - ONE_SHOT_GRACE,
                Test.planned_version == Test.version,
                ~later,
            )
            .order_by(Test.id)
            .limit(_TOGETHER)
            .with_for_update(skip_locked=True, of=Test)
        ).all()
        # There is nothing to plan: it has no live job.
        session.execute(
            update(Test)
            .where(Test.id.in_([row.id for row in over]))
            .values(deleted_at=func.now(), version=Test.version + 1, planned_version=Test.version + 1)
        )
        for row in over:
            detail = {"name": row.name, "origin": row.origin_id, "reason": "its results have expired"}
            audit.record(session, SYSTEM, "test.delete", "test", row.id, detail)
    return len(over)


def retire_one_shots(engine: Engine) -> int:
    """Retire one-shot jobs that have their result or have expired; return how many."""
    retired = 0
    with Session(engine) as session, session.begin():
        live = select(Job.kind).where(Job.one_shot, Job.retired_at.is_(None)).distinct()
        for kind in session.scalars(live).all():
            over = Job.expires_at < func.now() - _LATE
            if kind in results.kinds():
                table = results.table(kind)
                due = _EPOCH + Job.anchor_us * literal_column("interval '1 microsecond'")
                over |= exists().where(table.c.job_id == Job.id, table.c.scheduled_at == due)
            workers = session.scalars(
                update(Job)
                .where(Job.kind == kind, Job.one_shot, Job.retired_at.is_(None), over)
                .values(retired_at=func.now(), updated_at=func.now())
                .returning(Job.worker_id)
            ).all()
            retired += len(workers)
            bump_revisions(session, workers)
    return retired
