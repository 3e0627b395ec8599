"""The blueprint that every call of the API hangs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from controller.plain import plain
from controller.store.commands.saving import state_of
from controller.store.queries.paging import Item, Page

blueprint = Blueprint("api", __name__, url_prefix="/api/v1")


def listed(page: Page[Item], show: Callable[[Item], Any] = plain) -> Response:
    """Answer with one page of a list."""
    response = jsonify({"items": [show(item) for item in page.items], "next_cursor": page.next_cursor})
    if page.next_cursor is not None:
        query = urlencode({**request.args, "cursor": page.next_cursor})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


def shown_version(record: Any, body: Any, status: int = 200) -> Response:
    """Answer with an object that has a version, which is its ETag too."""
    response = jsonify(body)
    response.status_code = status
    response.headers["ETag"] = f'"{record.version}"'
    return response


def shown_state(record: Any, body: Any, fields: Sequence[str], status: int = 200) -> Response:
    """Answer with an object whose ETag tells what its changeable fields hold."""
    response = jsonify(body)
    response.status_code = status
    response.headers["ETag"] = f'"{state_of(record, fields)}"'
    return response
