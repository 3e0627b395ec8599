"""This gateway's row in `processes`: that it is alive, and its gauges."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

from controller.errors import DatabaseUnavailableError
from controller.gateway.database import BackOff, Database, is_transient
from streamswarm import __version__

_log = logging.getLogger(__name__)

#: A gateway that starts together with thousands of its workers finds a database that is slow to answer.
_PATIENCE_S = 30.0

Gauges = Callable[[], Mapping[str, float]]


async def register(database: Database, name: str, *, patience_s: float = _PATIENCE_S) -> int:
    """Make this process's row and return its id; an earlier process of that name is marked as stopped.

    A database that does not answer is asked again for so long; raises DatabaseUnavailableError after that.
    """
    back_off = BackOff()
    give_up_at = time.monotonic() + patience_s
    while True:
        try:
            return await _register(database, name)
        except Exception as error:
            if not is_transient(error):
                raise
            if time.monotonic() >= give_up_at:
                raise DatabaseUnavailableError(
                    f"the gateway cannot make its entry in the database, and has tried for {patience_s:g} s: {error}",
                    mend="see whether PostgreSQL runs and has connections to spare, then start the gateway again",
                ) from error
            _log.warning("the database does not answer, and is asked again: %s", error)
        await back_off.wait()


async def _register(database: Database, name: str) -> int:
    async with database.connection() as connection, connection.transaction():
        await connection.execute(
            "WITH gone AS (UPDATE processes SET stopped_at = now() "
            "WHERE role = 'gateway' AND name = %s AND stopped_at IS NULL RETURNING id) "
            "UPDATE workers SET gateway_id = NULL, disconnected_at = now() "
            "WHERE gateway_id IN (SELECT id FROM gone)",
            (name,),
        )
        cursor = await connection.execute(
            "INSERT INTO processes (role, name, host_name, pid, version) VALUES ('gateway', %s, %s, %s, %s) "
            "RETURNING id",
            (name, socket.gethostname(), os.getpid(), __version__),
        )
        row = await cursor.fetchone()
    if row is None:
        raise RuntimeError("INSERT … RETURNING gave no row")
    return int(row[0])


class LoopLag:
    """How late the event loop comes: `run` is its task. Everything that a gateway does waits for it."""

    def __init__(self) -> None:
        self._worst_ms = 0.0

    async def run(self, *, interval_s: float = 0.2) -> None:
        """Measure until cancelled: sleep, and see by how much more was slept."""
        while True:
            begun = time.monotonic()
            await asyncio.sleep(interval_s)
            self._worst_ms = max(self._worst_ms, (time.monotonic() - begun - interval_s) * 1000)

    def take(self) -> float:
        """Return the worst since it was last asked for, in milliseconds."""
        worst, self._worst_ms = self._worst_ms, 0.0
        return worst


async def beat(
    database: Database,
    name: str,
    process_id: int,
    *,
    adopt: Callable[[int], None],
    gauges: Gauges,
    lag: LoopLag,
    interval_s: float = 2.0,
) -> None:
    """Write a heartbeat with the gauges every `interval_s` until cancelled; the loop's worst lag is among them.

    A row that is gone (keepers remove those that were silent for long; a database may come back from a backup) is made
    anew, and `adopt` is told its id. One that another gateway of the same name has marked as stopped is not.
    """
    while True:
        await asyncio.sleep(interval_s)
        values = {**gauges(), "loop_lag_ms": round(lag.take(), 3)}
        try:
            stopped = await _beat_once(database, process_id, values)
            if stopped is None:
                _log.warning("this gateway's entry in the database is gone, and is made anew")
                process_id = await _register(database, name)
                adopt(process_id)
            elif stopped:
                _log.warning(
                    "another gateway has started under the name `%s`: give each its own (STREAMSWARM_GATEWAY_NAME)",
                    name,
                )
        except Exception as error:
            if not is_transient(error):
                raise
            _log.warning("the heartbeat cannot be written now: %s", error)


async def _beat_once(database: Database, process_id: int, values: Mapping[str, float]) -> bool | None:
    """Return whether the row was marked as stopped, which it no longer is; None when there is no such row."""
    async with database.connection() as connection:
        cursor = await connection.execute(
            "UPDATE processes p SET heartbeat_at = now(), stopped_at = NULL, gauges = %s::jsonb "
            "FROM (SELECT id, stopped_at FROM processes WHERE id = %s AND role = 'gateway' AND host_name = %s "
            "AND pid = %s FOR UPDATE) was WHERE p.id = was.id RETURNING was.stopped_at IS NOT NULL",
            (json.dumps(values), process_id, socket.gethostname(), os.getpid()),
        )
        row = await cursor.fetchone()
    return None if row is None else bool(row[0])


async def unregister(database: Database, process_id: int) -> None:
    """Mark the process as stopped."""
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE processes SET stopped_at = now(), heartbeat_at = now() WHERE id = %s", (process_id,)
        )
