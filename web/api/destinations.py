"""`/destinations`."""

from __future__ import annotations

from flask import Response

from controller.plain import plain
from controller.store.commands import destinations as commands
from controller.store.queries import destinations
from controller.store.queries.destinations import DestinationRecord
from web.api import bodies
from web.api.asking import Query, body, take_version
from web.api.blueprint import blueprint, listed, shown_version
from web.api.describing import TEXT, described, one_of
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import asking, transaction

_SHOWN = schema_of(DestinationRecord)


@blueprint.get("/destinations")
@requires("viewer")
@described(
    query={"search": TEXT, "tag": TEXT, "sort": one_of(destinations.ORDERS)},
    paged=True,
    answers=_SHOWN,
)
def list_destinations() -> Response:
    """List destinations by name."""
    query = Query()
    search, tag, sort = query.text("search"), query.text("tag"), query.text("sort")
    paging = query.paging()
    query.done()
    with transaction() as database:
        page = destinations.find(
            database, search=search, tag=tag, sort=sort, limit=paging.limit, cursor=paging.cursor
        )
    return listed(page)


@blueprint.post("/destinations")
@requires("operator")
@described(body=bodies.DESTINATION, answers=_SHOWN, status=201, conflicts=True, tagged=True)
def create_destination() -> Response:
    """Make a destination."""
    values = body()
    with transaction() as database:
        record = commands.create(database, values, actor=principal().actor)
    return shown_version(record, plain(record), 201)


@blueprint.get("/destinations/<id:destination_id>")
@requires("viewer")
@described(answers=_SHOWN, tagged=True)
def show_destination(destination_id: int) -> Response:
    """Show one destination."""
    with asking() as database:
        record = destinations.get(database, destination_id)
    return shown_version(record, plain(record))


@blueprint.patch("/destinations/<id:destination_id>")
@requires("operator")
@described(
    body=bodies.change(bodies.DESTINATION, versioned=True), answers=_SHOWN, conflicts=True, tagged=True
)
def update_destination(destination_id: int) -> Response:
    """Change the fields sent."""
    values, seen = take_version(body())
    with transaction() as database:
        record = commands.update(database, destination_id, values, seen=seen, actor=principal().actor)
    return shown_version(record, plain(record))


@blueprint.delete("/destinations/<id:destination_id>")
@requires("operator")
@described(status=204, conflicts=True)
def delete_destination(destination_id: int) -> tuple[str, int]:
    """Delete a destination that no test aims at."""
    with transaction() as database:
        commands.delete(database, destination_id, actor=principal().actor)
    return "", 204
