"""`/tests/<id>/diagnosis`: what is the matter with a test."""

from __future__ import annotations

import datetime as dt
from typing import Any, get_args

from flask import Response, jsonify

from controller.diagnosis.verdicts.records import Command, Domain, Evidence, MetricState, Status, Verdict
from controller.plain import plain
from controller.store.queries import diagnosis, tests
from web.api.blueprint import blueprint
from web.api.describing import INSTANT, UUID, described, said
from web.api.schemas import Named, closed, or_null, record
from web.auth import requires
from web.database import transaction

_NUMBER = {"type": ["number", "null"]}
_TEXT = {"type": "string"}
_DOMAIN = {"enum": list(get_args(Domain))}
_INSTANT_OR_NULL = {**INSTANT, "type": ["string", "null"]}
_METRIC = Named(
    "metric_evidence",
    closed(
        {
            "name": _TEXT,
            "unit": said(_TEXT, "UCUM."),
            "state": {"enum": list(get_args(MetricState))},
            "low": _NUMBER,
            "normal": _NUMBER,
            "high": _NUMBER,
            "now": said(_NUMBER, "Null when the newest run did not measure it."),
            "seasonal": {"type": "boolean", "description": "The range is that of this hour of the week."},
        }
    ),
)
_EVIDENCE = Named(
    "evidence",
    closed(
        {
            "text": _TEXT,
            "since": INSTANT,
            "domain": said(_DOMAIN, "What this piece of evidence points to."),
            "context": {"type": "boolean", "description": "Found beside the test, on the worker's host."},
            "test_id": {"type": "integer"},
            "worker_id": UUID,
            "worker": _TEXT,
            "destination": {"type": ["string", "null"]},
            "metric": or_null(_METRIC, "Null when it is the runs that fail."),
        }
    ),
)
_ANSWER = Named(
    "diagnosis",
    closed(
        {
            "status": {"enum": list(get_args(Status))},
            "health": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 100,
                "description": "Null when nothing was measured, or what is normal is not known yet.",
            },
            "domain": said({"enum": [*get_args(Domain), None]}, "The fault domain; null without a fault."),
            "sentence": _TEXT,
            "since": _INSTANT_OR_NULL,
            "bad": said({"type": "integer"}, "Jobs that are bad, of those judged."),
            "judged": {"type": "integer"},
            "needed": said({"type": "integer"}, "Good runs that are still needed to know what is normal."),
            "command": or_null(record(Command), "The next command for a person."),
            "evidence": {"type": "array", "items": _EVIDENCE},
            "looked_at": said(_INSTANT_OR_NULL, "When results were last scored; null before the first time."),
        }
    ),
)


@blueprint.get("/tests/<id:test_id>/diagnosis")
@requires("viewer")
@described(answers=_ANSWER)
def show_diagnosis(test_id: int) -> Response:
    """Show what is the matter with a test: health, fault domain, evidence, the next command."""
    with transaction() as database:
        tests.get(database, test_id)
        verdict, found = diagnosis.diagnose(database, test_id, now=dt.datetime.now(dt.UTC))
    return jsonify({**_shown(verdict), "looked_at": plain(found.looked_at)})


def _shown(verdict: Verdict) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "status": verdict.status,
        "health": verdict.health,
        "domain": verdict.domain,
        "sentence": verdict.sentence,
        "since": plain(verdict.since),
        "bad": verdict.bad,
        "judged": verdict.judged,
        "needed": verdict.needed,
        "command": plain(verdict.command),
        "evidence": [_evidence(one) for one in verdict.evidence],
    }
    return shown


def _evidence(one: Evidence) -> dict[str, Any]:
    metric = one.metric
    return {
        "text": one.text,
        "since": plain(one.since),
        "domain": one.domain,
        "context": one.context,
        "test_id": one.job.test_id,
        "worker_id": str(one.job.worker_id),
        "worker": one.job.worker_name,
        "destination": one.job.destination_name or None,
        "metric": metric
        and {
            "name": metric.metric.name,
            "unit": metric.metric.unit,
            "state": metric.state,
            "low": plain(metric.low),
            "normal": plain(metric.normal),
            "high": plain(metric.high),
            "now": plain(metric.now),
            "seasonal": metric.seasonal,
        },
    }
