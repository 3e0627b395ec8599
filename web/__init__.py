"""The dashboard and the REST API."""

from __future__ import annotations

from flask import Flask

from controller.settings import Settings


def create_app(settings: Settings) -> Flask:
    """Return the application. It connects to the database at the first request that needs it."""
    from web import api, auth, database, errors, live, pages, security

    app = Flask("web")
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
