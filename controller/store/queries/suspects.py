"""Which tests may be in trouble, found by what tells of it, so that the others need not be looked at: there may be thousands.

A newest run that did not end well, a job whose runs do not come, a worker without a session, a test that no worker runs.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Select, func, select, text
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.entities import Job, OverdueJob, Test, Worker
from controller.store.queries.pages import LATEST_WITHIN
from controller.store.queries.tests import is_made_for_run, runs_once
from controller.store.queries.workers import is_connected, is_drained
from streamswarm.v1 import probe_pb2

#: Runs that did not end well are looked through, the newest first, until there were so many of a kind.
_MOST_BAD = 2000

# The instants are constants, so that partitions are left out when the statement is planned.
_BAD = """
    (SELECT j.test_id, bad.scheduled_at FROM (
        SELECT job_id, max(scheduled_at) AS scheduled_at FROM (
            SELECT job_id, scheduled_at FROM {table}
            WHERE status <> :ok AND scheduled_at > :since AND scheduled_at <= :now ORDER BY scheduled_at DESC LIMIT :most_bad
        ) newest GROUP BY job_id
    ) bad JOIN jobs j ON j.id = bad.job_id
    WHERE j.retired_at IS NULL AND NOT EXISTS (
        SELECT FROM {table} later
        WHERE later.job_id = bad.job_id AND later.scheduled_at > bad.scheduled_at AND later.scheduled_at <= :now
            AND later.scheduled_at > :since
    ))
"""


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """Tests that may be in trouble."""

    ids: tuple[int, ...]
    #: Whether there are more of any sort than were asked for.
    more: bool


def find(session: Session, *, most: int) -> Suspects:
    """Return the tests that may be in trouble, up to so many of each sort.

    Tests that were made for one run of another are not among them.
    """
    sorts = [_failing(session, most + 1)]
    sorts += [list(session.scalars(sort(most + 1))) for sort in _SORTS]
    ids = dict.fromkeys(test_id for found in sorts for test_id in found[:most])
    return Suspects(ids=tuple(ids), more=any(len(found) > most for found in sorts))


def _failing(session: Session, most: int) -> list[int]:
    """Tests with a line whose newest run of the last day did not end well, those that failed last first."""
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    values = {
        "ok": probe_pb2.STATUS_OK,
        "now": now,
        "since": now - LATEST_WITHIN,
        "most_bad": _MOST_BAD,
    }
    last_at: dict[int, dt.datetime] = {}
    query = "UNION ALL".join(_BAD.format(table=results.table_name(kind)) for kind in results.kinds())
    for row in session.execute(text(query), values):
        last_at[row.test_id] = max(last_at.get(row.test_id, row.scheduled_at), row.scheduled_at)
    made_by_people = set(
        session.scalars(
            select(Test.id).where(
                Test.id.in_(last_at), Test.deleted_at.is_(None), Test.paused.is_(False), ~is_made_for_run()
            )
        )
    )
    return sorted(made_by_people, key=lambda test_id: last_at[test_id], reverse=True)[:most]


@cache
def _overdue(most: int) -> Select[int]:
    return (
        select(Job.test_id)
        .join(OverdueJob, OverdueJob.job_id == Job.id)
        .join(Test, Test.id == Job.test_id)
        .where(Job.retired_at.is_(None), Test.deleted_at.is_(None), ~is_made_for_run())
        .group_by(Job.test_id)
        .order_by(func.min(OverdueJob.due_at), Job.test_id)
        .limit(most)
    )


@cache
def _without_session(most: int) -> Select[int]:
    """Tests with a worker that should have a session and has none."""
    silent = select(Worker.id).where(
        Worker.deleted_at.is_(None), Worker.revoked_at.is_(None), ~is_connected(), ~is_drained()
    )
    return (
        select(Test.id)
        .join(Job, Job.test_id == Test.id)
        .where(
            Job.worker_id.in_(silent), Job.retired_at.is_(None), Test.deleted_at.is_(None), ~is_made_for_run()
        )
        .group_by(Test.id)
        .order_by(func.lower(Test.name))
        .limit(most)
    )


@cache
def _without_worker(most: int) -> Select[int]:
    """Tests that no worker runs, but for those whose only run is over."""
    jobs = select(Job.id).where(Job.test_id == Test.id).correlate(Test)
    return (
        select(Test.id)
        .where(
            Test.deleted_at.is_(None),
            ~is_made_for_run(),
            Test.paused.is_(False),
            Test.recurrence == "continue",
            ~jobs.where(Job.retired_at.is_(None)).exists(),
            ~(runs_once() & jobs.exists()),
        )
        .order_by(func.lower(Test.name))
        .limit(most)
    )


# Made once each, as to make a statement costs more than to run it.
_SORTS = (_overdue, _without_session, _without_worker)
