"""Connections to PostgreSQL: a pooled SQLAlchemy engine, and the URL in the form that libpq reads."""

from __future__ import annotations

import select
import time
from typing import Any

import psycopg2
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from controller.errors import ConfigurationError
from controller.settings import Settings
from controller.store.embedded import EmbeddedPostgres

#: Seconds that a pooled connection may have lain idle and is still used without being asked whether it works.
_ASKED_AFTER_S = 10.0
#: Isolation of every connection, as an option of libpq, where a backslash keeps a value with a space together.
READ_COMMITTED = r"read\ committed"
_DRIVERS = ("postgresql", "postgres", "postgresql+psycopg2", "postgresql+psycopg")


def database_url(settings: Settings) -> URL:
    """Return the URL of the database: the one that is set, else the embedded server's."""
    if not settings.database_url:
        return make_url(EmbeddedPostgres.find(settings.data_dir).url())
    try:
        url = make_url(settings.database_url)
    except (ArgumentError, ValueError):
        # The text may hold a password, so neither it nor the cause, which quotes it, is shown.
        raise ConfigurationError(
            "STREAMSWARM_DATABASE_URL is not a URL",
            mend="write it as `postgresql://user:password@host:5432/database`",
        ) from None
    if url.drivername not in _DRIVERS:
        raise ConfigurationError(
            f"STREAMSWARM_DATABASE_URL starts with `{url.drivername}:`; PostgreSQL is the only database",
            mend="write it as `postgresql://user:password@host:5432/database`",
        )
    return url


def libpq_url(settings: Settings) -> str:
    """Return the URL, password included, as psycopg 3 and other users of libpq read it."""
    text = database_url(settings).set(drivername="postgresql").render_as_string(hide_password=False)
    # A space in a parameter (the path of a socket) is rendered as `+`, which libpq takes for itself.
    place, mark, parameters = text.partition("?")
    return place + mark + parameters.replace("+", "%20")


def shown_address(url: URL) -> str:
    """Return where the database is, fit for messages: no user, no password."""
    host = url.query.get("host") or url.host or "the local socket"
    host = host if isinstance(host, str) else ", ".join(host)
    port = f":{url.port}" if url.port and not host.startswith("/") else ""
    return f"{host}{port}, database `{url.database or ''}`"


def make_engine(
    settings: Settings,
    *,
    application: str,
    pool_size: int = 5,
    max_overflow: int = 5,
    statement_timeout_s: float = 30.0,
    lock_timeout_s: float = 10.0,
    idle_in_transaction_s: float = 10.0,
) -> Engine:
    """Return a pooled engine; it connects at the first use.

    `application` is the name that PostgreSQL shows for its connections. Time zone is UTC; transactions read what is
    committed, unless the code asks for another isolation, whatever is the database's default. Sessions that sit idle in
    a transaction are ended after a while, so that a paused process holds nobody up for longer.
    """
    options = {
        "timezone": "UTC",
        "default_transaction_isolation": READ_COMMITTED,
        "statement_timeout": str(int(statement_timeout_s * 1000)),
        "lock_timeout": str(int(lock_timeout_s * 1000)),
        "idle_in_transaction_session_timeout": str(int(idle_in_transaction_s * 1000)),
    }
    arguments: dict[str, Any] = {
        "application_name": application,
        "connect_timeout": 5,
        "options": " ".join(f"-c {name}={value}" for name, value in options.items()),
    }
    engine = create_engine(
        database_url(settings).set(drivername="postgresql+psycopg2"),
        connect_args=arguments,
        pool_size=pool_size,
        max_overflow=max_overflow,
        pool_timeout=10,
        pool_recycle=1800,
    )
    _check_before_use(engine)
    return engine


def _check_before_use(engine: Engine) -> None:
    """Have the pool replace connections that PostgreSQL has ended.

    It says so, or its socket closes, before anything is sent: whether a connection has anything to be read is seen without
    a round trip. One that lay idle for long is asked all the same, for what lies between may have forgotten it.
    """

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info["free_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def check(driver: Any, record: ConnectionPoolEntry, _: Any) -> None:
        since = record.info.get("free_since")
        if since is None or (time.monotonic() - since < _ASKED_AFTER_S and not _is_readable(driver)):
            return
        try:
            engine.dialect.do_ping(driver)
        except psycopg2.Error as error:
            raise InvalidatePoolError from error


def _is_readable(driver: Any) -> bool:
    if driver.closed:
        return True
    poll = select.poll()
    poll.register(driver.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def session_factory(engine: Engine) -> sessionmaker[Session]:
    """Return the factory of sessions; records stay readable after the commit that ends them."""
    return sessionmaker(engine, expire_on_commit=False)
