"""`/reports`: ask for reports, see how far they are, fetch and delete them."""

from __future__ import annotations

from flask import Response

from controller.plain import plain
from controller.store.commands import reports as commands
from controller.store.queries import reports
from controller.store.queries.reports import ReportRecord
from web.api import bodies
from web.api.asking import Query, body
from web.api.blueprint import blueprint, listed
from web.api.describing import FILE, described
from web.api.schemas import record as schema_of
from web.auth import principal, requires
from web.database import transaction

_SHOWN = schema_of(ReportRecord)


@blueprint.get("/reports")
@requires("viewer")
@described(paged=True, answers=_SHOWN)
def list_reports() -> Response:
    """List reports, newest first."""
    query = Query()
    paging = query.paging()
    query.done()
    with transaction() as database:
        page = reports.find(database, limit=paging.limit, cursor=paging.cursor)
    return listed(page)


@blueprint.post("/reports")
@requires("operator")
@described(body=bodies.REPORT, answers=_SHOWN, status=202, conflicts=True)
def create_report() -> tuple[dict[str, object], int]:
    """Have a report made."""
    values = body()
    with transaction() as database:
        record = commands.create(database, values, actor=principal().actor)
    return plain(record), 202


@blueprint.get("/reports/<id:report_id>")
@requires("viewer")
@described(answers=_SHOWN)
def show_report(report_id: int) -> dict[str, object]:
    """Show how far a report is."""
    with transaction() as database:
        record = reports.get(database, report_id)
    shown: dict[str, object] = plain(record)
    return shown


@blueprint.get("/reports/<id:report_id>/file")
@requires("viewer")
@described(answers=FILE, content="application/pdf", conflicts=True)
def fetch_report(report_id: int) -> Response:
    """Send the PDF."""
    with transaction() as database:
        record, content = reports.read_file(database, report_id)
    return pdf_response(record, content)


@blueprint.delete("/reports/<id:report_id>")
@requires("operator")
@described(status=204)
def delete_report(report_id: int) -> tuple[str, int]:
    """Delete a report, or give up one that is still to come."""
    with transaction() as database:
        commands.delete(database, report_id, actor=principal().actor)
    return "", 204


def pdf_response(record: ReportRecord, content: bytes) -> Response:
    """Answer with a report's file, to be saved; never to be shown within a page of ours."""
    response = Response(content, mimetype="application/pdf")
    response.headers["Content-Disposition"] = f'attachment; filename="{record.file_name}"'
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["ETag"] = f'"{record.sha256}"'
    return response
