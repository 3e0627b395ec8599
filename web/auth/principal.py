"""Who asks: a user with a session, or a machine with a token."""

from __future__ import annotations

from dataclasses import dataclass

import flask_login
from flask import g, request, session

from controller.store.commands import tokens
from controller.store.commands.audit import Actor
from controller.store.queries.users import Role, allows
from web.auth.sessions import SessionUser, is_by_token
from web.database import asking
from web.errors import NotLoggedInError


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks, and what they may do."""

    #: Name of the user or of the token.
    name: str
    role: Role
    #: Whom changes are written down for.
    actor: Actor
    #: The user, or the user that a token belongs to; None for a token of the installation.
    user_id: int | None
    #: Whether it came with a bearer token instead of a session.
    by_token: bool

    @property
    def key(self) -> str:
        """What its calls are counted under."""
        return self.actor.name if not self.by_token else f"{self.actor.name}:{self.user_id}"

    def allows(self, needed: Role) -> bool:
        """Whether it may do what a role is needed for."""
        return allows(self.role, needed)


def client_address() -> str:
    """Return the address of the client, behind as many proxies as the settings name."""
    return request.remote_addr or ""


def current() -> Principal | None:
    """Return who asks, None when nobody is logged in; asked of the database once a request."""
    if "principal" not in g:
        g.principal = _by_token() if is_by_token(request) else _by_session()
    found: Principal | None = g.principal
    return found


def principal() -> Principal:
    """Return who asks; NotLoggedInError when nobody is logged in."""
    found = current()
    if found is None:
        raise NotLoggedInError("log in, or send a token as `Authorization: Bearer ssw_…`")
    return found


def _by_token() -> Principal | None:
    scheme, _, token = request.headers["Authorization"].partition(" ")
    if scheme.lower() != "bearer":
        return None
    with asking() as database:
        found = tokens.authenticate(database, token.strip())
    if found is None:
        return None
    record, role = found
    return Principal(
        name=record.name,
        role=role,
        actor=Actor(name=f"token:{record.name}", address=client_address()),
        user_id=record.user_id,
        by_token=True,
    )


def _by_session() -> Principal | None:
    if "_user_id" not in session:
        return None
    user = flask_login.current_user
    if not isinstance(user._get_current_object(), SessionUser):
        # Ended: by idleness, by a changed password, by deactivation.
        session.clear()
        return None
    return Principal(
        name=user.record.name,
        role=user.record.role,
        actor=Actor(name=f"user:{user.record.name}", address=client_address()),
        user_id=user.record.id,
        by_token=False,
    )
