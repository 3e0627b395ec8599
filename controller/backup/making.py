"""Makes a backup while everything runs: the database as of one instant, and the files that are small and seldom change."""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import yaml
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from controller.backup import archive, programs
from controller.backup.archive import Manifest
from controller.errors import SchemaError
from controller.settings import Settings, named
from controller.store import schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import libpq_url, make_engine
from streamswarm import __version__

#: Of the embedded server of this data folder alone; a restored one has its own.
_NOT_KEPT = {"postgres-password", "postgres-superuser-password"}
#: Where things are belongs to a machine, and the URL holds a password that the server knows anyway.
_NOT_SETTINGS = {"data_dir", "database_url"}


def make(settings: Settings, target: IO[bytes], *, folder: Path | None = None) -> Manifest:
    """Write a backup to `target`; `folder` holds PostgreSQL's programs. Returns what it holds."""
    with (
        _running(settings),
        tempfile.TemporaryDirectory(prefix="backup-", dir=settings.data_dir) as temporary,
    ):
        revision, major = _versions(settings)
        files: dict[str, Path] = {}
        # Before the database, which knows a root before it is in use: of later ones it would know nothing.
        for name in ("ca", "secrets"):
            for path in sorted((settings.data_dir / name).glob("*")):
                if path.is_file() and not path.name.startswith(".") and path.name not in _NOT_KEPT:
                    copy = Path(temporary) / f"{name}-{path.name}"  # or it may change while it is written
                    copy.write_bytes(path.read_bytes())
                    files[f"{name}/{path.name}"] = copy
        dump = Path(temporary) / archive.DATABASE
        words = ["--format=custom", "--no-owner", "--no-privileges", "--file", str(dump)]
        programs.run(
            programs.find(major, folder) / "pg_dump",
            libpq_url(settings),
            words,
            failing="the database could not be dumped",
        )
        kept = Path(temporary) / archive.SETTINGS
        kept.write_text(yaml.safe_dump(changed(settings)), encoding="utf-8")
        files |= {archive.DATABASE: dump, archive.SETTINGS: kept}
        manifest = Manifest(
            release=__version__,
            schema=revision,
            postgres=major,
            made_at=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            members={name: archive.sha256(path) for name, path in files.items()},
        )
        archive.write(target, manifest, files)
    return manifest


def changed(settings: Settings) -> dict[str, object]:
    """Return the settings that are not the defaults, as a settings file holds them."""
    default = Settings()
    found: dict[str, object] = {}
    for item in named():
        value = getattr(settings, item.name)
        if item.name not in _NOT_SETTINGS and value != getattr(default, item.name):
            found[item.name] = (
                list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
            )
    return found


def _versions(settings: Settings) -> tuple[str, int]:
    """Return the revision of the schema and the server's major version."""
    engine = make_engine(settings, application="streamswarm-backup", pool_size=1)
    try:
        with engine.connect() as connection:
            revision = schema.revision(connection)
            number = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    except OperationalError as error:
        raise schema.unavailable(engine, error) from error
    finally:
        engine.dispose()
    if revision is None:
        raise SchemaError("the database has no StreamSwarm schema: there is nothing to back up")
    return revision, number // 10_000


@contextmanager
def _running(settings: Settings) -> Iterator[None]:
    """Have the embedded server run for the length of a `with` block; where it ran, it goes on."""
    server = None if settings.database_url else EmbeddedPostgres.find(settings.data_dir)
    stop = server is not None and not server.status().running
    if server is not None and stop:
        server.start()
    try:
        yield
    finally:
        if server is not None and stop:
            server.stop()
