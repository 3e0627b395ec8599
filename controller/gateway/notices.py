"""After results are stored: tells live pages which tests have news, and retires one-shot jobs that have run.

Both are outside of the ingest transactions. NOTIFY takes a lock over the whole server at commit, so it is sent a
few times a second at most; whoever misses one polls anyway. A one-shot job is retired here as soon as its result
is stored; one whose result never came is left to the keeper, which retires what has expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from controller.gateway.database import BackOff, Connection, Database, is_transient
from controller.logs import Trouble, reason
from controller.store import channels

_log = logging.getLogger(__name__)

#: PostgreSQL takes payloads below 8,000 bytes.
_MOST_PAYLOAD = 7_900
_LONGEST_PAUSE_S = 5.0


class Notices:
    """Collects what ingest has stored; `run` is its task."""

    def __init__(self, database: Database, *, interval_s: float = 0.3) -> None:
        self._database = database
        self._interval_s = interval_s
        self._tests: set[int] = set()
        self._one_shots: set[int] = set()
        self._something = asyncio.Event()

    def stored(self, tests: set[int], one_shots: set[int]) -> None:
        """Note tests that got results and one-shot jobs that have run."""
        self._tests |= tests
        self._one_shots |= one_shots
        if tests:
            self._something.set()

    async def run(self) -> None:
        """Send and retire until cancelled; what could not be sent stays noted until it can."""
        trouble = Trouble(
            _log,
            failing="live pages and one-shot jobs have to wait for the database",
            working="live pages are told of results again",
        )
        back_off = BackOff(first_s=self._interval_s, most_s=_LONGEST_PAUSE_S)
        while True:
            await self._something.wait()
            self._something.clear()
            tests, self._tests = self._tests, set()
            try:
                async with self._database.connection() as connection:
                    await self._retire(connection)
                    for payload in payloads(tests):
                        await connection.execute("SELECT pg_notify(%s, %s)", (channels.RESULTS, payload))
            except Exception as error:
                if not is_transient(error):
                    raise
                self._tests |= tests
                self._something.set()
                trouble.failed(reason(error))
                await back_off.wait()
                continue
            trouble.worked()
            back_off = BackOff(first_s=self._interval_s, most_s=_LONGEST_PAUSE_S)
            await asyncio.sleep(self._interval_s)

    async def _retire(self, connection: Connection) -> None:
        """Retire one-shot jobs, jobs before workers, as planning locks them; the workers' sets then change."""
        if not self._one_shots:
            return
        retiring = sorted(self._one_shots)
        async with connection.transaction():
            cursor = await connection.execute(
                "UPDATE jobs SET retired_at = now(), updated_at = now() "
                "WHERE id = ANY(%s) AND one_shot AND retired_at IS NULL RETURNING worker_id",
                (retiring,),
            )
            workers = sorted({row[0] for row in await cursor.fetchall()})
            for worker_id in workers:
                await connection.execute(
                    "UPDATE workers SET jobs_revision = jobs_revision + 1 WHERE id = %s", (worker_id,)
                )
        self._one_shots.difference_update(retiring)


def payloads(tests: set[int]) -> Iterator[str]:
    """Return the test ids as comma-separated texts that fit into a notification."""
    text = ""
    for test_id in sorted(tests):
        longer = f"{text},{test_id}" if text else str(test_id)
        if len(longer) > _MOST_PAYLOAD:
            yield text
            longer = str(test_id)
        text = longer
    if text:
        yield text
