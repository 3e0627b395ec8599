"""Pages of workers: the list, and all that one tells of itself."""

from __future__ import annotations

import uuid

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import operations
from controller.store.commands import workers as commands
from controller.store.operation_words import NAMED
from controller.store.queries import pages, quarantine, workers
from streamswarm import contract
from streamswarm.contract import InvalidInputError
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor, list_template
from web.pages.entity_form import problems_of
from web.pages.states import worker_state

#: Refused results that are listed.
_MOST_REFUSED = 50
#: Host of the worker that `streamswarm up` runs beside the controller and looks after: no inventory has it.
_LOCAL = "localhost"


@blueprint.get("/workers", endpoint="workers")
@requires("viewer")
def workers_page() -> str:
    """List workers; a fragment answers a search or the end of the list."""
    search = request.args.get("q", "").strip()
    cursor, sort = request.args.get("cursor") or None, request.args.get("sort", "")
    with transaction() as session:
        page = workers.find(session, search=search, sort=sort, limit=50, cursor=cursor)
    rows = [(worker, *worker_state(worker.look)) for worker in page.items]
    return render_template(
        list_template("workers"),
        rows=rows,
        search=search,
        sort=sort,
        next_cursor=page.next_cursor,
        kinds=contract.kinds(),
    )


@blueprint.get("/workers/<uuid:worker_id>")
@requires("viewer")
def worker(worker_id: uuid.UUID) -> str:
    """Show one worker."""
    with transaction() as session:
        refused = quarantine.find(session, worker_id, limit=_MOST_REFUSED).items
        refused_total = quarantine.count(session, worker_id) if refused else 0
    return render_template(
        "workers/page.html", refused=refused, refused_total=refused_total, **_worker(worker_id)
    )


@blueprint.get("/workers/<uuid:worker_id>/live")
@requires("viewer")
def worker_live(worker_id: uuid.UUID) -> str:
    """Draw the part that lives."""
    return render_template("workers/live.html", **_worker(worker_id))


@blueprint.post("/workers/<uuid:worker_id>/operate")
@requires("admin")
def worker_operate(worker_id: uuid.UUID) -> Response:
    """Have a keeper do something to the worker's host: `kind` says what."""
    with transaction() as session:
        found = workers.get(session, worker_id)
    try:
        with transaction() as session:
            kind = request.form.get("kind", "")
            values = {
                "kind": kind if kind in NAMED else "",
                "limit": found.host_name,
                "options": {"one_host": True},
            }
            asked = operations.ask(session, values, actor=actor())
    except (InvalidInputError, ConflictError) as error:
        flash("; ".join(problem.message for problem in problems_of(error)), "info")
        return redirect(url_for("pages.worker", worker_id=worker_id))
    return redirect(url_for("pages.operation", operation_id=asked.id))


@blueprint.post("/workers/<uuid:worker_id>/revoke")
@requires("admin")
def worker_revoke(worker_id: uuid.UUID) -> Response:
    """End a worker's right to speak."""
    with transaction() as session:
        found = commands.revoke(session, worker_id, actor=actor())
    flash(f"{found.name} is revoked: within seconds nothing is heard from it any more.", "success")
    return redirect(url_for("pages.worker", worker_id=worker_id))


@blueprint.post("/workers/<uuid:worker_id>/delete")
@requires("admin")
def worker_delete(worker_id: uuid.UUID) -> Response:
    """Delete a worker, and its results when that is ticked."""
    with_data = request.form.get("with_data") == "yes"
    with transaction() as session:
        found = workers.get(session, worker_id)
        commands.delete(session, worker_id, actor=actor(), with_data=with_data)
    removed = " Its results are being removed." if with_data else ""
    flash(f"The worker {found.name} is deleted.{removed}", "success")
    return redirect(url_for("pages.workers"))


def _worker(worker_id: uuid.UUID) -> dict[str, object]:
    with transaction() as session:
        found = workers.get(session, worker_id)
        jobs = pages.jobs_of_worker(session, worker_id)
    state, word = worker_state(found.look)
    announced = [(kind, found.kinds.get(kind.name)) for kind in contract.kinds().values()]
    return {
        "worker": found,
        "state": state,
        "word": word,
        "announced": announced,
        "jobs": jobs,
        "operable": found.host_name != _LOCAL and found.state not in ("revoked", "pending"),
    }
