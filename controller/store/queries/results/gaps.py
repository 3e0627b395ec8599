"""Reads what was due of a line over a range, by the versions of its jobs, and tells where runs of it lack.

Accounts count by the same versions and hold the same of a worker that has not heard of a change yet: it goes on by the
version before, which counts until the last of its results.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import Connection, func, select, text
from sqlalchemy.orm import Session

from controller.planning import gaps as planning
from controller.planning.accounts import Period, Version, spans_until
from controller.planning.gaps import Gap
from controller.store import results
from controller.store.entities import Job
from controller.store.queries.versions import SETTLING, numbers, read_drains, read_versions
from streamswarm.zones import from_microseconds, to_microseconds

if TYPE_CHECKING:
    from controller.store.queries.results.records import Line


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was due of a line over a range, as far as it is known; "run now" is beside it."""

    kind: str
    start: dt.datetime
    end: dt.datetime
    #: By job, those that held in the range, oldest first.
    versions: Mapping[int, Sequence[Version]]
    #: Microseconds, [from, to): times of which the versions have gone with their results.
    unknown: tuple[tuple[int, int], ...]
    #: Microseconds, [from, to): times in which the line's worker was drained.
    drains: tuple[Period, ...] = ()

    @property
    def pace_s(self) -> float | None:
        """The least time between two due runs; None where none or only one was due."""
        strides = [version.schedule.shortest_stride_us for version in self._active]
        return min((stride for stride in strides if stride), default=0) / 1e6 or None

    def due(self, *, slower_than_s: float = 0) -> int:
        """Return how many runs were due, of all versions or of those that run no more often than that."""
        start_us, end_us = to_microseconds(self.start), to_microseconds(self.end)
        return sum(
            span.due
            for of_job in self.versions.values()
            for span in spans_until(of_job, {}, start_us=start_us, end_us=end_us)
            if span.version.schedule.shortest_stride_us >= slower_than_s * 1_000_000
        )

    @property
    def _active(self) -> list[Version]:
        return [version for of_job in self.versions.values() for version in of_job if not version.paused]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that came."""

    job_id: int
    version: int
    at: dt.datetime


def read_plans(
    connection: Connection | Session, lines: Iterable[Line], *, start: dt.datetime, end: dt.datetime
) -> dict[Line, Plan]:
    """Return what was due of each line in [start, end)."""
    lines = tuple(lines)
    asked = [(line.kind, line.job_ids) for line in lines]
    return dict(zip(lines, plans_of(connection, asked, start=start, end=end), strict=True))


def plans_of(
    connection: Connection | Session,
    asked: Sequence[tuple[str, Sequence[int]]],
    *,
    start: dt.datetime,
    end: dt.datetime,
) -> list[Plan]:
    """Return what was due in [start, end) of lines that are told by their kind and their jobs."""
    jobs = {
        row.id: row
        for row in connection.execute(
            select(Job.id, Job.created_at, Job.retired_at).where(
                Job.id == func.any(numbers([job_id for _, of_line in asked for job_id in of_line])),
                ~Job.one_shot,
            )
        )
    }
    versions = read_versions(connection, list(jobs), start=start, end=end, ran=())
    drains = read_drains(connection, list(jobs), start=start, end=end)
    found = []
    for kind, job_ids in asked:
        own = [jobs[job_id] for job_id in job_ids if job_id in jobs]
        lives = [(job.id, max(start, job.created_at), min(end, job.retired_at or end)) for job in own]
        unknown = [span for job_id, *life in lives if (span := _unknown(versions[job_id], *life))]
        if not own:
            unknown = [(to_microseconds(start), to_microseconds(end))]
        plan = Plan(
            kind=kind,
            start=start,
            end=end,
            versions={job.id: versions[job.id] for job in own},
            unknown=tuple(sorted(unknown)),
            drains=tuple(sorted({period for job in own for period in drains[job.id]})),
        )
        found.append(plan)
    return found


def gaps_of_runs(connection: Connection | Session, plan: Plan, runs: Sequence[Run]) -> tuple[Gap, ...]:
    """Return where a line of which these are all runs has none."""
    last: dict[int, dict[int, int]] = {}
    for run in runs:
        last.setdefault(run.job_id, {})[run.version] = to_microseconds(run.at)
    covered = [(at, at + 1) for at in sorted({to_microseconds(run.at) for run in runs})]
    # What was due before a run that came lacks for good: results of a job come in order.
    newest_us = max((max(last[job_id].values()) for job_id in plan.versions if job_id in last), default=0)
    return _gaps(connection, plan, covered, last, ahead_us=newest_us, buckets=False)


def gaps_of_buckets(
    connection: Connection | Session, plan: Plan, begins: Sequence[dt.datetime], width: dt.timedelta
) -> tuple[Gap, ...]:
    """Return where a line with runs in these buckets alone has none."""
    width_us = width // dt.timedelta(microseconds=1)
    covered = [(start_us, start_us + width_us) for start_us in map(to_microseconds, begins)]
    ahead_us = covered[-1][1] if covered else 0
    return _gaps(connection, plan, covered, _last_runs(connection, plan), ahead_us=ahead_us, buckets=True)


def _gaps(
    connection: Connection | Session,
    plan: Plan,
    covered: Sequence[tuple[int, int]],
    last: Mapping[int, Mapping[int, int]],
    *,
    ahead_us: int,
    buckets: bool,
) -> tuple[Gap, ...]:
    start_us, settled_us = to_microseconds(plan.start), to_microseconds(dt.datetime.now(dt.UTC) - SETTLING)
    end_us = min(to_microseconds(plan.end), max(settled_us, ahead_us))
    spans = [
        span
        for job_id, versions in _with_earlier(connection, plan, last).items()
        for span in spans_until(versions, last.get(job_id, {}), start_us=start_us, end_us=end_us)
    ]
    return planning.gaps(
        spans,
        covered,
        start_us=start_us,
        end_us=end_us,
        unknown=plan.unknown,
        drains=plan.drains,
        buckets=buckets,
    )


def _with_earlier(
    connection: Connection | Session, plan: Plan, last: Mapping[int, Mapping[int, int]]
) -> Mapping[int, Sequence[Version]]:
    """Return the versions of a plan, and those that had ended before its range and by which a worker still ran in it."""
    earlier = {
        (job_id, number)
        for job_id, versions in plan.versions.items()
        for number in last.get(job_id, {})
        if number not in {version.number for version in versions}
    }
    if not earlier:
        return plan.versions
    return read_versions(connection, list(plan.versions), start=plan.start, end=plan.end, ran=earlier)


def _unknown(versions: Sequence[Version], begin: dt.datetime, until: dt.datetime) -> tuple[int, int] | None:
    """Return the part of a job's life, [begin, until), of which no version is known any more."""
    if versions:
        if versions[0].number == 1:
            return None
        until = min(until, from_microseconds(versions[0].valid_from_us))
    return (to_microseconds(begin), to_microseconds(until)) if begin < until else None


#: The first run of each job in the range: one by an earlier version, if any is.
_FIRST = """
    SELECT j.id AS job_id, r.job_version AS version, r.scheduled_at AS last
    FROM unnest(CAST(:jobs AS bigint[])) AS j (id) CROSS JOIN LATERAL (
        SELECT job_version, scheduled_at FROM {table} t
        WHERE t.job_id = j.id AND t.scheduled_at >= :start AND t.scheduled_at < :end ORDER BY t.scheduled_at LIMIT 1
    ) r
"""
#: The last run by each version after its end; none comes behind the first by a later one.
_LAST = """
    SELECT v.job_id, v.version, l.last
    FROM unnest(CAST(:jobs AS bigint[]), CAST(:versions AS integer[]), CAST(:untils AS timestamptz[]))
        AS v (job_id, version, until)
    LEFT JOIN LATERAL (
        SELECT t.scheduled_at FROM {table} t
        WHERE t.job_id = v.job_id AND t.scheduled_at >= v.until AND t.scheduled_at < :end AND t.job_version > v.version
        ORDER BY t.scheduled_at LIMIT 1
    ) heard ON true
    CROSS JOIN LATERAL (
        SELECT max(t.scheduled_at) AS last FROM {table} t
        WHERE t.job_id = v.job_id AND t.scheduled_at >= v.until AND t.scheduled_at < coalesce(heard.scheduled_at, :end)
            AND t.job_version = v.version
    ) l
    WHERE l.last IS NOT NULL
"""


def _last_runs(connection: Connection | Session, plan: Plan) -> dict[int, dict[int, int]]:
    """Return by job and version the last run after the version had ended, as far as results are there."""
    found: dict[int, dict[int, int]] = {}
    table = results.table_name(plan.kind)
    ended = {
        (job_id, version.number): from_microseconds(version.valid_until_us)
        for job_id, versions in plan.versions.items()
        for version in versions
        if version.valid_until_us is not None and version.valid_until_us < to_microseconds(plan.end)
    }
    changed = [job_id for job_id, versions in plan.versions.items() if versions and versions[0].number > 1]
    if changed:
        first = connection.execute(
            text(_FIRST.format(table=table)), {"jobs": changed, "start": plan.start, "end": plan.end}
        )
        for row in first:
            if row.version < plan.versions[row.job_id][0].number:
                ended[row.job_id, row.version] = plan.start
    if ended:
        rows = connection.execute(
            text(_LAST.format(table=table)),
            {
                "jobs": [job_id for job_id, _ in ended],
                "versions": [number for _, number in ended],
                "untils": list(ended.values()),
                "end": plan.end,
            },
        )
        for row in rows:
            found.setdefault(row.job_id, {})[row.version] = to_microseconds(row.last)
    return found
