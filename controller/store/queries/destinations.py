"""Reads destinations."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, or_, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import Destination, Test, test_destinations
from controller.store.prepared import Asker, Prepared
from controller.store.queries.paging import DEFAULT_LIMIT, Order, Page, asked_order, ordered

#: By name unless asked otherwise.
ORDERS = {
    "name": Order(keys=(func.lower(Destination.name), Destination.id), types=(str, int)),
    "address": Order(keys=(Destination.address, Destination.id), types=(str, int)),
    "newest": Order(keys=(Destination.id,), types=(int,), descending=True),
}


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
    sort: str = "",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[DestinationRecord]:
    """Return destinations by name, or as `sort` of `ORDERS` says; `search` looks into name, address and description."""
    query = _select()
    if search:
        query = query.where(contains(search, Destination.name, Destination.address, Destination.description))
    if tag:
        query = query.where(Destination.tags.contains([tag]))
    return ordered(session, query, asked_order(ORDERS, sort), limit=limit, cursor=cursor, make=_record)


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
    return select(*Destination.__table__.columns, users.label("tests")).where(
        Destination.deleted_at.is_(None)
    )


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
