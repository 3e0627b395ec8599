"""Live updates: server-sent events that say which tests have new results, and which operations have moved on.

One connection per process listens to PostgreSQL; what it hears is handed to every open stream, at most one event
a second each. Events are hints: a page that hears one fetches what it lacks, and after any break it fetches anew,
so nothing depends on an event having arrived. Each stream holds a thread of the server; so there is a hard cap, for all
and for each viewer, beyond which the answer is 503 and pages poll instead. A stream ends within seconds of its session.
"""

from __future__ import annotations

import json
import logging
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, current_app
from psycopg2 import Error as DriverError
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.channels import OPERATIONS, RESULTS
from web.auth import principal, requires, sessions

log = logging.getLogger(__name__)

#: Threads that are kept free for pages.
THREADS_FOR_PAGES = 32
HEARTBEAT_S = 15.0
COALESCE_S = 1.0
#: Streams of one viewer, a user or a token: nobody can take every place.
MOST_PER_VIEWER = 8
#: A stream ends after this time and the browser opens the next: places that nobody reads from become free.
LIFE_S = 600.0
#: So often it is asked of the database which sessions go on; streams of others end.
CHECK_S = 5.0
_RETRY_S = 2.0
#: An event that names more tests than this says "all" instead.
_MOST_TESTS = 500

blueprint = Blueprint("live", __name__)


class StreamsFullError(Exception):
    """Every place for a stream, or every place that this viewer may have, is taken."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """What happened since the last one that a stream was told."""

    #: Tests with new results; None means that anything may be new.
    tests: tuple[int, ...] | None
    #: Whether the database is heard.
    listening: bool
    #: Operations on the fleet that have moved on.
    operations: tuple[int, ...] = ()


class Stream:
    """One open stream: collects what is new until it is asked."""

    def __init__(self, *, listening: bool, viewer: str = "", session: str = "") -> None:
        #: Whom it counts for.
        self.viewer = viewer
        #: The session with which it ends; empty when it hangs on none.
        self.session = session
        self._changed = threading.Condition()
        # A stream begins with "anything may be new", as soon as the database is heard.
        self._tests: set[int] | None = None if listening else set()
        self._operations: set[int] = set()
        self._listening = listening
        self._told = listening
        self._ended = False

    def add(self, tests: frozenset[int] | None) -> None:
        """Note new results; None means that anything may be new."""
        with self._changed:
            if tests is None:
                self._tests = None
            elif self._tests is not None:
                self._tests |= tests
                if len(self._tests) > _MOST_TESTS:
                    self._tests = None
            self._changed.notify()

    def add_operations(self, operations: frozenset[int]) -> None:
        """Note operations that have moved on."""
        with self._changed:
            self._operations |= operations
            self._changed.notify()

    def set_listening(self, listening: bool) -> None:
        """Note whether the database is heard."""
        with self._changed:
            self._listening = listening
            self._changed.notify()

    def end(self) -> None:
        """Let the stream end now."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    @property
    def ended(self) -> bool:
        """Whether the stream must end."""
        return self._ended

    def wait(self, timeout: float) -> Update | None:
        """Return what is new, or None when nothing was for so long."""
        with self._changed:
            self._changed.wait_for(self._has_news, timeout)
            if not self._is_new():
                return None
            tests = None if self._tests is None else tuple(sorted(self._tests))
            operations = tuple(sorted(self._operations))
            self._tests, self._operations, self._told = set(), set(), self._listening
            return Update(tests=tests, listening=self._listening, operations=operations)

    def _has_news(self) -> bool:
        return self._ended or self._is_new()

    def _is_new(self) -> bool:
        return self._tests != set() or bool(self._operations) or self._told != self._listening


class Hub:
    """Hands what PostgreSQL notifies to the open streams of this process.

    Its thread starts with the first stream, after the server has forked, and ends with the last.
    """

    def __init__(
        self, engine: Engine, *, capacity: int, going_on: Callable[[frozenset[str]], frozenset[str]]
    ) -> None:
        self.capacity = capacity
        self._engine = engine
        #: Returns those of some sessions that go on.
        self._going_on = going_on
        self._check_due = 0.0
        self._lock = threading.Lock()
        self._streams: set[Stream] = set()
        self._thread: threading.Thread | None = None
        self._listening = False
        self._stopped = False

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def open(self, viewer: str, session: str) -> Stream:
        """Return a new stream for a viewer, which ends with the session, or raise StreamsFullError."""
        with self._lock:
            own = sum(stream.viewer == viewer for stream in self._streams)
            if self._stopped or len(self._streams) >= self.capacity or own >= MOST_PER_VIEWER:
                raise StreamsFullError
            stream = Stream(listening=self._listening, viewer=viewer, session=session)
            self._streams.add(stream)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="live", daemon=True)
                self._thread.start()
            return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream."""
        with self._lock:
            self._streams.discard(stream)

    def stop(self) -> None:
        """End all streams, for the end of the process."""
        with self._lock:
            self._stopped = True
            for stream in self._streams:
                stream.end()

    def _run(self) -> None:
        try:
            self._listen_while_wanted()
        finally:
            # Also after a fault of ours: the next stream starts a thread anew.
            with self._lock:
                if self._thread is threading.current_thread():
                    self._thread = None
                    self._listening = False

    def _listen_while_wanted(self) -> None:
        while self._wanted():
            try:
                self._listen()
            except (DriverError, SQLAlchemyError, OSError) as error:
                log.warning(
                    "live updates: the database is not heard, trying again in %g s: %s", _RETRY_S, error
                )
                self._tell_listening(False)
                time.sleep(_RETRY_S)

    def _wanted(self) -> bool:
        with self._lock:
            if self._streams and not self._stopped:
                return True
            self._thread = None
            self._listening = False
            return False

    def _listen(self) -> None:
        connection = self._engine.raw_connection()
        # The connection waits for ever, so it must not count as one of the pool.
        connection.detach()
        try:
            driver: Any = connection.dbapi_connection
            driver.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with driver.cursor() as cursor:
                cursor.execute(f'LISTEN "{RESULTS}"; LISTEN "{OPERATIONS}"')
            self._end_revoked()
            self._tell_listening(True)
            self._tell(None)
            while self._streams and not self._stopped:
                if time.monotonic() >= self._check_due:
                    self._end_revoked()
                ready, _, _ = select.select([driver], [], [], 1.0)
                if not ready:
                    continue
                driver.poll()
                heard: dict[str, list[str]] = {RESULTS: [], OPERATIONS: []}
                for notify in driver.notifies:
                    heard[notify.channel].append(notify.payload)
                driver.notifies.clear()
                if heard[RESULTS]:
                    self._tell(parse_payloads(heard[RESULTS]))
                if heard[OPERATIONS]:
                    self._tell_operations(parse_payloads(heard[OPERATIONS]))
        finally:
            connection.close()

    def _end_revoked(self) -> None:
        """End the streams whose session is over: logged out, idle for too long, its user changed."""
        with self._lock:
            held = frozenset(stream.session for stream in self._streams if stream.session)
        over = held - self._going_on(held) if held else held
        with self._lock:
            for stream in self._streams:
                if stream.session in over:
                    stream.end()
        self._check_due = time.monotonic() + CHECK_S

    def _tell(self, tests: frozenset[int] | None) -> None:
        with self._lock:
            for stream in self._streams:
                stream.add(tests)

    def _tell_operations(self, operations: frozenset[int] | None) -> None:
        if operations is None:
            self._tell(None)  # not understood: pages fetch what they show
            return
        with self._lock:
            for stream in self._streams:
                stream.add_operations(operations)

    def _tell_listening(self, listening: bool) -> None:
        with self._lock:
            self._listening = listening
            for stream in self._streams:
                stream.set_listening(listening)


def parse_payloads(payloads: list[str]) -> frozenset[int] | None:
    """Return the ids that payloads name; None (anything) when one names none or is not understood."""
    tests: set[int] = set()
    for payload in payloads:
        parts = payload.split(",")
        if not all(part.isascii() and part.isdigit() for part in parts):
            return None
        tests.update(map(int, parts))
    return frozenset(tests)


def events(
    stream: Stream,
    *,
    heartbeat_s: float = HEARTBEAT_S,
    coalesce_s: float = COALESCE_S,
    life_s: float = LIFE_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[str]:
    """Yield the text of a stream until its life is over or it is ended."""
    end = clock() + life_s
    yield "retry: 2000\n\n"
    while not stream.ended and clock() < end:
        update = stream.wait(heartbeat_s)
        if update is None:
            # An event and not a comment: pages that hear none for a while know that the connection is dead.
            yield "event: alive\ndata: {}\n\n"
            continue
        if not update.listening:
            yield "event: waiting\ndata: {}\n\n"
        elif update.tests is None:
            yield "event: ready\ndata: {}\n\n"
        elif update.tests:
            yield f"event: results\ndata: {json.dumps(update.tests)}\n\n"
        if update.operations:
            yield f"event: operations\ndata: {json.dumps(update.operations)}\n\n"
        # What comes meanwhile goes into one event.
        sleep(coalesce_s)


def init_app(app: Any, engine: Engine, settings: Settings) -> Hub:
    """Give the application its hub; the cap leaves threads for pages."""
    idle = sessions.idle_of(settings)

    def going_on(cookies: frozenset[str]) -> frozenset[str]:
        with Session(engine) as database:
            return sessions.going_on(database, cookies, idle=idle)

    capacity = max(1, settings.web_threads - THREADS_FOR_PAGES)
    hub = Hub(engine, capacity=capacity, going_on=going_on)
    app.extensions["live"] = hub
    app.register_blueprint(blueprint)
    return hub


@blueprint.get("/live")
@requires("viewer")
def stream() -> Response:
    """Open a stream of events, or answer 503 when every place is taken."""
    hub: Hub = current_app.extensions["live"]
    found = principal()
    try:
        opened = hub.open(found.key, found.session)
    except StreamsFullError:
        return Response(
            "Every place for live updates is taken; the page asks every few seconds instead.\n",
            status=503,
            headers={"Retry-After": "30"},
            mimetype="text/plain",
        )
    response = Response(
        events(opened),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    # A browser may go before the first event is drawn; then the generator never starts and never ends.
    response.call_on_close(lambda: hub.close(opened))
    return response
