"""Reads the keepers' queue: whether what is due is being done."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

#: A keeper takes up what another that died has left within seconds; what is left for so long nobody takes up.
LEFT_S = 60.0

_COUNTS = text(
    """
    SELECT count(*) FILTER (WHERE j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now()) AS due,
           count(*) FILTER (WHERE j.status = 'doing') AS working,
           count(*) FILTER (
               WHERE j.status = 'doing'
               AND (w.id IS NULL OR w.last_heartbeat < now() - :left * interval '1 s')
           ) AS stalled,
           (SELECT count(DISTINCT e.job_id) FROM procrastinate_events e
            WHERE e.type = 'failed' AND e.at > now() - interval '1 day') AS failed
    FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
    WHERE j.status IN ('todo', 'doing')
    """
)
_LONGEST = text(
    """
    SELECT j.task_name AS name, extract(epoch FROM now() - since.at) AS seconds
    FROM procrastinate_jobs j CROSS JOIN LATERAL (
        SELECT greatest(j.scheduled_at, (SELECT max(e.at) FROM procrastinate_events e WHERE e.job_id = j.id)) AS at
    ) since
    WHERE j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now() AND since.at IS NOT NULL
        -- What waits for another to end, as operations on the fleet do, is not held up; whether that one lives is counted.
        AND NOT EXISTS (SELECT FROM procrastinate_jobs other WHERE other.status = 'doing' AND other.lock = j.lock)
    ORDER BY since.at LIMIT 1
    """
)


@dataclass(frozen=True, kw_only=True)
class QueueRecord:
    """The state of the queue."""

    #: Tasks that could be begun now.
    due: int
    working: int
    #: Tasks under way whose keeper has not been heard of for a minute.
    stalled: int
    #: Tasks that failed within a day.
    failed: int
    #: The task that has been due for the longest and waits for no other, and for how long; empty and 0 without one.
    longest_due_name: str
    longest_due_s: float


def read(session: Session) -> QueueRecord:
    """Return the state of the queue as of now."""
    counts = session.execute(_COUNTS, {"left": LEFT_S}).one()
    longest = session.execute(_LONGEST).one_or_none()
    return QueueRecord(
        due=counts.due,
        working=counts.working,
        stalled=counts.stalled,
        failed=counts.failed,
        longest_due_name="" if longest is None else longest.name,
        longest_due_s=0.0 if longest is None else float(longest.seconds),
    )
