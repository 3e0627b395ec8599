"""All sessions of this gateway, and what is done for all of them at once, once a second.

One query tells of the connected workers whose standing is not what it was: revoked, superseded elsewhere, other jobs
wanted; of the many others it tells nothing. Heartbeats are collected and written together, and so are the ends of
sessions. Nothing depends on a notification.

A round has steps, each of which stands for itself: what fails is told in the log and tried again with the next round,
and the other steps are done all the same.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import psycopg

from controller.gateway import jobs, roster
from controller.gateway.database import Connection, Database, array_text
from controller.gateway.ending import Why
from controller.gateway.limits import RateLimit
from controller.gateway.roster import Pulse
from controller.gateway.session import Session

_log = logging.getLogger(__name__)

#: Workers whose job sets are loaded by one query.
_LOAD = 500
#: Who has just come waits for the first figure for others to come along, and while many come until the last look at them
#: began so long ago, seconds.
_GATHER_S, _APART_S = 0.02, 0.1
#: Certificates are looked at with every fifth round; what revokes one marks its worker too, which is seen at once.
_CERTIFICATES_EVERY = 5
#: With every thirtieth round it is counted how many workers this gateway has to expect.
_COUNT_EVERY = 30
#: Workers send a heartbeat this often at most, and this often at least; in between, as many a second in all as the
#: last figure says.
_LEAST_HEARTBEAT_S, _MOST_HEARTBEAT_S, _HEARTBEATS_PER_S = 10, 300, 16
#: Each round looks at one session of so many.
_LOOK_SHARE = 3
#: A worker whose session has ended for its age is back within so long, or counts as gone.
_COMES_BACK_S = 5.0
#: Certificates that a worker may have renewed: each leaves a row for as long as traces are kept.
_RENEWALS_PER_S, _RENEWALS_AT_ONCE = 1 / 60, 20.0
#: Workers that are sent elsewhere come to the others at about this rate.
_LEAVING_PER_S = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    """What this gateway knows of its sessions, as arrays that PostgreSQL reads."""

    sessions: Mapping[uuid.UUID, Session]
    ids: str
    epochs: str
    revisions: str
    serials: str


_Step = Callable[[Connection], Awaitable[None]]


class Sessions:
    """The registry of open sessions; `run` is its task."""

    def __init__(self, database: Database, *, interval_s: float = 1.0) -> None:
        self._database = database
        self._interval_s = interval_s
        #: This gateway, as workers' rows name it; set before the first round.
        self.process_id = 0
        self._open: dict[uuid.UUID, Session] = {}
        #: Its share of all workers, connected or not.
        self._expected = 0
        #: Sessions whose workers wait for their first jobs.
        self._fresh: list[Session] = []
        self._closed: set[tuple[uuid.UUID, int]] = set()
        self._pulses: dict[uuid.UUID, Pulse] = {}
        #: Made when it is asked for, thrown away by every change.
        self._known: _Known | None = None
        self._rounds = 0
        self._draining = False
        self._hurry = asyncio.Event()
        self._renewals = RateLimit(rate=_RENEWALS_PER_S, burst=_RENEWALS_AT_ONCE)
        #: What failed when it was last done, so that a traceback is told once and not every second.
        self._failing: set[str] = set()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, session: Session) -> None:
        """Make a session known. Of two sessions of one worker the one with the smaller epoch is ended."""
        other = self._open.get(session.worker_id)
        if other is not None and other.epoch > session.epoch:
            session.superseded()
            return
        if other is not None:
            other.superseded()
        self._open[session.worker_id] = session
        self._known = None
        if self._draining:
            self._send_away(session)
        self._fresh.append(session)
        self._hurry.set()

    def remove(self, session: Session) -> None:
        """Forget a session; the database is told soon, of one whose worker comes back at once only if it does not."""
        if self._open.get(session.worker_id) is session:
            del self._open[session.worker_id]
            self._known = None
        if session.comes_back:
            loop = asyncio.get_running_loop()
            loop.call_later(_COMES_BACK_S, self.deserted, session.worker_id, session.epoch)
        else:
            self.deserted(session.worker_id, session.epoch)

    def deserted(self, worker_id: uuid.UUID, epoch: int) -> None:
        """Note that a session which the database knows has ended, or never began; it is told soon."""
        self._closed.add((worker_id, epoch))
        self._hurry.set()

    def pulse(self, pulse: Pulse) -> None:
        """Take a heartbeat; of several of one worker the last is written."""
        self._pulses[pulse.worker_id] = pulse

    def heartbeat_s(self) -> int:
        """Return how often each worker is to send a heartbeat: the more there are or will be, the rarer."""
        return heartbeat_s(max(len(self._open), self._expected))

    def may_renew(self, worker_id: uuid.UUID) -> bool:
        """Count a renewal of a worker's certificate; False when it is one too many, in whichever session."""
        return self._renewals.allow(str(worker_id))

    def drain(self) -> None:
        """Ask every worker, now and later, to go elsewhere."""
        self._draining = True
        for session in list(self._open.values()):
            self._send_away(session)

    async def run(self) -> None:
        """Do the rounds until cancelled; a database that is away is asked again with the next round."""
        loop = asyncio.get_running_loop()
        due_at = loop.time()
        while True:
            began_at = loop.time()
            if began_at >= due_at:
                due_at = began_at + self._interval_s
                done = await self.round()
            else:
                done = await self._catch_up()
            if not done:
                await asyncio.sleep(self._interval_s)
            try:
                # Not wait_for: before Python 3.12 it swallows a cancellation that comes with the event.
                async with asyncio.timeout_at(due_at):
                    await self._hurry.wait()
                apart_s = began_at + _APART_S - loop.time()
                await asyncio.sleep(min(max(_GATHER_S, apart_s), self._interval_s))
            except TimeoutError:
                continue

    async def round(self) -> bool:
        """Check every session, hand out changed jobs, write what was collected; False when something failed."""
        self._hurry.clear()
        now = time.monotonic()
        for session in list(self._open.values())[self._rounds % _LOOK_SHARE :: _LOOK_SHARE]:
            session.look(now)
        first: list[_Step] = [self._check_standings, self._check_certificates] if self._open else []
        done = await self._do(*first, self._write_ends, self._write_pulses, self._count_expected)
        self._rounds += 1
        return done

    async def _catch_up(self) -> bool:
        """Between two rounds: jobs for those who have just come, a word of those who have gone."""
        self._hurry.clear()
        fresh, self._fresh = self._fresh, []

        async def hand_out(connection: Connection) -> None:
            await self._hand_out(connection, fresh)

        return await self._do(hand_out, self._write_ends)

    async def _do(self, *steps: _Step) -> bool:
        """Do these steps, whatever becomes of the others; False when one failed."""
        done = True
        for step in steps:
            name = step.__name__.strip("_").replace("_", " ")
            try:
                async with self._database.connection() as connection:
                    await step(connection)
            except Exception as error:  # noqa: BLE001  every session depends on the next step
                done = False
                self._tell_failure(name, error)
                if isinstance(error, OSError) or (isinstance(error, psycopg.Error) and not error.sqlstate):
                    return False  # the database is away, and each further step would wait for it
            else:
                self._failing.discard(name)
        return done

    def _tell_failure(self, name: str, error: Exception) -> None:
        known = name in self._failing
        self._failing.add(name)
        told = None if known or isinstance(error, psycopg.Error | OSError) else error
        _log.error("sessions: %s failed and is tried again: %r", name, error, exc_info=told)

    async def _check_standings(self, connection: Connection) -> None:
        known = self._known = self._known or _known(self._open)
        changed, let_go = [], []
        found = await roster.changed_standings(
            connection, known.ids, known.epochs, known.revisions, self.process_id
        )
        for worker_id, standing in found.items():
            session = known.sessions[worker_id]
            if standing is None or not standing.listed:
                session.revoked()
            elif standing.epoch != session.epoch:
                session.superseded()
            else:
                if standing.jobs_revision != session.jobs_revision:
                    changed.append(session)
                if standing.gateway_id != self.process_id:
                    let_go.append((worker_id, session.epoch))
        if let_go:
            await roster.take_back(connection, let_go, self.process_id)
        self._fresh = []
        await self._hand_out(connection, changed)

    async def _check_certificates(self, connection: Connection) -> None:
        if self._rounds % _CERTIFICATES_EVERY == 0:
            known = self._known = self._known or _known(self._open)
            for worker_id in await roster.unlisted(connection, known.ids, known.serials):
                known.sessions[worker_id].revoked()

    async def _count_expected(self, connection: Connection) -> None:
        if self._rounds % _COUNT_EVERY == 0:
            self._expected = await roster.expected(connection)

    async def _hand_out(self, connection: Connection, waiting: Sequence[Session]) -> None:
        """Tell workers of their jobs; who is missed here is found by the next round."""
        failures: list[Exception] = []
        for start in range(0, len(waiting), _LOAD):
            some = waiting[start : start + _LOAD]
            try:
                changes = await jobs.load(
                    connection, {session.worker_id: session.sent_jobs for session in some}
                )
            except Exception as error:  # noqa: BLE001  it is raised below, once the others are done
                failures.append(error)
                continue
            self._known = None
            for session in some:
                try:
                    if session.worker_id in changes:
                        session.change_jobs(changes[session.worker_id])
                except Exception as error:  # noqa: BLE001  likewise
                    failures.append(error)
        if failures:
            raise failures[0]

    async def _write_ends(self, connection: Connection) -> None:
        if self._closed:
            ended, self._closed = self._closed, set()
            try:
                self._closed |= await roster.close_sessions(connection, sorted(ended))
            except BaseException:
                self._closed |= ended
                raise

    async def _write_pulses(self, connection: Connection) -> None:
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

    def _send_away(self, session: Session) -> None:
        spread_ms = max(2_000, len(self._open) * 1_000 // _LEAVING_PER_S)
        session.end(
            Why.DRAINING,
            "this gateway is about to stop; connect again",
            reconnect_after_ms=random.randint(100, spread_ms),  # noqa: S311  spreads the workers, hides nothing
        )


def _known(sessions: Mapping[uuid.UUID, Session]) -> _Known:
    return _Known(
        sessions=dict(sessions),
        ids=array_text(str(worker_id) for worker_id in sessions),
        epochs=array_text(str(session.epoch) for session in sessions.values()),
        revisions=array_text(
            str(-1 if session.jobs_revision is None else session.jobs_revision)
            for session in sessions.values()
        ),
        serials=array_text(session.peer.serial for session in sessions.values()),
    )


def heartbeat_s(sessions: int) -> int:
    """Return how often each worker of a gateway with so many sends a heartbeat, in seconds."""
    return max(_LEAST_HEARTBEAT_S, min(_MOST_HEARTBEAT_S, sessions // _HEARTBEATS_PER_S))
