"""Sessions of the browser: a signed cookie that carries the session's id and the user's session generation.

The cookie is good for as long as the session is on record as going on (a log-out ends it, also for copies of the
cookie), its generation is the user's (a changed password, role or activation makes a new one), and the user does
something: pages that refresh themselves do not count.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import flask_login
from flask import Flask, Request, current_app, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer
from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from controller.settings import Settings
from controller.store import run_time
from controller.store.commands import web_sessions
from controller.store.queries.users import UserRecord
from web.database import transaction
from web.errors import API

COOKIE = "streamswarm_session"
#: Where the login manager keeps what `SessionUser.get_id` gives.
_USER = "_user_id"


@dataclass(frozen=True)
class SessionUser(flask_login.UserMixin):  # type: ignore[misc]
    """A user as the login manager knows it."""

    record: UserRecord
    #: The random id of this session.
    session_id: str

    def get_id(self) -> str:
        """Return what the cookie carries."""
        return f"{self.session_id}.{self.record.session_generation}"


class _Sessions(SecureCookieSessionInterface):
    """Cookies that are Secure wherever the scheme is https."""

    @cached_property
    def _serializer(self) -> URLSafeTimedSerializer | None:
        return super().get_signing_serializer(current_app)

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        # Every request asks for it, and making it takes longer than reading a cookie; the key stays for the process's life.
        return self._serializer

    def open_session(self, app: Flask, asked: Request) -> SecureCookieSession | None:
        # Whoever sends a token is known by it alone.
        if is_by_token(asked):
            return self.session_class()
        return super().open_session(app, asked)

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


def init_app(app: Flask, settings: Settings, key: bytes) -> None:
    """Give the application its sessions, signed with `key`."""
    app.config.update(
        SECRET_KEY=key,
        SESSION_COOKIE_NAME=COOKIE,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,
    )
    app.session_interface = _Sessions()
    manager = flask_login.LoginManager()
    manager.init_app(app)
    idle = idle_of(settings)

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load(cookie: str) -> SessionUser | None:
        session_id, _, generation = cookie.partition(".")
        with transaction() as database:
            record = web_sessions.resume(database, session_id, idle=idle, active=is_activity(request))
        if record is None or generation != str(record.session_generation):
            return None
        return SessionUser(record, session_id)


def idle_of(settings: Settings) -> ColumnElement[float]:
    """Return how many minutes a session may go without activity, 0 for any time, for a query."""
    return run_time.column(settings, "web_session_minutes")


def going_on(database: Session, cookies: Collection[str], *, idle: ColumnElement[float]) -> frozenset[str]:
    """Return those of what cookies carry (`SessionUser.get_id`) whose sessions go on."""
    sought = {cookie.partition(".")[0] for cookie in cookies}
    found = web_sessions.generations(database, sought, idle=idle)
    return frozenset(
        cookie
        for cookie in cookies
        for session_id, _, generation in (cookie.partition("."),)
        if generation == str(found.get(session_id))
    )


def start(user: UserRecord) -> None:
    """Begin a session for a user; what an earlier one of this browser held, its CSRF token too, is gone."""
    with transaction() as database:
        _end(database)
        session_id = web_sessions.begin(database, user.id)
    session.clear()
    flask_login.login_user(SessionUser(user, session_id))


def end(database: Session) -> None:
    """End the session of this browser, and of whoever has copied its cookie."""
    _end(database)
    flask_login.logout_user()
    session.clear()


def is_activity(asked: Request) -> bool:
    """Whether a person did something, as against a page that refreshes itself."""
    if asked.method not in ("GET", "HEAD"):
        return True
    by_htmx = asked.headers.get("HX-Request") == "true" and asked.headers.get("HX-Boosted") != "true"
    return not by_htmx and "text/html" in asked.headers.get("Accept", "")


def is_by_token(asked: Request) -> bool:
    """Whether a call names who asks by a token, whatever its cookies say."""
    return "Authorization" in asked.headers and asked.path.startswith(API)


def _end(database: Session) -> None:
    cookie = session.get(_USER)
    if isinstance(cookie, str):
        web_sessions.end(database, cookie.partition(".")[0])
