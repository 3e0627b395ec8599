"""Pages of API tokens: people look after their own, administrators after all."""

from __future__ import annotations

import datetime as dt
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import tokens as commands
from controller.store.queries import tokens
from controller.store.queries.tokens import TokenRecord
from streamswarm.contract import InvalidInputError
from web.auth import principal, requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor, is_fragment
from web.pages.entity_form import EntityForm, problems_of

_LABELS = {"name": "Name", "description": "Description", "scope": "Scope", "expires_at": "Ends"}
_SCOPES = {
    "viewer": "viewer: reads",
    "operator": "operator: also changes tests",
    "admin": "admin: everything",
}


@blueprint.get("/tokens", endpoint="tokens")
@requires("viewer")
def tokens_page() -> str:
    """List tokens, with the form for a new one; a fragment answers with the rows that follow."""
    if is_fragment():
        return render_template("tokens/items.html", **_rows())
    return _draw_list(EntityForm(labels=_LABELS, values={"scope": "viewer"}))


@blueprint.post("/tokens")
@requires("viewer")
def token_create() -> str | tuple[str, int]:
    """Make a token; this answer is the only one that ever shows it."""
    found, values = principal(), _submitted("name", "description", "scope", "expires_at")
    try:
        with transaction() as session:
            record, secret = commands.create(
                session, values, actor=found.actor, user_id=found.user_id, role=found.role
            )
    except InvalidInputError as error:
        return _draw_list(EntityForm(labels=_LABELS, values=values, all_problems=problems_of(error))), 422
    return render_template("tokens/made.html", token=record, secret=secret)


@blueprint.get("/tokens/<int:token_id>")
@requires("viewer")
def token(token_id: int) -> str:
    """Show one token, to be changed."""
    found = _own(token_id)
    values = {
        "name": found.name,
        "description": found.description,
        "expires_at": found.expires_at.isoformat() if found.expires_at else "",
    }
    return _draw(found, EntityForm(labels=_LABELS, values=values))


@blueprint.post("/tokens/<int:token_id>")
@requires("viewer")
def token_update(token_id: int) -> Response | tuple[str, int]:
    """Change name, description or end of a token."""
    found, values = _own(token_id), _submitted("name", "description", "expires_at")
    try:
        with transaction() as session:
            commands.update(session, token_id, values, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        form = EntityForm(labels=_LABELS, values=values, all_problems=problems_of(error))
        return _draw(found, form), 422
    flash("Saved.", "success")
    return redirect(url_for("pages.tokens"))


@blueprint.post("/tokens/<int:token_id>/regenerate")
@requires("viewer")
def token_regenerate(token_id: int) -> Response | str:
    """Give a token another secret; this answer is the only one that ever shows it."""
    _own(token_id)
    try:
        with transaction() as session:
            record, secret = commands.regenerate(session, token_id, actor=actor())
    except ConflictError as error:
        return _refused(error)
    return render_template("tokens/made.html", token=record, secret=secret)


@blueprint.post("/tokens/<int:token_id>/revoke")
@requires("viewer")
def token_revoke(token_id: int) -> Response:
    """End a token at once and for good."""
    _own(token_id)
    try:
        with transaction() as session:
            record = commands.revoke(session, token_id, actor=actor())
    except ConflictError as error:
        return _refused(error)
    flash(f"{record.name} is refused from now on.", "success")
    return redirect(url_for("pages.tokens"))


def token_state(found: TokenRecord, now: dt.datetime) -> tuple[str, str]:
    """Return look and word of a token."""
    if found.revoked_at is not None:
        return "revoked", "revoked"
    if found.expires_at is not None and found.expires_at <= now:
        return "missed", "expired"
    return "ok", "good"


def _own(token_id: int) -> TokenRecord:
    """Return a token that the visitor may look after; NotFoundError for others'."""
    with transaction() as session:
        return tokens.get(session, token_id, user_id=principal().looks_after)


def _refused(error: ConflictError) -> Response:
    flash(f"{error.message}: {error.mend}.", "failed")
    return redirect(url_for("pages.tokens"))


def _rows() -> dict[str, Any]:
    with transaction() as session:
        page = tokens.find(
            session,
            user_id=principal().looks_after,
            limit=50,
            cursor=request.args.get("cursor") or None,
        )
    now = dt.datetime.now(dt.UTC)
    return {
        "rows": [(item, *token_state(item, now)) for item in page.items],
        "next_cursor": page.next_cursor,
    }


def _draw_list(form: EntityForm) -> str:
    scopes = [(scope, word) for scope, word in _SCOPES.items() if principal().allows(scope)]  # type: ignore[arg-type]
    return render_template("tokens/list.html", form=form, scopes=scopes, **_rows())


def _draw(found: TokenRecord, form: EntityForm) -> str:
    state, word = token_state(found, dt.datetime.now(dt.UTC))
    return render_template("tokens/form.html", token=found, form=form, state=state, word=word)


def _submitted(*names: str) -> dict[str, Any]:
    values: dict[str, Any] = {name: request.form.get(name, "") for name in names}
    return {**values, "expires_at": values["expires_at"] or None}
