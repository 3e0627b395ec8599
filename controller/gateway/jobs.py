"""The workers' job sets as the database says, and what a worker must be told to get there.

Level-triggered: a session is given the wanted set, whatever changed in between, and works out the difference to
what it has sent. A change that is missed in one second is seen in the next.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from controller.gateway.database import Connection
from streamswarm import SCHEDULES_CONTRACT, contract, windows
from streamswarm.schedules import Schedule
from streamswarm.v1 import gateway_pb2, probe_pb2

_log = logging.getLogger(__name__)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class JobRoll:
    """All jobs of one worker at one revision."""

    revision: int
    #: Serialised Job messages by job id.
    jobs: Mapping[int, bytes] = field(default_factory=dict)


async def load(connection: Connection, workers: Sequence[uuid.UUID]) -> dict[uuid.UUID, JobRoll]:
    """Return the job sets of these workers. Revision and jobs come from one statement, so they belong together."""
    cursor = await connection.execute(
        """
        SELECT w.id, w.jobs_revision, j.id, j.version, j.kind, j.target, j.spec::text, j.interval_us, j.anchor_us,
               j.starts_at, j.ends_at, j.expires_at, j.paused, j.cron, j.zone, j.windows
        FROM workers w
        LEFT JOIN jobs j ON j.worker_id = w.id AND j.retired_at IS NULL
                        AND (j.expires_at IS NULL OR j.expires_at > now())
                        AND (w.contract_version >= %s OR (j.cron = '' AND j.windows = '[]'))
        WHERE w.id = ANY(%s)
        ORDER BY w.id, j.id
        """,
        (SCHEDULES_CONTRACT, list(workers)),
    )
    # Making the messages of many workers takes seconds after a restart, which sessions must not feel.
    return await asyncio.to_thread(_rolls, await cursor.fetchall())


def difference(sent: JobRoll | None, wanted: JobRoll) -> gateway_pb2.JobSet:
    """Return the message that brings a worker from what was sent to what is wanted; all of it at first."""
    before: Mapping[int, bytes] = {} if sent is None else sent.jobs
    changed = [text for job_id, text in wanted.jobs.items() if before.get(job_id) != text]
    return gateway_pb2.JobSet(
        revision=wanted.revision,
        full=sent is None,
        jobs=[probe_pb2.Job.FromString(text) for text in changed],
        removed=[job_id for job_id in before if job_id not in wanted.jobs],
    )


def _rolls(rows: Sequence[Sequence[Any]]) -> dict[uuid.UUID, JobRoll]:
    revisions: dict[uuid.UUID, int] = {}
    jobs: dict[uuid.UUID, dict[int, bytes]] = {}
    for worker_id, revision, *row in rows:
        revisions[worker_id] = revision
        mine = jobs.setdefault(worker_id, {})
        if row[0] is not None:
            job = _job(row)
            if job is not None:
                mine[job.job_id] = job.SerializeToString(deterministic=True)
    return {
        worker_id: JobRoll(revision=revision, jobs=jobs[worker_id])
        for worker_id, revision in revisions.items()
    }


@lru_cache(maxsize=10_000)
def _spec(kind: str, values: str) -> probe_pb2.Spec:
    """Return the checked Spec message; the jobs of one test share it."""
    spec: probe_pb2.Spec = contract.make_spec(kind, json.loads(values))
    return spec


def _job(row: Sequence[Any]) -> probe_pb2.Job | None:
    job_id, version, kind, target, spec, interval_us, anchor_us, starts_at, ends_at, expires_at, paused = row[
        :11
    ]
    cron, zone, hours = row[11:]
    try:
        checked = _spec(kind, spec)
        schedule = Schedule(
            anchor_us=anchor_us,
            interval_us=interval_us,
            cron=cron,
            zone=zone,
            windows=windows.read(hours),
            starts_us=None if starts_at is None else _microseconds(starts_at),
            ends_us=None if ends_at is None else _microseconds(ends_at),
        ).message()
    except (contract.InvalidInputError, contract.UnknownKindError) as error:
        # A row that a newer release has written; the worker could not run it, and the others must go on.
        _log.error("job %s is not handed out: %s", job_id, error)
        return None
    job = probe_pb2.Job(
        job_id=job_id, version=version, target=target, spec=checked, schedule=schedule, paused=paused
    )
    if expires_at is not None:
        job.expires_at_us = _microseconds(expires_at)
    return job


def _microseconds(instant: dt.datetime) -> int:
    return (instant - _EPOCH) // dt.timedelta(microseconds=1)
