"""The dashboard and the REST API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from controller.settings import Settings


class _Application(Flask):
    """Flask without views that wait: each hook would be looked at for being one, at every request."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_app(settings: Settings) -> Flask:
    """Return the application. It connects to the database at the first request that needs it."""
    from web import api, auth, database, errors, live, pages, security

    app = _Application("web")
    app.extensions["streamswarm.settings"] = settings
    engine = database.init_app(app, settings)
    security.init_app(app, settings)
    errors.init_app(app)
    api.cors.init_app(app, settings.web_cors_origins)
    auth.init_app(app, settings)
    api.init_app(app)
    pages.init_app(app)
    live.init_app(app, engine, settings)
    auth.check_marks(app)
    return app
