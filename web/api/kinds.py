"""`/kinds`: what can be tested, from the contract."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from streamswarm import contract
from streamswarm.contract import Kind
from web.api.blueprint import blueprint
from web.api.plain import plain
from web.auth import requires


@blueprint.get("/kinds")
@requires("viewer")
def list_kinds() -> Response:
    """List the probe kinds with their parameters and metrics."""
    return jsonify({"items": [_shown(kind) for kind in contract.kinds().values()], "next_cursor": None})


@blueprint.get("/kinds/<name>")
@requires("viewer")
def show_kind(name: str) -> Response:
    """Show one kind."""
    return jsonify(_shown(contract.kind(name)))


def _shown(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind.name,
        "label": kind.label,
        "description": kind.description,
        "target": kind.target,
        "view": kind.view,
        "headline": kind.headline.name,
        "parameters": plain(kind.parameters),
        "metrics": plain(kind.metrics),
        "children": plain(kind.children),
    }
