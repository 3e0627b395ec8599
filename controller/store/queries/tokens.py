"""Reads API tokens; the tokens themselves are kept as hashes and can not be read."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import ApiToken, User
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of
from controller.store.queries.users import Role


@dataclass(frozen=True, kw_only=True)
class TokenRecord:
    """A token for machines."""

    id: int
    name: str
    description: str
    scope: Role
    #: First characters of the token, to tell tokens apart.
    prefix: str
    #: Who made it; None for the installation itself.
    user_id: int | None
    user_name: str | None
    created_at: dt.datetime
    expires_at: dt.datetime | None
    revoked_at: dt.datetime | None
    last_used_at: dt.datetime | None


#: What of tokens, and of their users, is read.
_COLUMNS: Sequence[Any] = (
    ApiToken.id,
    ApiToken.name,
    ApiToken.description,
    ApiToken.scope,
    ApiToken.prefix,
    ApiToken.user_id,
    User.name.label("user_name"),
    ApiToken.created_at,
    ApiToken.expires_at,
    ApiToken.revoked_at,
    ApiToken.last_used_at,
)
_NAMES = tuple(field.name for field in fields(TokenRecord))


def get(session: Session, token_id: int, *, user_id: int | None = None) -> TokenRecord:
    """Return one token or raise NotFoundError; with `user_id`, those of other users do not exist."""
    query = selected().where(ApiToken.id == token_id)
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    row = session.execute(query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no token {token_id}", mend="list the tokens")
    return record(row)


def find(
    session: Session, *, user_id: int | None = None, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[TokenRecord]:
    """Return tokens, newest first; of one user, or of all."""
    query = selected().order_by(ApiToken.id.desc()).limit(limit + 1)
    if user_id is not None:
        query = query.where(ApiToken.user_id == user_id)
    if cursor:
        query = query.where(ApiToken.id < decode_cursor(cursor, int)[0])
    return page_of(session.execute(query).all(), limit, record, lambda row: encode_cursor(row.id))


def selected() -> Select[Any]:
    """Return the query that `record` reads the rows of."""
    return select(*_COLUMNS).select_from(ApiToken).outerjoin(User, User.id == ApiToken.user_id)


def record(row: Any) -> TokenRecord:
    """Return a token's record."""
    return TokenRecord(**{name: getattr(row, name) for name in _NAMES})
