"""Reads reports: what was asked for, how far it is, and the file."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, defer

from controller.errors import ConflictError, NotFoundError
from controller.store.entities import Report
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of


@dataclass(frozen=True, kw_only=True)
class ReportRecord:
    """A report without its file."""

    id: int
    #: `waiting`, `working`, `ready` or `failed`.
    state: str
    #: Names of its tests when it was asked for.
    title: str
    #: Ids of its tests.
    tests: tuple[int, ...]
    #: The range of time, its end not included.
    start: dt.datetime
    end: dt.datetime
    made_by: str
    #: What is being done, in words; empty unless a keeper works on it.
    progress: str
    #: Why it failed, and what to do about it.
    error: str
    mend: str
    #: Bytes of the file and its SHA-256; None until it is ready.
    size: int | None
    sha256: str | None
    created_at: dt.datetime
    finished_at: dt.datetime | None
    #: Then it is deleted.
    expires_at: dt.datetime

    @property
    def pending(self) -> bool:
        """Whether it is still to come."""
        return self.state in ("waiting", "working")

    @property
    def file_name(self) -> str:
        """Name for the file: plain ASCII, whatever the tests are called."""
        return f"streamswarm-report-{self.id}-{self.end:%Y-%m-%d}.pdf"


def get(session: Session, report_id: int) -> ReportRecord:
    """Return one report or raise NotFoundError."""
    entity = session.scalar(_select().where(Report.id == report_id))
    if entity is None:
        raise NotFoundError(f"there is no report {report_id}", mend="list the reports; old ones are deleted")
    return record_of(entity)


def find(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[ReportRecord]:
    """Return reports, newest first."""
    query = _select().order_by(Report.id.desc()).limit(limit + 1)
    if cursor:
        query = query.where(Report.id < decode_cursor(cursor, int)[0])
    return page_of(session.scalars(query).all(), limit, record_of, lambda row: encode_cursor(row.id))


def read_file(session: Session, report_id: int) -> tuple[ReportRecord, bytes]:
    """Return a report with its PDF; ConflictError while there is none."""
    found = get(session, report_id)
    content = session.scalar(select(Report.file).where(Report.id == report_id))
    if content is None:
        why = f"it failed: {found.error}" if found.state == "failed" else "it is still being made"
        raise ConflictError(
            f"report {report_id} has no file; {why}", mend=found.mend or "ask again in a moment"
        )
    return found, content


def count_pending(session: Session) -> int:
    """Count the reports that are still to come."""
    query = select(func.count()).select_from(Report).where(Report.state.in_(("waiting", "working")))
    return session.execute(query).scalar_one()


def record_of(entity: Report) -> ReportRecord:
    """Return an entity as a record."""
    request: dict[str, Any] = entity.request
    return ReportRecord(
        id=entity.id,
        state=entity.state,
        title=entity.title,
        tests=tuple(request["tests"]),
        start=dt.datetime.fromisoformat(request["from"]),
        end=dt.datetime.fromisoformat(request["to"]),
        made_by=entity.made_by,
        progress=entity.progress,
        error=entity.error,
        mend=entity.mend,
        size=entity.size,
        sha256=entity.sha256,
        created_at=entity.created_at,
        finished_at=entity.finished_at,
        expires_at=entity.expires_at,
    )


def _select() -> Select[Any]:
    return select(Report).options(defer(Report.file)).execution_options(populate_existing=True)
