"""Who may do what: sessions, tokens, roles, and the guard before every request."""

from __future__ import annotations

from flask import Flask, g

from controller.settings import Settings
from controller.store.commands.secret_files import read_or_make_secret
from web.auth import roles, sessions, views
from web.auth.principal import Principal, client_address, current, principal
from web.auth.roles import check_marks, public, requires
from web.limits import Limits

__all__ = [
    "Principal",
    "check_marks",
    "client_address",
    "current",
    "init_app",
    "principal",
    "public",
    "read_key",
    "requires",
]

#: Bytes of the key that signs sessions.
_KEY_LENGTH = 32


def read_key(settings: Settings) -> bytes:
    """Return the key that signs sessions, made at the first start; processes that share logins share the file."""
    return read_or_make_secret(settings.data_dir / "secrets" / "web.key", _KEY_LENGTH)


def init_app(app: Flask, settings: Settings) -> None:
    """Give the application sessions, the guard and the pages for logging in and out.

    Raises ConfigurationError for development mode where others could reach the dashboard.
    """
    settings.check_web()
    key = read_key(settings)
    limits = Limits()
    app.extensions["streamswarm.limits"] = limits
    sessions.init_app(app, settings, key)
    roles.init_app(app, limits)
    app.register_blueprint(views.blueprint)

    @app.context_processor
    def viewer() -> dict[str, Principal | None]:
        # Not asked of the database here: an error page must not need it.
        return {"viewer": g.get("principal")}
