"""`/destinations`."""

from __future__ import annotations

from flask import Response

from controller.store.commands import destinations as commands
from controller.store.queries import destinations
from web.api.asking import Query, body, take_version
from web.api.blueprint import blueprint, listed, shown_version
from web.api.plain import plain
from web.auth import principal, requires
from web.database import transaction


@blueprint.get("/destinations")
@requires("viewer")
def list_destinations() -> Response:
    """List destinations by name."""
    query = Query("search", "tag")
    search, tag, paging = query.text("search"), query.text("tag"), query.paging()
    query.done()
    with transaction() as database:
        page = destinations.find(database, search=search, tag=tag, limit=paging.limit, cursor=paging.cursor)
    return listed(page)


@blueprint.post("/destinations")
@requires("operator")
def create_destination() -> Response:
    """Make a destination."""
    values = body()
    with transaction() as database:
        record = commands.create(database, values, actor=principal().actor)
    return shown_version(record, plain(record), 201)


@blueprint.get("/destinations/<id:destination_id>")
@requires("viewer")
def show_destination(destination_id: int) -> Response:
    """Show one destination."""
    with transaction() as database:
        record = destinations.get(database, destination_id)
    return shown_version(record, plain(record))


@blueprint.patch("/destinations/<id:destination_id>")
@requires("operator")
def update_destination(destination_id: int) -> Response:
    """Change the fields sent."""
    values, seen = take_version(body())
    with transaction() as database:
        record = commands.update(database, destination_id, values, seen=seen, actor=principal().actor)
    return shown_version(record, plain(record))


@blueprint.delete("/destinations/<id:destination_id>")
@requires("operator")
def delete_destination(destination_id: int) -> tuple[str, int]:
    """Delete a destination that no test aims at."""
    with transaction() as database:
        commands.delete(database, destination_id, actor=principal().actor)
    return "", 204
