"""What became of "run now" where nothing did: the audit log has who asked, and why it failed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import AuditEntry

#: Actions of the audit log.
RUN, RUN_FAILED = "test.run", "test.run_failed"
#: So long it is told.
_RECENT = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class FailedRequest:
    """A "run now" that came to nothing."""

    requested_at: dt.datetime
    reason: str


def failed_request(session: Session, test_id: int) -> FailedRequest | None:
    """Return why the latest "run now" of a test came to nothing; None when it did not, or an hour ago."""
    latest = (
        select(AuditEntry)
        .where(
            AuditEntry.at > func.now() - _RECENT,
            AuditEntry.object_type == "test",
            AuditEntry.object_id == str(test_id),
        )
        .order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
        .limit(1)
    )
    failure = session.scalars(latest.where(AuditEntry.action == RUN_FAILED)).first()
    if failure is None:
        return None
    requested_at = dt.datetime.fromisoformat(failure.detail["requested_at"])
    asked = session.scalars(latest.where(AuditEntry.action == RUN)).first()
    if asked is not None and asked.at > requested_at:
        return None
    return FailedRequest(requested_at=requested_at, reason=failure.detail["reason"])
