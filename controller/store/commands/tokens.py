"""API tokens: 256 random bits, shown once, kept as a hash."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, func, or_, select
from sqlalchemy import update as sa_update
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError, NotFoundError
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.commands.saving import check_state
from controller.store.commands.secret_files import write_secret
from controller.store.entities import ApiToken, User
from controller.store.prepared import Asker, Prepared
from controller.store.queries import tokens
from controller.store.queries.tokens import TokenRecord
from controller.store.queries.users import ROLES, Role, allows, lesser
from streamswarm.contract import InvalidInputError, Problem

PREFIX = "ssw_"
#: Name of the token that the command line on the controller's machine uses, and its place in the data folder.
LOCAL_NAME = "local"
LOCAL_FILE = Path("secrets") / "local.token"
FIELDS = ("name", "description", "scope", "expires_at")
#: What may change afterwards.
CHANGEABLE = ("name", "description", "expires_at")
_FORM = re.compile(re.escape(PREFIX) + r"[A-Za-z0-9_-]{43}\Z")
_SHOWN = len(PREFIX) + 6
#: The time of last use is written no more often than this.
_USE_NOTED = dt.timedelta(minutes=1)


def create(
    session: Session, values: Mapping[str, Any], *, actor: Actor, user_id: int | None, role: Role
) -> tuple[TokenRecord, str]:
    """Make a token of `name`, `scope` and optionally `description` and `expires_at`.

    Returns its record and the token itself, which is never shown again. `role` is that of the one who asks; the
    scope cannot exceed it. A user's token never may more than its user, and ends with its user.
    """
    checker = Checker(values, FIELDS)
    name = checker.name()
    description = checker.text("description", longest=2000, lines=True)
    scope = checker.choice("scope", ROLES) if checker.given("scope") else "viewer"
    expires_at = _end(checker, session)
    checker.done()
    if not allows(role, scope):
        raise InvalidInputError(
            [Problem(path="scope", message=f"`{scope}` is more than your own role, {role}")]
        )
    token = _new()
    entity = ApiToken(
        name=name,
        description=description,
        scope=scope,
        expires_at=expires_at,
        token_hash=_hash(token),
        prefix=token[:_SHOWN],
        user_id=user_id,
    )
    session.add(entity)
    session.flush()
    detail = {"name": name, "scope": scope, "expires_at": expires_at, "prefix": entity.prefix}
    audit.record(session, actor, "token.create", "token", entity.id, detail)
    return tokens.get(session, entity.id), token


def ensure_local(session: Session, file: Path) -> None:
    """See to it that `file` holds a good administrator's token, for the command line on this machine.

    Who can read the file owns the installation anyway: the database's password and the keys lie beside it.
    """
    try:
        if authenticate(session, file.read_text(encoding="ascii").strip()) is not None:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    values = {"name": LOCAL_NAME, "scope": "admin", "description": f"in {file}, for the command line"}
    _, token = create(session, values, actor=SYSTEM, user_id=None, role="admin")
    write_secret(file, token.encode())


def update(
    session: Session, token_id: int, values: Mapping[str, Any], *, actor: Actor, seen: str | None = None
) -> TokenRecord:
    """Change name, description or end of a token that is still good. Its scope is what it was given for, for good.

    `seen` is the state (`saving.state_of` the changeable fields) that the change is based on, None for any.
    """
    entity = _locked(session, token_id)
    check_state(entity, CHANGEABLE, seen, "the token")
    checker = Checker(values, CHANGEABLE)
    readers: dict[str, Callable[[], Any]] = {
        "name": checker.name,
        "description": lambda: checker.text("description", longest=2000, lines=True),
        "expires_at": lambda: _end(checker, session),
    }
    checked = {name: readers[name]() for name in CHANGEABLE if name in values}
    checker.done()
    changed = audit.changes({name: getattr(entity, name) for name in CHANGEABLE}, checked)
    if changed:
        for name in changed:
            setattr(entity, name, checked[name])
        session.flush()
        audit.record(session, actor, "token.update", "token", entity.id, {"prefix": entity.prefix, **changed})
    return tokens.get(session, token_id)


def regenerate(session: Session, token_id: int, *, actor: Actor) -> tuple[TokenRecord, str]:
    """Give a token that is still good another secret; the old one is refused at once. Returns record and token."""
    entity = _locked(session, token_id)
    before, token = entity.prefix, _new()
    entity.token_hash, entity.prefix = _hash(token), token[:_SHOWN]
    session.flush()
    detail = {"name": entity.name, "prefix": entity.prefix, "before": before}
    audit.record(session, actor, "token.regenerate", "token", entity.id, detail)
    return tokens.get(session, token_id), token


def revoke(session: Session, token_id: int, *, actor: Actor) -> TokenRecord:
    """End a token at once and for good."""
    entity = _locked(session, token_id)
    entity.revoked_at = func.now()
    session.flush()
    session.refresh(entity)
    audit.record(
        session, actor, "token.revoke", "token", entity.id, {"name": entity.name, "prefix": entity.prefix}
    )
    return tokens.get(session, token_id)


def authenticate(asker: Asker, token: str) -> tuple[TokenRecord, Role] | None:
    """Return a good token's record and what it may do now, and note its use; None for any other text."""
    if not _FORM.match(token):
        return None
    row = _GOOD.one(asker, hash=_hash(token))
    if row is None:
        return None
    if row.use_is_news:
        _NOTE_USE.run(asker, token=row.id)
    return tokens.record(row), row.scope if row.user_role is None else lesser(row.scope, row.user_role)


#: The token of that hash while it is good, with its user's role and whether its use is to be noted.
_GOOD = Prepared(
    tokens.selected()
    .add_columns(
        User.role.label("user_role"),
        or_(ApiToken.last_used_at.is_(None), ApiToken.last_used_at < func.now() - _USE_NOTED).label(
            "use_is_news"
        ),
    )
    .where(
        ApiToken.token_hash == bindparam("hash"),
        ApiToken.revoked_at.is_(None),
        or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > func.now()),
        or_(ApiToken.user_id.is_(None), User.active.is_(True)),
    )
)
_NOTE_USE = Prepared(
    sa_update(ApiToken).where(ApiToken.id == bindparam("token")).values(last_used_at=func.now())
)


def _locked(session: Session, token_id: int) -> ApiToken:
    """Return a token that is not revoked, locked."""
    entity = session.scalar(select(ApiToken).where(ApiToken.id == token_id).with_for_update())
    if entity is None:
        raise NotFoundError(f"there is no token {token_id}", mend="list the tokens")
    if entity.revoked_at is not None:
        raise ConflictError(f"the token `{entity.prefix}…` is revoked already", mend="make another token")
    return entity


def _end(checker: Checker, session: Session) -> dt.datetime | None:
    expires_at = checker.instant("expires_at")
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    if expires_at is not None and expires_at <= now:
        checker.add("expires_at", "must lie in the future")
    return expires_at


def _new() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
