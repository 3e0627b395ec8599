"""Pages of a list by keyset: a cursor names the last row seen, so that rows coming and going shift nothing."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, SQLColumnExpression, tuple_
from sqlalchemy.orm import Session

from streamswarm.contract import InvalidInputError, Problem

Item = TypeVar("Item")

MAX_LIMIT = 500
DEFAULT_LIMIT = 100


@dataclass(frozen=True, kw_only=True)
class Page(Generic[Item]):
    """One page of a list."""

    items: tuple[Item, ...]
    #: Hand it in to get what follows; None on the last page.
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class Order:
    """In which order a list comes: the last key tells all rows apart."""

    keys: tuple[SQLColumnExpression[Any], ...]
    #: Of the keys, as a cursor carries them.
    types: tuple[type, ...]
    descending: bool = False
    #: Makes of what a cursor carries what the keys are compared with.
    read: Callable[[tuple[Any, ...]], tuple[Any, ...]] = tuple


def ordered(
    session: Session,
    query: Select[Any],
    order: Order,
    *,
    limit: int,
    cursor: str | None,
    make: Callable[[Any], Item],
) -> Page[Item]:
    """Return a page of a query's rows in an order."""
    names = [f"key_{number}" for number in range(len(order.keys))]
    query = query.add_columns(*(key.label(name) for key, name in zip(order.keys, names, strict=True)))
    query = query.order_by(*(key.desc() if order.descending else key for key in order.keys)).limit(limit + 1)
    if cursor:
        seen, keys = order.read(decode_cursor(cursor, *order.types)), tuple_(*order.keys)
        query = query.where(keys < seen if order.descending else keys > seen)
    rows = session.execute(query).all()

    def cursor_of(row: Any) -> str:
        found = (getattr(row, name) for name in names)
        return encode_cursor(*(key if isinstance(key, str | int) else str(key) for key in found))

    return page_of(rows, limit, make, cursor_of)


def asked_order(orders: Mapping[str, Order], sort: str) -> Order:
    """Return the order of that name; the first one for an empty name; raises InvalidInputError for any other."""
    if not sort:
        return next(iter(orders.values()))
    if sort not in orders:
        message = f"there is no such order; there are {', '.join(orders)}"
        raise InvalidInputError([Problem(path="sort", message=message)])
    return orders[sort]


def encode_cursor(*keys: str | int) -> str:
    """Return an opaque cursor for the sort keys of a row."""
    text = json.dumps(keys, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """Return the sort keys in a cursor; raises InvalidInputError when it is not one of ours."""
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        keys = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError):
        keys = None
    if (
        not isinstance(keys, list)
        or len(keys) != len(types)
        or any(type(key) is not wanted for key, wanted in zip(keys, types, strict=True))
        or any(isinstance(key, int) and abs(key) >= 2**63 for key in keys)
        or any(isinstance(key, str) and "\0" in key for key in keys)
    ):
        raise InvalidInputError(
            [Problem(path="cursor", message="is not a cursor; take `next_cursor` of the page before")]
        )
    return tuple(keys)


def page_of(
    rows: Sequence[Any], limit: int, make: Callable[[Any], Item], cursor_of: Callable[[Any], str]
) -> Page[Item]:
    """Make a page from up to `limit + 1` rows: the extra one only tells that more follow."""
    kept = rows[:limit]
    return Page(
        items=tuple(make(row) for row in kept),
        next_cursor=cursor_of(kept[-1]) if len(rows) > limit else None,
    )
