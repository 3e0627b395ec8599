"""The visitor's own page: who they are, their password, their sessions."""

from __future__ import annotations

from typing import cast

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.store.commands import passwords, preferences
from controller.store.commands import users as commands
from controller.store.queries import users
from controller.store.queries.users import NUMBER_FORMS
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.zones import zone_names
from web.auth import principal, requires, sessions
from web.database import transaction
from web.limits import LOGINS, Limits
from web.pages.blueprint import blueprint
from web.pages.context import actor
from web.pages.entity_form import EntityForm, problems_of

_LABELS = {
    "old_password": "Password now",
    "new_password": "New password",
    "again": "New password again",
    "zone": "Time zone",
    "number_form": "Numbers",
}
#: What each form makes of the same number.
_NUMBERS = tuple(
    (form, f"1{thousands}234{decimals}5") for form, (thousands, decimals) in NUMBER_FORMS.items()
)


@blueprint.get("/profile", endpoint="profile")
@requires("viewer")
def profile_page() -> str:
    """Show who is logged in."""
    return _draw(EntityForm(labels=_LABELS, values=_preferred()))


@blueprint.post("/profile/preferences")
@requires("viewer")
def profile_preferences() -> Response | tuple[str, int]:
    """Change in which zone and form instants and numbers are shown."""
    values = {name: request.form.get(name, "") for name in preferences.FIELDS}
    try:
        with transaction() as session:
            preferences.update(session, _own_id(), values, actor=actor())
    except InvalidInputError as error:
        return _draw(EntityForm(labels=_LABELS, values=values, all_problems=problems_of(error))), 422
    flash("Saved; every page follows it from now on.", "success")
    return redirect(url_for("pages.profile"))


@blueprint.post("/profile/password")
@requires("viewer")
def profile_password() -> Response | tuple[str, int]:
    """Change one's own password: every other session ends, this browser stays logged in."""
    form = request.form
    # As dear as a login, and as good for guessing.
    cast("Limits", current_app.extensions["streamswarm.limits"]).hit(LOGINS, "password", principal().key)
    try:
        if form.get("new_password", "") != form.get("again", ""):
            message = "is not the same as the new password above it"
            raise InvalidInputError([Problem(path="again", message=message)])
        with transaction() as session:
            found = commands.change_password(
                session,
                _own_id(),
                old=form.get("old_password", ""),
                new=form.get("new_password", ""),
                actor=actor(),
            )
    except InvalidInputError as error:
        return _draw(EntityForm(labels=_LABELS, values=_preferred(), all_problems=problems_of(error))), 422
    sessions.start(found)
    flash("Your password is changed. Sessions in other browsers are ended.", "success")
    return redirect(url_for("pages.profile"))


@blueprint.post("/profile/end-sessions")
@requires("viewer")
def profile_end_sessions() -> Response:
    """End all of one's other sessions; this browser stays logged in."""
    with transaction() as session:
        found = commands.end_sessions(session, _own_id(), actor=actor())
    sessions.start(found)
    flash("Your sessions in other browsers are ended.", "success")
    return redirect(url_for("pages.profile"))


def _own_id() -> int:
    """Return the visitor's id: pages are open to users alone, never to tokens."""
    return cast("int", principal().user_id)


def _preferred() -> dict[str, str]:
    return {name: getattr(principal(), name) for name in preferences.FIELDS}


def _draw(form: EntityForm) -> str:
    with transaction() as session:
        found = users.get(session, _own_id())
    return render_template(
        "profile/page.html",
        user=found,
        form=form,
        shortest=passwords.SHORTEST,
        zones=sorted(zone_names()),
        number_forms=_NUMBERS,
    )
