"""How many runs were due in a range: what it costs to read all their results.

Counted from the versions that its jobs had then, whose pace may have been another than today's. What an interval makes is
divided, not enumerated; cron and windows are looked at by whole hours (in a short range, by whole minutes), of which a version
has the share that it held. A worker that was cut off and went on by an old version may have run more.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.orm import Session

from controller.store.queries.expiries import counted_from
from streamswarm import windows
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.schedules import Schedule
from streamswarm.zones import to_microseconds

#: Results that can be read while somebody waits.
MOST_RUNS = 5_000_000
_MINUTE, _HOUR = dt.timedelta(minutes=1), dt.timedelta(hours=1)
#: Ranges up to this are short.
_SHORT = dt.timedelta(days=1)
#: Results due further ahead are never stored.
_AHEAD = dt.timedelta(days=1)
#: What is said to work does so for a while: ranges up to now grow.
_SLACK = 0.99

# One row for each job, or for all of them; cron and windows, whose hours are not reckoned here, have one more for each such
# schedule and each first and last step of time. Jobs of the same schedule are reckoned together: there are few schedules, and exact
# numbers cost the database much.
_DUE = """
    SELECT d.id, d.interval_us, d.cron, d.zone, d.hours,
        date_bin(CAST(:step AS interval), d.begin, TIMESTAMPTZ '2000-01-01') AS first,
        date_bin(CAST(:step AS interval), d.until - interval '1 us', TIMESTAMPTZ '2000-01-01') + CAST(:step AS interval) AS last,
        sum(d.jobs * d.seconds) AS seconds,
        sum(CASE WHEN d.cron IS NOT NULL THEN 0 WHEN d.once THEN d.jobs ELSE d.jobs * d.seconds * 1000000 / d.pace_us END) AS paced
    FROM (
        SELECT s.id, s.jobs, s.pace_us, s.once, extract(epoch FROM s.until - s.begin) AS seconds, h.*
        FROM (
            SELECT {id} AS id, v.interval_us AS pace_us, v.cron, v.zone, v.windows, o.once, b.begin, b.until, count(*) AS jobs
            FROM job_versions v {jobs}
            CROSS JOIN LATERAL (SELECT v.interval_us = 0 AND v.cron = '' AS once) o
            CROSS JOIN LATERAL (
                SELECT greatest(CASE WHEN NOT o.once THEN v.valid_from END, v.starts_at, CAST(:start AS timestamptz)) AS begin,
                    least(v.valid_until, v.ends_at, CAST(:end AS timestamptz)) AS until
            ) b
            WHERE NOT v.paused AND (v.valid_until IS NULL OR v.valid_until > CAST(:start AS timestamptz))
                {named}
                AND b.until > b.begin AND (NOT o.once OR (
                    v.anchor_us >= extract(epoch FROM b.begin) * 1000000 AND v.anchor_us < extract(epoch FROM b.until) * 1000000
                ))
            GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
        ) s
        LEFT JOIN LATERAL (
            SELECT s.pace_us AS interval_us, s.cron, s.zone, CAST(s.windows AS text) AS hours, s.begin, s.until
        ) h ON s.cron <> '' OR (s.pace_us > 0 AND s.windows <> '[]')
    ) d
    GROUP BY d.id, d.interval_us, d.cron, d.zone, d.hours, first, last
    """
_JOBS = "JOIN jobs j ON j.id = v.job_id"
_NAMED = """
                AND j.test_id = CAST(:test AS bigint) AND j.kind = CAST(:kind AS text)
                AND (CAST(:worker AS uuid) IS NULL OR j.worker_id = CAST(:worker AS uuid))
                AND (CAST(:destination AS bigint) IS NULL OR j.destination_id = CAST(:destination AS bigint))
                AND (CAST(:jobs AS bigint[]) IS NULL OR j.id = ANY(CAST(:jobs AS bigint[])))"""
_TOGETHER = "CAST(NULL AS bigint)"
_BY_JOB = text(_DUE.format(id="j.id", jobs=_JOBS, named=_NAMED))
_OF_LINES = text(_DUE.format(id=_TOGETHER, jobs=_JOBS, named=_NAMED))
# Whose versions they are is not asked then.
_OF_ALL = text(_DUE.format(id=_TOGETHER, jobs="", named=""))


@dataclass(frozen=True, kw_only=True)
class Lines:
    """The jobs of a test of which runs are counted: all, or those of a worker, of a destination, or of both, or these alone."""

    test_id: int
    kind: str
    worker: uuid.UUID | None = None
    destination: int | None = None
    jobs: tuple[int, ...] | None = None


def count_due(session: Session, lines: Lines, *, start: dt.datetime, end: dt.datetime) -> dict[int, int]:
    """Return by job how many runs were due in [start, end) of which the results are still there."""
    runs: dict[int, float] = defaultdict(float)
    for job_id, part in _parts(session, _BY_JOB, lines, counted_from(session, lines.kind, start), end):
        runs[job_id] += part
    return {job_id: math.ceil(round(of_job, 6)) for job_id, of_job in runs.items()}


def total_due(session: Session, lines: Lines | None, *, start: dt.datetime, end: dt.datetime) -> int:
    """Return how many runs were due in [start, end), of all tests where no lines are named."""
    if lines is None:
        parts = _parts(session, _OF_ALL, None, start, end)
    else:
        parts = _parts(session, _OF_LINES, lines, counted_from(session, lines.kind, start), end)
    return math.ceil(round(sum(part for _, part in parts), 6))


def refuse_too_many(
    session: Session, lines: Lines, *, start: dt.datetime, end: dt.datetime, most: int = MOST_RUNS
) -> None:
    """Raise InvalidInputError, which says where the range can begin, when more was due in it than can be read at once."""
    # A range may go on for years that are to come, of which there are no results.
    end = max(start, min(end, dt.datetime.now(dt.UTC) + _AHEAD))

    def due(since: dt.datetime) -> int:
        return total_due(session, lines, start=since, end=end)

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


def _parts(
    session: Session, statement: TextClause, lines: Lines | None, start: dt.datetime, end: dt.datetime
) -> Iterator[tuple[int, float]]:
    values: dict[str, Any] = {}
    if lines is not None:
        worker = None if lines.worker is None else str(lines.worker)
        values = {
            "test": lines.test_id,
            "kind": lines.kind,
            "worker": worker,
            "destination": lines.destination,
            "jobs": None if lines.jobs is None else list(lines.jobs),
        }
    values |= {"start": start, "end": end, "step": _MINUTE if end - start <= _SHORT else _HOUR}
    for row in session.execute(statement, values):
        yield row.id, float(row.paced)
        if row.cron is not None:
            pace = _per_second(row.interval_us, row.cron, row.zone, row.hours, row.first, row.last)
            yield row.id, pace * float(row.seconds)


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
