"""The pages of the dashboard."""

from __future__ import annotations

from typing import Any

from flask import Flask, g, request

from controller.store.queries.users import Role
from web.auth import Principal
from web.pages import (
    accounts,
    audit,
    bulk,
    charts,
    destinations,
    diagnosis,
    fleet,
    manuals,
    mesh,
    overview,
    profile,
    reports,
    rows,
    runs,
    schedule_form,
    settings,
    tests,
    tests_form,
    tokens,
    users,
    workers,
)
from web.pages.blueprint import blueprint
from web.pages.formatting import fact, filters, icon, time_tag, zone_name
from web.pages.links import link
from web.pages.states import ICONS

__all__ = [
    "accounts",
    "audit",
    "blueprint",
    "bulk",
    "charts",
    "destinations",
    "diagnosis",
    "fleet",
    "init_app",
    "manuals",
    "mesh",
    "overview",
    "profile",
    "reports",
    "rows",
    "runs",
    "schedule_form",
    "settings",
    "tests",
    "tests_form",
    "tokens",
    "users",
    "workers",
]

#: Endpoint, words, icon and the least role that sees it.
_NAVIGATION: tuple[tuple[str, str, str, Role], ...] = (
    ("pages.overview", "Overview", "overview", "viewer"),
    ("pages.tests", "Tests", "tests", "viewer"),
    ("pages.mesh", "Mesh", "mesh", "viewer"),
    ("pages.destinations", "Destinations", "destinations", "viewer"),
    ("pages.workers", "Workers", "workers", "viewer"),
    ("pages.fleet", "Fleet", "bolt", "viewer"),
    ("pages.reports", "Reports", "report", "viewer"),
    ("pages.tokens", "API tokens", "key", "viewer"),
    ("pages.users", "Users", "user", "admin"),
    ("pages.audit", "Audit log", "log", "admin"),
    ("pages.settings", "Settings", "settings", "admin"),
    ("pages.help", "Help", "help", "viewer"),
)


def init_app(app: Flask) -> None:
    """Give the application its pages, and templates what they call."""
    app.register_blueprint(blueprint)
    app.jinja_env.filters.update(filters())
    app.jinja_env.globals.update(
        fact=fact, icon=icon, time_tag=time_tag, zone_name=zone_name, state_icons=ICONS, url_for=link
    )
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    app.context_processor(_context)


def _context() -> dict[str, Any]:
    """Return what every page shows around its content."""
    path = request.path
    viewer: Principal | None = g.get("principal")
    navigation = []
    for endpoint, label, name, needed in _NAVIGATION:
        if viewer is None or not viewer.allows(needed):
            continue
        href = link(endpoint)
        below = href != "/" and path.startswith(f"{href}/")
        navigation.append(
            {
                "href": href,
                "label": label,
                "icon": name,
                "current": "page" if path == href else "true" if below else "",
            }
        )
    return {
        "navigation": navigation,
        "may_operate": viewer is not None and viewer.allows("operator"),
        "may_administer": viewer is not None and viewer.allows("admin"),
    }
