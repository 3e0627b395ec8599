"""`/overview`: the figures of the first page."""

from __future__ import annotations

from flask import Response, jsonify

from controller.plain import plain
from controller.store.queries import overview
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.schemas import record
from web.auth import requires
from web.database import transaction


@blueprint.get("/overview")
@requires("viewer")
@described(answers=record(overview.Overview))
def show_overview() -> Response:
    """Show how much there is, and how much of it is well."""
    with transaction() as database:
        return jsonify(plain(overview.read(database)))
