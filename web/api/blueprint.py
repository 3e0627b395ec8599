"""The blueprint that every call of the API hangs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, jsonify, request

from controller.plain import plain
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
