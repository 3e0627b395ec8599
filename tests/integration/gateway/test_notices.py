"""Notices while the database is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import psycopg
import pytest

from controller.gateway.database import Database
from controller.gateway.notices import Notices
from controller.settings import Settings
from controller.store.engine import libpq_url


async def test_tests_are_told_when_the_database_is_back(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be told stays noted and is told later; the log has one line for the loss and one for the end."""
    caplog.set_level(logging.INFO, logger="controller.gateway.notices")
    url = libpq_url(settings)
    database = Database("postgresql://127.0.0.1:1/away")
    notices = Notices(database, interval_s=0.02)
    task = asyncio.create_task(notices.run())
    try:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as listener:
            await listener.execute("LISTEN streamswarm_results")
            notices.stored({3, 5}, set())
            await asyncio.sleep(0.3)
            notices.stored({4}, set())
            await asyncio.sleep(0.3)
            database._url = url
            heard = [notice.payload async for notice in listener.notifies(timeout=10, stop_after=1)]
        assert heard == ["3,4,5"]
        async with asyncio.timeout(5):
            while len(caplog.messages) < 2:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await database.close()
    lost, back = caplog.messages
    assert "wait for the database: connection failed" in lost
    assert "\n" not in lost
    assert back == "live pages are told of results again"
