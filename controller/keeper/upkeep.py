"""Upkeep of the results: days rewritten in the order of their key, roll-ups, removal of what is too old.

What takes long runs over connections of its own, whose limits suit it, and which end when the keeper is told to stop.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from controller.errors import ConflictError
from controller.logs import reason
from controller.settings import Settings
from controller.store import results
from controller.store.engine import make_engine
from controller.store.rollups import rolling
from controller.store.rollups.rolling import Rolled
from controller.store.upkeep import believed, due_days, purging, retention, rewriting, standstills
from controller.store.upkeep.retention import Removed, Retention

_log = logging.getLogger(__name__)

#: Longest statement: the sort of a very large day.
_STATEMENT_S = 3600.0
#: Rounds end after so long, so that a keeper that was told to stop has nothing left to begin.
_ROUND_S = 900.0


def roll_up(engine: Engine) -> Rolled:
    """Roll up what can be of all kinds; a kind that fails holds up no other, and is raised at the end."""
    done, failures = Rolled(), _Failures(engine, "roll_up", "rolled up")
    with engine.begin() as connection:
        believed.bring_back(connection)
    for kind in results.kinds():
        with failures.of(kind):
            rolled = rolling.roll_up(engine, kind)
            done.steps += rolled.steps
            done.marks += rolled.marks
    failures.tell()
    return done


def believe(engine: Engine) -> dt.datetime | None:
    """Let the time that removal goes by go on, once in each round, and return it; None while clocks disagree."""
    with engine.begin() as connection:
        return believed.advance(connection, believed.read_clocks(connection))


def expire(settings: Settings, stopping: threading.Event, *, now: dt.datetime) -> Removed:
    """Remove what is too old of all kinds; a kind that fails holds up no other, and is raised at the end."""
    removed = Removed()
    with patient_engine(settings, stopping) as engine:
        failures = _Failures(engine, "expire", "thinned out", stopped=stopping.is_set)
        for kind in results.kinds():
            if stopping.is_set():
                break
            with failures.of(kind):
                done = retention.expire(engine, kind, Retention.of(settings), now=now)
                removed.dropped += done.dropped
                removed.left += done.left
    failures.tell()
    return removed


def purge(settings: Settings, stopping: threading.Event) -> int:
    """Remove the results of tests that were deleted with their data; return how many rows that were."""
    with patient_engine(settings, stopping) as engine:
        return purging.purge(engine, stopped=stopping.is_set)


def rewrite_days(settings: Settings, stopping: threading.Event) -> int:
    """Rewrite the days that are due, the newest first; return how many.

    A day that cannot be locked, or fails otherwise, is left for the next round; only a lost server ends this one.
    """
    count, ends = 0, time.monotonic() + _ROUND_S
    with patient_engine(settings, stopping) as engine:
        with engine.connect() as connection:
            due = due_days.due(connection)
        for day in due:
            if stopping.is_set() or time.monotonic() > ends:
                break
            try:
                done = rewriting.rewrite(engine, day)
            except rewriting.OvertakenError as error:
                _log.info("not rewritten: %s", error)
            except (DBAPIError, ConflictError) as error:
                if stopping.is_set():
                    break
                if isinstance(error, DBAPIError) and _is_lost(error):
                    raise
                if isinstance(error, OperationalError) and rewriting.is_lock_timeout(error):
                    _log.warning("%s is not rewritten now: %s", day.name, reason(error))
                else:
                    _log.error(
                        "%s cannot be rewritten, its results stay as they are; the next round tries again: %s",
                        day.name,
                        reason(error),
                    )
            else:
                count += 1
                _log.info(
                    "%s lies in the order of its key: %s rows in %.1f s, swapped in %.0f ms at try %s",
                    day.name,
                    done.rows,
                    done.copy_s,
                    done.swap_ms,
                    done.tries,
                )
    return count


class _Failures:
    """What the database refused of one kind, while the others go on; it is noted until the kind's turn goes well."""

    def __init__(
        self,
        engine: Engine,
        task: standstills.Task,
        deed: str,
        *,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._engine = engine
        self._stopped = stopped
        self._task = task
        self._deed = deed
        self._first: DBAPIError | None = None
        with engine.begin() as connection:
            self._noted = standstills.noted(connection, task)

    @contextlib.contextmanager
    def of(self, kind: str) -> Iterator[None]:
        """Keep what the block fails of; a lost server ends everything."""
        try:
            yield
        except DBAPIError as error:
            if _is_lost(error):
                raise
            if self._stopped():
                return  # what was under way has been cancelled
            _log.error("%s cannot be %s; the next round tries again: %s", kind, self._deed, reason(error))
            self._first = self._first or error
            with self._engine.begin() as connection:
                standstills.note(connection, self._task, kind, reason(error))
        else:
            if kind in self._noted:
                with self._engine.begin() as connection:
                    standstills.forget(connection, self._task, kind)

    def tell(self) -> None:
        """Raise the first failure, so that the task is known to have failed."""
        if self._first is not None:
            raise self._first


def _is_lost(error: DBAPIError) -> bool:
    """Whether the server is gone: without a connection there is no code of its."""
    return error.connection_invalidated or getattr(error.orig, "pgcode", None) is None


@contextlib.contextmanager
def patient_engine(settings: Settings, stopping: threading.Event) -> Iterator[Engine]:
    """Lend an engine whose statements may take long; when `stopping` is set, those under way are cancelled."""
    engine = make_engine(
        settings,
        application="streamswarm-upkeep",
        pool_size=1,
        max_overflow=1,
        statement_timeout_s=_STATEMENT_S,
    )
    live: set[Any] = set()
    event.listen(engine, "checkout", lambda connection, _record, _proxy: live.add(connection))
    event.listen(engine, "checkin", lambda connection, _record: live.discard(connection))
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stopping.wait(0.5):
                for connection in list(live):
                    with contextlib.suppress(Exception):  # it may have ended by itself
                        connection.cancel()
                over.wait(0.5)

    watcher = threading.Thread(target=watch, name="upkeep-watch", daemon=True)
    watcher.start()
    try:
        yield engine
    finally:
        over.set()
        watcher.join()
        engine.dispose()
