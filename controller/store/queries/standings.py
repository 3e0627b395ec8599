"""How tests stand by the newest run of each of their lines, counted in the database: a test may have thousands of lines."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from controller.store import results
from controller.store.rollups import statements
from streamswarm import contract
from streamswarm.v1 import probe_pb2

#: Where the newest run of most lines is found: one partition or two, however many there are. Each partition more costs every
#: line a part of what looking into it does.
RECENTLY = dt.timedelta(hours=1)

#: The jobs of some tests, each with whether its line is planned at present and ever was; `BY_LINE` ends it.
JOBS_OF_TESTS = """
        SELECT id, test_id, worker_id, destination_id, kind,
            bool_or(NOT one_shot AND retired_at IS NULL) OVER line AS live, bool_or(NOT one_shot) OVER line AS scheduled
        FROM jobs WHERE test_id = ANY(CAST(:tests AS bigint[]))"""
BY_LINE = "WINDOW line AS (PARTITION BY test_id, worker_id, destination_id)"
#: The newest run of a job `known`. The instants are constants, so that partitions are left out when the statement is planned,
#: which would cost more than it. Of one that has run long ago, or never, every other partition is looked into: the first run
#: that is found ends it.
_NEWEST = """
            (SELECT s.scheduled_at, s.status, {value} AS value FROM {table} s
            WHERE s.job_id = known.id AND s.scheduled_at <= :now AND s.scheduled_at >= :recently
            ORDER BY s.scheduled_at DESC LIMIT 1)
            UNION ALL
            (SELECT s.scheduled_at, s.status, {value} AS value FROM {table} s
            WHERE s.job_id = known.id AND s.scheduled_at < :recently
            ORDER BY s.scheduled_at DESC LIMIT 1)
            LIMIT 1"""

# Lines whose worker or destination has left the test do not count.
_STANDINGS = """
    WITH known AS ({known}), line AS ({lines})
    SELECT test_id, max(scheduled_at), count(*), count(*) FILTER (WHERE status = :failed),
        count(*) FILTER (WHERE status = :error), count(*) FILTER (WHERE status = :missed), avg(value), count(value)
    FROM line GROUP BY test_id
"""
_LINES_OF_KIND = """
        (SELECT DISTINCT ON (known.test_id, known.worker_id, known.destination_id)
            known.test_id, newest.scheduled_at, newest.status, newest.value
        FROM known CROSS JOIN LATERAL ({newest}) newest
        WHERE known.kind = '{kind}' AND (known.live OR NOT known.scheduled)
        ORDER BY known.test_id, known.worker_id, known.destination_id, newest.scheduled_at DESC)"""


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
    asked = {kind: ids for kind, of_kind in test_ids.items() if (ids := list(of_kind))}
    if not asked:
        return {}
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    values = {
        "tests": [test_id for ids in asked.values() for test_id in ids],
        "now": now,
        "recently": now - RECENTLY,
        "failed": probe_pb2.STATUS_FAILED,
        "error": probe_pb2.STATUS_ERROR,
        "missed": probe_pb2.STATUS_MISSED,
    }
    query = _STANDINGS.format(
        known=f"{JOBS_OF_TESTS} {BY_LINE}", lines=" UNION ALL ".join(map(_lines_of_kind, sorted(asked)))
    )
    found: dict[int, Standing] = {}
    for row in session.execute(text(query), values):
        test_id, *figures = row
        found[test_id] = Standing(**dict(zip(_NAMES, figures, strict=True)))
    return found


def newest(kind: str, metric: str) -> str:
    """Return the SQL of the newest run of a job `known`: when it was due, how it ended, and the `value` of a metric.

    `now` and `recently`, `RECENTLY` before, are constants.
    """
    column = results.metric_column(kind, metric)
    return _NEWEST.format(table=results.table_name(kind), value=statements.value_sql(column))


def _lines_of_kind(kind: str) -> str:
    return _LINES_OF_KIND.format(kind=kind, newest=newest(kind, contract.kind(kind).headline.name))


def of_run(at: dt.datetime, status: str) -> Standing:
    """Return how a single line stands by its newest run, apart from what it measured."""
    return Standing(last_at=at, runs=1, **({status: 1} if status != "ok" else {}))
