"""How many runs of a test were due in a range: what it costs to read all their results.

Counted from the versions that its jobs had then, whose pace may have been another than today's, without looking at
windows: no more than so many, but for a worker that was cut off and went on by an old version.
"""

from __future__ import annotations

import datetime as dt
import uuid

from sqlalchemy import text
from sqlalchemy.orm import Session

from controller.store.queries.expiries import counted_from
from streamswarm.contract import InvalidInputError, Problem

#: Results that can be read while somebody waits.
MOST_RUNS = 5_000_000
#: Cron goes no faster.
_SHORTEST_CRON_S = 60
_MINUTE = dt.timedelta(minutes=1)
#: What is said to work does so for a while: ranges up to now grow.
_SLACK = 0.99

_DUE = text(
    """
    SELECT d.id, ceil(sum(CASE
        WHEN d.interval_us > 0 THEN d.seconds * 1000000 / d.interval_us
        WHEN d.cron <> '' THEN d.seconds / :cron_s
        ELSE 1
    END))::bigint AS runs
    FROM (
        SELECT j.id, v.interval_us, v.cron, extract(epoch FROM
            least(v.valid_until, v.ends_at, CAST(:end AS timestamptz))
            - greatest(v.valid_from, v.starts_at, CAST(:start AS timestamptz))
        ) AS seconds
        FROM jobs j JOIN job_versions v ON v.job_id = j.id
        WHERE j.test_id = :test AND j.kind = :kind AND NOT v.paused
            AND (CAST(:worker AS uuid) IS NULL OR j.worker_id = CAST(:worker AS uuid))
            AND (CAST(:destination AS bigint) IS NULL OR j.destination_id = CAST(:destination AS bigint))
    ) d
    WHERE d.seconds > 0 GROUP BY d.id
    """
)


def count_due(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
) -> dict[int, int]:
    """Return by job how many runs were due in [start, end) of which the results are still there."""
    rows = session.execute(
        _DUE,
        {
            "test": test_id,
            "kind": kind,
            "start": counted_from(session, kind, start),
            "end": end,
            "worker": None if worker is None else str(worker),
            "destination": destination,
            "cron_s": _SHORTEST_CRON_S,
        },
    )
    return {row.id: row.runs for row in rows}


def refuse_too_many(
    session: Session,
    test_id: int,
    kind: str,
    *,
    start: dt.datetime,
    end: dt.datetime,
    worker: uuid.UUID | None = None,
    destination: int | None = None,
    most: int = MOST_RUNS,
) -> None:
    """Raise InvalidInputError, which says where the range can begin, when more was due in it than can be read at once."""

    def due(since: dt.datetime) -> int:
        found = count_due(
            session, test_id, kind, start=since, end=end, worker=worker, destination=destination
        )
        return sum(found.values())

    total = due(start)
    if total <= most:
        return
    fitting, beyond = 0, (end - start) // _MINUTE + 1
    while beyond - fitting > 1:
        middle = (fitting + beyond) // 2
        if due(end - middle * _MINUTE) <= most:
            fitting = middle
        else:
            beyond = middle
    since = end - int(fitting * _SLACK) * _MINUTE
    raise InvalidInputError(
        [
            Problem(
                path="from",
                message=f"some {total} runs were due in this range, and no more than {most} can be read at once; "
                f"a range from {since.isoformat(timespec='seconds')} on can be read",
            )
        ]
    )
