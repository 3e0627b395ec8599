"""Whose job it is, of which kind, for which test: kept in memory, asked again when something does not fit."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from controller.gateway.database import BlockingConnection
from controller.store.entities.upkeep import RAW

_MOST_JOBS = 500_000
#: What is remembered is asked again after so long, seconds: a test or a worker may have been deleted with its data.
OLDEST_S = 300.0
#: No run of a job was due before the job was made; clocks may have been wrong by so much.
OLDEST_DAYS = 90
_LONG_AGO_US = -(2**63)


@dataclass(frozen=True, kw_only=True)
class OwnedJob:
    """What must hold of a result to belong to a job, and what follows from it."""

    worker_id: uuid.UUID
    kind: str
    test_id: int
    one_shot: bool
    #: Results due before then are not its, in microseconds.
    oldest_us: int
    #: Keepers have removed what was due before then of its kind.
    gone_us: int
    #: Its test or its worker was deleted with its data: nothing more of it is stored.
    deleted: bool = False

    def expired_us(self, expiry_us: int) -> int:
        """Return the instant before which its results are not stored: keepers have removed them, and they are too old.

        `expiry_us` is where the retention ends by the time of now. Either alone may come from a clock that has leapt, and
        what was acknowledged is on no disk any more.
        """
        return min(self.gone_us, expiry_us)


class Ownership:
    """The jobs that results were checked against. Retired jobs count: their late results are stored."""

    def __init__(self) -> None:
        self._jobs: dict[int, OwnedJob] = {}
        self._since = time.monotonic()

    def fault(self, worker_id: uuid.UUID, job_id: int, kind: str) -> str | None:
        """Return why a job is not the worker's, or not of that kind; None when it is."""
        job = self._jobs.get(job_id)
        if job is None:
            return f"there is no job {job_id}"
        if job.worker_id != worker_id:
            return f"job {job_id} belongs to another worker"
        if job.kind != kind:
            return f"job {job_id} is of kind `{job.kind}`, the result is not"
        return None

    def job(self, job_id: int) -> OwnedJob:
        """Return a job that a result has fitted."""
        return self._jobs[job_id]

    def trim(self) -> None:
        """Forget everything once it has become too much or old; to be called before a batch is checked, never within."""
        now = time.monotonic()
        if len(self._jobs) > _MOST_JOBS or now - self._since > OLDEST_S:
            self._jobs.clear()
            self._since = now

    def deleted(self, job_ids: Iterable[int]) -> set[int]:
        """Return those jobs whose test or worker was deleted with its data."""
        known = self._jobs
        return {job_id for job_id in job_ids if job_id in known and known[job_id].deleted}

    def oldest_us(self, job_ids: Iterable[int], expiry_us: int) -> int:
        """Return an instant before which results of some of these jobs may be too old or expired, and of none after."""
        known = (self._jobs[job_id] for job_id in job_ids if job_id in self._jobs)
        return max((max(job.oldest_us, job.expired_us(expiry_us)) for job in known), default=_LONG_AGO_US)

    def load(self, connection: BlockingConnection, job_ids: Iterable[int]) -> None:
        """Read these jobs from the database; those that do not exist are simply not there afterwards."""
        wanted = list(set(job_ids))
        cursor = connection.execute(
            "SELECT j.id, j.worker_id, j.kind, j.test_id, j.one_shot, "
            "coalesce(t.data_deleted_at, w.data_deleted_at) IS NOT NULL, "
            "(extract(epoch FROM j.created_at - %s * interval '1 day') * 1000000)::bigint, "
            "coalesce((extract(epoch FROM e.gone_before) * 1000000)::bigint, %s) "
            "FROM jobs j JOIN tests t ON t.id = j.test_id JOIN workers w ON w.id = j.worker_id "
            "LEFT JOIN expiries e ON e.kind = j.kind AND e.layer = %s WHERE j.id = ANY(%s)",
            (OLDEST_DAYS, _LONG_AGO_US, RAW, wanted),
        )
        for job_id in wanted:
            self._jobs.pop(job_id, None)
        for job_id, worker_id, kind, test_id, one_shot, deleted, oldest_us, gone_us in cursor.fetchall():
            self._jobs[job_id] = OwnedJob(
                worker_id=worker_id,
                kind=kind,
                test_id=test_id,
                one_shot=one_shot,
                deleted=deleted,
                oldest_us=oldest_us,
                gone_us=gone_us,
            )
