"""Commits results as a gateway does and tells of them through the gateway's own notices."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from controller.gateway.database import Database
from controller.gateway.notices import Notices
from streamswarm.zones import to_microseconds

_INSERT = (
    "INSERT INTO result_ping (job_id, scheduled_at, started_at, duration_ms, job_version, status, failure_source, "
    "packets_sent, packets_received, loss_pct, rtt_avg_ms, rtt_min_ms, rtt_max_ms) "
    "SELECT job, %(at)s, %(at)s, 12.5, 1, 1, 0, 4, 4, 0, 10 + job %% 7, 9, 20 FROM unnest(%(jobs)s::bigint[]) job"
)


@dataclass(frozen=True, kw_only=True)
class Commit:
    """A run of the watched job."""

    #: Due instant in microseconds, by which the page links it.
    at_us: int
    #: When the commit had returned, wall clock.
    committed_at: float


@dataclass(kw_only=True)
class Committing:
    """What is committed; made by `committing`."""

    #: Jobs and their tests whose results come ten times a second, each in its turn.
    others: Sequence[tuple[int, int]]
    url: str
    commits: list[Commit] = field(default_factory=list)
    _watched: list[tuple[int, int]] = field(default_factory=list)
    _over: bool = False

    def commit(self, job_id: int, test_id: int) -> None:
        """Have a run of a job committed at once."""
        self._watched.append((job_id, test_id))

    def end(self) -> None:
        """Commit no more."""
        self._over = True

    def run(self) -> None:
        """Commit until the end."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        database = Database(self.url)
        notices = Notices(database)
        telling = asyncio.create_task(notices.run())
        turn = 0
        share = max(1, len(self.others) // 20)
        next_at = time.monotonic()
        while not self._over:
            if self._watched:
                job_id, test_id = self._watched.pop(0)
                at = await self._store(database, [job_id])
                self.commits.append(Commit(at_us=to_microseconds(at), committed_at=time.time()))
                notices.stored({test_id}, set())
            if time.monotonic() >= next_at:
                next_at += 0.1
                chosen = [self.others[(turn + offset) % len(self.others)] for offset in range(share)]
                turn += share
                await self._store(database, [job_id for job_id, _ in chosen])
                notices.stored({test_id for _, test_id in chosen}, set())
            await asyncio.sleep(0.005)
        telling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await telling
        await database.close()

    async def _store(self, database: Database, jobs: Sequence[int]) -> dt.datetime:
        at = dt.datetime.now(dt.UTC)
        async with database.connection() as connection:
            await connection.execute(_INSERT, {"at": at, "jobs": list(jobs)})
        return at


@contextlib.contextmanager
def committing(url: str, others: Sequence[tuple[int, int]]) -> Iterator[Committing]:
    """Commit results of these jobs, with their tests, until the block ends."""
    made = Committing(others=others, url=url)
    thread = threading.Thread(target=made.run, name="committing")
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join()
