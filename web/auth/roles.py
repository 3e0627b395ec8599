"""Which role a route needs. A route that says nothing is refused: the application does not even start with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, Response, abort, current_app, request
from flask_wtf.csrf import CSRFProtect

from controller.store.queries.users import Role
from web.auth.principal import client_address, current, principal
from web.errors import API, ForbiddenError
from web.limits import CALLS, STRANGERS, Limits, tell

View = TypeVar("View", bound=Callable[..., Any])

_MARK = "streamswarm_role"
PUBLIC = "public"
_SAFE = ("GET", "HEAD", "OPTIONS")


def requires(role: Role) -> Callable[[View], View]:
    """Mark a view as one for users of a role, or of one that may more."""

    def mark(view: View) -> View:
        setattr(view, _MARK, role)
        return view

    return mark


def public(view: View) -> View:
    """Mark a view as one for everybody."""
    setattr(view, _MARK, PUBLIC)
    return view


def needed_role(app: Flask, endpoint: str) -> str | None:
    """Return `public`, the role that an endpoint needs, or None when it says nothing."""
    found: str | None = getattr(app.view_functions[endpoint], _MARK, None)
    return found


def init_app(app: Flask, limits: Limits) -> None:
    """Let nobody past who may not: role first, then the check against forged requests, then rate limits."""
    app.config["WTF_CSRF_CHECK_DEFAULT"] = False
    app.config["WTF_CSRF_TIME_LIMIT"] = None  # the session's end is the end of its token
    csrf = CSRFProtect(app)
    public(app.view_functions["static"])

    @app.before_request
    def guard() -> None:
        if request.endpoint is None:
            return  # no such route, or not with this method: said by the routing
        needed = needed_role(current_app, request.endpoint)
        if needed is None:
            abort(403)
        is_api = request.path.startswith(API)
        by_token = False
        if needed != PUBLIC:
            found = current()
            if is_api:
                if found is None:
                    limits.hit(STRANGERS, "stranger", client_address())
                else:
                    limits.hit(CALLS, "calls", found.key)
            found = principal()
            if not found.allows(needed):  # type: ignore[arg-type]
                raise ForbiddenError(
                    f"this needs the role {needed}; `{found.name}` is {found.role}",
                    mend="ask an administrator for the role or for a token of that scope",
                )
            by_token = found.by_token
        elif is_api:
            limits.hit(STRANGERS, "public", client_address())
        if request.method not in _SAFE and not by_token:
            csrf.protect()

    @app.after_request
    def tell_limits(response: Response) -> Response:
        return tell(response) if request.path.startswith(API) else response


def check_marks(app: Flask) -> None:
    """Raise RuntimeError naming the routes that do not say which role they need."""
    unmarked = sorted(name for name in app.view_functions if needed_role(app, name) is None)
    if unmarked:
        raise RuntimeError(
            f"these routes do not say which role they need (web.auth.requires): {', '.join(unmarked)}"
        )
