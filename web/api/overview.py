"""`/overview`: the figures of the first page, and `/me`: who asks."""

from __future__ import annotations

from flask import Response, jsonify

from controller.store.queries import overview
from web.api.blueprint import blueprint
from web.api.plain import plain
from web.auth import principal, requires
from web.database import transaction


@blueprint.get("/overview")
@requires("viewer")
def show_overview() -> Response:
    """Show how much there is, and how much of it is well."""
    with transaction() as database:
        return jsonify(plain(overview.read(database)))


@blueprint.get("/me")
@requires("viewer")
def show_me() -> Response:
    """Show who asks and what they may do."""
    found = principal()
    return jsonify({"name": found.name, "role": found.role, "by_token": found.by_token})
