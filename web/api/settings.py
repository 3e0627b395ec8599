"""`/settings`: those that administrators change while everything runs."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Response, current_app, jsonify

from controller.plain import plain
from controller.settings import Settings
from controller.store import run_time
from controller.store.run_time import CHOICES, RunTimeRecord
from web.api import bodies
from web.api.asking import Query, body
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.schemas import Named, listed, record
from web.auth import principal, requires
from web.database import transaction

_BODY = bodies.fields(
    {
        name: {
            "description": f"{choice.help} null goes back to the default.",
            "anyOf": [
                {"type": ["number", "null"], "minimum": choice.smallest, "maximum": choice.largest},
                *([{"const": 0, "description": choice.zero}] if choice.zero else []),
            ],
        }
        for name, choice in CHOICES.items()
    }
)
_SHOWN = listed(Named("setting", record(RunTimeRecord)))


@blueprint.get("/settings")
@requires("admin")
@described(answers=_SHOWN)
def show_settings() -> Response:
    """Show the settings that can be changed at run time, with the value that holds and where it comes from."""
    Query().done()
    with transaction() as database:
        found = run_time.read(database, _settings())
    return _answer(found)


@blueprint.patch("/settings")
@requires("admin")
@described(body=_BODY, answers=_SHOWN)
def update_settings() -> Response:
    """Change the settings sent; those that the environment has cannot be changed."""
    values = body()
    with transaction() as database:
        found = run_time.change(database, _settings(), values, actor=principal().actor)
    return _answer(found)


def _answer(found: Sequence[RunTimeRecord]) -> Response:
    return jsonify({"items": [plain(one) for one in found], "next_cursor": None})


def _settings() -> Settings:
    found: Settings = current_app.extensions["streamswarm.settings"]
    return found
