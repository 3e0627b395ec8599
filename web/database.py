"""The database as the dashboard and the API use it: one pooled engine a process, one transaction a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import psycopg2
from flask import Flask, current_app
from psycopg2.extensions import connection as Driver  # noqa: N812  it stands for the driver's connection
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from controller.errors import DatabaseUnavailableError, SchemaError, StreamSwarmError
from controller.settings import Settings
from controller.store.engine import make_engine, shown_address

_KEY = "streamswarm.engine"
#: Pages and API calls that ask the database at the same time; further ones wait for a moment.
_POOL = 8
_OVERFLOW = 16
#: SQLSTATE classes under which PostgreSQL is away: connection lost, shutting down or starting, out of resources.
_AWAY = ("08", "57P", "53")
#: Statement cancelled by its time-out, or a lock not given in time.
_SLOW = ("57014", "55P03", "40P01", "25P03")
_UNDEFINED = ("42P01", "42703")


def init_app(app: Flask, settings: Settings) -> Engine:
    """Give the application its engine, which connects at the first use."""
    engine = make_engine(
        settings,
        application="streamswarm-web",
        pool_size=_POOL,
        max_overflow=_OVERFLOW,
        statement_timeout_s=15,
        lock_timeout_s=5,
    )
    app.extensions[_KEY] = engine
    return engine


def engine() -> Engine:
    """Return the engine of the current application."""
    return cast("Engine", current_app.extensions[_KEY])


@contextmanager
def transaction() -> Iterator[Session]:
    """Open a session whose transaction is committed at the end of the block, and rolled back on an error.

    Raises DatabaseUnavailableError when PostgreSQL is away, and SchemaError when its schema is another release's.
    """
    try:
        with Session(engine(), expire_on_commit=False) as session, session.begin():
            yield session
    except SQLAlchemyError as error:
        known = explain(error, shown_address(engine().url))
        if known is None:
            raise
        raise known from error


@contextmanager
def asking() -> Iterator[Driver]:
    """Lend a connection of the driver for prepared statements: each stands for itself, and what it changes is kept at once.

    A session with its transaction costs a short call more than all the rest of it. Raises as `transaction` does.
    """
    try:
        pooled = engine().raw_connection()
        driver = cast("Driver", pooled.dbapi_connection)
        try:
            driver.autocommit = True
            yield driver
        finally:
            if not driver.closed:
                driver.autocommit = False
            pooled.close()
    except (SQLAlchemyError, psycopg2.Error) as error:
        known = explain(error, shown_address(engine().url))
        if known is None:
            raise
        raise known from error


def explain(error: SQLAlchemyError | psycopg2.Error, where: str) -> StreamSwarmError | None:
    """Return what a person can make of a driver's error; None when it is a fault of the program."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailableError("the database has too much to do", mend="try again in a moment")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if not isinstance(cause, psycopg2.Error):
        return None
    code = cause.pgcode or ""
    if isinstance(cause, psycopg2.ProgrammingError) and code in _UNDEFINED:
        return SchemaError(
            "the schema of the database is not the one that this release works with",
            mend="bring it up to date: streamswarm db upgrade",
        )
    if code in _SLOW:
        return DatabaseUnavailableError("the database took too long to answer", mend="try again in a moment")
    invalidated = isinstance(error, DBAPIError) and error.connection_invalidated
    if invalidated or code.startswith(_AWAY) or _is_connection_error(cause):
        return DatabaseUnavailableError(
            f"PostgreSQL does not answer at {where}",
            mend="this mends itself as soon as it does; see `streamswarm status` and the database's log",
        )
    return None


def _is_connection_error(error: psycopg2.Error) -> bool:
    """Whether the driver failed before PostgreSQL could give a code."""
    return error.pgcode is None and isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError)
