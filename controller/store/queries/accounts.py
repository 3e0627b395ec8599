"""Reads the account of jobs over a range of time: what was due by their versions, and what came of it.

It is counted from the results themselves, which alone say by which version they ran. Where results have expired nothing
is counted, neither due nor received: those runs would look as if they had never come.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session

from controller.planning.accounts import Account, Received, account, may_stray, spans
from controller.store import results
from controller.store.entities import Destination, Job, OverdueJob, Test, Worker
from controller.store.queries.due_runs import Lines, count_due
from controller.store.queries.expiries import counted_from
from controller.store.queries.on_plan import count_on_plan, grids, on_grid
from controller.store.queries.results.series import within
from controller.store.queries.tests import runs_once
from controller.store.queries.versions import read_drains, read_versions
from controller.store.queries.workers import spool_stuck_since
from streamswarm.outcomes import status_name
from streamswarm.zones import to_microseconds

#: Stands for versions of a job that are not known; they begin with 1.
_NO_VERSION = 0


@dataclass(frozen=True, kw_only=True)
class JobAccount:
    """A job with the account of its runs."""

    job_id: int
    worker_id: uuid.UUID
    worker_name: str
    #: None for kinds without a destination.
    destination_id: int | None
    destination_name: str
    #: Whether it is planned at present.
    live: bool
    #: The first instant since which none of its due runs has come although its worker is connected, no more than 26
    #: hours before that was noticed; None while all is well.
    overdue_since: dt.datetime | None
    account: Account


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """The accounts of jobs."""

    #: Runs due before are not counted, for their results have expired; not before the range that was asked for.
    counted_from: dt.datetime
    by_job: dict[int, Account]


@dataclass(frozen=True, kw_only=True)
class TestAccounts:
    """The accounts of a test's jobs."""

    #: As in `Accounts`.
    counted_from: dt.datetime
    items: tuple[JobAccount, ...]
    #: Jobs that were not looked at because more were not asked for.
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class OverdueLine:
    """A job whose due runs do not come although its worker is connected."""

    job_id: int
    test_id: int
    test_name: str
    worker_name: str
    destination_name: str
    #: The first instant that was due and of which, as of everything since, nothing has come; no more than 26 hours
    #: before that was noticed.
    due_at: dt.datetime
    #: Since when its worker's spool does not shrink, which is why; None where it does.
    spool_stuck_since: dt.datetime | None = None

    @property
    def name(self) -> str:
        """Worker and destination, as people call the line."""
        return (
            f"{self.worker_name} \N{RIGHTWARDS ARROW} {self.destination_name}"
            if self.destination_name
            else self.worker_name
        )


def overdue(session: Session, *, test_id: int | None = None, limit: int) -> tuple[OverdueLine, ...]:
    """Return jobs that do not deliver, those that have been silent longest first, of one test or of all."""
    query = (
        select(
            OverdueJob.job_id,
            Job.test_id,
            Test.name.label("test_name"),
            Worker.name.label("worker_name"),
            func.coalesce(Destination.name, "").label("destination_name"),
            OverdueJob.due_at,
            spool_stuck_since().label("spool_stuck_since"),
        )
        .join(Job, Job.id == OverdueJob.job_id)
        .join(Test, Test.id == Job.test_id)
        .join(Worker, Worker.id == Job.worker_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .order_by(OverdueJob.due_at, OverdueJob.job_id)
        .limit(limit)
    )
    if test_id is not None:
        query = query.where(Job.test_id == test_id)
    return tuple(OverdueLine(**row._mapping) for row in session.execute(query))


def read_accounts(
    session: Session, kind: str, job_ids: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> Accounts:
    """Return the accounts of jobs of a kind over [start, end), from where on their results are still there."""
    begin = counted_from(session, kind, start)
    while True:
        made = _read(session, kind, job_ids, start=begin, end=end)
        # Results that were called gone meanwhile may have been missing already.
        before, begin = begin, counted_from(session, kind, start)
        if begin == before:
            return Accounts(counted_from=begin, by_job=made)


def _read(
    session: Session, kind: str, job_ids: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> dict[int, Account]:
    if not job_ids or start >= end:
        return {job_id: Account() for job_id in job_ids}
    received = _received(session, kind, job_ids, start=start, end=end)
    ran = {(job_id, runs.version) for job_id, found in received.items() for runs in found}
    known = {
        job_id: spans(
            versions,
            received.get(job_id, ()),
            start_us=to_microseconds(start),
            end_us=to_microseconds(end),
        )
        for job_id, versions in read_versions(session, job_ids, start=start, end=end, ran=ran).items()
    }
    straying = [job_id for job_id, found in known.items() if may_stray(found, received.get(job_id, ()))]
    on_plan = count_on_plan(session, kind, {job_id: known[job_id] for job_id in straying})
    drains = read_drains(session, job_ids, start=start, end=end)
    return {
        job_id: account(found, received.get(job_id, ()), on_plan=on_plan.get(job_id), drains=drains[job_id])
        for job_id, found in known.items()
    }


def of_test(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    most_lines: int | None = None,
    most_runs: int | None = None,
) -> TestAccounts:
    """Return the accounts of a test's jobs by worker and destination; "run now" is left out, and retired jobs without any run.

    So are those of workers that were deleted with their data: nothing can be told of their runs. Jobs beyond so many lines, or so many runs that were due in all of them, are left out, retired ones before live ones; one
    is always looked at.
    """
    destination = func.coalesce(Destination.name, "")
    names = (Worker.name, destination, Job.worker_id, Job.id)
    # Of thousands no more are read than can be looked at, in the order in which they are left out.
    read = session.execute(
        select(
            Job.id,
            Job.worker_id,
            Worker.name.label("worker_name"),
            Job.destination_id,
            destination.label("destination_name"),
            Job.retired_at,
            OverdueJob.due_at,
            func.row_number().over(order_by=names).label("place"),
            func.count().over().label("known"),
        )
        .join(Worker, Worker.id == Job.worker_id)
        .join(Test, Test.id == Job.test_id)
        .join(Destination, Destination.id == Job.destination_id, isouter=True)
        .join(OverdueJob, OverdueJob.job_id == Job.id, isouter=True)
        .where(
            Job.test_id == test_id,
            Job.kind == kind,
            or_(~Job.one_shot, runs_once()),
            Worker.data_deleted_at.is_(None),
        )
        .order_by(Job.retired_at.is_not(None), *names)
        .limit(most_lines)
    ).all()
    known = read[0].known if read else 0
    if most_runs is not None:
        lines = Lines(test_id=test_id, kind=kind, jobs=tuple(row.id for row in read))
        due = count_due(session, lines, start=start, end=end)
        so_far = accumulate(due.get(row.id, 0) for row in read)
        read = read[: max(1, sum(total <= most_runs for total in so_far))]
    rows = sorted(read, key=lambda row: row.place)
    found = read_accounts(session, kind, [row.id for row in rows], start=start, end=end)
    accounts = found.by_job
    items = tuple(
        JobAccount(
            job_id=row.id,
            worker_id=row.worker_id,
            worker_name=row.worker_name,
            destination_id=row.destination_id,
            destination_name=row.destination_name,
            live=row.retired_at is None,
            overdue_since=row.due_at,
            account=accounts[row.id],
        )
        for row in rows
        if row.retired_at is None or accounts[row.id] != Account()
    )
    return TestAccounts(counted_from=found.counted_from, items=items, left_out=known - len(rows))


def _received(
    session: Session, kind: str, job_ids: Collection[int], *, start: dt.datetime, end: dt.datetime
) -> dict[int, list[Received]]:
    table, grid = results.table(kind), grids(job_ids)
    # Of versions that are not known all together: a worker may name as many as it brings results.
    version = func.coalesce(grid.c.version, _NO_VERSION)
    keys = (table.c.job_id, version, table.c.status, on_grid(table.c.scheduled_at, grid))
    first, last = func.min(table.c.scheduled_at), func.max(table.c.scheduled_at)
    known = table.outerjoin(
        grid, and_(grid.c.job_id == table.c.job_id, grid.c.version == table.c.job_version)
    )
    found: dict[int, list[Received]] = {}
    for job_id, number, status, regular, count, first_at, last_at in session.execute(
        select(*keys, func.count(), first, last)
        .select_from(known)
        .where(*within(table, job_ids, start, end))
        .group_by(*keys)
    ):
        found.setdefault(job_id, []).append(
            Received(
                version=number,
                status=status_name(status),
                on_grid=regular,
                count=count,
                first_us=to_microseconds(first_at),
                last_us=to_microseconds(last_at),
            )
        )
    return found
