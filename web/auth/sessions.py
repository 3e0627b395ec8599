"""Sessions of the browser: a signed cookie that names the user and the user's session generation.

The cookie is good for as long as its generation is the user's (a changed password, role or activation makes a new
one) and as long as the user does something: pages that refresh themselves do not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import flask_login
from flask import Flask, Request, Response, request, session
from flask.sessions import SecureCookieSessionInterface

from controller.settings import Settings
from controller.store.entities import User
from controller.store.queries import users
from controller.store.queries.users import UserRecord
from web.database import transaction

COOKIE = "streamswarm_session"
#: The time of last activity is written no more often than this, seconds.
_NOTED_S = 30
_SEEN = "seen"


@dataclass(frozen=True)
class SessionUser(flask_login.UserMixin):  # type: ignore[misc]
    """A user as the login manager knows it."""

    record: UserRecord

    def get_id(self) -> str:
        """Return what the cookie carries."""
        return f"{self.record.id}.{self.record.session_generation}"


class _Sessions(SecureCookieSessionInterface):
    """Cookies that are Secure wherever the scheme is https."""

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
    idle_s = settings.web_session_minutes * 60

    @manager.user_loader  # type: ignore[untyped-decorator]
    def load(cookie: str) -> SessionUser | None:
        if idle_s and not 0 <= time.time() - _seen() <= idle_s:
            return None
        user_id, _, generation = cookie.partition(".")
        if not user_id.isdigit() or not generation.isdigit():
            return None
        with transaction() as database:
            entity = database.get(User, int(user_id))
            record = None if entity is None else users.record(entity)
        if record is None or not record.active or record.session_generation != int(generation):
            return None
        return SessionUser(record)

    @app.after_request
    def note_activity(response: Response) -> Response:
        if "_user_id" in session and is_activity(request) and time.time() - _seen() > _NOTED_S:
            session[_SEEN] = int(time.time())
        return response


def start(user: UserRecord) -> None:
    """Begin a session for a user; what an earlier one held, its CSRF token too, is gone."""
    session.clear()
    flask_login.login_user(SessionUser(user))
    session[_SEEN] = int(time.time())


def end() -> None:
    """End the session of this browser."""
    flask_login.logout_user()
    session.clear()


def is_activity(asked: Request) -> bool:
    """Whether a person did something, as against a page that refreshes itself."""
    if asked.method not in ("GET", "HEAD"):
        return True
    by_htmx = asked.headers.get("HX-Request") == "true" and asked.headers.get("HX-Boosted") != "true"
    return not by_htmx and "text/html" in asked.headers.get("Accept", "")


def _seen() -> float:
    seen = session.get(_SEEN)
    return float(seen) if isinstance(seen, int | float) else 0.0
