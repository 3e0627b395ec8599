"""Reads all runs of a test, or all rows of a repeated group, for an export, a page at a time: bounded memory, and no transaction that stays open.

A page goes on behind the key of the last row of the one before, job by job, so it costs the same however many
there are. Between two pages nothing is held in the database; who reads slowly is in nobody's way.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from sqlalchemy import Select, Table, and_, select, tuple_
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.queries.schedules import ScheduledJob

#: Rows of one page.
PAGE = 2000
#: Under which a row of a group has its run's status; a group may have a status of its own.
RUN_STATUS = "run_status"


def runs_of(
    transaction: Callable[[], AbstractContextManager[Session]],
    kind: str,
    jobs: Sequence[ScheduledJob],
    *,
    start: dt.datetime,
    end: dt.datetime,
    page: int = PAGE,
) -> Iterator[tuple[ScheduledJob, Any]]:
    """Yield each run due in [start, end) with its job, jobs one after another, each in order of time."""
    table = results.table(kind)
    runs = select(*(column for column in table.c if column.name != "detail"))
    return _walk(transaction, runs, table, ("scheduled_at",), jobs, start=start, end=end, page=page)


def rows_of(
    transaction: Callable[[], AbstractContextManager[Session]],
    kind: str,
    child: str,
    jobs: Sequence[ScheduledJob],
    *,
    start: dt.datetime,
    end: dt.datetime,
    page: int = PAGE,
) -> Iterator[tuple[ScheduledJob, Any]]:
    """Yield each row of a repeated group of runs due in [start, end), with its run's status, as `runs_of` yields runs.

    The rows of a run come in order of their keys.
    """
    table, own = results.child_table(kind, child), results.table(kind)
    run = and_(own.c.job_id == table.c.job_id, own.c.scheduled_at == table.c.scheduled_at)
    rows = select(*table.c, own.c.status.label(RUN_STATUS)).join(own, run)
    return _walk(transaction, rows, table, ("scheduled_at", "key"), jobs, start=start, end=end, page=page)


def _walk(
    transaction: Callable[[], AbstractContextManager[Session]],
    wanted: Select[Any],
    table: Table,
    order: Sequence[str],
    jobs: Sequence[ScheduledJob],
    *,
    start: dt.datetime,
    end: dt.datetime,
    page: int,
) -> Iterator[tuple[ScheduledJob, Any]]:
    """Yield the wanted rows of jobs that were due in [start, end); `order` is the rest of the table's key, time first."""
    place = [table.c[name] for name in order]
    for job in jobs:
        after: tuple[Any, ...] | None = None
        while True:
            begin = table.c.scheduled_at >= start
            if after is not None:
                begin = and_(table.c.scheduled_at >= after[0], tuple_(*place) > after)
            query = (
                wanted.where(table.c.job_id == job.id, begin, table.c.scheduled_at < end)
                .order_by(*place)
                .limit(page)
            )
            with transaction() as session:
                rows = session.execute(query).mappings().all()
            for row in rows:
                yield job, row
            if len(rows) < page:
                break
            after = tuple(rows[-1][name] for name in order)
