"""Reads destinations."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select, tuple_
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import Destination, Test, test_destinations
from controller.store.prepared import Asker, Prepared
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of


@dataclass(frozen=True, kw_only=True)
class DestinationRecord:
    """What is tested."""

    id: int
    name: str
    #: Host, host:port or URL.
    address: str
    description: str
    tags: tuple[str, ...]
    #: Number of tests that aim at it.
    tests: int
    #: Hand it back with a change, so that nobody's change is overwritten unseen.
    version: int
    created_at: dt.datetime
    updated_at: dt.datetime


def get(asker: Asker, destination_id: int) -> DestinationRecord:
    """Return one destination or raise NotFoundError."""
    row = _ONE.one(asker, destination=destination_id)
    if row is None:
        raise NotFoundError(f"there is no destination {destination_id}", mend="list the destinations")
    return _record(row)


def find(
    session: Session,
    *,
    search: str = "",
    tag: str = "",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[DestinationRecord]:
    """Return destinations by name; `search` looks into name, address and description."""
    order = tuple_(func.lower(Destination.name), Destination.id)
    query = _select().order_by(func.lower(Destination.name), Destination.id).limit(limit + 1)
    if search:
        query = query.where(contains(search, Destination.name, Destination.address, Destination.description))
    if tag:
        query = query.where(Destination.tags.contains([tag]))
    if cursor:
        query = query.where(order > decode_cursor(cursor, str, int))
    return page_of(
        session.execute(query).all(), limit, _record, lambda row: encode_cursor(row.lowered, row.id)
    )


def contains(search: str, *columns: Any) -> ColumnElement[bool]:
    """Return the condition that any column contains the text, whatever its case; `%` and `_` mean themselves."""
    return or_(*(column.icontains(search, autoescape=True) for column in columns))


def _select() -> Select[Any]:
    users = (
        select(func.count())
        .select_from(test_destinations.join(Test.__table__, Test.id == test_destinations.c.test_id))
        .where(test_destinations.c.destination_id == Destination.id, Test.deleted_at.is_(None))
        .correlate(Destination)
        .scalar_subquery()
    )
    return select(
        *Destination.__table__.columns, users.label("tests"), func.lower(Destination.name).label("lowered")
    ).where(Destination.deleted_at.is_(None))


_ONE = Prepared(_select().where(Destination.id == bindparam("destination")))


def _record(row: Any) -> DestinationRecord:
    return DestinationRecord(
        id=row.id,
        name=row.name,
        address=row.address,
        description=row.description,
        tags=tuple(row.tags),
        tests=row.tests,
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
