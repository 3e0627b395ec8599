"""Defers tasks to the keepers inside the caller's own transaction.

What a command writes and the task that follows from it are committed together, or not at all; keepers are told by
NOTIFY at the commit. Defer last, after all changes of the transaction.

A queueing lock merges tasks: while one of that name waits, no second is added. The one that waits is locked
until the caller's transaction ends, so that no keeper starts it before the caller's changes can be seen.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg.errors import UniqueViolation
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

#: The queue of short tasks, which planning and upkeep share.
DEFAULT_QUEUE = "default"
#: Planning tasks carry this lock, so that they run one after another however many keepers there are.
PLAN_LOCK = "plan"
#: Reports are made one after another: each takes memory and reads much.
REPORT_LOCK = "report"
#: Operations on the fleet run one after another: each is many SSH connections and processes.
OPERATION_LOCK = "operation"

_WAITING = """
SELECT id FROM procrastinate_jobs WHERE queueing_lock = %(queueing_lock)s AND status = 'todo' FOR SHARE
"""
_ADD = """
SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(
    %(queue)s, %(task)s, %(priority)s, %(lock)s, %(queueing_lock)s, CAST(%(args)s AS jsonb), NULL
)::procrastinate_job_to_defer_v1]))[1]
"""
# A keeper that looked while the waiting task was locked has passed it over: it is told once more, at the commit.
_TELL = """
SELECT pg_notify(
    'procrastinate_any_queue_v1', json_build_object('type', 'job_inserted', 'job_id', %(id)s)::text
)
"""


def defer(
    connection: Connection,
    task: str,
    args: Mapping[str, Any],
    *,
    queueing_lock: str | None = None,
    lock: str | None = None,
    queue: str = DEFAULT_QUEUE,
    priority: int = 0,
) -> int:
    """Defer a task in the connection's transaction; return its id, or that of the waiting one it merged with.

    `args` are plain JSON values. Tasks with the same `lock` never run at the same time.
    """
    values = _values(task, args, queueing_lock, lock, queue, priority)
    while True:
        waiting = None
        if queueing_lock is not None:
            waiting = connection.exec_driver_sql(_WAITING, values).scalar_one_or_none()
        if waiting is not None:
            connection.exec_driver_sql(_TELL, {"id": waiting})
            return int(waiting)
        try:
            with connection.begin_nested():
                return int(connection.exec_driver_sql(_ADD, values).scalar_one())
        except IntegrityError as error:
            # Another transaction has just added the same task: look again and join it.
            if getattr(error.orig, "pgcode", "") != UniqueViolation.sqlstate or queueing_lock is None:
                raise


async def defer_async(
    connection: psycopg.AsyncConnection[Any],
    task: str,
    args: Mapping[str, Any],
    *,
    queueing_lock: str | None = None,
    lock: str | None = None,
    queue: str = DEFAULT_QUEUE,
    priority: int = 0,
) -> int:
    """Defer a task as `defer` does, in the transaction of a psycopg 3 connection."""
    values = _values(task, args, queueing_lock, lock, queue, priority)
    while True:
        waiting = None
        if queueing_lock is not None:
            waiting = await _first(connection, _WAITING, values)
        if waiting is not None:
            await _first(connection, _TELL, {"id": waiting})
            return waiting
        try:
            async with connection.transaction():
                added = await _first(connection, _ADD, values)
        except UniqueViolation:
            if queueing_lock is None:
                raise
        else:
            return int(added or 0)


def plan_test(connection: Connection, test_id: int) -> int:
    """Have the jobs of a test planned after this transaction: it was made, changed, paused, resumed or deleted."""
    return defer(
        connection, "plan", {"test_id": test_id}, queueing_lock=f"plan:test:{test_id}", lock=PLAN_LOCK
    )


def plan_destination(connection: Connection, destination_id: int) -> int:
    """Have the jobs of every test of a destination planned after this transaction: its address changed."""
    return defer(
        connection,
        "plan",
        {"destination_id": destination_id},
        queueing_lock=f"plan:destination:{destination_id}",
        lock=PLAN_LOCK,
    )


def plan_worker(connection: Connection, worker_id: uuid.UUID | str) -> int:
    """Have the jobs on a worker planned after this transaction: it enrolled, changed, was revoked or deleted."""
    return defer(connection, "plan", **_plan_worker(worker_id))


async def plan_worker_async(connection: psycopg.AsyncConnection[Any], worker_id: uuid.UUID | str) -> int:
    """Have the jobs on a worker planned after this transaction: it enrolled, or its kinds changed."""
    return await defer_async(connection, "plan", **_plan_worker(worker_id))


def run_test_now(connection: Connection, test_id: int, *, requested_at_us: int) -> int:
    """Have a test run once, beside its schedule, on every worker and to every destination it is planned for.

    `requested_at_us` (microseconds since the epoch) is the instant for which the runs are due; asking again with
    the same instant adds nothing.
    """
    return defer(
        connection,
        "run_now",
        {"test_id": test_id, "requested_at_us": requested_at_us},
        queueing_lock=f"run_now:{test_id}:{requested_at_us}",
        lock=PLAN_LOCK,
        priority=1,
    )


def make_report(connection: Connection, report_id: int) -> int:
    """Have a report made after this transaction."""
    return defer(
        connection,
        "report",
        {"report_id": report_id},
        queueing_lock=f"report:{report_id}",
        lock=REPORT_LOCK,
    )


def run_operation(connection: Connection, operation_id: int) -> int:
    """Have an operation on the fleet run after this transaction."""
    return defer(
        connection,
        "operation",
        {"operation_id": operation_id},
        queueing_lock=f"operation:{operation_id}",
        lock=OPERATION_LOCK,
    )


def _plan_worker(worker_id: uuid.UUID | str) -> dict[str, Any]:
    return {
        "args": {"worker_id": str(worker_id)},
        "queueing_lock": f"plan:worker:{worker_id}",
        "lock": PLAN_LOCK,
    }


def _values(
    task: str,
    args: Mapping[str, Any],
    queueing_lock: str | None,
    lock: str | None,
    queue: str,
    priority: int,
) -> dict[str, Any]:
    return {
        "queue": queue,
        "task": task,
        "priority": priority,
        "lock": lock,
        "queueing_lock": queueing_lock,
        "args": json.dumps(dict(args)),
    }


async def _first(
    connection: psycopg.AsyncConnection[Any], statement: str, values: Mapping[str, Any]
) -> int | None:
    """Return the first value of the first row, whatever row factory the connection has."""
    async with connection.cursor(row_factory=psycopg.rows.tuple_row) as cursor:
        await cursor.execute(statement.encode(), values)
        row = await cursor.fetchone()
    return None if row is None else row[0]
