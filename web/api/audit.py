"""`/audit`: who changed what, for administrators."""

from __future__ import annotations

from flask import Response

from controller.store.queries import audit
from web.api.asking import Query
from web.api.blueprint import blueprint, listed
from web.api.describing import TEXT, described
from web.api.schemas import Named, record
from web.auth import requires
from web.database import transaction


@blueprint.get("/audit")
@requires("admin")
@described(
    query={"actor": TEXT, "object_type": TEXT, "object_id": TEXT},
    paged=True,
    answers=Named("audit_entry", record(audit.AuditRecord)),
)
def list_audit() -> Response:
    """List entries, newest first."""
    query = Query()
    actor, kind, key = query.text("actor"), query.text("object_type"), query.text("object_id")
    paging = query.paging()
    query.done()
    with transaction() as database:
        page = audit.find(
            database,
            actor=actor,
            object_type=kind,
            object_id=key,
            limit=paging.limit,
            cursor=paging.cursor,
        )
    return listed(page)
