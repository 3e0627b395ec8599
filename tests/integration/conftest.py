"""A real PostgreSQL for all integration tests: one embedded server a session, one fresh database a test."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine
from support.surroundings import database_folder

from controller.settings import Settings
from controller.store import partitions, schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.embedded.roles import ROLE
from controller.store.engine import make_engine

_numbers = itertools.count(1)


def unprivileged_user() -> str | None:
    """Return the account to run PostgreSQL as: none for an ordinary user, `nobody` for root."""
    return "nobody" if os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedPostgres]:
    """A running embedded server."""
    folder = database_folder()
    server = EmbeddedPostgres(folder, user=unprivileged_user())
    try:
        server.start()
        # A connection that was being made when its pool was closed stays half-made in this process, and nobody can drop its
        # database until the server gives it up: usually after a minute.
        _execute(server, "ALTER SYSTEM SET authentication_timeout = '5s'")
        _execute(server, "SELECT pg_reload_conf()")
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_server(embedded_postgres: EmbeddedPostgres) -> str:
    """URL of the server's maintenance database for its superuser, who makes databases."""
    return embedded_postgres.superuser_url()


@pytest.fixture(scope="session")
def postgres_template(embedded_postgres: EmbeddedPostgres) -> str:
    """Name of a migrated database, with partitions from two days ago to two days ahead, to copy from."""
    name = "template_streamswarm"
    _create(embedded_postgres, name, "template0")
    engine = make_engine(Settings(database_url=embedded_postgres.url(name)), application="test-template")
    schema.upgrade_engine(engine)
    partitions.ensure_all(engine, partitions.days_around(dt.datetime.now(dt.UTC), ahead=2, back=2))
    engine.dispose()
    return name


@pytest.fixture
def empty_postgres_url(embedded_postgres: EmbeddedPostgres) -> Iterator[str]:
    """URL of a fresh database without any schema."""
    yield from _database(embedded_postgres, "template0")


@pytest.fixture
def postgres_url(embedded_postgres: EmbeddedPostgres, postgres_template: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    yield from _database(embedded_postgres, postgres_template)


@pytest.fixture
def settings(postgres_url: str, tmp_path: Path) -> Settings:
    """Settings with a fresh, migrated database and a data folder of their own."""
    return Settings(database_url=postgres_url, data_dir=tmp_path / "data")


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on the fresh database."""
    engine = make_engine(settings, application="test")
    yield engine
    engine.dispose()


def _database(server: EmbeddedPostgres, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _create(server, name, template)
    yield server.url(name)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _create(server: EmbeddedPostgres, name: str, template: str) -> None:
    """Make a database that belongs to the application's role, as it does in production."""
    # File by file: through the log, page by page, it takes several times as long.
    _execute(server, f"CREATE DATABASE {name} OWNER {ROLE} TEMPLATE {template} STRATEGY file_copy")


def _execute(server: EmbeddedPostgres, statement: str) -> None:
    with psycopg.connect(server.superuser_url(), autocommit=True) as connection:
        connection.execute(statement.encode())
