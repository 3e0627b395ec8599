"""The blueprint that every page hangs on, and what holds for all of them."""

from __future__ import annotations

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from streamswarm.targets import shown

blueprint = Blueprint("pages", __name__)


@blueprint.before_request
def refuse_nul() -> None:
    """Refuse what PostgreSQL cannot hold: whatever people type or follow is looked for there."""
    for values in (request.args, request.form):
        for name, text in values.items(multi=True):
            if "\0" in name or "\0" in text:
                raise BadRequest(f"`{shown(name)}` has a NUL character, which no text may have.")
