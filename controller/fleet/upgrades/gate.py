"""The health gate: an upgraded worker is there again, of the right release, and delivers what it should."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controller.fleet.upgrades.samples import SLACK_S, Job, instant
from controller.fleet.verification import faults

#: Jobs that run less often are not waited for, nor those that are not due within this time: outside their windows, before
#: their start, after their end, or paused.
LONGEST_INTERVAL_S = 300.0
#: Two instants of a process, told at different times, are the same when no further apart: they are rounded to seconds.
_SAME_US = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Passage:
    """How far one host has come."""

    #: What is still to come; empty when the host is through.
    waiting: str = ""
    #: Why waiting longer is no use; empty while it is.
    failed: str = ""
    #: When the worker had its session; None before.
    since: dt.datetime | None = None


def passage(
    workers: Sequence[Mapping[str, Any]],
    jobs: Sequence[Job],
    *,
    release: str,
    after: dt.datetime,
    patience_s: float,
    now: dt.datetime,
) -> Passage:
    """Return how far a host has come whose worker was restarted after `after`.

    `workers` is what the API says of the workers of that host, `jobs` what its worker is planned to measure. A job is waited
    for until its first run in the session was due and an interval and `SLACK_S` more, the session for `patience_s`.
    """
    valid = [worker for worker in workers if worker["state"] != "revoked"]
    if not valid:
        return Passage(failed="; ".join(faults(workers, now=now)))
    worker = valid[0]
    since = instant(worker["connected_at"]) if worker["connected_at"] else None
    late = (now - after).total_seconds() > patience_s
    if since is None or since < after or worker["state"] != "connected":
        said = "its worker has not connected again"
        return Passage(failed=f"{said} within {patience_s:g} s") if late else Passage(waiting=said)
    if worker["version"] != release:
        return Passage(failed=f"its worker connected with the release {worker['version']}, not {release}")
    silent = [job for job in jobs if _awaited(job, since) and (job.latest is None or job.latest < since)]
    overdue = [job for job in silent if _late(job, now)]
    if overdue:
        worst = overdue[0]
        return Passage(
            failed=f"{len(overdue)} of its {len(jobs)} jobs delivered nothing within their interval and "
            f"{SLACK_S:g} s, for example {worst.name} every {worst.interval_s:g} s",
            since=since,
        )
    if silent:
        return Passage(waiting=f"results of {len(silent)} of {len(jobs)} jobs", since=since)
    return Passage(since=since)


@dataclass(frozen=True, kw_only=True)
class Process:
    """Which process a worker is, as its host tells time; both move together when the host's clock is set."""

    booted_us: int
    started_us: int

    def ended(self, later: Process) -> bool:
        """Whether `later` is another process of the same boot: a host that was started anew is nobody's fault."""
        booted = abs(later.booted_us - self.booted_us)
        age = abs((later.started_us - later.booted_us) - (self.started_us - self.booted_us))
        return booted <= _SAME_US < age


def process_of(worker: Mapping[str, Any]) -> Process | None:
    """Return the process that a worker told of when it connected; None where it did not."""
    booted, started = (worker["facts"].get(name) for name in ("boot_time_us", "started_at_us"))
    return Process(booted_us=booted, started_us=started) if booted and started else None


def endurance(workers: Sequence[Mapping[str, Any]], *, process: Process | None, now: dt.datetime) -> Passage:
    """Return whether a host whose worker was through with `process` has that worker still, at the end of what it measured."""
    valid = [worker for worker in workers if worker["state"] != "revoked"]
    if not valid:
        return Passage(failed="; ".join(faults(workers, now=now)))
    later = process_of(valid[0])
    if process is not None and later is not None and process.ended(later):
        return Passage(failed="its worker ended after it was connected, and was started again")
    if valid[0]["state"] != "connected":
        return Passage(waiting="its worker is not connected any more")
    return Passage()


def _awaited(job: Job, since: dt.datetime) -> bool:
    return (
        job.interval_s is not None
        and job.interval_s <= LONGEST_INTERVAL_S
        and job.first_due is not None
        and job.first_due <= since + dt.timedelta(seconds=LONGEST_INTERVAL_S)
    )


def _late(job: Job, now: dt.datetime) -> bool:
    """Whether a result should be there; the first due instant may have been before the worker had its jobs."""
    patience = dt.timedelta(seconds=(job.interval_s or 0.0) + SLACK_S)
    return job.first_due is not None and now > job.first_due + patience
