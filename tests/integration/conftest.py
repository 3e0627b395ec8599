"""A real PostgreSQL for all integration tests: one embedded server a session, one fresh database a test."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, make_url

from controller.settings import Settings
from controller.store import partitions, schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import make_engine

_numbers = itertools.count(1)


def unprivileged_user() -> str | None:
    """Return the account to run PostgreSQL as: none for an ordinary user, `nobody` for root."""
    return "nobody" if os.geteuid() == 0 else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a running embedded server's maintenance database; the role may make databases."""
    # Not below pytest's own folder: that is closed to the user whom PostgreSQL runs as.
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-test-"))
    folder.chmod(0o711)
    server = EmbeddedPostgres(folder, user=unprivileged_user())
    try:
        server.start()
        yield server.url("postgres")
    finally:
        server.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """Name of a migrated database, with partitions from two days ago to two days ahead, to copy from."""
    name = "template_streamswarm"
    _execute(postgres_server, f"CREATE DATABASE {name}")
    engine = make_engine(
        Settings(database_url=_with_database(postgres_server, name)), application="test-template"
    )
    schema.upgrade_engine(engine)
    partitions.ensure_all(engine, partitions.days_around(dt.datetime.now(dt.UTC), ahead=2, back=2))
    engine.dispose()
    return name


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> Iterator[str]:
    """URL of a fresh database without any schema."""
    yield from _database(postgres_server, "template0")


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """URL of a fresh, migrated database."""
    yield from _database(postgres_server, postgres_template)


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


def _database(server: str, template: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _with_database(server, name)
    _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


def _with_database(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


def _execute(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())
