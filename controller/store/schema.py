"""Is the database fit to run on? Brings the schema up to date, and checks at start-up that it is.

Every process calls `check` before it does anything else: an old schema, an unsafe server or one that is not there
each give one clear error.
"""

from __future__ import annotations

import logging
import random
import time

import psycopg2
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from controller.errors import DatabaseBusyError, DatabaseUnavailableError, SchemaError, UnsafeDatabaseError
from controller.settings import Settings
from controller.store import partitions, revisions
from controller.store.engine import make_engine, shown_address
from controller.store.holders import held_by
from controller.store.upkeep import rewriting
from controller.store.upkeep.misfits import end_misfits

_log = logging.getLogger(__name__)

OLDEST_SERVER = 15
#: Key of the advisory lock that one migrating process holds; any number, the same in every release.
_MIGRATION_LOCK = 7_377_230_145_220_651
#: Longest wait for one lock, milliseconds: inserts queue behind it. More than the server's `deadlock_timeout` of 1 s,
#: after which an autovacuum that is in the way gives up.
LOCK_MS = 1500
#: So long an upgrade is begun again where a lock is not had, seconds.
UPGRADE_WAIT_S = 60.0
_OUT_OF_MEMORY = "53200"
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


def check(engine: Engine) -> None:
    """Raise unless the server is reachable, new enough and safe, and its schema is this release's."""
    try:
        with engine.connect() as connection:
            check_server(connection)
            check_schema(connection)
    except OperationalError as error:
        raise unavailable(engine, error) from error


def check_server(connection: Connection) -> None:
    """Raise UnsafeDatabaseError when the server is too old or could lose what it has committed."""
    version = connection.execute(text("SHOW server_version_num")).scalar_one()
    if int(version) < OLDEST_SERVER * 10_000:
        shown = connection.execute(text("SHOW server_version")).scalar_one()
        raise UnsafeDatabaseError(
            f"the database server is PostgreSQL {shown}; {OLDEST_SERVER} or newer is needed",
            mend="upgrade the server, or unset STREAMSWARM_DATABASE_URL to use the embedded one",
        )
    values = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _DURABLE}
    off = [name for name, value in values.items() if value == "off"]
    if off:
        raise UnsafeDatabaseError(
            f"PostgreSQL runs with {', '.join(f'{name} = off' for name in off)}: acknowledged results could be lost",
            mend=f"set {' and '.join(off)} to on in postgresql.conf (and for the role and database), then reload",
        )


def check_schema(connection: Connection) -> None:
    """Raise SchemaError unless the schema is the one that this release works with."""
    current = revision(connection)
    if current == revisions.newest():
        return
    if current is None:
        raise SchemaError(
            "the database has no StreamSwarm schema yet", mend="make it: streamswarm db upgrade"
        )
    if current in revisions.known():
        raise SchemaError(
            f"the schema of the database is older than this release ({current}, wanted {revisions.newest()})",
            mend="bring it up to date: streamswarm db upgrade",
        )
    raise SchemaError(
        f"the schema of the database is newer than this release ({current} is not known here)",
        mend="install the release that made it, or a later one",
    )


def upgrade(settings: Settings) -> None:
    """Bring the schema up to date; safe to call again and from several processes at once."""
    engine = make_engine(settings, application="streamswarm-db", pool_size=1, statement_timeout_s=0)
    try:
        upgrade_engine(engine)
    finally:
        engine.dispose()


def upgrade_engine(engine: Engine) -> None:
    """Bring the schema of the engine's database up to date, all steps in one transaction.

    Where a lock is not had, that transaction ends and lets those behind it pass, and another follows. Raises
    DatabaseBusyError when none has had its locks for UPGRADE_WAIT_S.
    """
    ends = time.monotonic() + UPGRADE_WAIT_S
    while True:
        try:
            _upgrade_once(engine)
            return
        except (OperationalError, psycopg2.OperationalError) as error:
            if not rewriting.is_lock_timeout(error):
                raise unavailable(engine, error) from error
            if time.monotonic() > ends:
                raise _busy(engine) from error
        time.sleep(random.uniform(0.5, 1.5))  # noqa: S311  jitter is no secret


def _upgrade_once(engine: Engine) -> None:
    with engine.begin() as connection:
        check_server(connection)
        connection.execute(text(f"SET LOCAL lock_timeout = {LOCK_MS}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        current = revision(connection)
        if current != revisions.newest():
            if current is not None and current not in revisions.known():
                check_schema(connection)
            revisions.bring(connection, "head")
        for name in end_misfits(connection):
            _log.info("%s is rewritten anew later: its columns have changed", name)


def _busy(engine: Engine) -> DatabaseBusyError:
    try:
        held = held_by(engine)
    except OperationalError as error:
        raise unavailable(engine, error) from error
    return DatabaseBusyError(
        f"the schema of {shown_address(engine.url)} is not upgraded and as it was: its tables were not free "
        f"for {UPGRADE_WAIT_S:.0f} s ({held or 'whoever held them has ended just now'})",
        mend="let that end, or end it in psql with SELECT pg_terminate_backend(process); then: streamswarm db upgrade",
    )


def include_name(name: str | None, kind: str, parents: object) -> bool:
    """Tell Alembic's comparison what is the models' business: neither partitions nor the task queue's tables."""
    return not (
        kind == "table" and name and (name.startswith("procrastinate_") or partitions.is_partition(name))
    )


def unavailable(
    engine: Engine, error: OperationalError | psycopg2.OperationalError
) -> DatabaseUnavailableError:
    """Return the error that tells where PostgreSQL was looked for and why it did not answer, never the password."""
    reason = " ".join(str(getattr(error, "orig", error)).split())
    password = engine.url.password
    if password:
        reason = reason.replace(str(password), "***")
    mend = "start it (`streamswarm up` starts the embedded one), or mend STREAMSWARM_DATABASE_URL"
    if getattr(getattr(error, "orig", error), "pgcode", "") == _OUT_OF_MEMORY:
        # An upgrade may lock every partition at once.
        mend = (
            "if it asks for a larger max_locks_per_transaction: set that in its postgresql.conf (256 for a year of results, in "
            "proportion for more), restart it, and try again; nothing was changed"
        )
    return DatabaseUnavailableError(
        f"PostgreSQL cannot be used at {shown_address(engine.url)}: {reason}", mend=mend
    )


def revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema, None where there is none."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar_one() is None:
        return None
    current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if current is None else str(current)
