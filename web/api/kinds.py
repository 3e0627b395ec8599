"""`/kinds`: what can be tested, from the contract."""

from __future__ import annotations

from typing import Any

from flask import Response, jsonify

from controller.plain import plain
from streamswarm import contract
from streamswarm.contract import Child, Kind, Metric, Parameter
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.schemas import Named, closed, listed, record
from web.auth import requires

_TEXT = {"type": "string"}
_SHOWN = Named(
    "kind",
    closed(
        {
            "name": _TEXT,
            "label": _TEXT,
            "description": _TEXT,
            "manual": {
                "type": "string",
                "description": "What there is to know; an empty line between paragraphs.",
            },
            "target": {"enum": ["host", "host_or_network", "host_port", "url", "none"]},
            "view": _TEXT,
            "headline": {"type": "string", "description": "The metric that stands for the kind."},
            "parameters": {"type": "array", "items": record(Parameter)},
            "metrics": {"type": "array", "items": record(Metric)},
            "children": {"type": "array", "items": record(Child)},
        }
    ),
)


@blueprint.get("/kinds")
@requires("viewer")
@described(answers=listed(_SHOWN))
def list_kinds() -> Response:
    """List the probe kinds with their parameters and metrics."""
    return jsonify({"items": [_shown(kind) for kind in contract.kinds().values()], "next_cursor": None})


@blueprint.get("/kinds/<name>")
@requires("viewer")
@described(answers=_SHOWN)
def show_kind(name: str) -> Response:
    """Show one kind."""
    return jsonify(_shown(contract.kind(name)))


def _shown(kind: Kind) -> dict[str, Any]:
    return {
        "name": kind.name,
        "label": kind.label,
        "description": kind.description,
        "manual": kind.manual,
        "target": kind.target,
        "view": kind.view,
        "headline": kind.headline.name,
        "parameters": plain(kind.parameters),
        "metrics": plain(kind.metrics),
        "children": plain(kind.children),
    }
