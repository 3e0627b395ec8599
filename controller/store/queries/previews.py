"""What a test would come to before it is made: its jobs, and the load that they are."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.planning.asking import schedule_of_values
from controller.planning.jobs import plan
from controller.planning.records import PlannedDestination, PlannedTest
from controller.store.entities import Destination
from controller.store.queries import plans
from streamswarm import windows
from streamswarm.zones import to_microseconds

#: Runs are counted over a whole week, so that windows and cron of single days are in them.
_WEEK = dt.timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a test would be."""

    #: Pairs of worker and destination that would be measured.
    jobs: int
    workers: int
    destinations: int
    #: Mean over the coming week, all jobs together; of a test that runs once, its only runs.
    runs_per_day: float
    #: Why worker or destination would be left out, and how many of them, the most frequent first.
    left_out: tuple[tuple[str, int], ...]


def load(
    session: Session,
    kind: str,
    schedule: Mapping[str, Any],
    *,
    destinations: Collection[int],
    selection: Mapping[str, Any],
    created_at: dt.datetime,
    now: dt.datetime,
) -> Load:
    """Plan a test as keepers would. `schedule` are the checked fields of `asking.FIELDS`."""
    aimed = session.scalars(
        select(Destination).where(Destination.id.in_(destinations), Destination.deleted_at.is_(None))
    )
    test = PlannedTest(
        id=0,
        kind=kind,
        spec={},
        selection=selection,
        destinations=tuple(
            PlannedDestination(id=item.id, name=item.name, address=item.address) for item in aimed
        ),
        interval_us=None if schedule["interval_s"] is None else round(schedule["interval_s"] * 1_000_000),
        starts_at=schedule["starts_at"],
        ends_at=schedule["ends_at"],
        paused=False,
        cron=schedule["cron"],
        zone=schedule["zone"],
        windows=windows.read(schedule["windows"]),
        deleted=False,
        created_at=created_at,
    )
    workers = plans.read_workers(session)
    # Who would measure, and then the jobs of one of them: all have as many, and together they may be a million.
    made = plan([replace(test, makes_tests=True)], workers, now=now)
    able = {worker_id for _, worker_id in made.pairs}
    jobs = plan([test], [worker for worker in workers if worker.id in able][:1], now=now).jobs
    due = schedule_of_values(schedule, created_at=created_at)
    begin = to_microseconds(max(now, schedule["starts_at"] or now))
    runs = due.count(begin, begin + round(_WEEK.total_seconds() * 1e6) - 1)
    if schedule["max_runs"] is not None:
        runs = min(runs, schedule["max_runs"])
    return Load(
        jobs=len(jobs) * len(able),
        workers=len(able) if jobs else 0,
        destinations=sum(job.destination_id is not None for job in jobs),
        runs_per_day=len(jobs) * len(able) * (1 if due.once else runs / _WEEK.days),
        left_out=tuple(Counter(skip.reason for skip in made.skipped).most_common()),
    )
