"""`/tests`: define them, pause, resume and run them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from flask import Response, jsonify

from controller.plain import instant, plain
from controller.planning.records import Skip
from controller.store.commands import definitions
from controller.store.commands import tests as commands
from controller.store.queries import plans, previews, tests
from controller.store.queries.plans import MENDS
from controller.store.queries.previews import Load
from controller.store.queries.run_requests import FailedRequest, failed_request
from controller.store.queries.tests import TestRecord, TestState
from streamswarm import contract
from web.api import bodies
from web.api.asking import Query, body, take_version
from web.api.blueprint import blueprint, listed, shown_version
from web.api.describing import FLAG, ID, INSTANT, TEXT, described, one_of, said
from web.api.schemas import Named, closed, or_null, whole_specs
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import transaction

_STATE = {"enum": list(get_args(TestState)), "description": "Whether it runs."}
_ANSWER = schema_of(TestRecord, spec=whole_specs(), state=_STATE)
_TEXT_OR_NULL = {"type": ["string", "null"]}
_UNPLANNED = Named(
    "unplanned",
    closed(
        {
            "worker": _TEXT_OR_NULL,
            "destination": _TEXT_OR_NULL,
            "reason": {"type": "string"},
            "mend": {"type": "string"},
        }
    ),
)
_LOAD = schema_of(
    Load,
    left_out={
        "type": "array",
        "items": Named("left_out", closed({"reason": {"type": "string"}, "count": {"type": "integer"}})),
        "description": "Why a worker or destination would be left out, and how many of them.",
    },
)
_WHOLE = Named(
    "whole_test",
    schema_of(
        TestRecord,
        spec=whole_specs(),
        state=_STATE,
        unplanned={
            "type": "array",
            "items": _UNPLANNED,
            "description": "What it asks for and gets no job.",
        },
        run_failed=or_null(
            schema_of(FailedRequest),
            "Why the latest `POST …/run` came to nothing, for an hour or until it is sent again.",
        ),
    ),
)


@blueprint.get("/tests")
@requires("viewer")
@described(
    query={
        "search": TEXT,
        "kind": TEXT,
        "tag": TEXT,
        "destination": ID,
        "paused": FLAG,
        "origin": ID,
        "sort": one_of(tests.ORDERS),
        "made_for_run": said(FLAG, "Whether another test has made it for one of its runs."),
    },
    paged=True,
    answers=_ANSWER,
)
def list_tests() -> Response:
    """List tests by name."""
    query = Query()
    search, kind, tag = query.text("search"), query.text("kind"), query.text("tag")
    destination, paused, paging = query.id("destination"), query.flag("paused"), query.paging()
    origin, made_for_run, sort = query.id("origin"), query.flag("made_for_run"), query.text("sort")
    query.done()
    with transaction() as database:
        page = tests.find(
            database,
            search=search,
            kind=kind,
            tag=tag,
            destination=destination,
            paused=paused,
            origin=origin,
            made_for_run=made_for_run,
            sort=sort,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page, _shown)


@blueprint.post("/tests")
@requires("operator")
@described(body=bodies.TEST, answers=_ANSWER, status=201, conflicts=True, tagged=True)
def create_test() -> Response:
    """Make a test."""
    values = body()
    with transaction() as database:
        record = commands.create(database, values, actor=principal().actor)
    return shown_version(record, _shown(record), 201)


@blueprint.post("/tests/preview")
@requires("operator")
@described(body=bodies.TEST, answers=_LOAD)
def preview_test() -> Response:
    """Say what a test would come to, and make none."""
    values = body()
    with transaction() as database:
        checked, now = definitions.check_definition(database, values), dt.datetime.now(dt.UTC)
        load = previews.load(
            database,
            checked["kind"],
            checked,
            destinations=checked["destinations"],
            selection=checked["selection"],
            created_at=now,
            now=now,
        )
    left_out = [{"reason": reason, "count": count} for reason, count in load.left_out]
    return jsonify({**plain(load), "left_out": left_out})


@blueprint.get("/tests/<id:test_id>")
@requires("viewer")
@described(answers=_WHOLE, tagged=True)
def show_test(test_id: int) -> Response:
    """Show one test."""
    with transaction() as database:
        record = tests.get(database, test_id)
        skips = plans.read_skips(database, test_id, now=dt.datetime.now(dt.UTC))
        failed = failed_request(database, test_id)
    more = {"unplanned": [_unplanned(skip) for skip in skips], "run_failed": failed and plain(failed)}
    return shown_version(record, {**_shown(record), **more})


@blueprint.patch("/tests/<id:test_id>")
@requires("operator")
@described(body=bodies.change(bodies.TEST, versioned=True), answers=_ANSWER, conflicts=True, tagged=True)
def update_test(test_id: int) -> Response:
    """Change the fields sent, each as a whole."""
    values, seen = take_version(body())
    with transaction() as database:
        record = commands.update(database, test_id, values, seen=seen, actor=principal().actor)
    return shown_version(record, _shown(record))


@blueprint.delete("/tests/<id:test_id>")
@requires("operator")
@described(query={"with_data": said(FLAG, "Remove its results too; false unless sent.")}, status=204)
def delete_test(test_id: int) -> tuple[str, int]:
    """Delete a test; its results stay until their retention ends, unless they are to go with it."""
    query = Query()
    with_data = query.flag("with_data")
    query.done()
    with transaction() as database:
        commands.delete(database, test_id, actor=principal().actor, with_data=bool(with_data))
    return "", 204


@blueprint.post("/tests/<id:test_id>/pause")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_ANSWER, tagged=True)
def pause_test(test_id: int) -> Response:
    """Stop its runs until it is resumed."""
    body(optional=True)
    with transaction() as database:
        record = commands.pause(database, test_id, actor=principal().actor)
    return shown_version(record, _shown(record))


@blueprint.post("/tests/<id:test_id>/resume")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_ANSWER, tagged=True)
def resume_test(test_id: int) -> Response:
    """Let it run again."""
    body(optional=True)
    with transaction() as database:
        record = commands.resume(database, test_id, actor=principal().actor)
    return shown_version(record, _shown(record))


@blueprint.post("/tests/<id:test_id>/stop")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_ANSWER, conflicts=True)
def stop_test(test_id: int) -> Response:
    """End it now."""
    body(optional=True)
    with transaction() as database:
        record = commands.stop(database, test_id, actor=principal().actor)
    return shown_version(record, _shown(record))


@blueprint.post("/tests/<id:test_id>/restart")
@requires("operator")
@described(body=bodies.NOTHING, body_optional=True, answers=_ANSWER)
def restart_test(test_id: int) -> Response:
    """Have it run again from now on, without an end; its runs are counted anew."""
    body(optional=True)
    with transaction() as database:
        record = commands.restart(database, test_id, actor=principal().actor)
    return shown_version(record, _shown(record))


@blueprint.post("/tests/<id:test_id>/run")
@requires("operator")
@described(
    body=bodies.NOTHING,
    body_optional=True,
    answers=Named("run_request", closed({"requested_at": INSTANT})),
    status=202,
    conflicts=True,
)
def run_test(test_id: int) -> tuple[Response, int]:
    """Have it run once, beside its schedule."""
    body(optional=True)
    with transaction() as database:
        due = commands.run_now(database, test_id, actor=principal().actor)
    return jsonify({"requested_at": instant(due)}), 202


def _unplanned(skip: Skip) -> dict[str, str | None]:
    """Return what is not planned; planning tells what mends it behind the reason."""
    reason, _, mend = skip.reason.partition(MENDS)
    return {
        "worker": skip.worker_name or None,
        "destination": skip.destination_name or None,
        "reason": reason,
        "mend": mend,
    }


def _shown(record: TestRecord) -> dict[str, Any]:
    shown: dict[str, Any] = plain(record)
    # One that was made with an older release lacks the parameters that have come since.
    spec = {**_defaults(record.kind), **shown["spec"]}
    return {**shown, "spec": spec, "state": record.state(dt.datetime.now(dt.UTC))}


@cache
def _defaults(kind: str) -> Mapping[str, Any]:
    return contract.spec_values(contract.make_spec(kind, {}))
