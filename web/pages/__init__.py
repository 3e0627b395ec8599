"""The pages of the dashboard."""

from __future__ import annotations

from typing import Any

from flask import Flask, g, request, url_for

from web.auth import Principal
from web.pages import (
    accounts,
    charts,
    destinations,
    diagnosis,
    fleet,
    manuals,
    overview,
    reports,
    rows,
    runs,
    schedule_form,
    tests,
    tests_form,
    workers,
)
from web.pages.blueprint import blueprint
from web.pages.formatting import fact, filters, icon, time_tag
from web.pages.states import ICONS

__all__ = [
    "accounts",
    "blueprint",
    "charts",
    "destinations",
    "diagnosis",
    "fleet",
    "init_app",
    "manuals",
    "overview",
    "reports",
    "rows",
    "runs",
    "schedule_form",
    "tests",
    "tests_form",
    "workers",
]

_NAVIGATION = (
    ("pages.overview", "Overview", "overview"),
    ("pages.tests", "Tests", "tests"),
    ("pages.destinations", "Destinations", "destinations"),
    ("pages.workers", "Workers", "workers"),
    ("pages.fleet", "Fleet", "bolt"),
    ("pages.reports", "Reports", "report"),
)


def init_app(app: Flask) -> None:
    """Give the application its pages, and templates what they call."""
    app.register_blueprint(blueprint)
    app.jinja_env.filters.update(filters())
    app.jinja_env.globals.update(fact=fact, icon=icon, time_tag=time_tag, state_icons=ICONS)
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(_context)


def _context() -> dict[str, Any]:
    """Return what every page shows around its content."""
    path = request.path
    navigation = []
    for endpoint, label, name in _NAVIGATION:
        href = url_for(endpoint)
        below = href != "/" and path.startswith(f"{href}/")
        navigation.append(
            {
                "href": href,
                "label": label,
                "icon": name,
                "current": "page" if path == href else "true" if below else "",
            }
        )
    viewer: Principal | None = g.get("principal")
    return {
        "navigation": navigation,
        "may_operate": viewer is not None and viewer.allows("operator"),
        "may_administer": viewer is not None and viewer.allows("admin"),
    }
