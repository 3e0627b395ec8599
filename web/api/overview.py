"""`/overview`: the figures of the first page, and `/me`: who asks."""

from __future__ import annotations

from flask import Response, jsonify

from controller.store.queries import overview
from controller.store.queries.users import ROLES
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.plain import plain
from web.api.schemas import closed, record
from web.auth import principal, requires
from web.database import transaction


@blueprint.get("/overview")
@requires("viewer")
@described(answers=record(overview.Overview))
def show_overview() -> Response:
    """Show how much there is, and how much of it is well."""
    with transaction() as database:
        return jsonify(plain(overview.read(database)))


@blueprint.get("/me")
@requires("viewer")
@described(
    answers=closed(
        {"name": {"type": "string"}, "role": {"enum": list(ROLES)}, "by_token": {"type": "boolean"}}
    )
)
def show_me() -> Response:
    """Show who asks and what they may do."""
    found = principal()
    return jsonify({"name": found.name, "role": found.role, "by_token": found.by_token})
