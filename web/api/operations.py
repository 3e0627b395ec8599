"""`/operations`: what is done to the fleet: history, progress, start and end, and telling of what runs elsewhere."""

from __future__ import annotations

from flask import Response, jsonify

from controller.plain import plain
from controller.store.commands import operation_telling as telling
from controller.store.commands import operations as commands
from controller.store.operation_notes import Figure, Standing
from controller.store.operation_words import KINDS
from controller.store.queries import operations
from controller.store.queries.operations import STATES, EventRecord, HostRecord, OperationRecord
from web.api import bodies
from web.api.asking import Query, body
from web.api.blueprint import blueprint, listed
from web.api.describing import ID, TEXT, described, said
from web.api.schemas import Named, closed
from web.api.schemas import listed as whole_list
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import transaction

_SHOWN = schema_of(OperationRecord)
_STANDING = Named(
    "operation_standing",
    closed({"standing": said({"enum": [each.value for each in Standing]}, "Whether the run is to go on.")}),
)


@blueprint.get("/operations")
@requires("viewer")
@described(
    query={
        "kind": said(TEXT, f"One of {', '.join(KINDS)}."),
        "state": said(TEXT, f"One of {', '.join(STATES)}."),
        "host": said(TEXT, "Name of a host in the inventory."),
        "part_of": said(
            ID,
            "Number of an upgrade: what it judged and returned; of one of the command line, that of its first step.",
        ),
    },
    paged=True,
    answers=_SHOWN,
)
def list_operations() -> Response:
    """List operations, newest first."""
    query = Query()
    kind, state, host = query.text("kind"), query.text("state"), query.text("host")
    part_of = query.id("part_of")
    paging = query.paging()
    query.done()
    with transaction() as database:
        page = operations.find(
            database,
            kind=kind,
            state=state,
            host=host,
            part_of=part_of,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)


@blueprint.post("/operations")
@requires("admin")
@described(body=bodies.OPERATION, answers=_SHOWN, status=202, conflicts=True)
def ask_operation() -> tuple[Response, int]:
    """Have a keeper run an operation."""
    values = body()
    with transaction() as database:
        record = commands.ask(database, values, actor=principal().actor)
    return jsonify(plain(record)), 202


@blueprint.post("/operations/begun")
@requires("operator")
@described(body=bodies.OPERATION_BEGUN, answers=_SHOWN, status=201, conflicts=True)
def begin_operation() -> tuple[Response, int]:
    """Write down an operation that the caller begins to run."""
    values = body()
    with transaction() as database:
        record = commands.begin(database, values, actor=principal().actor)
    return jsonify(plain(record)), 201


@blueprint.get("/operations/<id:operation_id>")
@requires("viewer")
@described(answers=_SHOWN)
def show_operation(operation_id: int) -> Response:
    """Show one operation."""
    with transaction() as database:
        record = operations.get(database, operation_id)
    return jsonify(plain(record))


@blueprint.get("/operations/<id:operation_id>/hosts")
@requires("viewer")
@described(answers=whole_list(Named("operation_host", schema_of(HostRecord))))
def list_hosts_of_operation(operation_id: int) -> Response:
    """List its hosts and how far each is."""
    with transaction() as database:
        operations.get(database, operation_id)
        hosts = operations.hosts_of(database, operation_id)
    return jsonify({"items": [plain(host) for host in hosts], "next_cursor": None})


@blueprint.get("/operations/<id:operation_id>/figures")
@requires("viewer")
@described(answers=whole_list(schema_of(Figure)))
def list_figures_of_operation(operation_id: int) -> Response:
    """List what was judged in numbers, what speaks against the release first."""
    with transaction() as database:
        operations.get(database, operation_id)
        figures = operations.figures_of(database, operation_id)
    return jsonify({"items": [plain(figure) for figure in figures], "next_cursor": None})


@blueprint.get("/operations/<id:operation_id>/events")
@requires("viewer")
@described(paged=True, answers=Named("operation_event", schema_of(EventRecord)))
def list_events_of_operation(operation_id: int) -> Response:
    """List what happened, in its order."""
    query = Query()
    paging = query.paging()
    query.done()
    with transaction() as database:
        operations.get(database, operation_id)
        page = operations.events_of(database, operation_id, limit=paging.limit, cursor=paging.cursor)
    return listed(page)


@blueprint.post("/operations/<id:operation_id>/events")
@requires("operator")
@described(body=bodies.OPERATION_EVENTS, answers=_STANDING, conflicts=True)
def tell_operation(operation_id: int) -> dict[str, object]:
    """Tell what happened in an operation that the caller runs."""
    values = body()
    with transaction() as database:
        standing = telling.tell(database, operation_id, values, actor=principal().actor)
    return {"standing": standing.value}


@blueprint.post("/operations/<id:operation_id>/finish")
@requires("operator")
@described(body=bodies.OPERATION_END, answers=_SHOWN, conflicts=True)
def finish_operation(operation_id: int) -> Response:
    """Tell how an operation ended that the caller ran."""
    values = body()
    with transaction() as database:
        record = telling.finish(database, operation_id, values, actor=principal().actor)
    return jsonify(plain(record))


@blueprint.post("/operations/<id:operation_id>/cancel")
@requires("admin")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN, conflicts=True)
def cancel_operation(operation_id: int) -> Response:
    """End an operation."""
    body(optional=True)
    with transaction() as database:
        record = commands.cancel(database, operation_id, actor=principal().actor)
    return jsonify(plain(record))
