"""The figures of the first page."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from controller.store.entities import Destination, Job, Quarantine, Test, Worker
from controller.store.queries.tests import is_made_for_run, state_now
from controller.store.queries.troubles import has_clock_off, overdue_jobs, refused_lately
from controller.store.queries.workers import is_connected, is_drained, lacks_kinds


@dataclass(frozen=True, kw_only=True)
class Overview:
    """How much there is, and how much of it is well."""

    workers_total: int
    workers_connected: int
    #: Workers that are out of service by somebody's order.
    workers_drained: int
    #: Workers in service that announce a kind as unavailable, or a damaged or full spool.
    workers_impaired: int
    #: Connected workers whose clock is more than five seconds off.
    workers_clock_off: int
    #: Results that wait on workers' disks.
    spooled_results: int
    destinations_total: int
    #: All tests but those that others have made for one run each; the next four say how many are in which state.
    tests_total: int
    tests_active: int
    tests_paused: int
    tests_waiting: int
    tests_ended: int
    #: Tests that others have made for one run each.
    tests_made_for_runs: int
    jobs_total: int
    #: Jobs of connected workers of which nothing comes although it is due.
    jobs_overdue: int
    #: Results of the last day that could not be stored.
    quarantined: int


def read(session: Session) -> Overview:
    """Return the figures as of now."""
    workers = session.execute(_workers()).one()
    tests: dict[str, int] = {row.state: row.tests for row in session.execute(_tests_by_state())}
    return Overview(
        workers_total=workers[0],
        workers_connected=workers[1],
        workers_drained=workers[5],
        workers_impaired=workers[2],
        workers_clock_off=workers[4],
        spooled_results=int(workers[3]),
        destinations_total=session.execute(
            select(func.count()).select_from(Destination).where(Destination.deleted_at.is_(None))
        ).scalar_one(),
        tests_total=sum(tests.values()),
        tests_active=tests.get("active", 0),
        tests_paused=tests.get("paused", 0),
        tests_waiting=tests.get("waiting", 0),
        tests_ended=tests.get("ended", 0),
        tests_made_for_runs=session.execute(
            select(func.count()).select_from(Test).where(Test.deleted_at.is_(None), is_made_for_run())
        ).scalar_one(),
        jobs_total=session.execute(
            select(func.count()).select_from(Job).where(Job.retired_at.is_(None), ~Job.one_shot)
        ).scalar_one(),
        jobs_overdue=overdue_jobs(session),
        quarantined=session.execute(
            select(func.count()).select_from(Quarantine).where(refused_lately())
        ).scalar_one(),
    )


# Made once, as to make them costs more than to run them.
@cache
def _workers() -> Select[int, int, int, int, int, int]:
    return (
        select(
            func.count(),
            func.count().filter(is_connected()),
            func.count().filter(
                ~is_drained(),
                (Worker.spool_alarm != "") | (Worker.vantage_alarm != "") | lacks_kinds(),
            ),
            func.coalesce(func.sum(Worker.spool_records), 0),
            func.count().filter(has_clock_off()),
            func.count().filter(is_drained()),
        )
        .select_from(Worker)
        .where(Worker.deleted_at.is_(None), Worker.revoked_at.is_(None))
    )


@cache
def _tests_by_state() -> Select[Any]:
    states = (
        select(state_now().label("state")).where(Test.deleted_at.is_(None), ~is_made_for_run()).subquery()
    )
    return select(states.c.state, func.count().label("tests")).group_by(states.c.state)
