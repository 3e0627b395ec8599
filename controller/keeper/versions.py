"""Removes versions of jobs that nothing asks for any more: the results of their time have expired.

Accounts and reports reach no further back than results do. A version that has ended may still run on, on a worker that was
cut off and has not heard of the change: it stays until the job is known to have gone on by a later one.
"""

from __future__ import annotations

import datetime as dt

from sqlalchemy import Engine, text

from controller.store import results
from controller.store.health import BACKLOG
from controller.store.queries.expiries import results_gone

#: Versions that are removed in one transaction.
TOGETHER = 1000

#: What a job ran by first of what is left of it tells which versions it may still run by: workers go on to later ones only.
#: Where nothing is left, its worker tells: one that has heard of everything and has emptied its spool, or may not come back.
_ENDED = """
    DELETE FROM job_versions d USING (
        SELECT v.job_id, v.version
        FROM job_versions v JOIN jobs j ON j.id = v.job_id JOIN workers w ON w.id = j.worker_id
        LEFT JOIN LATERAL (
            SELECT r.job_version FROM {table} r
            WHERE r.job_id = v.job_id AND r.scheduled_at >= :before ORDER BY r.scheduled_at LIMIT 1
        ) first ON true
        WHERE j.kind = :kind AND v.valid_until <= :before AND coalesce(
            first.job_version > v.version,
            w.deleted_at IS NOT NULL OR w.revoked_at IS NOT NULL
                OR (w.jobs_applied = w.jobs_revision AND w.spool_records <= :backlog)
        )
        ORDER BY v.valid_until LIMIT :together FOR UPDATE OF v SKIP LOCKED
    ) gone
    WHERE d.job_id = gone.job_id AND d.version = gone.version
"""
#: A one-shot job that ends with its run leaves its version open.
_ONCE = """
    DELETE FROM job_versions d USING (
        SELECT v.job_id, v.version FROM job_versions v JOIN jobs j ON j.id = v.job_id
        WHERE j.kind = :kind AND v.valid_until IS NULL AND j.one_shot AND j.retired_at < :before
        LIMIT :together FOR UPDATE OF v SKIP LOCKED
    ) gone
    WHERE d.job_id = gone.job_id AND d.version = gone.version
"""


def prune_versions(engine: Engine, *, together: int = TOGETHER) -> int:
    """Remove the versions of which all results have expired, some at a time; return how many."""
    with engine.connect() as connection:
        gone = results_gone(connection)
    removed = 0
    for kind, before in gone:
        if kind not in results.kinds():
            continue  # of a newer release, which prunes it
        for statement in (_ENDED.format(table=results.table_name(kind)), _ONCE):
            while part := _remove(engine, statement, kind, before, together):
                removed += part
    return removed


def _remove(engine: Engine, statement: str, kind: str, before: dt.datetime, together: int) -> int:
    with engine.begin() as connection:
        return connection.execute(
            text(statement), {"kind": kind, "before": before, "together": together, "backlog": BACKLOG}
        ).rowcount
