"""All sessions of this gateway, and what is done for all of them at once, once a second.

One query tells how every connected worker stands: revoked, superseded elsewhere, other jobs wanted. Heartbeats are
collected and written together. Nothing depends on a notification.
"""

from __future__ import annotations

import asyncio
import logging
import random
import uuid

from controller.gateway import jobs, roster
from controller.gateway.database import Connection, Database, is_transient
from controller.gateway.ending import Why
from controller.gateway.roster import Pulse
from controller.gateway.session import Session

_log = logging.getLogger(__name__)

#: Workers whose job sets are loaded by one query.
_LOAD = 200


class Sessions:
    """The registry of open sessions; `run` is its task."""

    def __init__(self, database: Database, *, interval_s: float = 1.0) -> None:
        self._database = database
        self._interval_s = interval_s
        self._open: dict[uuid.UUID, Session] = {}
        self._closed: dict[tuple[uuid.UUID, int], None] = {}
        self._pulses: dict[uuid.UUID, Pulse] = {}
        self._draining = False
        self._hurry = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session: Session) -> None:
        """Make a session known. Of two sessions of one worker the one with the smaller epoch is ended."""
        other = self._open.get(session.worker_id)
        if other is not None and other.epoch > session.epoch:
            session.end(Why.SUPERSEDED, "a newer session of this worker exists")
            return
        if other is not None:
            other.end(Why.SUPERSEDED, "a newer session of this worker exists")
        self._open[session.worker_id] = session
        if self._draining:
            _drain(session)
        self._hurry.set()  # the worker waits for its jobs

    def remove(self, session: Session) -> None:
        """Forget a session; the database is told with the next round."""
        if self._open.get(session.worker_id) is session:
            del self._open[session.worker_id]
        self._closed[session.worker_id, session.epoch] = None
        self._hurry.set()

    def pulse(self, pulse: Pulse) -> None:
        """Take a heartbeat; of several of one worker the last is written."""
        self._pulses[pulse.worker_id] = pulse

    def drain(self) -> None:
        """Ask every worker, now and later, to go elsewhere."""
        self._draining = True
        for session in list(self._open.values()):
            _drain(session)

    async def run(self) -> None:
        """Do the rounds until cancelled; a database that is away is asked again with the next round."""
        while True:
            try:
                await self.round()
            except Exception as error:  # noqa: BLE001  every session depends on the next round
                if not is_transient(error):
                    _log.exception("a round over the sessions failed")
                else:
                    _log.warning("the sessions cannot be checked now: %s", error)
                await asyncio.sleep(self._interval_s)
            try:
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes with the event.
                async with asyncio.timeout(self._interval_s):
                    await self._hurry.wait()
                await asyncio.sleep(min(0.02, self._interval_s))  # others who connect now come along
            except TimeoutError:
                continue

    async def round(self) -> None:
        """Check every session, hand out changed jobs, write what was collected."""
        self._hurry.clear()
        async with self._database.connection() as connection:
            await self._check(connection)
            await self._write_collected(connection)

    async def _check(self, connection: Connection) -> None:
        sessions = list(self._open.values())
        if not sessions:
            return
        found = await roster.standings(
            connection, [(session.worker_id, session.peer.serial) for session in sessions]
        )
        changed = []
        for session in sessions:
            standing = found.get(session.worker_id)
            session.observe(standing)
            if standing is not None and session.jobs_revision != standing.jobs_revision:
                changed.append(session)
        for start in range(0, len(changed), _LOAD):
            some = changed[start : start + _LOAD]
            rolls = await jobs.load(connection, [session.worker_id for session in some])
            for session in some:
                if session.worker_id in rolls:
                    session.want_jobs(rolls[session.worker_id])

    async def _write_collected(self, connection: Connection) -> None:
        for worker_id, epoch in list(self._closed):
            await roster.close_session(connection, worker_id, epoch)
            del self._closed[worker_id, epoch]
        for pulse in list(self._pulses.values()):
            session = self._open.get(pulse.worker_id)
            if session is None or session.epoch != pulse.epoch:
                del self._pulses[pulse.worker_id]
        pulses = list(self._pulses.values())
        if not pulses:
            return
        written = await roster.write_pulses(connection, pulses)
        for pulse in pulses:
            if pulse.worker_id in written and self._pulses[pulse.worker_id] is pulse:
                del self._pulses[pulse.worker_id]


def _drain(session: Session) -> None:
    session.end(
        Why.DRAINING,
        "this gateway is about to stop; connect again",
        reconnect_after_ms=random.randint(100, 2_000),  # noqa: S311  spreads the workers, hides nothing
    )
