"""Pages of reports: ask for one, watch it being made, fetch it, delete it."""

from __future__ import annotations

from typing import Any

from flask import flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from controller.errors import ConflictError
from controller.store.commands import reports as commands
from controller.store.queries import reports, tests
from streamswarm.contract import InvalidInputError
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import actor
from web.pages.entity_form import EntityForm, problems_of

_LABELS = {"tests": "Tests", "last": "Range", "from": "From", "to": "To"}
#: What the form offers; `custom` shows the two instants.
RANGES = (("24h", "Last 24 hours"), ("7d", "Last 7 days"), ("30d", "Last 30 days"), ("custom", "From … to"))
#: Tests that the form can list.
_MOST_TESTS = 500
STATES = {
    "waiting": ("waiting", "waiting"),
    "working": ("attention", "being made"),
    "ready": ("ok", "ready"),
    "failed": ("failed", "failed"),
}


@blueprint.get("/reports", endpoint="reports")
@requires("viewer")
def reports_page() -> str:
    """List reports, with the form for a new one; a fragment answers with the rows as they are now."""
    if "HX-Request" in request.headers:
        return render_template("reports/rows.html", **_rows())
    chosen = request.args.getlist("test")
    return _draw(EntityForm(labels=_LABELS, values={"tests": chosen, "last": "24h"}))


@blueprint.post("/reports")
@requires("operator")
def report_create() -> Response | tuple[str, int]:
    """Have a report made."""
    try:
        with transaction() as session:
            commands.create(session, _submitted(), actor=actor())
    except (InvalidInputError, ConflictError) as error:
        return _draw(EntityForm(labels=_LABELS, values=_typed(), all_problems=problems_of(error))), 422
    flash("The report is being made; it appears below as soon as it is ready.", "success")
    return redirect(url_for("pages.reports"))


@blueprint.post("/reports/<int:report_id>/delete")
@requires("operator")
def report_delete(report_id: int) -> Response:
    """Delete a report."""
    with transaction() as session:
        commands.delete(session, report_id, actor=actor())
    flash(f"Report {report_id} is deleted.", "success")
    return redirect(url_for("pages.reports"))


def _draw(form: EntityForm) -> str:
    with transaction() as session:
        known = tests.names(
            session, most=_MOST_TESTS, always=[int(text) for text in form.value("tests") if _is_number(text)]
        )
    return render_template("reports/list.html", form=form, tests=known, ranges=RANGES, **_rows())


def _rows() -> dict[str, Any]:
    with transaction() as session:
        page = reports.find(session, limit=50, cursor=request.args.get("cursor") or None)
    return {
        "rows": [(item, *STATES[item.state]) for item in page.items],
        "next_cursor": page.next_cursor,
        "pending": any(item.pending for item in page.items),
    }


def _typed() -> dict[str, Any]:
    return {
        "tests": request.form.getlist("tests"),
        **{name: request.form.get(name, "") for name in ("last", "from", "to")},
    }


def _submitted() -> dict[str, Any]:
    typed = _typed()
    # What is no number is refused by the command, under its own index.
    ids = [int(text) if _is_number(text) else text for text in typed["tests"]]
    if typed["last"] == "custom":
        return {"tests": ids, "from": typed["from"], "to": typed["to"]}
    return {"tests": ids, "last": typed["last"]}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
