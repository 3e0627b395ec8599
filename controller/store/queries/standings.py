"""How tests stand by the newest run of each of their lines, counted in the database: a test may have thousands of lines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.queries.results import ResultRecord
from controller.store.rollups import statements
from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: Where the newest run of most lines is found: two or three partitions, however many there are.
_RECENTLY = dt.timedelta(days=2)

# Lines whose worker or destination has left the test do not count. The instants are constants, so that partitions are left out
# when the statement is planned, which would cost more than it. Of lines that have run long ago, or never, every other partition
# is looked into: the first run that is found ends it.
_STANDINGS = """
    WITH known AS (
        SELECT id, test_id, worker_id, destination_id, kind,
            bool_or(NOT one_shot AND retired_at IS NULL) OVER line AS live, bool_or(NOT one_shot) OVER line AS scheduled
        FROM jobs WHERE test_id = ANY(CAST(:tests AS bigint[]))
        WINDOW line AS (PARTITION BY test_id, worker_id, destination_id)
    ), line AS (
        SELECT DISTINCT ON (known.test_id, known.worker_id, known.destination_id)
            known.test_id, newest.scheduled_at, newest.status, newest.value
        FROM known CROSS JOIN LATERAL (
            (SELECT s.scheduled_at, s.status, {value} AS value FROM {table} s
            WHERE s.job_id = known.id AND s.scheduled_at <= :now AND s.scheduled_at >= :recently
            ORDER BY s.scheduled_at DESC LIMIT 1)
            UNION ALL
            (SELECT s.scheduled_at, s.status, {value} AS value FROM {table} s
            WHERE s.job_id = known.id AND s.scheduled_at < :recently
            ORDER BY s.scheduled_at DESC LIMIT 1)
            LIMIT 1
        ) newest
        WHERE known.kind = :kind AND (known.live OR NOT known.scheduled)
        ORDER BY known.test_id, known.worker_id, known.destination_id, newest.scheduled_at DESC
    )
    SELECT test_id, max(scheduled_at), count(*), count(*) FILTER (WHERE status = :failed),
        count(*) FILTER (WHERE status = :error), count(*) FILTER (WHERE status = :missed), avg(value), count(value)
    FROM line GROUP BY test_id
"""


_NAMES = ("last_at", "runs", "failed", "error", "missed", "value", "measured")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The newest runs of a test's lines, one of each that has any."""

    #: When the newest of them was due.
    last_at: dt.datetime
    runs: int
    failed: int = 0
    error: int = 0
    missed: int = 0
    #: Mean of the kind's headline over those that measured it; None where none did.
    value: float | None = None
    #: How many measured it.
    measured: int = 0


def read(session: Session, test_ids: Mapping[str, Iterable[int]]) -> dict[int, Standing]:
    """Return how these tests, named by kind, stand; those without any run are not among them.

    None is due later than now, by the database's clock: a single run from a clock that was wrong would stand for its line's
    state until then.
    """
    now = session.execute(select(func.now())).scalar_one()
    found: dict[int, Standing] = {}
    for kind, ids in test_ids.items():
        headline = results.metric_column(kind, contract.kind(kind).headline.name)
        query = _STANDINGS.format(table=results.table_name(kind), value=statements.value_sql(headline))
        values = {
            "tests": list(ids),
            "kind": kind,
            "now": now,
            "recently": now - _RECENTLY,
            "failed": probe_pb2.STATUS_FAILED,
            "error": probe_pb2.STATUS_ERROR,
            "missed": probe_pb2.STATUS_MISSED,
        }
        for row in session.execute(text(query), values):
            test_id, *figures = row
            found[test_id] = Standing(**dict(zip(_NAMES, figures, strict=True)))
    return found


def of_run(run: ResultRecord, kind: str) -> Standing:
    """Return how a single line stands by its newest run."""
    value = run.metrics[contract.kind(kind).headline.name]
    return Standing(
        last_at=run.scheduled_at,
        runs=1,
        **({run.status: 1} if run.status != "ok" else {}),
        value=None if value is None else float(value),
        measured=int(value is not None),
    )
