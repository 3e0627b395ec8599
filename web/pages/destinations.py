"""Pages of destinations: list, search, add, edit, delete."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import destinations as commands
from controller.store.queries import destinations, tests
from controller.store.queries.destinations import DestinationRecord
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, Problem
from streamswarm.targets import TargetError, parse_address
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor, list_template, seen_version
from web.pages.entity_form import EntityForm, problems_of, split_words

_LABELS = {"name": "Name", "address": "Address", "description": "Description", "tags": "Tags"}


@blueprint.get("/destinations", endpoint="destinations")
@requires("viewer")
def destinations_page() -> str:
    """List destinations; a fragment answers a search or the end of the list."""
    search = request.args.get("q", "").strip()
    cursor, sort = request.args.get("cursor") or None, request.args.get("sort", "")
    with transaction() as session:
        page = destinations.find(session, search=search, sort=sort, limit=50, cursor=cursor)
    rows = [(item, suitable(item)) for item in page.items]
    return render_template(
        list_template("destinations"), rows=rows, search=search, sort=sort, next_cursor=page.next_cursor
    )


@blueprint.get("/destinations/new")
@requires("operator")
def destination_new() -> str:
    """Show the form of a new destination."""
    return _draw(EntityForm(labels=_LABELS, values={}))


@blueprint.post("/destinations/new")
@requires("operator")
def destination_create() -> Response | tuple[str, int]:
    """Make a destination."""
    try:
        with transaction() as session:
            made = commands.create(session, _submitted(), actor=actor())
    except (InvalidInputError, ConflictError) as error:
        return _draw(EntityForm(labels=_LABELS, values=_typed(), all_problems=problems_of(error))), 422
    flash(f"The destination {made.name} is there; tests can aim at it now.", "success")
    return redirect(url_for("pages.destination", destination_id=made.id))


@blueprint.get("/destinations/<int:destination_id>")
@requires("viewer")
def destination(destination_id: int) -> str:
    """Show a destination with the tests that aim at it; operators can change it here."""
    with transaction() as session:
        found = destinations.get(session, destination_id)
    form = EntityForm(
        labels=_LABELS, values=_stored(found), all_problems=_outdated(found), version=found.version
    )
    return _draw(form, found)


@blueprint.post("/destinations/<int:destination_id>")
@requires("operator")
def destination_update(destination_id: int) -> Response | tuple[str, int]:
    """Change a destination."""
    with transaction() as session:
        found = destinations.get(session, destination_id)
    seen = seen_version()
    try:
        with transaction() as session:
            commands.update(session, destination_id, _submitted(), seen=seen, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        form = EntityForm(labels=_LABELS, values=_typed(), all_problems=problems_of(error), version=seen)
        return _draw(form, found), 422
    flash("Saved.", "success")
    return redirect(url_for("pages.destination", destination_id=destination_id))


@blueprint.post("/destinations/<int:destination_id>/delete")
@requires("operator")
def destination_delete(destination_id: int) -> Response:
    """Delete a destination that no test aims at."""
    with transaction() as session:
        found = destinations.get(session, destination_id)
    try:
        with transaction() as session:
            commands.delete(session, destination_id, actor=actor())
    except ConflictError as error:
        flash(f"{error.message}: {error.mend}.", "failed")
        return redirect(url_for("pages.destination", destination_id=destination_id))
    flash(f"The destination {found.name} is deleted.", "success")
    return redirect(url_for("pages.destinations"))


def suitable(item: DestinationRecord) -> list[Kind]:
    """Return the kinds that can aim at an address of this form."""
    found = []
    for kind in contract.kinds().values():
        if kind.target == "none":
            continue
        try:
            contract.parse_target(kind, item.address)
        except InvalidInputError:
            continue
        found.append(kind)
    return found


def _draw(form: EntityForm, found: DestinationRecord | None = None) -> str:
    users: tuple[tuple[int, str, str], ...] = ()
    made_for_runs = 0
    if found:
        with transaction() as session:
            users = tests.using_destination(session, found.id, made_for_run=False)
            made_for_runs = len(tests.using_destination(session, found.id, made_for_run=True))
    return render_template(
        "destinations/form.html",
        form=form,
        destination=found,
        users=users,
        made_for_runs=made_for_runs,
        suitable=suitable(found) if found else (),
        kinds=contract.kinds(),
    )


def _outdated(found: DestinationRecord) -> tuple[Problem, ...]:
    """Return what is wrong with an address that an earlier release took and this one does not."""
    try:
        parse_address(found.address)
    except TargetError as error:
        return (Problem(path="address", message=str(error)),)
    return ()


def _typed() -> dict[str, str]:
    return {name: request.form.get(name, "") for name in _LABELS}


def _submitted() -> dict[str, Any]:
    return {**_typed(), "tags": split_words(request.form.get("tags", ""))}


def _stored(found: DestinationRecord) -> dict[str, str]:
    return {
        "name": found.name,
        "address": found.address,
        "description": found.description,
        "tags": ", ".join(found.tags),
    }
