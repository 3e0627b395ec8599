"""Lines as the REST API shows them: with their latest run, and when they are first due."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from controller.plain import plain
from controller.store.queries import results
from controller.store.queries.first_due import due
from controller.store.queries.results import Line


def planned_lines(session: Session, lines: Sequence[Line]) -> list[dict[str, Any]]:
    """Return lines with `latest`, null before the first run, and `first_due_at` and `last_due_at`, null where nothing is due."""
    spans = due(session, lines)
    return [
        {
            **plain(found.line),
            "latest": plain(found.result),
            "first_due_at": plain(span.first if (span := spans.get(found.line)) else None),
            "last_due_at": plain(span.last if span else None),
        }
        for found in results.latest(session, lines)
    ]
