"""`/tests/<id>/jobs` and `/workers/<id>/jobs`: which worker measures what, and how its latest run was."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from flask import Response, jsonify
from sqlalchemy.orm import Session

from controller.plain_lines import planned_lines
from controller.store.queries import results, tests, workers
from controller.store.queries.results import Line, ResultRecord
from web.api.blueprint import blueprint
from web.api.describing import described, said
from web.api.schemas import Named, kind_metrics, listed, or_null, record
from web.auth import requires
from web.database import transaction

_RUN = record(ResultRecord, metrics=kind_metrics())
_INSTANT = {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}
_SHOWN = listed(
    Named(
        "job",
        record(
            Line,
            latest=or_null(_RUN, "Null before the first run."),
            first_due_at=said(
                _INSTANT,
                "The first due instant since the worker connected last and the job was changed last; it may lie ahead. Null where "
                "nothing is due any more, while it is paused, and before the worker's first session.",
            ),
            last_due_at=said(
                _INSTANT,
                "The newest due instant since then until now: it stays behind when a window has closed or the job has ended. Null "
                "before the first, and where `first_due_at` is null.",
            ),
        ),
    )
)


@blueprint.get("/tests/<id:test_id>/jobs")
@requires("viewer")
@described(answers=_SHOWN)
def list_jobs_of_test(test_id: int) -> Response:
    """List the pairs of worker and destination that a test is planned for, each with its latest run."""
    with transaction() as database:
        tests.get(database, test_id)
        return _listed(database, results.lines(database, test_ids=[test_id]))


@blueprint.get("/workers/<uuid:worker_id>/jobs")
@requires("viewer")
@described(answers=_SHOWN)
def list_jobs_of_worker(worker_id: uuid.UUID) -> Response:
    """List what a worker measures, each with its latest run."""
    with transaction() as database:
        workers.get(database, worker_id)
        return _listed(database, results.lines(database, worker_id=worker_id))


def _listed(database: Session, lines: Sequence[Line]) -> Response:
    return jsonify({"items": planned_lines(database, lines), "next_cursor": None})
