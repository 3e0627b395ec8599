"""Reads the results that could never be stored: refused, acknowledged and kept."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import Quarantine
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of


@dataclass(frozen=True, kw_only=True)
class RefusedResult:
    """A result that could never be stored."""

    id: int
    #: Where it lay on the worker's disk.
    spool_id: str
    seq: int
    received_at: dt.datetime
    #: Why it was refused.
    reason: str
    #: Bytes that are kept of it, at most 16 KiB.
    payload_bytes: int


def find(
    session: Session, worker_id: uuid.UUID, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[RefusedResult]:
    """Return what was refused of a worker, newest first."""
    query = (
        select(
            Quarantine.id,
            Quarantine.spool_id,
            Quarantine.seq,
            Quarantine.received_at,
            Quarantine.reason,
            func.length(Quarantine.payload).label("payload_bytes"),
        )
        .where(Quarantine.worker_id == worker_id)
        .order_by(Quarantine.id.desc())
        .limit(limit + 1)
    )
    if cursor:
        query = query.where(Quarantine.id < decode_cursor(cursor, int)[0])
    return page_of(
        session.execute(query).all(),
        limit,
        lambda row: RefusedResult(**row._mapping),
        lambda row: encode_cursor(row.id),
    )


def count(session: Session, worker_id: uuid.UUID) -> int:
    """Count what was refused of a worker and is still kept."""
    query = select(func.count()).select_from(Quarantine).where(Quarantine.worker_id == worker_id)
    return session.execute(query).scalar_one()
