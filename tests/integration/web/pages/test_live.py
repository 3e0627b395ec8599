"""A stream of live updates hangs on its session: it ends with it, and does not keep it alive."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, func, update
from sqlalchemy.orm import Session

from controller.store.commands import users
from controller.store.commands.audit import SYSTEM
from controller.store.entities import WebSession
from controller.store.queries.users import by_name
from web import live


class Reader:
    """Reads a stream in the background, as a browser does."""

    def __init__(self, client: Any) -> None:
        self.response = client.get("/live", buffered=False)
        assert self.response.status_code == 200
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            for _ in self.response.response:
                pass
        finally:
            self.response.close()

    def ends_within(self, seconds: float) -> bool:
        """Whether the stream ends by itself in time."""
        self._thread.join(seconds)
        return not self._thread.is_alive()


@pytest.fixture
def quick_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for the sessions often."""
    monkeypatch.setattr(live, "CHECK_S", 0.2)


@pytest.fixture
def readers(app: Flask, quick_checks: None) -> Iterator[list[Reader]]:
    """The streams that a test has opened; those that still go on are ended after it."""
    opened: list[Reader] = []
    yield opened
    app.extensions["live"].stop()
    assert all(reader.ends_within(10) for reader in opened)


def change(engine: Engine, name: str, **values: Any) -> None:
    """Change a user."""
    with Session(engine) as session, session.begin():
        found = by_name(session, name)
        assert found
        users.update(session, found.id, values, actor=SYSTEM, by_user=None)


def test_a_stream_ends_when_its_session_is_logged_out(app, visit, readers) -> None:
    """The one who logs out gets no more events within seconds; others go on."""
    leaver, stayer = visit("operator"), visit("viewer")
    readers += [Reader(leaver.client), Reader(stayer.client)]
    leaver.post("/logout")
    assert readers[0].ends_within(5)
    assert not readers[1].ends_within(1)
    assert leaver.client.get("/live", headers={"Accept": "text/event-stream"}).status_code == 401


@pytest.mark.parametrize("values", [{"active": False}, {"role": "viewer"}])
def test_a_stream_ends_when_its_user_is_changed(engine, visit, readers, values) -> None:
    """A deactivated user, and one of another role, hears nothing more."""
    operator = visit("operator")
    readers.append(Reader(operator.client))
    assert not readers[0].ends_within(0.5)
    change(engine, "the-operator", **values)
    assert readers[0].ends_within(5)


def test_a_stream_is_no_activity(engine, visit, readers) -> None:
    """A session with nothing but an open stream ends when its time is up, and the stream with it."""
    operator = visit("operator")
    readers.append(Reader(operator.client))
    with engine.begin() as connection:
        connection.execute(update(WebSession).values(seen_at=func.now() - dt.timedelta(minutes=59)))
    assert not readers[0].ends_within(1)
    with engine.begin() as connection:
        connection.execute(update(WebSession).values(seen_at=WebSession.seen_at - dt.timedelta(minutes=2)))
    assert readers[0].ends_within(5)


def test_sessions_are_looked_at_in_one_question(app, engine, visit, readers, monkeypatch) -> None:
    """However many streams are open, each look asks once, after the sessions of all of them."""
    asked: list[frozenset[str]] = []
    hub: live.Hub = app.extensions["live"]
    real = hub._going_on

    def going_on(cookies: frozenset[str]) -> frozenset[str]:
        asked.append(cookies)
        return real(cookies)

    monkeypatch.setattr(hub, "_going_on", going_on)
    first, second = visit("operator"), visit("viewer")
    readers += [Reader(first.client), Reader(first.client), Reader(second.client)]
    begun = time.monotonic()
    while not asked or len(asked[-1]) < 2:
        assert time.monotonic() - begun < 10, asked
        time.sleep(0.05)
    assert len(asked[-1]) == 2
    asked.clear()
    time.sleep(2)
    # Between two looks the hub waits for events for up to a second.
    assert len(asked) <= 4
