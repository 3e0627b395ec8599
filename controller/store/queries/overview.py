"""The figures of the first page."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import Destination, Job, Quarantine, Test, Worker
from controller.store.queries.workers import is_connected


@dataclass(frozen=True, kw_only=True)
class Overview:
    """How much there is, and how much of it is well."""

    workers_total: int
    workers_connected: int
    #: Workers that announce a kind as unavailable, or a damaged or full spool.
    workers_impaired: int
    #: Results that wait on workers' disks.
    spooled_results: int
    destinations_total: int
    tests_total: int
    tests_paused: int
    jobs_total: int
    #: Results of the last day that could not be stored.
    quarantined: int


def read(session: Session) -> Overview:
    """Return the figures as of now."""
    workers = session.execute(
        select(
            func.count(),
            func.count().filter(is_connected()),
            func.count().filter(
                (Worker.spool_alarm != "")
                | func.jsonb_path_exists(Worker.kinds, "$.*.available ? (@ == false)")
            ),
            func.coalesce(func.sum(Worker.spool_records), 0),
        )
        .select_from(Worker)
        .where(Worker.deleted_at.is_(None), Worker.revoked_at.is_(None))
    ).one()
    tests = session.execute(
        select(func.count(), func.count().filter(Test.paused)).where(Test.deleted_at.is_(None))
    ).one()
    return Overview(
        workers_total=workers[0],
        workers_connected=workers[1],
        workers_impaired=workers[2],
        spooled_results=int(workers[3]),
        destinations_total=session.execute(
            select(func.count()).select_from(Destination).where(Destination.deleted_at.is_(None))
        ).scalar_one(),
        tests_total=tests[0],
        tests_paused=tests[1],
        jobs_total=session.execute(
            select(func.count()).select_from(Job).where(Job.retired_at.is_(None), ~Job.one_shot)
        ).scalar_one(),
        quarantined=session.execute(
            select(func.count())
            .select_from(Quarantine)
            .where(Quarantine.received_at > func.now() - dt.timedelta(days=1))
        ).scalar_one(),
    )
