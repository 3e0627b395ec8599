"""Backup and restore with a real database and certificate authority: everything comes back, or nothing is changed."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, text
from support.database import query
from support.surroundings import clean_environment

from controller.backup import archive, make, restore
from controller.backup.making import changed
from controller.cli.main import cli
from controller.errors import ConfigurationError, ConflictError, ForeignRootError, StreamSwarmError
from controller.gateway.authority import Authority
from controller.gateway.opening import open_authority
from controller.settings import Settings
from controller.store import schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import make_engine


@pytest.fixture
def source(settings: Settings, engine: Engine) -> Settings:
    """An installation with a worker, a CA and a key of the dashboard's."""
    settings = dataclasses.replace(settings, trust_domain="source.example", retention_days=30)
    Authority(settings)
    (settings.data_dir / "secrets").mkdir(mode=0o700)
    (settings.data_dir / "secrets" / "web.key").write_text("k" * 64)
    (settings.data_dir / "secrets" / "postgres-password").write_text("not to be kept")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO workers (name, host_name) VALUES ('alpha', 'alpha')"))
    return settings


@pytest.fixture
def target(empty_postgres_url: str, tmp_path: Path) -> Settings:
    """An installation that is empty."""
    return Settings(database_url=empty_postgres_url, data_dir=tmp_path / "target")


def _backup(source: Settings) -> io.BytesIO:
    content = io.BytesIO()
    make(source, content)
    content.seek(0)
    return content


def _ca(settings: Settings) -> dict[str, bytes]:
    folder = settings.data_dir / "ca"
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_what_was_saved_comes_back(source: Settings, target: Settings) -> None:
    """Rows, schema, CA and keys; settings lie beside, for a person to compare; passwords of the server do not come."""
    restore(target, _backup(source), replace=False)
    assert query(target, "SELECT name FROM workers") == [("alpha",)]
    engine = make_engine(target, application="test")
    schema.check(engine)
    engine.dispose()
    assert _ca(target) == _ca(source)
    assert (target.data_dir / "ca" / "root.key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (target.data_dir / "secrets").iterdir()] == ["web.key"]
    restored = Settings.load({"STREAMSWARM_CONFIG": str(target.data_dir / "settings.restored.yaml")})
    assert (restored.trust_domain, restored.retention_days) == ("source.example", 30)
    assert changed(restored) == changed(source)
    assert not (target.data_dir / "restore.partial").exists()


def test_a_gateway_works_with_the_restored_authority_and_with_no_other(
    source: Settings, engine: Engine, target: Settings
) -> None:
    """The restored database knows the restored root; without its files nothing is started in their place."""
    open_authority(source, engine)
    restore(target, _backup(source), replace=False)
    restored = make_engine(target, application="test")
    try:
        assert open_authority(target, restored).bundle_pem == Authority(source).bundle_pem
        (target.data_dir / "ca").rename(target.data_dir / "lost")
        with pytest.raises(ForeignRootError, match="there is no root certificate"):
            open_authority(target, restored)
        assert not (target.data_dir / "ca").exists()
    finally:
        restored.dispose()


def test_an_installation_that_is_not_empty_is_left_alone(source: Settings, target: Settings) -> None:
    """A CA, then tables, each are a reason; nothing of either changes."""
    content = _backup(source)
    Authority(dataclasses.replace(target, trust_domain="target.example"))
    before = _ca(target)
    with pytest.raises(ConflictError, match="certificate authority"):
        restore(target, content, replace=False)
    assert _ca(target) == before
    shutil.rmtree(target.data_dir / "ca")
    query(target, "CREATE TABLE mine (x int)")
    content.seek(0)
    with pytest.raises(ConflictError, match="has tables"):
        restore(target, content, replace=False)
    content.seek(0)
    with pytest.raises(ConflictError, match="only the embedded one can be set aside"):
        restore(target, content, replace=True)
    assert query(target, "SELECT to_regclass('workers')") == [(None,)]
    assert not (target.data_dir / "ca").exists()


def test_a_dump_that_breaks_off_leaves_nothing(source: Settings, target: Settings) -> None:
    """The hashes are right, and yet PostgreSQL cannot read it to its end: the transaction takes everything back."""
    content = _backup(source)
    folder = target.data_dir.parent / "unpacked"
    folder.mkdir()
    manifest = archive.read(content, folder)
    dump = folder / archive.DATABASE
    dump.write_bytes(dump.read_bytes()[: int(dump.stat().st_size * 0.9)])
    files = {name: folder / name for name in manifest.members}
    members = {name: archive.sha256(path) for name, path in files.items()}
    broken = io.BytesIO()
    archive.write(broken, dataclasses.replace(manifest, members=members), files)
    broken.seek(0)
    with pytest.raises(StreamSwarmError, match="could not be restored, and nothing was changed"):
        restore(target, broken, replace=False)
    assert query(target, "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == [
        (0,)
    ]
    assert not (target.data_dir / "ca").exists()
    assert not (target.data_dir / "restore.partial").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"schema": "9999"}, "not known here"), ({"postgres": 99}, "the backup comes from PostgreSQL 99")],
)
def test_a_backup_of_something_newer_is_refused(
    source: Settings, target: Settings, change: dict[str, Any], message: str
) -> None:
    """Before anything is touched."""
    folder = target.data_dir.parent / "unpacked"
    folder.mkdir()
    manifest = archive.read(_backup(source), folder)
    content = io.BytesIO()
    archive.write(
        content, dataclasses.replace(manifest, **change), {name: folder / name for name in manifest.members}
    )
    content.seek(0)
    with pytest.raises(ConfigurationError, match=message):
        restore(target, content, replace=False)
    assert not (target.data_dir / "ca").exists()


def test_an_empty_database_is_not_saved(target: Settings) -> None:
    """A backup of nothing would be taken for one."""
    target.data_dir.mkdir()
    with pytest.raises(StreamSwarmError, match="nothing to back up"):
        make(target, io.BytesIO())


def test_the_command_writes_a_file_for_its_owner_alone(source: Settings, tmp_path: Path) -> None:
    """It never replaces one, and tells where it may not write."""
    path = tmp_path / "backup.tar"
    done = CliRunner().invoke(cli, ["backup", str(path)], env=source.environment())
    assert done.exit_code == 0, done.output
    assert path.stat().st_mode & 0o777 == 0o600
    assert "has the keys of the installation" in done.output
    before = path.read_bytes()
    for file, message in ((path, "is there already"), (tmp_path / "none" / "x", "cannot be written")):
        done = CliRunner().invoke(cli, ["backup", str(file)], env=source.environment())
        assert done.exit_code == 2
        assert message in done.output
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["backup.tar", "data"]


# -- the embedded server -----------------------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[Path]:
    """A folder of the account that the embedded server runs as."""
    folder = Path(tempfile.mkdtemp(prefix="streamswarm-backup-"))
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")
    yield folder
    for data in folder.glob("data-*"):
        EmbeddedPostgres(data, user="nobody" if os.geteuid() == 0 else None).stop()
    shutil.rmtree(folder)


def _run(folder: Path, number: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `streamswarm` as the account that owns the folder, with one of its data folders."""
    identity: dict[str, Any] = (
        {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
    )
    return subprocess.run(
        [sys.executable, "-m", "controller.cli", *words],
        env=clean_environment(STREAMSWARM_DATA_DIR=str(folder / f"data-{number}"), HOME=str(folder)),
        capture_output=True, text=True, cwd=folder, timeout=120, check=False, **identity,
    )  # fmt: skip


def _embedded(folder: Path, number: int) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder / f"data-{number}", user="nobody" if os.geteuid() == 0 else None)


def _settings_of(server: EmbeddedPostgres) -> Settings:
    return Settings(database_url=server.url())


def _save(own: Path) -> EmbeddedPostgres:
    """Make an installation with a worker and a CA in the first data folder, and save it as `backup.tar`; it does not run."""
    server = _embedded(own, 1)
    server.start()
    schema.upgrade(_settings_of(server))
    query(_settings_of(server), "INSERT INTO workers (name, host_name) VALUES ('alpha', 'alpha')")
    if os.geteuid() == 0:
        for item in [own / "data-1", *(own / "data-1").rglob("*")]:
            shutil.chown(item, "nobody", "nogroup")
    assert _run(own, 1, "ca", "init").returncode == 0
    server.stop()
    saved = _run(own, 1, "backup", str(own / "backup.tar"))
    assert saved.returncode == 0, saved.stderr
    assert not server.status().running
    return server


def test_a_new_major_version_of_the_embedded_server_is_reached_by_a_backup(own: Path) -> None:
    """Its data are refused with the road; moved away and restored, everything is there, and the old data are untouched."""
    _save(own)
    old = own / "data-1"
    (old / "postgres" / "PG_VERSION").write_text("17\n")
    before = {path: path.stat().st_mtime_ns for path in (old / "postgres").rglob("*")}
    for words in (
        ("db", "serve"),
        ("backup", str(own / "late.tar")),
        ("restore", "--replace", str(own / "backup.tar")),
    ):
        refused = _run(own, 1, *words)
        assert refused.returncode == 2, words
        said = " ".join(refused.stderr.split())
        assert "was written by PostgreSQL 17; this release brings PostgreSQL 18" in said
        road = [
            "with the release that wrote it",
            "streamswarm backup FILE",
            f"move {old} away",
            "streamswarm restore FILE",
        ]
        places = [said.find(step) for step in road]
        assert -1 not in places, said
        assert places == sorted(places)
    assert {path: path.stat().st_mtime_ns for path in (old / "postgres").rglob("*")} == before
    old.rename(own / "data-1.old")
    restored = _run(own, 1, "restore", str(own / "backup.tar"))
    assert restored.returncode == 0, restored.stderr
    server = _embedded(own, 1)
    server.start()
    assert query(_settings_of(server), "SELECT name FROM workers") == [("alpha",)]
    assert (old / "ca" / "root.pem").read_bytes() == (own / "data-1.old" / "ca" / "root.pem").read_bytes()
    shutil.rmtree(own / "data-1.old")


def test_the_embedded_database_moves_to_another_folder(own: Path) -> None:
    """It need not run; restored a second time, with --replace, what was there is kept under another name."""
    _save(own)
    first = _run(own, 2, "restore", str(own / "backup.tar"))
    assert first.returncode == 0, first.stderr
    refused = _run(own, 2, "restore", str(own / "backup.tar"))
    assert refused.returncode == 1
    assert "--replace" in refused.stderr
    again = _run(own, 2, "restore", "--replace", str(own / "backup.tar"))
    assert again.returncode == 0, again.stderr

    restored = _embedded(own, 2)
    assert not restored.status().running
    restored.start()
    with psycopg.connect(restored.url()):
        used = _run(own, 2, "restore", "--replace", str(own / "backup.tar"))
    assert used.returncode == 1
    assert "is in use, and nothing was changed" in used.stderr
    assert "Traceback" not in used.stderr
    assert query(_settings_of(restored), "SELECT name FROM workers") == [("alpha",)]
    databases = query(
        _settings_of(restored),
        "SELECT datname FROM pg_database WHERE datname LIKE 'streamswarm%%' ORDER BY 1",
    )
    names = [name for (name,) in databases]
    assert names[0] == "streamswarm"
    assert [name.rpartition("_")[0] for name in names[1:]] == ["streamswarm_before"]
    roots = [path.read_bytes() for path in sorted(own.glob("data-*/ca*/root.pem"))]
    assert len(roots) == 3
    assert len(set(roots)) == 1
