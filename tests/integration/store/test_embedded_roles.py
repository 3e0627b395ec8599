"""The application's role on the embedded server: owner of its database, and nothing more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from support.surroundings import database_folder

from controller.errors import ConfigurationError, DatabaseUnavailableError
from controller.store.embedded import EmbeddedPostgres, roles

USER = "nobody" if os.geteuid() == 0 else None


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A running server of the test's own."""
    path = database_folder()
    server = EmbeddedPostgres(path, user=USER)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(path)


def as_superuser(server: EmbeddedPostgres, *statements: str) -> None:
    """Run statements as the superuser, each by itself."""
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_the_suite_runs_as_the_application(postgres_url: str, tmp_path: Path) -> None:
    """The role of the tests' databases owns database and schema, is no superuser, and reaches no program or file."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT r.rolname, r.rolsuper, r.rolcreatedb, r.rolcreaterole, r.rolreplication, d.datdba = r.oid, "
            "pg_has_role(r.oid, n.nspowner, 'USAGE') FROM pg_roles r, pg_database d, pg_namespace n "
            "WHERE r.rolname = current_user AND d.datname = current_database() AND n.nspname = 'public'"
        ).fetchone()
        assert row == ("streamswarm", False, False, False, False, True, True)
        connection.execute("CREATE TABLE taken (line text)")
        witness = tmp_path / "witness"
        for statement in (
            f"COPY taken FROM PROGRAM 'touch {witness}; echo x'",
            f"COPY taken TO PROGRAM 'touch {witness}'",
            "COPY taken FROM '/etc/passwd'",
            "SELECT pg_read_file('/etc/passwd')",
            "CREATE ROLE another SUPERUSER",
            "ALTER ROLE streamswarm SUPERUSER",
            "ALTER SYSTEM SET fsync = off",
            "CREATE DATABASE another",
            "SET ROLE postgres",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(statement.encode())
        assert not witness.exists()


@pytest.mark.parametrize(
    "damage",
    [
        ("DROP DATABASE streamswarm", "DROP ROLE streamswarm"),
        ("DROP DATABASE streamswarm", "ALTER ROLE streamswarm NOLOGIN PASSWORD NULL"),
        ("DROP DATABASE streamswarm",),
        ("ALTER ROLE streamswarm PASSWORD 'another'",),
        ("ALTER ROLE streamswarm SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS",),
        ("ALTER DATABASE streamswarm OWNER TO postgres",),
    ],
)
def test_what_is_missing_or_wrong_is_repaired(server: EmbeddedPostgres, damage: tuple[str, ...]) -> None:
    """Whichever step of the set-up was not reached, or was undone since: the next start mends it."""
    as_superuser(server, *damage)
    assert not roles.is_right(server.url(), cluster="here")
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE mine ()")
    assert roles.is_right(server.url(), cluster="here")


def test_lost_passwords(server: EmbeddedPostgres) -> None:
    """The application's lost password is made anew; the superuser's is missed only when it is needed."""
    secret = server.log_file.parents[1] / "secrets"
    before = server.url()
    (secret / "postgres-password").unlink()
    assert server.start() != before
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    as_superuser(server, "ALTER ROLE streamswarm PASSWORD 'another'")
    kept = (secret / "postgres-superuser-password").rename(secret / "kept")
    with pytest.raises(ConfigurationError, match="postgres-superuser-password is missing"):
        server.start()
    kept.rename(secret / "postgres-superuser-password")
    server.start()


def test_the_password_is_not_in_the_log(server: EmbeddedPostgres) -> None:
    """Though every statement is logged, neither password stands in the server's log."""
    as_superuser(
        server,
        "ALTER SYSTEM SET log_statement = 'all'",
        "SELECT pg_reload_conf()",
        "DROP DATABASE streamswarm",
    )
    server.start()
    said = server.log_file.read_text()
    assert "CREATE DATABASE" in said
    for name in ("postgres-password", "postgres-superuser-password"):
        assert (server.log_file.parents[1] / "secrets" / name).read_text().strip() not in said


def test_a_cluster_whose_superuser_is_the_application(server: EmbeddedPostgres) -> None:
    """A cluster of the old form is not run on: one message says why and what to do, and its data stay."""
    as_superuser(
        server,
        "DROP DATABASE streamswarm",
        "DROP ROLE streamswarm",
        "CREATE ROLE helper SUPERUSER LOGIN PASSWORD 'helper'",
    )
    url = server.superuser_url()
    password = url.partition("://postgres:")[2].partition("@")[0]
    with psycopg.connect(url.replace(f"postgres:{password}", "helper:helper"), autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres RENAME TO streamswarm")
        connection.execute("CREATE DATABASE streamswarm OWNER streamswarm")
    folder = server.log_file.parents[1]
    (folder / "secrets" / "postgres-superuser-password").rename(folder / "secrets" / "postgres-password")
    with pytest.raises(DatabaseUnavailableError, match="unreleased version made it") as caught:
        server.start()
    assert str(folder / "postgres") in caught.value.mend
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
