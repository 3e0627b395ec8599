"""The gateway process: puts the parts together, runs until it is told to stop, leaves nothing half-done."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
import signal
from collections.abc import AsyncIterator, Collection

from sqlalchemy import Engine

from controller.gateway import process
from controller.gateway.authority import Authority
from controller.gateway.clock import DatabaseClock
from controller.gateway.database import Database
from controller.gateway.enrolment import Enrolment
from controller.gateway.identity import Peer, Role
from controller.gateway.ingest import Ingest
from controller.gateway.limits import RateLimit
from controller.gateway.listeners import Listener
from controller.gateway.notices import Notices
from controller.gateway.opening import open_authority
from controller.gateway.reception import Reception
from controller.gateway.service import SESSIONS_AT_ONCE, SESSIONS_PER_S, Gateway
from controller.gateway.session import Session, Stream
from controller.gateway.sessions import Sessions
from controller.settings import Settings
from controller.store import schema
from controller.store.engine import libpq_url, make_engine
from controller.store.partitions import ensure_partitions
from streamswarm.v1 import gateway_pb2_grpc

_log = logging.getLogger(__name__)

#: Sessions get this long to say goodbye when the gateway stops.
_DRAIN_S = 15.0
#: Seconds after which a task that does not end is cancelled again.
_END_AGAIN_S = 5.0


class RunningGateway:
    """A gateway that serves; made by `running`."""

    def __init__(
        self, settings: Settings, engine: Engine, authority: Authority, *, interval_s: float
    ) -> None:
        self.authority = authority
        self.database = Database(libpq_url(settings))
        self.sessions = Sessions(self.database, interval_s=interval_s)
        self.reception = Reception(self.database, self.sessions.deserted)
        self._settings = settings
        self._engine = engine
        self._notices = Notices(self.database)
        self.clock = DatabaseClock(self.database)
        #: By worker.
        self.session_limit = RateLimit(rate=SESSIONS_PER_S, burst=SESSIONS_AT_ONCE)
        self.ingest = Ingest(
            self.database,
            self._make_partitions,
            now_us=self.clock.now_us,
            on_stored=self._notices.stored,
            retention_days=settings.retention_days,
        )
        self._session_listener = Listener(
            Role.WORKER, settings.gateway_listen, self.authority, variable="STREAMSWARM_GATEWAY_LISTEN"
        )
        self._enrolment_listener = Listener(
            Role.NEWCOMER, settings.enrolment_listen, self.authority, variable="STREAMSWARM_ENROLMENT_LISTEN"
        )
        self.enrolment = Enrolment(settings, self.database, self.authority)
        self._lag = process.LoopLag()
        self._process_id = 0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def session_port(self) -> int:
        """The port on which workers hold their sessions."""
        return self._session_listener.port

    @property
    def enrolment_port(self) -> int:
        """The port on which workers enrol."""
        return self._enrolment_listener.port

    async def start(self) -> None:
        """Listen and work; raises before anything is served when something is not as it must be."""
        self._adopt(await process.register(self.database, self._settings.gateway_name))
        await self.clock.measure()
        gateway = Gateway(self._settings.trust_domain, self._open_session, self.session_limit)
        self._session_listener.server.add_generic_rpc_handlers([gateway.handlers()])
        gateway_pb2_grpc.add_EnrolmentServicer_to_server(  # type: ignore[no-untyped-call]
            self.enrolment, self._enrolment_listener.server
        )
        await self.sessions.round()  # what the first workers are told depends on how many are to come
        await self._session_listener.start()
        await self._enrolment_listener.start()
        for work in (
            self.ingest.run(),
            self.reception.run(),
            self.sessions.run(),
            self._notices.run(),
            self._lag.run(),
            self.clock.run(),
            process.beat(
                self.database,
                self._settings.gateway_name,
                self._process_id,
                adopt=self._adopt,
                gauges=self._gauges,
                lag=self._lag,
            ),
        ):
            self._tasks.append(asyncio.create_task(work))
        _log.info(
            "gateway %s listens on %s (sessions) and %s (enrolment)",
            self._settings.gateway_name,
            self._settings.gateway_listen,
            self._settings.enrolment_listen,
        )

    async def check_transport(self) -> None:
        """Raise when the listeners would talk anything older than TLS 1.3."""
        await self._enrolment_listener.check_transport()

    async def failure(self) -> None:
        """Wait until a part of the gateway fails, which none ever should, and raise what it failed of."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        raise RuntimeError("a task of the gateway ended without being asked to")

    async def stop(self) -> None:
        """Send the workers elsewhere, store what was read, and end."""
        self.sessions.drain()
        await asyncio.gather(self._enrolment_listener.stop(1.0), self._session_listener.stop(_DRAIN_S))
        await _end(self._tasks)
        if self._process_id:
            # The database may be what failed; the next start marks this process as stopped then.
            with contextlib.suppress(Exception):
                await self.sessions.round()
                await process.unregister(self.database, self._process_id)
        await self.database.close()

    def _adopt(self, process_id: int) -> None:
        """Sign under this number from now on; the look at the sessions brings those that are open under it."""
        self.reception.process_id = self.sessions.process_id = self._process_id = process_id

    def _open_session(self, peer: Peer, stream: Stream) -> Session:
        return Session(
            peer,
            stream,
            database=self.database,
            authority=self.authority,
            reception=self.reception,
            ingest=self.ingest,
            registry=self.sessions,
            now_us=self.clock.now_us,
        )

    async def _make_partitions(self, days: Collection[tuple[str, int]]) -> None:
        await asyncio.to_thread(_ensure, self._engine, days)

    def _gauges(self) -> dict[str, float]:
        tally = self.ingest.tally
        return {
            "sessions": len(self.sessions),
            "hellos_waiting": len(self.reception),
            "batches_waiting": self.ingest.waiting,
            "results_stored": tally.stored,
            "results_repeated": tally.repeated,
            "results_quarantined": tally.quarantined,
            "results_expired": tally.expired,
            "results_deleted": tally.deleted,
            "transactions": tally.transactions,
            "retries": tally.retries,
            "last_commit_ms": round(tally.last_commit_ms, 3),
            **self.clock.gauges(),
        }


@contextlib.asynccontextmanager
async def running(settings: Settings, *, interval_s: float = 1.0) -> AsyncIterator[RunningGateway]:
    """Run a gateway; `interval_s` is how often it looks for revoked workers and changed jobs."""
    engine = make_engine(settings, application="streamswarm-gateway", pool_size=1, max_overflow=1)
    try:
        await asyncio.to_thread(schema.check, engine)
        authority = await asyncio.to_thread(open_authority, settings, engine)
        gateway = RunningGateway(settings, engine, authority, interval_s=interval_s)
        try:
            await gateway.start()
            yield gateway
        finally:
            await gateway.stop()
    finally:
        engine.dispose()


async def serve(settings: Settings) -> None:
    """Run the gateway until SIGTERM or SIGINT; raises StreamSwarmError when it cannot start."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings) as gateway:
        await gateway.check_transport()
        failure = asyncio.ensure_future(gateway.failure())
        asked = asyncio.ensure_future(stop.wait())
        await asyncio.wait((failure, asked), return_when=asyncio.FIRST_COMPLETED)
        for waiting in (failure, asked):
            waiting.cancel()
        if failure.done() and not failure.cancelled():
            failure.result()


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: a cancellation that a library has swallowed must not hold the stop up."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_END_AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)


def _ensure(engine: Engine, days: Collection[tuple[str, int]]) -> None:
    for kind, day in sorted(days):
        with engine.begin() as connection:
            ensure_partitions(connection, kind, [dt.date(1970, 1, 1) + dt.timedelta(days=day)])
