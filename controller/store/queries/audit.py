"""Reads the audit log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from controller.store.entities import AuditEntry
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of


@dataclass(frozen=True, kw_only=True)
class AuditRecord:
    """One change and who made it."""

    id: int
    at: dt.datetime
    #: `user:<name>`, `token:<name>`, `development:<name>` (nobody had to log in) or `system`.
    actor: str
    address: str
    #: A verb and an object: `test.create`.
    action: str
    object_type: str
    object_id: str
    detail: Mapping[str, Any]


def find(
    session: Session,
    *,
    actor: str = "",
    object_type: str = "",
    object_id: str = "",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[AuditRecord]:
    """Return entries, newest first."""
    query = select(AuditEntry).order_by(AuditEntry.id.desc()).limit(limit + 1)
    if actor:
        query = query.where(AuditEntry.actor == actor)
    if object_type:
        query = query.where(AuditEntry.object_type == object_type)
    if object_id:
        query = query.where(AuditEntry.object_id == object_id)
    if cursor:
        query = query.where(AuditEntry.id < decode_cursor(cursor, int)[0])
    return page_of(session.scalars(query).all(), limit, _record, lambda entity: encode_cursor(entity.id))


def _record(entity: AuditEntry) -> AuditRecord:
    return AuditRecord(
        id=entity.id,
        at=entity.at,
        actor=entity.actor,
        address=entity.address,
        action=entity.action,
        object_type=entity.object_type,
        object_id=entity.object_id,
        detail=entity.detail,
    )
