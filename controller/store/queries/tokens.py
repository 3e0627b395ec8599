"""Reads API tokens; the tokens themselves are kept as hashes and can not be read."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from sqlalchemy import Row, Select, select
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
    return page_of(session.execute(query).all(), limit, record, lambda row: encode_cursor(row[0].id))


def selected() -> Select[ApiToken, str]:
    """Return the query that `record` reads the rows of."""
    return select(ApiToken, User.name.label("user_name")).outerjoin(User, User.id == ApiToken.user_id)


def record(row: Row[ApiToken, str]) -> TokenRecord:
    """Return a token's record."""
    entity: ApiToken = row[0]
    return TokenRecord(
        id=entity.id,
        name=entity.name,
        description=entity.description,
        scope=entity.scope,  # type: ignore[arg-type]
        prefix=entity.prefix,
        user_id=entity.user_id,
        user_name=row[1],
        created_at=entity.created_at,
        expires_at=entity.expires_at,
        revoked_at=entity.revoked_at,
        last_used_at=entity.last_used_at,
    )
