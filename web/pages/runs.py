"""The page of one run: all that it measured, as pictures where the kind has any, and what else it told."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

from flask import render_template

from controller.errors import NotFoundError
from controller.quantities import SPACE
from controller.store.queries import runs, tests
from streamswarm import contract
from streamswarm.zones import from_microseconds
from web.auth import requires
from web.database import transaction
from web.pages import run_views
from web.pages.blueprint import blueprint
from web.pages.formatting import number
from web.pages.states import SOURCES, run_state

#: Ends the names of a detail's histograms: replies by the upper bound of their step, in milliseconds.
_HISTOGRAM = "_histogram"


@blueprint.get("/tests/<int:test_id>/jobs/<int:job_id>/runs/<int:at_us>")
@requires("viewer")
def test_run_of_job(test_id: int, job_id: int, at_us: int) -> str:
    """Show the run of a job that was due at an instant, in microseconds since 1970."""
    with transaction() as session:
        test = tests.get(session, test_id)
        start, end = _span(at_us)
        page = runs.find(session, test_id, test.kind, job=job_id, start=start, end=end, limit=1)
    if not page.items:
        raise NotFoundError(
            f"job {job_id} of this test has no result of that instant",
            mend="see the test's page for those that there are",
        )
    run = page.items[0]
    detail = dict(run.detail or {})
    histograms = {}
    for name in [name for name in detail if name.endswith(_HISTOGRAM)]:
        if steps := _steps(detail[name]):
            histograms[name.removesuffix(_HISTOGRAM).upper()] = steps
            del detail[name]
    way = run_views.path(detail)
    length, courses = run_views.courses(detail)
    if way is not None:
        del detail["hops"]
    if courses:
        del detail["timeline"]
    state, word = run_state(run.status)
    return render_template(
        "tests/run.html",
        test=test,
        kind=contract.kind(test.kind),
        run=run,
        state=state,
        word=word,
        source=SOURCES.get(run.failure_source, run.failure_source),
        histograms=histograms,
        waterfalls=run_views.waterfalls(contract.kind(test.kind), run.metrics, run.children),
        way=way,
        length=length,
        courses=courses,
        detail=json.dumps(detail, indent=2, ensure_ascii=False) if detail else "",
    )


def _span(at_us: int) -> tuple[dt.datetime, dt.datetime]:
    """Return the microsecond that begins at an instant."""
    try:
        start = from_microseconds(at_us)
        return start, start + dt.timedelta(microseconds=1)
    except OverflowError as error:
        raise NotFoundError("no run was ever due at that instant", mend="see the test's page") from error


def _steps(found: Any) -> list[tuple[str, int]]:
    """Return words and count of each step, from the lowest that is not empty to the highest; none when it is no histogram."""
    try:
        counted = sorted((float(bound), int(count)) for bound, count in found.items())
    except (AttributeError, TypeError, ValueError, OverflowError):  # workers write details as they like
        return []
    return [
        (f"≤{SPACE}{number(bound)}" if math.isfinite(bound) else "more", count) for bound, count in counted
    ]
