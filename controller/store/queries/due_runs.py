"""How many runs of a test were due in a range: what it costs to read all their results.

Counted from the versions that its jobs had then, whose pace may have been another than today's. What an interval makes is
divided, not enumerated; cron and windows are looked at by whole hours, of which a version has the share that it held. A
worker that was cut off and went on by an old version may have run more.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import text
from sqlalchemy.orm import Session

from controller.store.queries.expiries import counted_from
from streamswarm import windows
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.schedules import Schedule
from streamswarm.zones import to_microseconds

#: Results that can be read while somebody waits.
MOST_RUNS = 5_000_000
_MINUTE = dt.timedelta(minutes=1)
#: What is said to work does so for a while: ranges up to now grow.
_SLACK = 0.99

# One row for each job; those of cron or windows, whose hours are not reckoned here, have one more for each such schedule
# and each first and last hour.
_DUE = text(
    """
    SELECT d.id, d.interval_us, d.cron, d.zone, d.hours,
        date_bin('1 h', d.begin, TIMESTAMPTZ '2000-01-01') AS first,
        date_bin('1 h', d.until - interval '1 us', TIMESTAMPTZ '2000-01-01') + interval '1 h' AS last,
        sum(d.seconds) AS seconds,
        sum(CASE WHEN d.cron IS NOT NULL THEN 0 WHEN d.pace_us = 0 THEN 1 ELSE d.seconds * 1000000 / d.pace_us END)
            AS paced
    FROM (
        SELECT s.id, s.pace_us, extract(epoch FROM s.until - s.begin) AS seconds, h.*
        FROM (
            SELECT j.id, v.interval_us AS pace_us, v.cron, v.zone, v.windows,
                greatest(v.valid_from, v.starts_at, CAST(:start AS timestamptz)) AS begin,
                least(v.valid_until, v.ends_at, CAST(:end AS timestamptz)) AS until
            FROM jobs j JOIN job_versions v ON v.job_id = j.id
            WHERE j.test_id = :test AND j.kind = :kind AND NOT v.paused
                AND (CAST(:worker AS uuid) IS NULL OR j.worker_id = CAST(:worker AS uuid))
                AND (CAST(:destination AS bigint) IS NULL OR j.destination_id = CAST(:destination AS bigint))
        ) s
        LEFT JOIN LATERAL (
            SELECT s.pace_us AS interval_us, s.cron, s.zone, CAST(s.windows AS text) AS hours, s.begin, s.until
        ) h ON s.cron <> '' OR (s.pace_us > 0 AND s.windows <> '[]')
        WHERE s.until > s.begin
    ) d
    GROUP BY d.id, d.interval_us, d.cron, d.zone, d.hours, first, last
    """
)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The jobs of a test of which runs are counted: all, or those of a worker, of a destination, or of both."""

    test_id: int
    kind: str
    worker: uuid.UUID | None = None
    destination: int | None = None


def count_due(session: Session, lines: Lines, *, start: dt.datetime, end: dt.datetime) -> dict[int, int]:
    """Return by job how many runs were due in [start, end) of which the results are still there."""
    rows = session.execute(
        _DUE,
        {
            "test": lines.test_id,
            "kind": lines.kind,
            "start": counted_from(session, lines.kind, start),
            "end": end,
            "worker": None if lines.worker is None else str(lines.worker),
            "destination": lines.destination,
        },
    )
    runs: dict[int, float] = defaultdict(float)
    for row in rows:
        runs[row.id] += float(row.paced)
        if row.cron is not None:
            pace = _per_second(row.interval_us, row.cron, row.zone, row.hours, row.first, row.last)
            runs[row.id] += pace * float(row.seconds)
    return {job_id: math.ceil(round(of_job, 6)) for job_id, of_job in runs.items()}


def refuse_too_many(
    session: Session, lines: Lines, *, start: dt.datetime, end: dt.datetime, most: int = MOST_RUNS
) -> None:
    """Raise InvalidInputError, which says where the range can begin, when more was due in it than can be read at once."""

    def due(since: dt.datetime) -> int:
        return sum(count_due(session, lines, start=since, end=end).values())

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


# The jobs of a test mostly have the same versions, and where a range can begin is found by looking again and again.
@lru_cache(maxsize=4096)
def _per_second(
    interval_us: int, cron: str, zone: str, hours: str, first: dt.datetime, last: dt.datetime
) -> float:
    """Return how many runs a second cron or windows make in [first, last); a job's phase makes no difference."""
    first_us, last_us = to_microseconds(first), to_microseconds(last)
    schedule = Schedule(
        anchor_us=0, interval_us=interval_us, cron=cron, zone=zone, windows=windows.read(json.loads(hours))
    )
    if cron:
        runs: float = schedule.count(first_us, last_us - 1)
    else:
        opened = windows.spans(schedule.windows, zone, first_us, last_us - 1)
        runs = sum(min(end, last_us) - max(start, first_us) for start, end in opened) / interval_us
    return runs / (last - first).total_seconds()
