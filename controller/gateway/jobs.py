"""The workers' job sets as the database says, and what a worker must be told to get there.

Level-triggered: what a worker was sent is compared with the wanted set, whatever changed in between, and only the jobs
that differ are read and sent. A change that is missed in one second is seen in the next.

A message is worked out once, as bytes, and not kept after it was sent: of a worker's jobs only the versions are
remembered. What the jobs of one test share is encoded once for all workers; by the rules of Protocol Buffers one
message is the sum of its parts written one after the other.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import uuid
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from controller.gateway.database import Connection
from streamswarm import SCHEDULES_CONTRACT, contract, windows
from streamswarm.schedules import Schedule
from streamswarm.v1 import gateway_pb2, probe_pb2
from streamswarm.zones import to_microseconds

_log = logging.getLogger(__name__)

#: What jobs of one test have in common, of the table `jobs`; the rest each has of its own.
_SHARED = (
    "kind",
    "spec",
    "interval_us",
    "starts_at",
    "ends_at",
    "expires_at",
    "paused",
    "cron",
    "zone",
    "windows",
)
#: Workers that do not know cron and windows would run such jobs all the time.
_LISTED = """
SELECT w.id, w.jobs_revision, coalesce(json_object_agg(j.id, j.version) FILTER (WHERE j.id IS NOT NULL), '{}')::text
FROM workers w
LEFT JOIN jobs j ON j.worker_id = w.id AND j.retired_at IS NULL AND (j.expires_at IS NULL OR j.expires_at > now())
                AND (w.contract_version >= %s OR (j.cron = '' AND j.windows = '[]'))
WHERE w.id = ANY(%s)
GROUP BY w.id
"""
_READ = f"""
SELECT {", ".join(f"j.{name}" for name in _SHARED)},
       json_agg(json_build_array(j.id, j.version, j.target, j.anchor_us))
FROM jobs j
WHERE j.id = ANY(%s)
GROUP BY {", ".join(f"j.{name}" for name in _SHARED)}
"""  # noqa: S608  fixed text


@dataclass(frozen=True, kw_only=True, slots=True)
class Jobs:
    """Which jobs a worker has, or is to have, at one revision."""

    revision: int
    #: Versions of the jobs by their ids.
    versions: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The way from one set to another."""

    #: What the worker must have for this to be right; None when the change is a whole set.
    base: Jobs | None
    wanted: Jobs
    #: A serialised GatewayMessage with the JobSet.
    message: bytes


async def load(connection: Connection, workers: Mapping[uuid.UUID, Jobs | None]) -> dict[uuid.UUID, Change]:
    """Return for each of these workers, given with what it has, the way to what it is to have."""
    async with connection.transaction():
        # Lists and jobs must be of one instant, or a worker would be told of the half of a change.
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor = await connection.execute(_LISTED, (SCHEDULES_CONTRACT, list(workers)))
        wanted = {
            worker_id: Jobs(
                revision=revision, versions={int(job): version for job, version in json.loads(listed).items()}
            )
            for worker_id, revision, listed in await cursor.fetchall()
        }
        missing = [
            job_id
            for worker_id, jobs in wanted.items()
            for job_id, version in jobs.versions.items()
            if _versions(workers[worker_id]).get(job_id) != version
        ]
        rows: Sequence[Sequence[Any]] = ()
        if missing:
            rows = await (await connection.execute(_READ, (missing,))).fetchall()
    # Making the messages of many workers takes seconds after a restart, which sessions must not feel.
    return await asyncio.to_thread(_changes, workers, wanted, rows)


def difference(base: Jobs | None, wanted: Jobs, jobs: Mapping[int, bytes]) -> bytes:
    """Return the message that brings a worker from one set to another; `jobs` are serialised Job messages by id."""
    before = _versions(base)
    changed = [jobs[job_id] for job_id, version in wanted.versions.items() if before.get(job_id) != version]
    frame = gateway_pb2.JobSet(
        revision=wanted.revision,
        full=base is None,
        removed=[job_id for job_id in before if job_id not in wanted.versions],
    )
    body = frame.SerializeToString() + b"".join(_JOBS_TAG + _varint(len(job)) + job for job in changed)
    return _SET_TAG + _varint(len(body)) + body


def _changes(
    workers: Mapping[uuid.UUID, Jobs | None],
    wanted: Mapping[uuid.UUID, Jobs],
    rows: Sequence[Sequence[Any]],
) -> dict[uuid.UUID, Change]:
    encoded: dict[int, bytes] = {}
    unusable: set[int] = set()
    for *shared, members in rows:
        try:
            encoded.update(_encode(dict(zip(_SHARED, shared, strict=True)), members))
        except Exception as error:  # noqa: BLE001  whatever is the matter with these, all others must go on
            # Rows that a newer release has written, for example; the worker could not run them.
            _log.error("jobs %s are not handed out: %r", [member[0] for member in members], error)
            unusable.update(member[0] for member in members)
    changes = {}
    for worker_id, jobs in wanted.items():
        base, usable = workers[worker_id], _without(jobs, unusable) if unusable else jobs
        try:
            message = difference(base, usable, encoded)
        except Exception as error:  # noqa: BLE001  likewise
            _log.error("worker %s cannot be told of its jobs: %r", worker_id, error)
            continue
        changes[worker_id] = Change(base=base, wanted=usable, message=message)
    return changes


def _without(jobs: Jobs, unusable: Set[int]) -> Jobs:
    kept = {job_id: version for job_id, version in jobs.versions.items() if job_id not in unusable}
    return Jobs(revision=jobs.revision, versions=kept)


def _encode(shared: Mapping[str, Any], members: Sequence[Sequence[Any]]) -> dict[int, bytes]:
    """Return jobs that differ in number, version, target and phase only, each as a serialised Job message."""
    schedule = Schedule(
        anchor_us=0,
        interval_us=shared["interval_us"],
        cron=shared["cron"],
        zone=shared["zone"],
        windows=windows.read(shared["windows"]),
        starts_us=_microseconds(shared["starts_at"]),
        ends_us=_microseconds(shared["ends_at"]),
    ).message()
    common = probe_pb2.Job(
        spec=contract.make_spec(shared["kind"], shared["spec"]), schedule=schedule, paused=shared["paused"]
    )
    expires_us = _microseconds(shared["expires_at"])
    if expires_us is not None:
        common.expires_at_us = expires_us
    ending = common.SerializeToString(deterministic=True)
    return {
        job_id: probe_pb2.Job(
            job_id=job_id,
            version=version,
            target=target,
            schedule=probe_pb2.Schedule(anchor_us=anchor_us),
        ).SerializeToString()
        + ending
        for job_id, version, target, anchor_us in members
    }


def _versions(jobs: Jobs | None) -> Mapping[int, int]:
    return {} if jobs is None else jobs.versions


def _microseconds(instant: dt.datetime | None) -> int | None:
    return None if instant is None else to_microseconds(instant)


def _tag(message: Any, field_name: str) -> bytes:
    """Return what stands before a field that holds a message: its number, and that a length follows."""
    return _varint(message.DESCRIPTOR.fields_by_name[field_name].number << 3 | 2)


def _varint(number: int) -> bytes:
    """Return a number as Protocol Buffers writes lengths: seven bits a byte, the lowest first."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + _varint(number >> 7)


_JOBS_TAG = _tag(gateway_pb2.JobSet, "jobs")
_SET_TAG = _tag(gateway_pb2.GatewayMessage, "jobs")
