"""`/tests/<id>/results` and `/tests/<id>/series`: what was measured."""

from __future__ import annotations

import datetime as dt

from flask import Response, jsonify

from controller.store.queries import results, runs, tests
from controller.store.queries.due_runs import MOST_RUNS, Lines, refuse_too_many
from controller.store.queries.results import MAX_POINTS, Line, Point
from controller.store.queries.runs import RunRecord
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.targets import shown
from web.api.asking import Query
from web.api.blueprint import blueprint, listed
from web.api.describing import FLAG, ID, INSTANT, TEXT, UUID, described, said
from web.api.plain import instant, plain
from web.api.schemas import closed, kind_metrics, record
from web.auth import requires
from web.database import transaction

#: Range of a series when the call names none.
_RANGE = dt.timedelta(hours=1)
#: Range in which runs are looked for by their clock when the call names none.
_SEARCHED = dt.timedelta(days=1)
#: Lines (pairs of worker and destination) in one answer.
_MOST_LINES = 50
_RANGE_QUERY = {
    "from": said(INSTANT, "Included."),
    "to": said(INSTANT, "Not included."),
    "worker": UUID,
    "destination": ID,
}
_SERIES = closed(
    {
        "metric": {"type": "string"},
        "unit": {"type": "string", "description": "UCUM."},
        "from": INSTANT,
        "to": INSTANT,
        "lines": {
            "type": "array",
            "items": closed(
                {
                    "worker_id": UUID,
                    "worker": {"type": "string"},
                    "destination_id": {"type": ["integer", "null"]},
                    "destination": {"type": ["string", "null"]},
                    "interval_s": {"type": ["number", "null"]},
                    "live": {"type": "boolean"},
                    "bucket_s": {
                        "type": ["number", "null"],
                        "description": "Width of the buckets; null when every point is a run.",
                    },
                    "points": {"type": "array", "items": record(Point)},
                }
            ),
        },
    }
)


@blueprint.get("/tests/<id:test_id>/results")
@requires("viewer")
@described(
    query={
        **_RANGE_QUERY,
        "clock_off": said(
            FLAG,
            "Only runs of a worker whose clock was off, or was not. They are looked for run by run: `from` is a day before `to`"
            f" unless sent, and where more than {MOST_RUNS:,} runs were due in the range, the answer says where it can begin.",
        ),
    },
    paged=True,
    answers=record(RunRecord, metrics=kind_metrics()),
)
def list_results(test_id: int) -> Response:
    """List a test's runs, newest first."""
    query = Query()
    worker, destination, paging = query.uuid("worker"), query.id("destination"), query.paging()
    clock_off = query.flag("clock_off")
    searched = None if clock_off is None else query.range(usual=_SEARCHED)
    start, end = searched or (query.instant("from"), query.instant("to"))
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        if searched:
            lines = Lines(test_id=test_id, kind=test.kind, worker=worker, destination=destination)
            refuse_too_many(database, lines, start=searched[0], end=searched[1])
        page = runs.find(
            database,
            test_id,
            test.kind,
            start=start,
            end=end,
            worker=worker,
            destination=destination,
            clock_off=clock_off,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)


@blueprint.get("/tests/<id:test_id>/series")
@requires("viewer")
@described(query={"metric": said(TEXT, "The kind's headline unless sent."), **_RANGE_QUERY}, answers=_SERIES)
def show_series(test_id: int) -> Response:
    """Show one metric over a range of time, a line for each worker and destination."""
    query = Query()
    metric = query.text("metric")
    start, end = query.range(usual=_RANGE)
    worker, destination = query.uuid("worker"), query.id("destination")
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        kind = contract.kind(test.kind)
        name = metric or kind.headline.name
        try:
            unit = kind.metric(name).unit
        except KeyError as error:
            names = ", ".join(known.name for known in kind.metrics)
            raise InvalidInputError(
                [Problem(path="metric", message=f"`{shown(name)}` is not one of {names}")]
            ) from error
        lines = [
            line
            for line in results.lines(database, test_ids=[test_id])
            if worker in (None, line.worker_id) and destination in (None, line.destination_id)
        ]
        if len(lines) > _MOST_LINES:
            raise InvalidInputError(
                [
                    Problem(
                        path="worker",
                        message=f"{len(lines)} lines are more than {_MOST_LINES}; name a worker or a destination",
                    )
                ]
            )
        series = [
            results.series(
                database,
                line.kind,
                name,
                line.job_ids,
                start=start,
                end=end,
                interval_s=line.interval_s,
                points=MAX_POINTS,
            )
            for line in lines
        ]
    return jsonify(
        {
            "metric": name,
            "unit": unit,
            "from": instant(start),
            "to": instant(end),
            "lines": [
                {**_line(line), "bucket_s": found.bucket_s, "points": plain(found.points)}
                for line, found in zip(lines, series, strict=True)
            ],
        }
    )


def _line(line: Line) -> dict[str, object]:
    return {
        "worker_id": str(line.worker_id),
        "worker": line.worker_name,
        "destination_id": line.destination_id,
        "destination": line.destination_name or None,
        "interval_s": line.interval_s,
        "live": line.live,
    }
