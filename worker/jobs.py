"""The worker's jobs on disk, so that it measures on after a restart without the controller."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

from streamswarm.v1 import gateway_pb2, probe_pb2
from worker.errors import StorageError
from worker.files import replace_file

log = logging.getLogger(__name__)

_MAGIC = b"streamswarm jobs 1\n"


class JobStore:
    """The set of jobs in force, kept in one file that is replaced as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: dict[int, probe_pb2.Job] = {}
        #: Whether the file holds something else than what is in force.
        self._unsaved = False
        self._writing = asyncio.Lock()
        #: Number of the set in force; 0 before the first.
        self.revision = 0

    @property
    def jobs(self) -> Mapping[int, probe_pb2.Job]:
        """The jobs in force by id."""
        return self._jobs

    def load(self) -> None:
        """Read the file. A damaged one is set aside: the controller sends the whole set at the next session."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            log.error(
                "the jobs in %s cannot be read, the controller will send them again: %s", self._path, error
            )
            return
        digest, payload = content[len(_MAGIC) :][:32], content[len(_MAGIC) + 32 :]
        try:
            if not content.startswith(_MAGIC) or hashlib.sha256(payload).digest() != digest:
                raise ValueError("its check sum is wrong")
            stored = gateway_pb2.JobSet.FromString(payload)
        except (ValueError, DecodeError) as error:
            aside = self._path.with_name(f"{self._path.name}-damaged-{int(time.time())}")
            log.error(
                "%s is damaged (%s) and set aside as %s; the controller will send the jobs",
                self._path,
                error,
                aside,
            )
            self._path.replace(aside)
            return
        self._take(stored)

    async def apply(self, change: gateway_pb2.JobSet) -> None:
        """Take over a full set or a change. The set is in force even when the disk does not take it."""
        before = {job_id: job.SerializeToString(deterministic=True) for job_id, job in self._jobs.items()}
        self._take(change)
        after = {job_id: job.SerializeToString(deterministic=True) for job_id, job in self._jobs.items()}
        if before != after or not self._path.exists():
            self._unsaved = True
        await self.save()

    async def save(self) -> None:
        """Write the set in force if the file does not hold it, which a full disk may have prevented."""
        async with self._writing:
            if not self._unsaved:
                return
            content = gateway_pb2.JobSet(
                revision=self.revision, full=True, jobs=self._jobs.values()
            ).SerializeToString()
            whole = _MAGIC + hashlib.sha256(content).digest() + content
            self._unsaved = False
            try:
                await asyncio.get_running_loop().run_in_executor(None, replace_file, self._path, whole)
            except StorageError as error:
                self._unsaved = True
                log.error("the jobs are in force, but would not survive a restart: %s", error)

    def _take(self, change: gateway_pb2.JobSet) -> None:
        if change.full:
            self._jobs = {}
        for job in change.jobs:
            self._jobs[job.job_id] = job
        for job_id in change.removed:
            self._jobs.pop(job_id, None)
        self.revision = change.revision
