"""Pages of operations on the fleet: start one, watch it, cancel it, look back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Response, flash, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from controller.errors import ConflictError
from controller.store.commands import operations as commands
from controller.store.operation_words import ASKED, BATCH, CANARY, PATIENCE_S
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord
from streamswarm.contract import InvalidInputError, Problem
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor
from web.pages.entity_form import EntityForm, problems_of
from web.pages.judging import picture

#: Fields of an upgrade only, with their labels.
_UPGRADE = {
    "release": "Release",
    "canary": "Canaries",
    "batch": "Hosts in each further step",
    "patience": "Patience",
    "accept_inconclusive": "Go on where there is too little to compare",
}
_LABELS = {
    "kind": "What",
    "limit": "Hosts",
    **_UPGRADE,
    "check": "Only say what would change",
    "confirm": "Sure",
}
#: What each kind that a keeper runs does, in the words of the form.
KINDS = {
    "provision": "Provision: install the worker, or bring it in line with the inventory",
    "upgrade": "Upgrade: bring hosts to a release step by step, and back where their measurements say so",
    "verify": "Verify: look whether hosts are as provisioned; changes nothing",
    "restart": "Restart: start workers anew, in order",
    "drain": "Drain: take workers out of service until they are resumed; what they have measured is delivered first",
    "resume": "Resume: put workers that were drained into service again",
    "rotate": "Rotate: have workers renew their keys and certificates now, while they measure",
    "remove": "Remove: take the worker off hosts; its results stay",
}
if tuple(KINDS) != tuple(ASKED):
    raise AssertionError("every kind that a keeper runs needs its words")
STATES = {
    "queued": ("waiting", "queued"),
    "running": ("attention", "running"),
    "succeeded": ("ok", "succeeded"),
    "failed": ("failed", "failed"),
    "cancelled": ("paused", "cancelled"),
    "interrupted": ("error", "interrupted"),
}
HOST_STATES = {
    "waiting": ("waiting", "waiting"),
    "working": ("attention", "working"),
    "ok": ("ok", "ok"),
    "failed": ("failed", "failed"),
    "unreachable": ("error", "unreachable"),
}
EVENT_STATES = {"ok": "ok", "changed": "attention", "failed": "failed", "unreachable": "error"}
#: Events, and operations that belong to it, that the page of an operation shows; the API has them all.
_MOST_EVENTS = 200
_MOST_PARTS = 50


@blueprint.get("/fleet", endpoint="fleet")
@requires("viewer")
def fleet_page() -> str:
    """List operations, with the form for a new one; a fragment answers with the rows as they are now."""
    if "HX-Request" in request.headers:
        return render_template("fleet/rows.html", **_rows())
    usual = {"kind": "provision", "canary": str(CANARY), "batch": str(BATCH), "patience": str(PATIENCE_S)}
    return _draw(EntityForm(labels=_LABELS, values=usual))


@blueprint.post("/fleet")
@requires("admin")
def operation_create() -> AnyResponse | tuple[str, int]:
    """Have a keeper run an operation."""
    typed = {name: request.form.get(name, "") for name in _LABELS}
    values: dict[str, Any] = {
        "kind": typed["kind"],
        "limit": typed["limit"],
        "check": bool(typed["check"]),
    }
    if typed["kind"] == "upgrade":
        given: dict[str, Any] = {name: typed[name] for name in _UPGRADE if typed[name].strip()}
        if "accept_inconclusive" in given:
            given["accept_inconclusive"] = True
        values["options"] = given
    try:
        if typed["kind"] == "remove" and not typed["check"] and not typed["confirm"]:
            message = "must be ticked: a removal takes workers off their hosts"
            raise InvalidInputError([Problem(path="confirm", message=message)])
        with transaction() as session:
            asked = commands.ask(session, values, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        found = [
            Problem(path=problem.path.removeprefix("options."), message=problem.message)
            for problem in problems_of(error)
        ]
        return _draw(EntityForm(labels=_LABELS, values=typed, all_problems=tuple(found))), 422
    return redirect(url_for("pages.operation", operation_id=asked.id))


@blueprint.get("/fleet/<int:operation_id>")
@requires("viewer")
def operation(operation_id: int) -> str:
    """Show one operation."""
    return render_template("fleet/operation.html", **_operation(operation_id))


@blueprint.get("/fleet/<int:operation_id>/live")
@requires("viewer")
def operation_live(operation_id: int) -> Response:
    """Draw the part that lives; a page that was loaded before the end is loaded anew, for its button is of no use."""
    drawn = _operation(operation_id)
    response = make_response(render_template("fleet/live.html", **drawn))
    if drawn["operation"].over and request.args.get("while") == "running":
        response.headers["HX-Refresh"] = "true"
    return response


@blueprint.post("/fleet/<int:operation_id>/cancel")
@requires("admin")
def operation_cancel(operation_id: int) -> AnyResponse:
    """End an operation."""
    try:
        with transaction() as session:
            found = commands.cancel(session, operation_id, actor=actor())
    except ConflictError as error:
        flash(f"{error.message}.", "info")
    else:
        over = (
            "is cancelled"
            if found.over
            else "ends within seconds, or is given up after half a minute; what is done on hosts stays done"
        )
        flash(f"Operation {operation_id} {over}.", "success")
    return redirect(url_for("pages.operation", operation_id=operation_id))


def _draw(form: EntityForm) -> str:
    return render_template("fleet/list.html", form=form, kinds=KINDS, **_rows())


def _rows() -> dict[str, Any]:
    with transaction() as session:
        page = operations.find(session, limit=50, cursor=request.args.get("cursor") or None)
    return {
        "rows": _shown(page.items),
        "next_cursor": page.next_cursor,
        "where": where,
    }


def _shown(found: Iterable[OperationRecord]) -> list[tuple[OperationRecord, str, str]]:
    return [(item, *STATES[item.state]) for item in found]


def _operation(operation_id: int) -> dict[str, Any]:
    with transaction() as session:
        found = operations.get(session, operation_id)
        hosts = operations.hosts_of(session, operation_id)
        events = operations.last_events(session, operation_id, most=_MOST_EVENTS)
        figures = operations.figures_of(session, operation_id)
        parts = operations.find(session, part_of=operation_id, limit=_MOST_PARTS)
    state, word = STATES[found.state]
    if found.cancelled_by and not found.over:
        word = "being cancelled"
    return {
        "operation": found,
        "cancellable": found.cancellable,
        "state": state,
        "word": word,
        "where": where,
        "hosts": [(host, *HOST_STATES[host.state]) for host in hosts],
        "rows": _shown(parts.items),
        "next_cursor": None,
        "more_parts": parts.next_cursor is not None,
        "pictures": [picture(figure) for figure in figures],
        "events": [(event, EVENT_STATES[event.state]) for event in reversed(events)],
    }


def where(found: OperationRecord) -> str:
    """Return on which hosts an operation works, in words."""
    return found.limit or "all workers of the inventory"
