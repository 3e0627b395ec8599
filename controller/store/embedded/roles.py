"""The application's role and database, made and repaired by the superuser.

The application is no superuser: whoever slips SQL into one of its statements reaches its own tables, and no file or
program of the machine. The superuser logs in only when something of this is missing or wrong.
"""

from __future__ import annotations

from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from controller.errors import DatabaseUnavailableError

SUPERUSER = "postgres"
ROLE = "streamswarm"
DATABASE = "streamswarm"
#: Object id of the role that initdb made; PostgreSQL lets nobody take its rights away.
_BOOTSTRAP_OID = 10
_CONNECT_SECONDS = 10

_LOOK = """
SELECT r.oid, NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
       AND d.datdba = r.oid
FROM pg_roles r, pg_database d
WHERE r.rolname = current_user AND d.datname = current_database()
"""
_RIGHTS = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"


def is_right(url: str, *, cluster: str) -> bool:
    """Return whether the application can log in, owns its database, and may do no more than it should.

    Raises DatabaseUnavailableError when its role is the cluster's first one, which cannot be mended.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=_CONNECT_SECONDS)
    except psycopg2.OperationalError:
        # Nothing is lost: the superuser's login, which follows, tells a server that cannot be reached.
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(_LOOK)
            oid, right = cursor.fetchone() or (None, False)
    finally:
        connection.close()
    if oid == _BOOTSTRAP_OID:
        raise DatabaseUnavailableError(
            f"in the embedded database in {cluster} the role `{ROLE}` is the superuser: an unreleased version made "
            "it, and PostgreSQL does not let its first role be made an ordinary one",
            mend=f"stop StreamSwarm, move {cluster} away (its data stay in there) and start again: a new, empty "
            "database is made",
        )
    return bool(right)


def repair(superuser_url: str, *, password: str) -> None:
    """Make the application's role and database, or give them back the rights, password and owner they should have.

    Every step can be done again. Raises psycopg2.OperationalError when the server cannot be reached.
    """
    connection = psycopg2.connect(superuser_url, connect_timeout=_CONNECT_SECONDS)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            role, database = sql.Identifier(ROLE), sql.Identifier(DATABASE)
            if not _has(cursor, "SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE):
                cursor.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(role))
            # Only the verifier is sent, so that the password never stands in the server's log.
            verifier = encrypt_password(password, ROLE, scope=connection, algorithm="scram-sha-256")
            cursor.execute(sql.SQL("ALTER ROLE {} " + _RIGHTS + " PASSWORD %s").format(role), (verifier,))
            if not _has(cursor, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
            cursor.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, role))
    finally:
        connection.close()


def _has(cursor: Any, query: str, name: str) -> bool:
    cursor.execute(query, (name,))
    return cursor.fetchone() is not None
