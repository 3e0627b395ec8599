"""The REST API: the same functions as the pages, as JSON. `docs/reference/api.md` describes every call."""

from __future__ import annotations

from flask import Flask
from flask.json.provider import DefaultJSONProvider

from web.api import (
    accounts,
    audit,
    cors,
    destinations,
    diagnosis,
    enrolment,
    events,
    exports,
    health,
    jobs,
    kinds,
    me,
    openapi,
    operations,
    overview,
    reports,
    results,
    settings,
    tests,
    tokens,
    users,
    workers,
)
from web.api.asking import IdConverter
from web.api.blueprint import blueprint

__all__ = [
    "accounts",
    "audit",
    "cors",
    "destinations",
    "diagnosis",
    "enrolment",
    "events",
    "exports",
    "health",
    "init_app",
    "jobs",
    "kinds",
    "me",
    "openapi",
    "operations",
    "overview",
    "reports",
    "results",
    "settings",
    "tests",
    "tokens",
    "users",
    "workers",
]


def init_app(app: Flask) -> None:
    """Give the application its API."""
    if isinstance(app.json, DefaultJSONProvider):
        app.json.sort_keys = False
    # Every number in a path is an id, on the pages too: one that the database cannot hold names nothing.
    app.url_map.converters.update({"id": IdConverter, "int": IdConverter})
    app.register_blueprint(blueprint)
