"""Somebody who never stops keeping partitions in order: days that are over are rewritten, an old one is removed."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType

import psycopg2
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from controller.settings import Settings
from controller.store import partitions
from controller.store.engine import make_engine
from controller.store.upkeep import retention, rewriting

_TABLE, _KIND = "result_tcp", "tcp"
#: Rows of no job, so that a partition that is removed has something in it.
_NOBODY = 10**15
_OLD_DAYS = 60
_PAUSE_S = 0.2


class RestlessUpkeep:
    """Rewrites yesterday and the day before and removes an old day, again and again, in a thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep")
        #: What was done, and how often it was broken off.
        self.done: Counter[str] = Counter()
        self.error: Exception | None = None

    def __enter__(self) -> RestlessUpkeep:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self.error is not None and error is None:
            raise self.error

    def _run(self) -> None:
        today = dt.datetime.now(dt.UTC).date()
        while not self._over.wait(_PAUSE_S):
            try:
                for back in (1, 2):
                    self._step("rewritten", _rewrite, today - dt.timedelta(days=back))
                self._step("removed", _remove, today - dt.timedelta(days=_OLD_DAYS))
            except Exception as error:  # noqa: BLE001  it is raised where the test ends
                self.error = error
                return

    def _step(self, name: str, work: Callable[[Engine, dt.date], bool], day: dt.date) -> None:
        """Do one piece of work with an engine of its own, as the keeper does for each round."""
        engine = make_engine(
            self._settings, application="test-upkeep", pool_size=1, max_overflow=1, statement_timeout_s=600
        )
        try:
            self.done[name] += work(engine, day)
        except rewriting.OvertakenError:
            self.done["overtaken"] += 1
        except (DBAPIError, psycopg2.Error):  # killed in the midst of it, or held up: the next time goes on
            self.done["broken off"] += 1
        finally:
            engine.dispose()


def _rewrite(engine: Engine, day: dt.date) -> bool:
    rewriting.rewrite(engine, rewriting.Day(table=_TABLE, day=day))
    return True


def _remove(engine: Engine, day: dt.date) -> bool:
    """Make an old day with something in it, and remove it."""
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, _KIND, [day])
    with engine.begin() as connection:
        connection.execute(
            text(
                f"INSERT INTO {_TABLE} (job_id, scheduled_at, job_version, started_at, duration_ms, status, "
                "failure_source) SELECT :job, at, 1, at, 1, 1, 0 FROM generate_series(CAST(:day AS timestamptz), "
                "CAST(:day AS timestamptz) + interval '1 hour', interval '10 seconds') at ON CONFLICT DO NOTHING"
            ),
            {"job": _NOBODY, "day": f"{day} 00:00:00+00"},
        )
    return retention.remove(engine, _TABLE, partitions.partition_name(_TABLE, day))
