"""The page of the audit log: who changed what, for administrators."""

from __future__ import annotations

from typing import Any

from flask import render_template, request, url_for

from controller.store.queries import audit
from controller.store.queries.audit import AuditRecord
from web.auth import requires
from web.database import transaction
from web.pages.blueprint import blueprint
from web.pages.context import list_template
from web.pages.formatting import NOTHING, shown

#: What can be changed, as the log calls it, with the words of the filter.
TYPES = {
    "destination": "destinations",
    "operation": "operations on the fleet",
    "report": "reports",
    "settings": "settings",
    "test": "tests",
    "token": "API tokens",
    "user": "users and logins",
    "worker": "workers",
}
#: Type → endpoint of the page of such a thing, and the name of its id there.
_PAGES = {
    "destination": ("pages.destination", "destination_id"),
    "operation": ("pages.operation", "operation_id"),
    "test": ("pages.test", "test_id"),
    "token": ("pages.token", "token_id"),
    "user": ("pages.user", "user_id"),
    "worker": ("pages.worker", "worker_id"),
}


@blueprint.get("/audit", endpoint="audit")
@requires("admin")
def audit_page() -> str:
    """List entries, newest first; a fragment answers a filter or the end of the list."""
    filters: dict[str, Any] = {
        name: value for name in ("actor", "type", "id") if (value := request.args.get(name, "").strip())
    }
    with transaction() as session:
        page = audit.find(
            session,
            actor=filters.get("actor", ""),
            object_type=filters.get("type", ""),
            object_id=filters.get("id", ""),
            limit=50,
            cursor=request.args.get("cursor") or None,
        )
    return render_template(
        list_template("audit"),
        rows=[(entry, _href(entry), _changes(entry)) for entry in page.items],
        filters=filters,
        types=TYPES,
        next_href=url_for("pages.audit", cursor=page.next_cursor, **filters) if page.next_cursor else "",
    )


def _href(entry: AuditRecord) -> str:
    """Return the address of what was changed; empty when it has no page, or is deleted."""
    if entry.object_type not in _PAGES or not entry.object_id or entry.action.endswith(".delete"):
        return ""
    endpoint, name = _PAGES[entry.object_type]
    values: dict[str, Any] = {name: entry.object_id}
    return url_for(endpoint, **values)


def _changes(entry: AuditRecord) -> list[tuple[str, str, str]]:
    """Return field, value before and value after; what was not before is empty, what never had a value is left out."""
    found: list[tuple[str, str, str]] = []
    for name, value in entry.detail.items():
        if isinstance(value, dict) and value.keys() == {"from", "to"}:
            found.append((name, shown(value["from"]), shown(value["to"])))
        elif (text := shown(value)) != NOTHING:
            found.append((name, "", text))
    return found
