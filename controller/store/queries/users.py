"""Reads users."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import User
from controller.store.queries.destinations import contains
from controller.store.queries.paging import DEFAULT_LIMIT, Order, Page, ordered

Role = Literal["viewer", "operator", "admin"]

#: Forms in which numbers are written: what sets thousands apart, and what stands before decimals.
NUMBER_FORMS: Mapping[str, tuple[str, str]] = {
    "": ("\N{NARROW NO-BREAK SPACE}", "."),
    "space_comma": ("\N{NARROW NO-BREAK SPACE}", ","),
    "comma_point": (",", "."),
    "point_comma": (".", ","),
}
_BY_NAME = Order(keys=(func.lower(User.name), User.id), types=(str, int))
#: From the least to the most; each may do all that those before it may.
ROLES: tuple[Role, ...] = ("viewer", "operator", "admin")


@dataclass(frozen=True, kw_only=True)
class UserRecord:
    """A person who logs in."""

    id: int
    name: str
    email: str | None
    role: Role
    active: bool
    #: Cookies that carry another one are not accepted any more.
    session_generation: int
    created_at: dt.datetime
    last_login_at: dt.datetime | None
    #: IANA name of the zone in which instants are shown to the user; empty is the browser's.
    zone: str = ""
    #: One of `NUMBER_FORMS`.
    number_form: str = ""


def get(session: Session, user_id: int) -> UserRecord:
    """Return one user or raise NotFoundError."""
    entity = session.get(User, user_id)
    if entity is None:
        raise NotFoundError(f"there is no user {user_id}", mend="list the users")
    return record(entity)


def by_name(session: Session, name: str) -> UserRecord | None:
    """Return the user of that name, whatever its case."""
    entity = session.scalar(select(User).where(func.lower(User.name) == func.lower(name)))
    return None if entity is None else record(entity)


def find(
    session: Session, *, search: str = "", limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[UserRecord]:
    """Return users by name; `search` looks into name and e-mail address."""
    query = select(User)
    if search:
        query = query.where(contains(search, User.name, User.email))
    return ordered(session, query, _BY_NAME, limit=limit, cursor=cursor, make=lambda row: record(row.User))


def allows(role: str, needed: str) -> bool:
    """Whether a role may do what another role is needed for."""
    words: tuple[str, ...] = ROLES
    return words.index(role) >= words.index(needed)


def lesser(first: str, second: str) -> Role:
    """Return the role of the two that may do less."""
    return min((role for role in ROLES if role in (first, second)), key=ROLES.index)


def record(entity: User) -> UserRecord:
    """Return a user's record."""
    return UserRecord(
        id=entity.id,
        name=entity.name,
        email=entity.email,
        role=entity.role,  # type: ignore[arg-type]
        active=entity.active,
        session_generation=entity.session_generation,
        created_at=entity.created_at,
        last_login_at=entity.last_login_at,
        zone=entity.zone,
        number_form=entity.number_form,
    )
