"""`/tests/<id>/jobs` and `/workers/<id>/jobs`: which worker measures what, and how its latest run was."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from flask import Response, jsonify

from controller.plain import plain
from controller.store.queries import results, tests, workers
from controller.store.queries.results import Line, LineResult, ResultRecord
from web.api.blueprint import blueprint
from web.api.describing import described, said
from web.api.schemas import kind_metrics, listed, record
from web.auth import requires
from web.database import transaction

_RUN = record(ResultRecord, metrics=kind_metrics())
_SHOWN = listed(record(Line, latest=said({"anyOf": [_RUN, {"type": "null"}]}, "Null before the first run.")))


@blueprint.get("/tests/<id:test_id>/jobs")
@requires("viewer")
@described(answers=_SHOWN)
def list_jobs_of_test(test_id: int) -> Response:
    """List the pairs of worker and destination that a test is planned for, each with its latest run."""
    with transaction() as database:
        tests.get(database, test_id)
        found = results.latest(database, results.lines(database, test_ids=[test_id]))
    return _listed(found)


@blueprint.get("/workers/<uuid:worker_id>/jobs")
@requires("viewer")
@described(answers=_SHOWN)
def list_jobs_of_worker(worker_id: uuid.UUID) -> Response:
    """List what a worker measures, each with its latest run."""
    with transaction() as database:
        workers.get(database, worker_id)
        found = results.latest(database, results.lines(database, worker_id=worker_id))
    return _listed(found)


def _listed(found: Iterable[LineResult]) -> Response:
    items: list[dict[str, Any]] = [{**plain(item.line), "latest": plain(item.result)} for item in found]
    return jsonify({"items": items, "next_cursor": None})
