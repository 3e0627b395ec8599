"""Pages of tests: list, one test with its live charts, and what can be done to it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import tests as commands
from controller.store.queries import accounts, events, pages, plans, results, standings, tests
from controller.store.queries.pages import RunRecord
from controller.store.queries.results import DrawnLines
from controller.store.queries.run_requests import failed_request
from controller.store.queries.tests import TestRecord
from streamswarm import contract
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.charts import MOST_LINES, RANGES, chart_groups, line_label, pair_of
from web.pages.context import actor, list_template
from web.pages.rows import MOST_CHOICES, choices, sections
from web.pages.states import SOURCES, run_state, test_look, test_progress
from web.pages.tests_rows import read_rows

_LATEST = 15
_MOST_OVERDUE = 5


@blueprint.get("/tests", endpoint="tests")
@requires("viewer")
def tests_page() -> str:
    """List tests; a fragment answers a search, a filter or the end of the list."""
    search = request.args.get("q", "").strip()
    kind = request.args.get("kind", "")
    paused = {"yes": True, "no": False}.get(request.args.get("paused", ""))
    origin = request.args.get("origin", type=int)
    # There may be thousands of them, among which nobody would find what people have made.
    made = (
        None if origin is not None else {"too": None, "only": True}.get(request.args.get("made", ""), False)
    )
    with transaction() as session:
        page = tests.find(
            session,
            search=search,
            kind=kind if kind in contract.kinds() else "",
            paused=paused,
            origin=origin,
            made_for_run=made,
            sort=request.args.get("sort", ""),
            limit=50,
            cursor=request.args.get("cursor") or None,
        )
        rows = read_rows(session, page.items, trends=True)
    filters: dict[str, Any] = {
        name: request.args[name]
        for name in ("q", "kind", "paused", "made", "origin", "sort")
        if request.args.get(name)
    }
    return render_template(
        list_template("tests"),
        rows=rows,
        next_href=url_for("pages.tests", cursor=page.next_cursor, **filters) if page.next_cursor else "",
        filters=filters,
        origin=origin,
        kinds=contract.kinds(),
    )


@blueprint.get("/tests/<int:test_id>")
@requires("viewer")
def test(test_id: int) -> str:
    """Show one test with its charts."""
    latest = _latest(test_id)
    pair = {name: request.args[name] for name in ("worker", "destination") if request.args.get(name)}
    drawn = DrawnLines(lines=(), total=0)
    if latest["kind"].children or pair:
        with transaction() as session:
            drawn = results.drawn_lines(session, test_id, most=MOST_CHOICES, **pair_of(request.args))
    return render_template(
        "tests/page.html",
        pair=pair,
        pair_label=line_label(drawn.lines[0]) if pair and drawn.lines else "",
        line_count=drawn.total if pair else latest["test"].jobs,
        groups=chart_groups(latest["kind"]),
        sections=sections(latest["kind"]),
        choices=choices(drawn.lines),
        all_choices=drawn.total,
        most_rows=MOST_LINES,
        ranges=RANGES,
        **latest,
    )


@blueprint.get("/tests/<int:test_id>/latest")
@requires("viewer")
def test_latest(test_id: int) -> str:
    """Draw state and latest results, the part that lives."""
    return render_template("tests/latest.html", **_latest(test_id))


@blueprint.post("/tests/<int:test_id>/pause")
@requires("operator")
def test_pause(test_id: int) -> Response:
    """Stop the runs of a test."""
    with transaction() as session:
        found = commands.pause(session, test_id, actor=actor())
    flash(f"{found.name} is paused; it keeps its results.", "success")
    return _back(test_id)


@blueprint.post("/tests/<int:test_id>/resume")
@requires("operator")
def test_resume(test_id: int) -> Response:
    """Let a test run again."""
    with transaction() as session:
        found = commands.resume(session, test_id, actor=actor())
    flash(f"{found.name} runs again.", "success")
    return _back(test_id)


@blueprint.post("/tests/<int:test_id>/run")
@requires("operator")
def test_run(test_id: int) -> Response:
    """Have a test run once, now."""
    try:
        with transaction() as session:
            commands.run_now(session, test_id, actor=actor())
    except ConflictError as error:
        flash(f"{error.message}: {error.mend}.", "failed")
        return _back(test_id)
    flash("Every worker of this test runs it once more, now; the results appear below.", "success")
    return _back(test_id)


@blueprint.post("/tests/<int:test_id>/stop")
@requires("operator")
def test_stop(test_id: int) -> Response:
    """End a test now."""
    try:
        with transaction() as session:
            found = commands.stop(session, test_id, actor=actor())
    except ConflictError as error:
        flash(f"{error.message}: {error.mend}.", "failed")
        return _back(test_id)
    flash(f"{found.name} is stopped; it keeps its results.", "success")
    return _back(test_id)


@blueprint.post("/tests/<int:test_id>/restart")
@requires("operator")
def test_restart(test_id: int) -> Response:
    """Have a test run again from now on."""
    with transaction() as session:
        found = commands.restart(session, test_id, actor=actor())
    flash(f"{found.name} runs again from now on.", "success")
    return _back(test_id)


@blueprint.post("/tests/<int:test_id>/delete")
@requires("operator")
def test_delete(test_id: int) -> Response:
    """Delete a test, and its results when that is ticked."""
    with_data = request.form.get("with_data") == "yes"
    with transaction() as session:
        found = tests.get(session, test_id)
        commands.delete(session, test_id, actor=actor(), with_data=with_data)
    removed = " Its results are being removed." if with_data else ""
    flash(f"The test {found.name} is deleted.{removed}", "success")
    return redirect(url_for("pages.tests"))


def _latest(test_id: int) -> dict[str, Any]:
    only_bad = request.args.get("only") == "bad"
    now = dt.datetime.now(dt.UTC)
    with transaction() as session:
        found = tests.get(session, test_id)
        kind = contract.kind(found.kind)
        newest = pages.newest_runs(session, found.kind, test_id, limit=_LATEST, only_bad=only_bad)
        happened = _happened(session, found, newest)
        standing = standings.read(session, {found.kind: [test_id]}).get(test_id)
        skips = plans.read_skips(session, test_id, now=now)
        overdue = accounts.overdue(session, test_id=test_id, limit=_MOST_OVERDUE)
        run_failed = failed_request(session, test_id)
    return {
        "test": found,
        "over": found.state(now) == "ended",
        "progress": test_progress(found, now),
        "kind": kind,
        "look": test_look(found, standing, now),
        "skips": skips,
        "overdue": overdue,
        "run_failed": run_failed,
        "runs": [
            (
                run,
                *run_state(run.status),
                SOURCES.get(run.failure_source, run.failure_source),
                happened.get((run.job_id, run.scheduled_at), []),
            )
            for run in newest
        ],
        "only_bad": only_bad,
    }


def _happened(
    session: Session, test: TestRecord, shown: Sequence[RunRecord]
) -> dict[tuple[int, dt.datetime], list[str]]:
    """Return the names of the events that runs saw, by job and instant."""
    found: dict[tuple[int, dt.datetime], list[str]] = {}
    if shown and contract.kind(test.kind).events:
        start, end = shown[-1].scheduled_at, shown[0].scheduled_at + dt.timedelta(microseconds=1)
        for event in events.find(session, test.id, test.kind, start=start, end=end).items:
            found.setdefault((event.job_id, event.scheduled_at), []).append(event.event)
    return found


def _back(test_id: int) -> Response:
    return redirect(url_for("pages.test", test_id=test_id))
