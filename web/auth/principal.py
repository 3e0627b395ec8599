"""Who asks: a user with a session, or a machine with a token."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import flask_login
from flask import current_app, g, request, session

from controller.settings import Settings, is_loopback
from controller.store.commands import tokens, users
from controller.store.commands.audit import Actor
from controller.store.queries.users import Role, allows, by_name
from web.auth.sessions import SessionUser, is_by_token
from web.database import asking, transaction
from web.errors import ForbiddenError, NotLoggedInError


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
    #: The bearer token that it came with; None with a session.
    token_id: int | None
    #: IANA name of the zone in which instants are shown; empty is the browser's.
    zone: str = ""
    #: One of `NUMBER_FORMS`.
    number_form: str = ""
    #: What the cookie of its session carries; empty without one.
    session: str = ""
    #: Let in without a login, in development mode.
    development: bool = False

    @property
    def by_token(self) -> bool:
        """Whether it came with a bearer token instead of a session."""
        return self.token_id is not None

    @property
    def key(self) -> str:
        """What its calls are counted under: names of tokens may be given twice."""
        return self.actor.name if self.token_id is None else f"token:{self.token_id}"

    @property
    def looks_after(self) -> int | None:
        """The user whose tokens it may look after; None is everybody's, for an administrator."""
        if self.allows("admin"):
            return None
        if self.user_id is None:
            raise ForbiddenError(
                f"`{self.name}` belongs to no user, so it has no tokens to look after",
                mend="log in, or use a token of the scope admin",
            )
        return self.user_id

    def allows(self, needed: Role) -> bool:
        """Whether it may do what a role is needed for."""
        return allows(self.role, needed)


def client_address() -> str:
    """Return the address of the client, behind as many proxies as the settings name."""
    return request.remote_addr or ""


def current() -> Principal | None:
    """Return who asks, None when nobody is logged in; asked of the database once a request."""
    if "principal" not in g:
        g.principal = _by_token() if is_by_token(request) else _by_session() or _by_development()
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
        token_id=record.id,
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
        token_id=None,
        zone=user.record.zone,
        number_form=user.record.number_form,
        session=user.get_id(),
    )


def _by_development() -> Principal | None:
    """In development mode, take who asks from this machine for the first administrator."""
    settings: Settings = current_app.extensions["streamswarm.settings"]
    if not settings.web_development or not _asks_from_here():
        return None
    with transaction() as database:
        user = by_name(database, users.first_administrator(database))
    if user is None:
        return None
    return Principal(
        name=user.name,
        role=user.role,
        actor=Actor(name=f"development:{user.name}", address=client_address()),
        user_id=user.id,
        token_id=None,
        zone=user.zone,
        number_form=user.number_form,
        development=True,
    )


def _asks_from_here() -> bool:
    """Whether a request comes from this machine itself: not through a proxy, nor under a name that others gave it."""
    forwarded = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
    return (
        is_loopback(client_address())
        and is_loopback(urlsplit(f"//{request.host}").hostname or "")
        and not any(name in request.headers for name in forwarded)
    )
