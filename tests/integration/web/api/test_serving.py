"""The server as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from support.clients import NOTHING_CHOSEN
from support.surroundings import free_port

from controller.cli.client import Client
from controller.settings import Settings


@contextmanager
def running(environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the server until the block ends."""
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-m", "web"], env=environment, stderr=stderr)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def answer(url: str, process: subprocess.Popen[bytes], log: Path) -> httpx.Response:
    """Ask until somebody answers."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return httpx.get(url, trust_env=False, timeout=5)
        except httpx.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(log.read_text())
            time.sleep(0.05)


@pytest.fixture
def port() -> int:
    """A free port."""
    return free_port()


@pytest.fixture
def environment(settings: Settings, port: int) -> dict[str, str]:
    """Environment of the server."""
    return {**os.environ, **settings.environment(), "STREAMSWARM_WEB_LISTEN": f"127.0.0.1:{port}"}


def test_it_serves_tells_that_it_is_alive_and_ends_in_good_order(
    environment: dict[str, str], port: int, tmp_path: Path, engine: Engine, settings: Settings
) -> None:
    """The process answers, has its row and the local token, and notes its end on SIGTERM."""
    log = tmp_path / "log"
    with running(environment, log) as process:
        reply = answer(f"http://127.0.0.1:{port}/api/v1/health", process, log)
        assert reply.json()["components"]["database"] == "ok"
        token_file = settings.data_dir / "secrets" / "local.token"
        deadline = time.monotonic() + 10
        while not token_file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert token_file.stat().st_mode & 0o777 == 0o600
        client = Client.from_environment(
            {
                "STREAMSWARM_DATA_DIR": str(settings.data_dir),
                "STREAMSWARM_WEB_LISTEN": f"127.0.0.1:{port}",
            }
        )
        assert client.get("/me") == {"name": "local", "role": "admin", "by_token": True, **NOTHING_CHOSEN}
        client.close()
        with engine.connect() as connection:
            row = connection.execute(text("SELECT role, stopped_at FROM processes")).one()
            assert tuple(row) == ("web", None)
    assert process.returncode == 0, log.read_text()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT stopped_at FROM processes")).scalar_one() is not None


def test_a_log_line_cannot_be_forged_and_holds_no_link(
    environment: dict[str, str], port: int, tmp_path: Path
) -> None:
    """Control characters of a request come out escaped; the token of a login link does not come out at all."""
    log = tmp_path / "log"
    secret = "Zz" * 21 + "Q"
    with running(environment, log) as process:
        answer(f"http://127.0.0.1:{port}/api/v1/health", process, log)
        httpx.get(f"http://127.0.0.1:{port}/login/once/{secret}", trust_env=False)
        with socket.create_connection(("127.0.0.1", port)) as raw:
            raw.sendall(
                b"GET /nowhere\x1b[31m\x85forged HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
            )
            raw.settimeout(5)
            while raw.recv(4096):
                pass
    written = log.read_text(encoding="utf-8", errors="surrogateescape")
    assert "/login/once/…" in written
    assert secret not in written
    assert "\x1b" not in written
    assert "\x85" not in written


def test_a_port_in_use_is_told_in_one_message(environment: dict[str, str], port: int, tmp_path: Path) -> None:
    """The message names the port and what to do, and there is no traceback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "web"], env=environment, capture_output=True, timeout=30, check=False
        )
    output = done.stderr.decode()
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is taken by another process" in output
    assert "Traceback" not in output


def test_a_schema_of_another_release_is_refused_at_the_start(
    settings: Settings, empty_postgres_url: str, port: int
) -> None:
    """Nothing is served on a database that has no schema."""
    environment = {
        **os.environ,
        **settings.environment(),
        "STREAMSWARM_DATABASE_URL": empty_postgres_url,
        "STREAMSWARM_WEB_LISTEN": f"127.0.0.1:{port}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "web"], env=environment, capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1, done.stderr.decode()
    assert "schema" in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_a_database_that_is_away_is_said_and_waited_for(
    environment: dict[str, str], port: int, tmp_path: Path, engine: Engine, postgres_server: str
) -> None:
    """Health, API and pages answer 503 while the database refuses, and recover by themselves."""
    log = tmp_path / "log"
    base = f"http://127.0.0.1:{port}"
    keys = {"name": engine.url.database}
    engine.dispose()
    server = create_engine(
        make_url(postgres_server).set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with running(environment, log) as process, server.connect() as connection:
        assert answer(f"{base}/api/v1/health", process, log).json()["components"]["database"] == "ok"
        connection.execute(text(f'ALTER DATABASE "{keys["name"]}" ALLOW_CONNECTIONS false'))
        connection.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), keys
        )
        health = httpx.get(f"{base}/api/v1/health", trust_env=False, timeout=20)
        bearer = {"Authorization": f"Bearer ssw_{'x' * 43}"}
        api = httpx.get(f"{base}/api/v1/tests", headers=bearer, trust_env=False, timeout=20)
        link = httpx.get(f"{base}/login/once/{'x' * 43}", trust_env=False, timeout=20)
        sheet = httpx.get(f"{base}/static/css/base.css", trust_env=False, timeout=20)
        connection.execute(text(f'ALTER DATABASE "{keys["name"]}" ALLOW_CONNECTIONS true'))
        assert (health.status_code, health.json()["components"]["database"]) == (503, "down")
        assert (api.status_code, api.headers["Content-Type"]) == (503, "application/problem+json")
        assert "PostgreSQL does not answer" in api.json()["detail"]
        assert int(api.headers["Retry-After"]) > 0
        assert link.status_code == 503
        assert "PostgreSQL does not answer" in link.text
        assert sheet.status_code == 200
        deadline = time.monotonic() + 15
        while True:
            again = httpx.get(f"{base}/api/v1/health", trust_env=False, timeout=20).json()
            if again["components"]["database"] == "ok":
                break
            assert time.monotonic() < deadline, again
            time.sleep(0.1)
    server.dispose()


HALVES = [
    b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\n",
    b"\r\n\r\nGET /login HTTP/1.1\r\n",
    b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\nname=",
    b"",
]


@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"])
def test_half_sent_requests_keep_nobody_waiting(
    environment: dict[str, str], port: int, tmp_path: Path, source: str
) -> None:
    """While 150 connections hold half a request each, the login answers at once, from the same address too."""
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{port}/login"
    with running(environment, log) as process, ExitStack() as held:
        answer(url, process, log)
        for number in range(150):
            raw = held.enter_context(
                socket.create_connection(("127.0.0.1", port), source_address=(source, 0))
            )
            raw.sendall(HALVES[number % len(HALVES)])
        for _ in range(5):
            start = time.monotonic()
            assert httpx.get(url, trust_env=False, timeout=5).status_code == 200
            assert time.monotonic() - start < 2
        assert "Traceback" not in log.read_text()


def test_one_address_has_only_so_many_connections(
    environment: dict[str, str], port: int, tmp_path: Path
) -> None:
    """As many as there are threads; a further one takes the place of the oldest that has not asked yet."""
    log = tmp_path / "log"
    environment["STREAMSWARM_WEB_THREADS"] = "40"
    with running(environment, log) as process, ExitStack() as held:
        answer(f"http://127.0.0.1:{port}/login", process, log)
        raws = [
            held.enter_context(socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.3", 0)))
            for _ in range(41)
        ]
        raws[0].settimeout(2)
        assert raws[0].recv(1) == b""
        raws[1].settimeout(0.2)
        with pytest.raises(TimeoutError):
            raws[1].recv(1)


def exchange(port: int, *pieces: bytes, pause: float = 0.05) -> bytes:
    """Send pieces of a request one after the other and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.settimeout(20)
        for piece in pieces:
            raw.sendall(piece)
            time.sleep(pause)
        received = b""
        while piece := raw.recv(4096):
            received += piece
        return received


def test_requests_are_taken_in_whole(environment: dict[str, str], port: int, tmp_path: Path) -> None:
    """In pieces, two in a row, awaited bodies: answered; too slow, too long or in chunks: refused with a word."""
    log = tmp_path / "log"
    host = b"Host: 127.0.0.1\r\n"
    last = host + b"Connection: close\r\n"
    post = b"POST /api/v1/tests HTTP/1.1\r\n"
    with running(environment, log) as process:
        answer(f"http://127.0.0.1:{port}/login", process, log)
        pieces = [b"GET /api/v1/hea", b"lth HTTP/1.1\r\n" + last + b"\r", b"\n"]
        assert exchange(port, *pieces).startswith(b"HTTP/1.1 503")
        asked = b"GET /login HTTP/1.1\r\n" + host + b"\r\n"
        half = b"GET /login HTTP/1.1\r\n" + last
        assert exchange(port, asked + half, b"\r\n").count(b"HTTP/1.1 200") == 2
        head = (
            post
            + last
            + b"Content-Length: 4\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\r\n"
        )
        got = exchange(port, head, b"{", b"}  ")
        assert got.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert b"HTTP/1.1 401" in got
        chunked = post + last + b"Transfer-Encoding: chunked\r\n\r\n"
        assert exchange(port, chunked).startswith(b"HTTP/1.1 411")
        assert exchange(port, post + last + b"Content-Length: 9999999\r\n\r\n").startswith(b"HTTP/1.1 413")
        assert exchange(port, b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000).startswith(b"HTTP/1.1 431")
        start = time.monotonic()
        assert exchange(port, b"GET / HTTP/1.1\r\n", pause=0.5).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - start < 8
        assert exchange(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert process.returncode == 0
