"""Whose job it is, of which kind, for which test: kept in memory, asked again when something does not fit."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from controller.gateway.database import BlockingConnection

_MOST_JOBS = 500_000


@dataclass(frozen=True, kw_only=True)
class OwnedJob:
    """What must hold of a result to belong to a job, and what follows from it."""

    worker_id: uuid.UUID
    kind: str
    test_id: int
    one_shot: bool


class Ownership:
    """The jobs that results were checked against. Retired jobs count: their late results are stored."""

    def __init__(self) -> None:
        self._jobs: dict[int, OwnedJob] = {}

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
        """Forget everything once it has become too much; to be called before a batch is checked, never within."""
        if len(self._jobs) > _MOST_JOBS:
            self._jobs.clear()

    def load(self, connection: BlockingConnection, job_ids: Iterable[int]) -> None:
        """Read these jobs from the database; those that do not exist are simply not there afterwards."""
        wanted = list(set(job_ids))
        cursor = connection.execute(
            "SELECT id, worker_id, kind, test_id, one_shot FROM jobs WHERE id = ANY(%s)", (wanted,)
        )
        for job_id in wanted:
            self._jobs.pop(job_id, None)
        for job_id, worker_id, kind, test_id, one_shot in cursor.fetchall():
            self._jobs[job_id] = OwnedJob(worker_id=worker_id, kind=kind, test_id=test_id, one_shot=one_shot)
