"""`/me`: who asks, and their own password."""

from __future__ import annotations

from typing import cast

from flask import Response, current_app, jsonify

from controller.checking import Checker
from controller.store.commands import preferences
from controller.store.commands import users as commands
from controller.store.queries.users import ROLES
from web.api import bodies
from web.api.asking import body
from web.api.blueprint import blueprint
from web.api.describing import described
from web.api.schemas import Named, closed
from web.auth import principal, requires
from web.database import transaction
from web.errors import ForbiddenError
from web.limits import LOGINS, Limits


@blueprint.get("/me")
@requires("viewer")
@described(
    answers=Named(
        "me",
        closed(
            {
                "name": {"type": "string"},
                "role": {"enum": list(ROLES)},
                "by_token": {"type": "boolean"},
                **bodies.PREFERENCES["properties"],
            }
        ),
    )
)
def show_me() -> Response:
    """Show who asks, what they may do, and how they like to read instants and numbers."""
    found = principal()
    return jsonify(
        {
            "name": found.name,
            "role": found.role,
            "by_token": found.by_token,
            "zone": found.zone,
            "number_form": found.number_form,
        }
    )


@blueprint.patch("/me")
@requires("viewer")
@described(body=bodies.PREFERENCES, status=204)
def change_own_preferences() -> tuple[str, int]:
    """Change in which zone and form the dashboard shows instants and numbers; a token has neither."""
    found, values = principal(), body()
    if found.user_id is None or found.by_token:
        raise ForbiddenError("a token reads no pages", mend="log in")
    with transaction() as database:
        preferences.update(database, found.user_id, values, actor=found.actor)
    return "", 204


@blueprint.post("/me/password")
@requires("viewer")
@described(body=bodies.OWN_PASSWORD, status=204)
def change_own_password() -> tuple[str, int]:
    """Change one's own password, which ends all of one's sessions; a token cannot."""
    found = principal()
    if found.user_id is None or found.by_token:
        raise ForbiddenError(
            "a token cannot change a password", mend="log in, or have an administrator set it"
        )
    # As dear as a login, and as good for guessing.
    cast("Limits", current_app.extensions["streamswarm.limits"]).hit(LOGINS, "password", found.key)
    values = body()
    checker = Checker(values, bodies.names(bodies.OWN_PASSWORD))
    old, new = (_password(checker, name) for name in bodies.names(bodies.OWN_PASSWORD))
    checker.done()
    with transaction() as database:
        commands.change_password(database, found.user_id, old=old, new=new, actor=found.actor)
    return "", 204


@blueprint.post("/me/end-sessions")
@requires("viewer")
@described(body=bodies.NOTHING, body_optional=True, status=204)
def end_own_sessions() -> tuple[str, int]:
    """Log oneself out on every browser, this one included; a token cannot."""
    found = principal()
    if found.user_id is None or found.by_token:
        raise ForbiddenError(
            "a token has no sessions", mend="log in, or have an administrator end the user's"
        )
    body(optional=True)
    with transaction() as database:
        commands.end_sessions(database, found.user_id, actor=found.actor)
    return "", 204


def _password(checker: Checker, name: str) -> str:
    value = checker.value(name)
    if not isinstance(value, str):
        checker.add(name, "must be text")
        return ""
    return value
