"""Restores a backup: checked whole before anything is touched, and put in place by renaming, or in one transaction."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import psycopg2
from psycopg2 import errors, sql
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from controller.backup import archive, programs
from controller.backup.archive import Manifest
from controller.errors import ConfigurationError, ConflictError
from controller.local.lock import running_supervisor
from controller.settings import Settings
from controller.store import revisions, schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.embedded.roles import DATABASE, ROLE
from controller.store.engine import libpq_url, make_engine

_FRESH = f"{DATABASE}_restored"
_TABLES = (
    "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('public') AND relkind IN ('r', 'p')"
)


def restore(settings: Settings, source: IO[bytes], *, replace: bool, folder: Path | None = None) -> Manifest:
    """Restore a backup into an installation that is empty, or, told so, into the place of what is there.

    What is replaced is kept under another name: folder `ca.before-<instant>`, database `streamswarm_before_<instant>`.
    Raises ConflictError for one that is not empty or runs, ConfigurationError for a backup that cannot be used here.
    """
    pid = running_supervisor(settings.data_dir)
    if pid is not None:
        raise ConflictError(f"StreamSwarm runs here (process {pid})", mend="stop it first: streamswarm down")
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    staging = settings.data_dir / "restore.partial"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(mode=0o700)
    try:
        manifest = archive.read(source, staging)
        _check_schema(manifest)
        with _target(settings) as server:
            major = _check_target(settings, manifest, replace=replace, embedded=server is not None)
            binaries = programs.find(major, folder)
            stamp = dt.datetime.now(dt.UTC).strftime("%Y%m%dt%H%M%S")
            if server is None:
                _fill(binaries, libpq_url(settings), staging, ["--single-transaction"])
                _place_files(settings, staging, stamp)
            else:
                _make_fresh(server)
                try:
                    _fill(binaries, server.url(_FRESH), staging, ["--exit-on-error"])
                    _swap(server, stamp)
                finally:
                    _drop_fresh(server)  # which bears another name by now, unless something went wrong
                _place_files(settings, staging, stamp)
    finally:
        shutil.rmtree(staging)
    return manifest


def _check_schema(manifest: Manifest) -> None:
    if manifest.schema not in revisions.known():
        raise ConfigurationError(
            f"the backup was made by release {manifest.release}, whose schema ({manifest.schema}) is not known here",
            mend="restore it with that release, or a later one",
        )


@contextlib.contextmanager
def _target(settings: Settings) -> Iterator[EmbeddedPostgres | None]:
    """Have the embedded server of the data folder run, made where there is none; None for a server by URL."""
    if settings.database_url:
        yield None
        return
    server = EmbeddedPostgres(settings.data_dir)
    stop = not server.status().running
    server.start()
    try:
        yield server
    finally:
        if stop:
            server.stop()


def _check_target(settings: Settings, manifest: Manifest, *, replace: bool, embedded: bool) -> int:
    """Return the server's major version, unless something stands in the way of restoring."""
    engine = make_engine(settings, application="streamswarm-restore", pool_size=1)
    try:
        with engine.connect() as connection:
            schema.check_server(connection)
            major = int(connection.execute(text("SHOW server_version_num")).scalar_one()) // 10_000
            tables = connection.execute(text(_TABLES)).scalar_one()
    except OperationalError as error:
        raise schema.unavailable(engine, error) from error
    finally:
        engine.dispose()
    if manifest.postgres > major:
        raise ConfigurationError(
            f"the backup comes from PostgreSQL {manifest.postgres}; the server is PostgreSQL {major}",
            mend=f"restore it into PostgreSQL {manifest.postgres} or newer",
        )
    there = [*(["its database has tables"] if tables else [])]
    if (settings.data_dir / "ca" / "root.pem").exists():
        there.append(f"there is a certificate authority in {settings.data_dir / 'ca'}")
    if there and not replace:
        raise ConflictError(
            f"the installation is not empty: {' and '.join(there)}",
            mend="restore into an empty data folder and database, or add --replace: what is there is kept under another name",
        )
    if tables and not embedded:
        raise ConflictError(
            "the database that STREAMSWARM_DATABASE_URL names has tables, and only the embedded one can be set aside",
            mend="make an empty database, and name that one",
        )
    return major


def _fill(binaries: Path, url: str, staging: Path, words: list[str]) -> None:
    programs.run(
        binaries / "pg_restore",
        url,
        ["--no-owner", "--no-privileges", *words, str(staging / archive.DATABASE)],
        failing="the database could not be restored, and nothing was changed",
    )


def _place_files(settings: Settings, staging: Path, stamp: str) -> None:
    """Put the files in place of those that are there, which stay under another name."""
    ca = settings.data_dir / "ca"
    if (staging / "ca").exists():
        if ca.exists():
            ca.rename(ca.with_name(f"ca.before-{stamp}"))
        (staging / "ca").rename(ca)
    secrets = settings.data_dir / "secrets"
    secrets.mkdir(mode=0o700, exist_ok=True)
    for path in (staging / "secrets").glob("*"):
        path.replace(secrets / path.name)
    if (staging / archive.SETTINGS).exists():
        (staging / archive.SETTINGS).replace(settings.data_dir / "settings.restored.yaml")
    descriptor = os.open(settings.data_dir, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def _make_fresh(server: EmbeddedPostgres) -> None:
    """Make an empty database beside the one in use."""
    _drop_fresh(server)
    make = sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0")
    _as_superuser(server, make.format(sql.Identifier(_FRESH), sql.Identifier(ROLE)))


def _drop_fresh(server: EmbeddedPostgres) -> None:
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    _as_superuser(server, drop.format(sql.Identifier(_FRESH)))


def _as_superuser(server: EmbeddedPostgres, statement: sql.Composed) -> None:
    with contextlib.closing(psycopg2.connect(server.superuser_url())) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def _swap(server: EmbeddedPostgres, stamp: str) -> None:
    """Give the restored database the name of the one in use, in one transaction; an empty one is dropped then."""
    old = sql.Identifier(f"{DATABASE}_before_{stamp}")
    with contextlib.closing(psycopg2.connect(server.url())) as connection, connection.cursor() as cursor:
        cursor.execute(_TABLES)
        [tables] = cursor.fetchone() or (0,)
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with contextlib.closing(psycopg2.connect(server.superuser_url())) as connection:
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(rename.format(sql.Identifier(DATABASE), old))
                cursor.execute(rename.format(sql.Identifier(_FRESH), sql.Identifier(DATABASE)))
        except errors.ObjectInUse as error:
            raise ConflictError(
                "the database is in use, and nothing was changed",
                mend="stop gateways, keepers, web and whoever else is connected to it, and try again",
            ) from error
    if not tables:
        _as_superuser(server, sql.SQL("DROP DATABASE {}").format(old))
