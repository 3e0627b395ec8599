"""`/tests/<id>/results.csv`: all runs of a test over a range of time, or all rows of a repeated group of them, streamed."""

from __future__ import annotations

import datetime as dt

from flask import Response, stream_with_context

from controller.reports import sheet
from controller.store.queries import exports, schedules, tests
from streamswarm import contract
from web.api.asking import Query
from web.api.blueprint import blueprint
from web.api.children import child_of
from web.api.describing import FILE, INSTANT, TEXT, described, said
from web.auth import requires
from web.database import transaction

#: Range when the call names none.
_RANGE = dt.timedelta(days=1)


@blueprint.get("/tests/<id:test_id>/results.csv")
@requires("viewer")
@described(
    query={
        "from": said(INSTANT, "Included; a day before `to` unless sent."),
        "to": said(INSTANT, "Not included; now unless sent."),
        "child": said(
            TEXT,
            "A repeated group, such as `hops` or `interfaces`: a line for each of its rows instead of one for each run.",
        ),
    },
    answers=FILE,
    content="text/csv",
)
def export_results(test_id: int) -> Response:
    """Send a test's runs as CSV, or the rows of a repeated group of theirs, jobs one after another, each in order of time."""
    query = Query()
    start, end = query.range(usual=_RANGE)
    wanted = query.text("child")
    query.done()
    with transaction() as database:
        test = tests.get(database, test_id)
        jobs = schedules.read_jobs(database, test_id, test.kind)
    kind = contract.kind(test.kind)
    if wanted:
        child = child_of(kind, wanted)
        rows = exports.rows_of(transaction, kind.name, child.name, jobs, start=start, end=end)
        text = sheet.text_of_rows(kind, child, test.name, rows)
    else:
        runs = exports.runs_of(transaction, kind.name, jobs, start=start, end=end)
        text = sheet.text_of(kind, test.name, runs)
    what = f"-{wanted}" if wanted else ""
    name = f"streamswarm-test-{test_id}{what}-{start:%Y%m%dT%H%M%SZ}-{end:%Y%m%dT%H%M%SZ}.csv"
    response = Response(
        stream_with_context(text),
        content_type="text/csv; charset=utf-8; header=present",
    )
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
