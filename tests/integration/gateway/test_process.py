"""The gateway as its own process: started, told to stop, started where it cannot, paused."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import grpc
import psycopg
import pytest
from support.surroundings import free_port

from controller.errors import DatabaseUnavailableError
from controller.gateway import process
from controller.gateway.database import Database
from controller.gateway.process import LoopLag
from controller.store.engine import libpq_url


async def test_sigterm_sends_the_workers_elsewhere_and_ends_cleanly(deployment: Any, tools: Any) -> None:
    """The worker hears DRAINING with its last acknowledgement; the process notes that it has stopped."""
    worker = await deployment.enrol("host-a")
    job = deployment.job(worker.worker_id)
    port = free_port()
    settings = dataclasses.replace(
        deployment.settings, gateway_name="other", gateway_listen=f"127.0.0.1:{port}"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller.gateway",
        env={**os.environ, **settings.environment()},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    await asyncio.sleep(0.05)
        async with tools.session_to(port, worker.credentials) as session:
            await session.hello()
            await session.results([tools.make_result(job, 0)], [1])
            await session.expect_ack(1)
            process.send_signal(signal.SIGTERM)
            assert await session.ending() == ("DRAINING", grpc.StatusCode.UNAVAILABLE)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert b"Traceback" not in errors
    assert deployment.sql("SELECT stopped_at IS NOT NULL FROM processes WHERE name = 'other'") == [(True,)]
    assert deployment.sql("SELECT gateway_id FROM workers") == [(None,)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"database_url": "postgresql://nobody@127.0.0.1:1/x"}, ["PostgreSQL", "127.0.0.1:1"]),
        ({"gateway_listen": "nonsense"}, ["STREAMSWARM_GATEWAY_LISTEN", "nonsense"]),
        ({"gateway_name": "../x"}, ["STREAMSWARM_GATEWAY_NAME"]),
    ],
)
def test_what_keeps_a_gateway_from_starting_is_said_once(
    gateway_settings: Any, change: dict[str, str], words: list[str]
) -> None:
    """One clear message with its mend, no traceback, an exit code that is not nought."""
    settings = dataclasses.replace(gateway_settings, **change)
    done = subprocess.run(
        [sys.executable, "-m", "controller.gateway"],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "→" in done.stderr
    assert all(word in done.stderr for word in words), done.stderr


async def test_a_gateway_without_a_schema_says_how_to_make_it(
    gateway_settings: Any, empty_postgres_url: str
) -> None:
    """An empty database is named, with the command that mends it."""
    settings = dataclasses.replace(gateway_settings, database_url=empty_postgres_url)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "controller.gateway",
        env={**os.environ, **settings.environment()},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert b"streamswarm db upgrade" in errors
    assert b"Traceback" not in errors


async def test_the_loop_tells_how_late_it_came() -> None:
    """Also when it was late only for a moment; once told, it is forgotten."""
    lag = LoopLag()
    task = asyncio.create_task(lag.run(interval_s=0.01))
    await asyncio.sleep(0.05)
    time.sleep(0.3)  # what nothing in a gateway must do
    await asyncio.sleep(0.05)
    assert lag.take() > 250
    assert lag.take() < 250
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_paused_gateway_does_not_hold_its_successor(deployment: Any) -> None:
    """A transaction that stands still with a worker's row in hand is ended by the database within seconds."""
    worker = await deployment.enrol("host-a")
    paused = Database(libpq_url(deployment.settings))
    async with paused._places:
        connection = await paused._connect()
        await connection.execute("BEGIN")
        await connection.execute("SELECT 1 FROM workers FOR UPDATE")
        begun = time.monotonic()
        while True:
            try:
                async with deployment.session(worker) as session:
                    await session.hello()
                break
            except EOFError:
                assert time.monotonic() - begun < 15
        assert 3 < time.monotonic() - begun < 15
        await connection.close()


async def test_a_database_that_is_slow_to_answer_is_asked_again(
    deployment: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that starts together with thousands of its workers is not the first to be served."""
    database = Database(libpq_url(deployment.settings))
    connect, tries = database._connect, 0

    async def slow() -> Any:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise psycopg.errors.ConnectionTimeout("connection timeout expired")
        return await connect()

    monkeypatch.setattr(database, "_connect", slow)
    try:
        process_id = await process.register(database, "late")
    finally:
        await database.close()
    assert deployment.sql("SELECT name FROM processes WHERE id = %s", process_id) == [("late",)]
    assert [record.message for record in caplog.records if "asked again" in record.message] == [
        "the database does not answer, and is asked again: connection timeout expired"
    ] * 2


async def test_a_database_that_never_answers_is_told_with_what_to_do(deployment: Any) -> None:
    """Not with a traceback, and not only after for ever."""
    settings = dataclasses.replace(deployment.settings, database_url="postgresql://nobody@127.0.0.1:1/none")
    database = Database(libpq_url(settings))
    with pytest.raises(DatabaseUnavailableError, match=r"has tried for 0\.2 s") as raised:
        await process.register(database, "late", patience_s=0.2)
    assert "PostgreSQL" in raised.value.mend
