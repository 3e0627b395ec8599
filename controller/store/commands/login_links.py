"""One-time links that log a user in: for the first login, and for those who have lost their password."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from controller.errors import ConflictError, NotFoundError
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.commands.users import note_login
from controller.store.entities import LoginLink, User
from controller.store.queries import users
from controller.store.queries.users import UserRecord
from streamswarm.targets import shown

#: Where the dashboard takes the token.
PATH = "/login/once/"
_FORM = re.compile(r"[A-Za-z0-9_-]{43}\Z")


def create_login_link(
    session: Session, user_name: str, *, minutes: float = 15.0, actor: Actor = SYSTEM
) -> str:
    """Return a token that logs the user in once within `minutes`: append it to `PATH` of the dashboard's address."""
    user = users.by_name(session, user_name)
    if user is None:
        raise NotFoundError(f"there is no user `{shown(user_name)}`", mend="list the users")
    if not user.active:
        raise ConflictError(f"the user `{user.name}` is not active", mend="activate the user first")
    token = secrets.token_urlsafe(32)
    session.add(
        LoginLink(
            user_id=user.id,
            token_hash=_hash(token),
            expires_at=func.now() + dt.timedelta(minutes=minutes),
        )
    )
    audit.record(
        session, actor, "login_link.create", "user", user.id, {"name": user.name, "minutes": minutes}
    )
    session.flush()
    return token


def user_of(session: Session, token: str) -> UserRecord | None:
    """Return whom a link would log in, without using it up; None when it is used, expired or unknown."""
    if not _FORM.match(token):
        return None
    entity = session.scalar(
        select(User)
        .join(LoginLink, LoginLink.user_id == User.id)
        .where(
            LoginLink.token_hash == _hash(token),
            LoginLink.used_at.is_(None),
            LoginLink.expires_at > func.now(),
            User.active.is_(True),
        )
    )
    return None if entity is None else users.record(entity)


def consume(session: Session, token: str, *, address: str) -> UserRecord | None:
    """Use a link up and return whom it logs in; None when it is used, expired or unknown."""
    if not _FORM.match(token):
        return None
    # A single statement, so that of two at the same time one finds it used.
    user_id = session.scalar(
        update(LoginLink)
        .where(
            LoginLink.token_hash == _hash(token),
            LoginLink.used_at.is_(None),
            LoginLink.expires_at > func.now(),
        )
        .values(used_at=func.now())
        .returning(LoginLink.user_id)
    )
    entity = None if user_id is None else session.get(User, user_id)
    if entity is None or not entity.active:
        return None
    return note_login(session, entity, address=address, how="login.link")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
