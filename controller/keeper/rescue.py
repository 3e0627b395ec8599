"""Puts tasks whose keeper died back into the queue.

A keeper's own heartbeat in the queue's tables tells that it lives. Every keeper looks every few seconds; the rows
are locked meanwhile, so that one of them acts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controller.keeper.given_up import give_up

_log = logging.getLogger(__name__)

#: A keeper that has not been heard of for so long is taken for dead.
SILENT_S = 10.0
#: A task that runs for so long has lost the word that it ended, to a database that was away just then.
LONGEST_S = 600.0
#: Tasks that may rightly work for longer, and for how long: rounds of 15 minutes with statements of up to an hour.
LONG_TASKS = ("rewrite", "expire", "purge", "roll_up", "operation")
LONGEST_OF_LONG_S = 3 * 3600.0
#: A task that was cut short so often is given up: it may be what kills the keepers.
MOST_ATTEMPTS = 5

_STALLED = """
SELECT j.id, j.task_name, j.attempts, j.args
FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
WHERE j.status = 'doing' AND (
    w.id IS NULL
    OR w.last_heartbeat < now() - %(silent)s * interval '1 s'
    OR (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id AND e.type = 'started')
       < now() - CASE WHEN j.task_name = ANY(%(long_tasks)s) THEN %(longest_of_long)s ELSE %(longest)s END * interval '1 s'
)
ORDER BY j.id FOR UPDATE OF j SKIP LOCKED
"""
_AGAIN = "SELECT procrastinate_retry_job_v2(%(id)s, now(), NULL, NULL, NULL)"
_OVER = "SELECT procrastinate_finish_job_v1(%(id)s, 'failed', false)"


def rescue(engine: Engine, *, silent_s: float = SILENT_S, longest_s: float = LONGEST_S) -> int:
    """Put stalled tasks back into the queue; return how many there were."""
    with engine.begin() as connection:
        stalled = connection.exec_driver_sql(
            _STALLED,
            {
                "silent": silent_s,
                "longest": longest_s,
                "long_tasks": list(LONG_TASKS),
                "longest_of_long": LONGEST_OF_LONG_S,
            },
        )
        rows = stalled.all()
        for task_id, name, attempts, args in rows:
            _rescue_one(connection, task_id, name, attempts, args)
    return len(rows)


def _rescue_one(
    connection: Connection, task_id: int, name: str, attempts: int, args: Mapping[str, Any]
) -> None:
    if attempts >= MOST_ATTEMPTS:
        _log.error("task %s (%s) was cut short %s times and is given up", name, task_id, attempts)
        connection.exec_driver_sql(_OVER, {"id": task_id})
        with Session(connection) as session, session.begin():
            give_up(
                session, name, args, f"it was cut short {attempts} times, with the keeper that worked on it"
            )
        return
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(_AGAIN, {"id": task_id})
    except IntegrityError:
        # Another task with the same queueing lock waits already and will do the same work.
        connection.exec_driver_sql(_OVER, {"id": task_id})
    _log.warning("task %s (%s) lost its keeper and is taken up again", name, task_id)
