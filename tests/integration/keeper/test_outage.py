"""A keeper without its database."""

from __future__ import annotations

import asyncio
import logging

import pytest

from controller.keeper.app import _keep_pulse
from controller.settings import Settings
from controller.store import health
from controller.store.engine import make_engine


async def test_an_outage_is_one_line_each(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it tries: one plain line, and no address of a library's handbook."""
    caplog.set_level(logging.INFO, logger="controller.keeper")
    monkeypatch.setattr(health, "HEARTBEAT_S", 0.05)
    settings = Settings(database_url="postgresql://keeper:secret@127.0.0.1:1/away")
    engine = make_engine(settings, application="test")
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stop.set)
    try:
        await _keep_pulse(engine, stop)
    finally:
        engine.dispose()
    [line] = caplog.messages
    assert line.startswith("the database cannot be reached: connection to server")
    assert "Connection refused" in line
    assert not any(text in line for text in ("\n", "sqlalche.me", "secret"))
