"""Pages of the people who log in, for administrators."""

from __future__ import annotations

from typing import Any

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.settings import Settings
from controller.store.commands import login_links, passwords
from controller.store.commands import users as commands
from controller.store.queries import users
from controller.store.queries.users import UserRecord
from streamswarm.contract import InvalidInputError
from web.auth import principal, requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor, list_template
from web.pages.entity_form import EntityForm, problems_of

#: What each role may do, in the words of the form; from the least to the most.
ROLE_WORDS = (
    ("viewer", "viewer: looks"),
    ("operator", "operator: also changes tests"),
    ("admin", "administrator: does everything"),
)
_LABELS = {"name": "Name", "email": "E-mail", "role": "Role", "active": "Active", "password": "Password"}
_LINK_MINUTES = 15.0


@blueprint.get("/users", endpoint="users")
@requires("admin")
def users_page() -> str:
    """List users; a fragment answers a search or the end of the list."""
    search = request.args.get("q", "").strip()
    with transaction() as session:
        page = users.find(session, search=search, limit=50, cursor=request.args.get("cursor") or None)
    return render_template(
        list_template("users"), users=page.items, search=search, next_cursor=page.next_cursor
    )


@blueprint.get("/users/new")
@requires("admin")
def user_new() -> str:
    """Show the form of a new user."""
    return _draw(EntityForm(labels=_LABELS, values={"role": "viewer", "active": True}))


@blueprint.post("/users/new")
@requires("admin")
def user_create() -> Response | tuple[str, int]:
    """Make a user."""
    values = _submitted()
    try:
        with transaction() as session:
            made = commands.create(
                session,
                {**values, "active": True, "password": request.form.get("password", "")},
                actor=actor(),
            )
    except (InvalidInputError, ConflictError) as error:
        return _draw(EntityForm(labels=_LABELS, values=values, all_problems=problems_of(error))), 422
    flash(f"{made.name} can log in now.", "success")
    return redirect(url_for("pages.users"))


@blueprint.get("/users/<int:user_id>")
@requires("admin")
def user(user_id: int) -> str:
    """Show one user, to be changed."""
    return _draw_user(user_id)


@blueprint.post("/users/<int:user_id>")
@requires("admin")
def user_update(user_id: int) -> Response | tuple[str, int]:
    """Change name, e-mail address, role or activation."""
    values = _submitted()
    try:
        with transaction() as session:
            commands.update(session, user_id, values, actor=actor(), by_user=principal().user_id)
    except (InvalidInputError, ConflictError) as error:
        form = EntityForm(labels=_LABELS, values=values, all_problems=problems_of(error))
        return _draw_user(user_id, form), 422
    flash("Saved.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


@blueprint.post("/users/<int:user_id>/password")
@requires("admin")
def user_password(user_id: int) -> Response | tuple[str, int]:
    """Give a user another password, which ends the user's sessions."""
    try:
        with transaction() as session:
            found = commands.set_password(session, user_id, request.form.get("password", ""), actor=actor())
    except InvalidInputError as error:
        return _draw_user(user_id, problems=error), 422
    if found.id == principal().user_id:
        return redirect(url_for("auth.login"))
    flash(f"{found.name} has another password; sessions that were open are ended.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


@blueprint.post("/users/<int:user_id>/login-link")
@requires("admin")
def user_login_link(user_id: int) -> Response | str:
    """Show a link that logs the user in once; this answer is the only one that has it."""
    settings: Settings = current_app.extensions["streamswarm.settings"]
    try:
        with transaction() as session:
            name = users.get(session, user_id).name
            token = login_links.create_login_link(session, name, minutes=_LINK_MINUTES, actor=actor())
    except ConflictError as error:
        flash(f"{error.message}: {error.mend}.", "failed")
        return redirect(url_for("pages.user", user_id=user_id))
    return _draw_user(
        user_id, link=f"{settings.public_web_url}{login_links.PATH}{token}", minutes=_LINK_MINUTES
    )


@blueprint.post("/users/<int:user_id>/end-sessions")
@requires("admin")
def user_end_sessions(user_id: int) -> Response:
    """End all sessions of a user."""
    with transaction() as session:
        found = commands.end_sessions(session, user_id, actor=actor())
    flash(f"All sessions of {found.name} are ended.", "success")
    return redirect(url_for("pages.user", user_id=user_id))


@blueprint.post("/users/<int:user_id>/delete")
@requires("admin")
def user_delete(user_id: int) -> Response:
    """Delete a user with the user's tokens."""
    try:
        with transaction() as session:
            name = users.get(session, user_id).name
            commands.delete(session, user_id, actor=actor(), by_user=principal().user_id)
    except ConflictError as error:
        flash(f"{error.message}: {error.mend}.", "failed")
        return redirect(url_for("pages.user", user_id=user_id))
    flash(f"The user {name} is deleted, with the tokens made under that name.", "success")
    return redirect(url_for("pages.users"))


def _draw_user(
    user_id: int,
    form: EntityForm | None = None,
    *,
    problems: InvalidInputError | None = None,
    **more: Any,
) -> str:
    with transaction() as session:
        found = users.get(session, user_id)
    shown = form or EntityForm(
        labels=_LABELS,
        values={"name": found.name, "email": found.email or "", "role": found.role, "active": found.active},
        all_problems=problems_of(problems) if problems else (),
    )
    return _draw(shown, found, **more)


def _draw(form: EntityForm, found: UserRecord | None = None, **more: Any) -> str:
    own = found is not None and found.id == principal().user_id
    return render_template(
        "users/form.html",
        form=form,
        user=found,
        own=own,
        roles=ROLE_WORDS,
        shortest=passwords.SHORTEST,
        **more,
    )


def _submitted() -> dict[str, Any]:
    form = request.form
    values: dict[str, Any] = {name: form.get(name, "") for name in ("name", "email", "role")}
    return {**values, "active": form.get("active") == "yes"}
