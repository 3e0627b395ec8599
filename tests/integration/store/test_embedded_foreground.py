"""The embedded server under a service manager: in the foreground, told when it is ready, ended in order."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from controller.settings import Settings
from controller.store.engine import libpq_url

USER: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty data folder of the server's account."""
    path = Path(tempfile.mkdtemp(prefix="streamswarm-test-"))
    if USER:
        shutil.chown(path, USER["user"], USER["group"])
    yield path
    shutil.rmtree(path)


def start(folder: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    """Start `streamswarm db` as the account, what it says on one pipe."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "controller.cli", "db", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ["PATH"], "STREAMSWARM_DATA_DIR": str(folder), **settings},
        cwd="/",
        **USER,
    )


def test_the_server_takes_the_place_of_the_command(folder: Path) -> None:
    """What was started is the server itself; who waits meets it ready, its log is what is said, SIGINT ends it in order."""
    with start(folder, "serve") as server:
        try:
            with start(folder, "await") as waiting:
                said, _ = waiting.communicate(timeout=60)
            assert (waiting.returncode, said) == (0, "the database is ready\n")
            assert Path(f"/proc/{server.pid}/comm").read_text().strip() == "postgres"
            with closing(psycopg.connect(libpq_url(Settings(data_dir=folder)))) as connection:
                assert connection.execute("SELECT current_user").fetchone() == ("streamswarm",)
                with start(folder, "serve") as second:
                    said, _ = second.communicate(timeout=60)
                assert second.returncode == 2
                assert f"runs already (process {server.pid})" in said
                # A session that is open holds nobody up.
                server.send_signal(signal.SIGINT)
                said, _ = server.communicate(timeout=60)
        finally:
            server.kill()
    assert server.returncode == 0
    assert "database system is ready to accept connections" in said
    assert "database system is shut down" in said
    password = (folder / "secrets" / "postgres-password").read_text().strip()
    assert password not in said


def test_a_server_by_url_is_not_run_here(folder: Path) -> None:
    """Where the settings name a server, the command says that there is nothing to run."""
    with start(folder, "serve", STREAMSWARM_DATABASE_URL="postgresql://u@127.0.0.1/x") as command:
        said, _ = command.communicate(timeout=60)
    assert command.returncode == 2
    assert "the embedded PostgreSQL is not used" in said
    assert list(folder.iterdir()) == []
