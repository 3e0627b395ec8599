"""`GET /health`: is the installation well? For everybody; who may see more is told more."""

from __future__ import annotations

from flask import Response, jsonify

from controller.errors import DatabaseUnavailableError, SchemaError
from controller.plain import plain
from controller.store import health
from controller.store.queries import health as processes
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.schemas import Named, closed, record
from web.auth import current, public
from web.database import transaction

_PARTS = ("database", "gateway", "keeper", "worker")
_HEALTH = Named(
    "health",
    closed(
        {
            "status": {"enum": ["ok", "degraded", "down"]},
            "components": closed(
                {name: {"enum": ["ok", "degraded", "down", "unknown"]} for name in (*_PARTS, "web")}
            ),
            "detail": {"type": "string", "description": "Why the database cannot be asked."},
            "details": closed({name: record(health.Component) for name in _PARTS}),
            "processes": {"type": "array", "items": record(processes.ProcessRecord)},
        },
        optional=("detail", "details", "processes"),
    ),
)


@blueprint.get("/health")
@public
@described(answers=_HEALTH, also={503: "The installation is down."})
def show_health() -> Response:
    """Answer 200 when every part works, 503 otherwise; reasons and processes only to who is logged in."""
    try:
        found = current()
        with transaction() as database:
            state = health.read_health(database.connection())
            running = processes.processes(database) if found else ()
    except (DatabaseUnavailableError, SchemaError) as error:
        response = jsonify(
            {
                "status": "down",
                "components": dict.fromkeys(_PARTS, "unknown") | {"database": "down", "web": "ok"},
                "detail": error.message if isinstance(error, SchemaError) else "PostgreSQL does not answer",
            }
        )
        response.status_code = 503
        response.headers["Retry-After"] = "5"
        return response
    parts = {name: getattr(state, name) for name in _PARTS}
    body = {
        "status": state.state,
        "components": {name: part.state for name, part in parts.items()} | {"web": "ok"},
    }
    if found is not None:
        body["details"] = {name: plain(part) for name, part in parts.items()}
        body["processes"] = plain(running)
    response = jsonify(body)
    response.status_code = 503 if state.state == "down" else 200
    return response
