"""Users of the dashboard, and their sessions."""

from __future__ import annotations

import re

import httpx
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store.commands import users
from controller.store.commands.audit import SYSTEM
from controller.store.engine import make_engine
from controller.store.queries.users import Role
from web.auth.sessions import COOKIE

_PASSWORD = "correct horse battery"
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


def make_users(settings: Settings, names: list[str], role: Role) -> None:
    """Make users who can log in."""
    engine = make_engine(settings, application="bench")
    with Session(engine) as session, session.begin():
        for name in names:
            users.create(session, {"name": name, "role": role, "password": _PASSWORD}, actor=SYSTEM)
    engine.dispose()


def log_in(address: str, name: str) -> str:
    """Log a user in as a browser does; return the session's cookie."""
    with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=30) as client:
        token = _TOKEN.search(client.get("/login").raise_for_status().text)
        assert token
        values = {"csrf_token": token[1], "name": name, "password": _PASSWORD}
        answer = client.post("/login", data=values)
        assert answer.status_code == 302, answer.text
        return client.cookies[COOKIE]
