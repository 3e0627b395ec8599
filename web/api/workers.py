"""`/workers`."""

from __future__ import annotations

import uuid

from flask import Response, jsonify

from controller.plain import plain
from controller.store.commands import workers as commands
from controller.store.queries import quarantine, workers
from controller.store.queries.quarantine import RefusedResult
from controller.store.queries.workers import ReleaseRecord, WorkerRecord
from web.api import bodies
from web.api.asking import Query, asked_state, body
from web.api.blueprint import blueprint, listed, shown_state
from web.api.describing import FLAG, TEXT, described, one_of, said
from web.api.schemas import listed as whole_list
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import transaction

_SHOWN = schema_of(WorkerRecord)
#: A label with its value, on one line; or nothing.
_LABEL = r"^([^=\x00-\x1f\x7f-\x9f\xad\u2028\u2029]+=[^\x00-\x1f\x7f-\x9f\xad\u2028\u2029]+)?$"


@blueprint.get("/workers")
@requires("viewer")
@described(
    query={
        "search": TEXT,
        "site": TEXT,
        "label": said({**TEXT, "pattern": _LABEL}, "`label=value`."),
        "connected": FLAG,
        "sort": one_of(workers.ORDERS),
    },
    paged=True,
    answers=_SHOWN,
)
def list_workers() -> Response:
    """List workers by name."""
    query = Query()
    search, site, label = query.text("search"), query.text("site"), query.text("label")
    connected, sort, paging = query.flag("connected"), query.text("sort"), query.paging()
    key, equals, value = label.partition("=")
    if label and not (key and equals and value):
        query.add("label", "must be `label=value`")
    query.done()
    with transaction() as database:
        page = workers.find(
            database,
            search=search,
            sort=sort,
            site=site,
            label=(key, value) if label else None,
            connected=connected,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)


@blueprint.get("/workers/<uuid:worker_id>")
@requires("viewer")
@described(answers=_SHOWN, tagged=True)
def show_worker(worker_id: uuid.UUID) -> Response:
    """Show one worker."""
    with transaction() as database:
        return _answer(workers.get(database, worker_id))


@blueprint.get("/workers/<uuid:worker_id>/quarantine")
@requires("viewer")
@described(paged=True, answers=schema_of(RefusedResult))
def list_refused_results(worker_id: uuid.UUID) -> Response:
    """List its results that could never be stored, newest first."""
    query = Query()
    paging = query.paging()
    query.done()
    with transaction() as database:
        workers.get(database, worker_id)
        page = quarantine.find(database, worker_id, limit=paging.limit, cursor=paging.cursor)
    return listed(page)


@blueprint.get("/workers/<uuid:worker_id>/releases")
@requires("viewer")
@described(answers=whole_list(schema_of(ReleaseRecord)))
def list_releases_of_worker(worker_id: uuid.UUID) -> Response:
    """List the releases that it had, the newest first."""
    with transaction() as database:
        workers.get(database, worker_id)
        releases = workers.releases_of(database, worker_id)
    return jsonify({"items": [plain(release) for release in releases], "next_cursor": None})


@blueprint.patch("/workers/<uuid:worker_id>")
@requires("operator")
@described(body=bodies.WORKER, answers=_SHOWN, conflicts=True, tagged=True)
def update_worker(worker_id: uuid.UUID) -> Response:
    """Change name, site, labels, groups or the policy that is intended for it."""
    values = body()
    with transaction() as database:
        record = commands.update(database, worker_id, values, actor=principal().actor, seen=asked_state())
    return _answer(record)


@blueprint.post("/workers/<uuid:worker_id>/revoke")
@requires("admin")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN)
def revoke_worker(worker_id: uuid.UUID) -> Response:
    """End its right to speak."""
    body(optional=True)
    with transaction() as database:
        record = commands.revoke(database, worker_id, actor=principal().actor)
    return jsonify(plain(record))


@blueprint.post("/workers/<uuid:worker_id>/drained")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN, conflicts=True)
def note_drained_worker(worker_id: uuid.UUID) -> Response:
    """Note that it is out of service by order until it connects again; what stops it on its host is `POST /operations`."""
    body(optional=True)
    with transaction() as database:
        record = commands.note_drained(database, worker_id, actor=principal().actor)
    return jsonify(plain(record))


@blueprint.post("/workers/<uuid:worker_id>/resumed")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_SHOWN)
def note_resumed_worker(worker_id: uuid.UUID) -> Response:
    """Note that it is to be in service again; what starts it on its host is `POST /operations`."""
    body(optional=True)
    with transaction() as database:
        record = commands.note_resumed(database, worker_id, actor=principal().actor)
    return jsonify(plain(record))


@blueprint.delete("/workers/<uuid:worker_id>")
@requires("admin")
@described(
    query={"with_data": said(FLAG, "Remove its results too; false unless sent.")}, status=204, conflicts=True
)
def delete_worker(worker_id: uuid.UUID) -> tuple[str, int]:
    """Delete it; its results stay until their retention ends, unless they are to go with it."""
    query = Query()
    with_data = query.flag("with_data")
    query.done()
    with transaction() as database:
        commands.delete(database, worker_id, actor=principal().actor, with_data=bool(with_data))
    return "", 204


def _answer(record: WorkerRecord) -> Response:
    return shown_state(record, plain(record), commands.FIELDS)
