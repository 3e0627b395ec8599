"""The page of settings: what is changed at run time holds at once, and what the environment rules is told."""

from __future__ import annotations

import datetime as dt
import html
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, func, select, update
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store import run_time
from controller.store.entities import AuditEntry, RunTimeSetting, WebSession
from web import create_app


@pytest.fixture
def admin(visit: Callable[[str], Any]) -> Any:
    """An administrator."""
    return visit("admin")


@pytest.fixture
def fixed(settings: Settings, postgres_url: str, tmp_path: Any) -> Iterator[Flask]:
    """A dashboard whose environment gives the session timeout."""
    loaded = Settings.load(
        {
            "STREAMSWARM_DATABASE_URL": settings.database_url,
            "STREAMSWARM_DATA_DIR": str(settings.data_dir),
            "STREAMSWARM_WEB_SESSION_MINUTES": "45",
        }
    )
    app = create_app(loaded)
    yield app
    app.extensions["live"].stop()
    app.extensions["streamswarm.engine"].dispose()


def away(engine: Engine, minutes: float) -> None:
    """Let every session have been without activity for so long."""
    with engine.begin() as connection:
        connection.execute(update(WebSession).values(seen_at=func.now() - dt.timedelta(minutes=minutes)))


def test_a_changed_timeout_holds_at_once(admin: Any, engine: Engine) -> None:
    """Sessions end after it, without a restart; an empty field goes back to the default; all of it is audited."""
    page = admin.get("/settings")
    assert "Session timeout" in page
    assert "STREAMSWARM_RETENTION_DAYS" in page
    assert admin.post("/settings", {"web_session_minutes": "10"}, form="/settings").location == "/settings"
    assert "Changed by user:the-admin" in admin.get("/settings")
    away(engine, 9)
    admin.get("/settings")
    away(engine, 11)
    assert admin.client.get("/settings").status_code == 302
    with Session(engine) as session:
        assert session.scalars(select(RunTimeSetting.value)).all() == [10.0]
        detail = session.scalars(select(AuditEntry.detail).where(AuditEntry.object_type == "settings")).one()
    assert detail == {"web_session_minutes": {"from": 60.0, "to": 10.0}}


def test_a_timeout_is_switched_off_and_back_to_the_default(admin: Any, engine: Engine) -> None:
    """0 leaves the twelve hours alone; an empty field is the default again."""
    admin.post("/settings", {"web_session_minutes": "0"}, form="/settings")
    away(engine, 300)
    admin.get("/settings")
    admin.post("/settings", {"web_session_minutes": ""}, form="/settings")
    with Session(engine) as session:
        assert session.scalars(select(RunTimeSetting)).all() == []
        assert run_time.value_of(session, Settings(), "web_session_minutes") == 60.0
    away(engine, 61)
    assert admin.client.get("/settings").status_code == 302


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        ("5", "must be 10 to 60 min, or 0"),
        ("61", "must be 10 to 60 min, or 0"),
        ("soon", "must be a number of min"),
        ("nan", "must be 10 to 60 min, or 0"),
    ],
)
def test_what_is_no_timeout_is_refused(admin: Any, engine: Engine, sent: str, problem: str) -> None:
    """The fault stands at its field, and nothing is changed."""
    answer = admin.post("/settings", {"web_session_minutes": sent}, form="/settings")
    assert answer.status_code == 422
    assert problem in html.unescape(answer.get_data(as_text=True))
    with Session(engine) as session:
        assert session.scalars(select(RunTimeSetting)).all() == []


def test_the_environment_rules(fixed: Flask, admin: Any, engine: Engine) -> None:
    """Its value is shown with where it comes from and cannot be changed here, whatever the database says."""
    admin.post("/settings", {"web_session_minutes": "10"}, form="/settings")
    own: Settings = fixed.extensions["streamswarm.settings"]
    with Session(engine) as session:
        records = {record.name: record for record in run_time.read(session, own)}
        assert (records["web_session_minutes"].value, records["web_session_minutes"].source) == (
            45.0,
            "environment",
        )
        assert session.scalar(select(run_time.column(own, "web_session_minutes"))) == 45.0
    there = fixed.test_client()
    there.set_cookie(
        "streamswarm_session", admin.client.get_cookie("streamswarm_session").value, domain="localhost"
    )
    page = there.get("/settings").get_data(as_text=True)
    assert "set by the environment" in page
    assert 'name="web_session_minutes"' not in page
    assert "given, and not shown" in page
    assert own.database_url not in page
