"""Lets pages of other origins call the API, those that the settings list; nobody unless they do.

Only calls with a token: answers never allow credentials, so a browser sends no cookie along.
"""

from __future__ import annotations

from flask import Flask, Response, request

from web.errors import API

_METHODS = "GET, POST, PATCH, DELETE"
_HEADERS = "Authorization, Content-Type, If-Match"
_READABLE = "ETag, Link, RateLimit, RateLimit-Policy, Retry-After"
_REMEMBER_S = "600"


def init_app(app: Flask, origins: tuple[str, ...]) -> None:
    """Answer browsers that ask before a call, and mark answers, for the origins listed."""
    allowed = frozenset(origin.rstrip("/").lower() for origin in origins)
    if not allowed:
        return

    @app.before_request
    def answer_preflight() -> Response | None:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not asks or not _is_allowed():
            return None
        response = Response(status=204)
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _HEADERS
        response.headers["Access-Control-Max-Age"] = _REMEMBER_S
        return response

    @app.after_request
    def mark(response: Response) -> Response:
        if request.path.startswith(API):
            response.vary.add("Origin")
            if _is_allowed():
                response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
                response.headers["Access-Control-Expose-Headers"] = _READABLE
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    def _is_allowed() -> bool:
        return request.path.startswith(API) and request.headers.get("Origin", "").lower() in allowed
