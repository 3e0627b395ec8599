"""What pages need to know of the request that they answer."""

from __future__ import annotations

from flask import abort, request

from controller.store.commands.audit import Actor
from web.auth import principal

_LONGEST_VERSION = 10


def actor() -> Actor:
    """Return on whose behalf something is changed."""
    return principal().actor


def is_fragment() -> bool:
    """Whether a part of a page is asked for, by htmx."""
    return "HX-Request" in request.headers


def list_template(area: str) -> str:
    """Return what a list is drawn with: the whole page, its rows after a search, or only the rows that follow."""
    if not is_fragment():
        return f"{area}/list.html"
    return f"{area}/items.html" if request.args.get("cursor") else f"{area}/rows.html"


def seen_version() -> int:
    """Return the version of the entity that a form was filled from; 400 when the form carries none."""
    text = request.form.get("version", "")
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_VERSION:
        abort(400, "The form lacks the version that it was filled from; load the page again.")
    return int(text)
