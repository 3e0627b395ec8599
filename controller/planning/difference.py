"""What must be done to get from the jobs that are to the jobs that should be."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from controller.planning.records import Change, Difference, ExistingJob, Identity, JobValues, Plan
from streamswarm.zones import to_microseconds


def difference(plan: Plan, existing: Iterable[ExistingJob], *, now: dt.datetime) -> Difference:
    """Compare a plan with the jobs there are, retired ones included, in the plan's scope.

    A job that comes back is taken out of retirement under its old id, so that its results stay one series. A
    one-shot job whose instant has come is neither changed nor brought back; one that the plan does not name (a
    "run now") is left to run, unless its test or worker is gone or it was put off.
    """
    wanted = {values.identity: values for values in plan.jobs}
    known: dict[Identity, ExistingJob] = {}
    retire: list[ExistingJob] = []
    for job in existing:
        identity = job.values.identity
        other = known.get(identity)
        # Of several retired jobs of one identity the newest comes back; a live one comes before all.
        if other is None or (not job.retired, job.id) > (not other.retired, other.id):
            known[identity] = job
        if not job.retired and identity not in wanted and _must_go(job, plan, now):
            retire.append(job)
    return Difference(
        create=tuple(values for identity, values in wanted.items() if identity not in known),
        change=tuple(
            Change(job=known[identity], values=values)
            for identity, values in wanted.items()
            if identity in known and _must_change(known[identity], values, now)
        ),
        retire=tuple(retire),
    )


def _must_go(job: ExistingJob, plan: Plan, now: dt.datetime) -> bool:
    """Return whether a live job that is not planned ends."""
    if not job.values.one_shot or (job.values.test_id, job.values.worker_id) not in plan.pairs:
        return True
    return job.values.anchor_us > to_microseconds(now)


def _must_change(job: ExistingJob, values: JobValues, now: dt.datetime) -> bool:
    if values.one_shot and values.anchor_us <= to_microseconds(now):
        return False
    return job.retired or job.values != values
