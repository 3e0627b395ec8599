"""The gateway's connections to PostgreSQL: a few, asynchronous, with time-outs that keep a paused process harmless.

A checkout connects when no idle connection is left, at once and without a schedule of its own, so that the first
attempt after an outage is the caller's. One error that says "the connection is gone" discards every idle one.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from controller.store.engine import READ_COMMITTED

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
BlockingConnection = psycopg.Connection[tuple[Any, ...]]

#: Limits of every connection, in milliseconds. A gateway that is stopped in the middle of a transaction, or cut
#: off from its database, holds its successor up for no longer than these.
_LIMITS = {
    "statement_timeout": 10_000,
    "lock_timeout": 5_000,
    "idle_in_transaction_session_timeout": 5_000,
}
LONGEST_TRANSACTION_MS = 10_000
_LIMIT_TRANSACTIONS = f"SET transaction_timeout = {LONGEST_TRANSACTION_MS}"  # PostgreSQL 17 and newer
_OPTIONS = {"timezone": "UTC", "default_transaction_isolation": READ_COMMITTED, **_LIMITS}
#: The name that PostgreSQL shows for every connection of a gateway.
APPLICATION = "streamswarm-gateway"
_PARAMETERS: dict[str, Any] = {
    "connect_timeout": 5,
    "application_name": APPLICATION,
    "options": " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items()),
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: SQLSTATE classes after which the same work may succeed: broken connection, read-only or ended transaction,
#: deadlock and serialisation, no resources, lock not had, shutdown or cancellation, input/output error.
_TRANSIENT = frozenset(("08", "25", "40", "53", "55", "57", "58"))
#: What the time-outs of a statement, of a client that does nothing in its transaction, and of a transaction end with.
_OUT_OF_TIME = frozenset(("57014", "25P03", "25P04"))


class Database:
    """At most `size` connections at a time; more callers wait."""

    def __init__(self, url: str, *, size: int = 6) -> None:
        self._url = url
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode; what raises inside rolls its transaction back."""
        async with self._places:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, psycopg.OperationalError):
                    await self._drop_idle()
                await self._take_back(connection)
                raise
            await self._take_back(connection)

    async def close(self) -> None:
        """Close the idle connections now, those that are lent when they come back."""
        self._closed = True
        await self._drop_idle()

    async def _take_back(self, connection: Connection) -> None:
        if self._closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append(connection)

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    def line(self) -> Line:
        """Return a connection of its own for one thread that blocks."""
        return Line(self._url)

    async def _connect(self) -> Connection:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **_PARAMETERS)
        if connection.info.server_version >= 170_000:
            try:
                await connection.execute(_LIMIT_TRANSACTIONS)
            except BaseException:
                await connection.close()
                raise
        return connection


class Line:
    """One connection that blocks, kept open between uses. It belongs to one thread at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._idle: BlockingConnection | None = None

    @contextlib.contextmanager
    def connection(self) -> Iterator[BlockingConnection]:
        """Lend the connection in autocommit mode, a new one when the last is gone; errors roll back."""
        connection, self._idle = self._idle or self._connect(), None
        try:
            yield connection
        finally:
            if connection.info.transaction_status is TransactionStatus.IDLE:
                self._idle = connection
            else:
                connection.close()

    def close(self) -> None:
        """Close the connection; the next use would open another."""
        if self._idle is not None:
            self._idle.close()
            self._idle = None

    def _connect(self) -> BlockingConnection:
        connection = psycopg.Connection.connect(self._url, autocommit=True, **_PARAMETERS)
        if connection.info.server_version >= 170_000:
            try:
                connection.execute(_LIMIT_TRANSACTIONS)
            except BaseException:
                connection.close()
                raise
        return connection


def is_transient(error: Exception) -> bool:
    """Whether the same work may succeed when it is tried again: the database is away, busy or in the way."""
    if not isinstance(error, psycopg.Error):
        return isinstance(error, OSError)
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate[:2] in _TRANSIENT


def is_out_of_time(error: psycopg.Error, *, lasted_s: float) -> bool:
    """Whether work that took so long on an open connection was ended for that, so that less work may succeed.

    A transaction's time-out ends the connection too. Who is sending rows just then reads nothing of the reason, so an
    end that comes so late counts as one, whatever it says.
    """
    return error.sqlstate in _OUT_OF_TIME or (
        is_transient(error) and lasted_s * 1000 >= LONGEST_TRANSACTION_MS
    )


def is_about_content(error: Exception) -> bool:
    """Whether the database refuses the rows for what they hold, so that trying again is in vain."""
    if isinstance(error, psycopg.IntegrityError | psycopg.DataError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(
        "54"
    )  # too complex, too long


def is_in_vain(error: Exception) -> bool:
    """Whether the same rows will fail again: the database refuses their content, or our own code trips over them."""
    return is_about_content(error) or not isinstance(error, psycopg.Error | OSError | MemoryError)


def array_text(items: Iterable[str]) -> str:
    """Return an array as PostgreSQL reads it, of items that need no quotes."""
    return "{" + ",".join(items) + "}"


class BackOff:
    """Waits that grow to a few seconds, with full jitter so that gateways do not return in step."""

    def __init__(self, *, first_s: float = 0.05, most_s: float = 2.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._tries = 0

    async def wait(self) -> None:
        """Sleep before the next attempt."""
        ceiling = min(self._most_s, self._first_s * 2**self._tries)
        self._tries = min(self._tries + 1, 16)
        await asyncio.sleep(random.uniform(ceiling / 10, ceiling))  # noqa: S311  jitter is no secret
