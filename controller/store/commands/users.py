"""Changes users. There is always one active administrator, and none can take away their own rights."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import delete as delete_from
from sqlalchemy import func, select, text
from sqlalchemy import update as update_all
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError, NotFoundError
from controller.store.commands import audit, passwords
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.commands.saving import check_state, flush_unique
from controller.store.entities import LoginAttempt, LoginLink, User
from controller.store.queries import users
from controller.store.queries.users import ROLES, UserRecord
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.targets import shown

FIELDS = ("name", "email", "role", "active")
FIRST_ADMIN = "admin"
_NAME = re.compile(r"[^\W_]([\w.@+-]{0,62}[\w])?\Z")
_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@"
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+\Z"
)
_UNIQUE = "uq_users_name_lower"
#: Serialises what depends on how many administrators there are.
_ADMINS_LOCK = 7_305_791_402_611


def create(session: Session, values: Mapping[str, Any], *, actor: Actor) -> UserRecord:
    """Make a user of `name`, `password` and optionally `email`, `role` and `active`."""
    checker = Checker(values, (*FIELDS, "password"))
    checked = _check(checker, wanted=FIELDS)
    password = _password(checker, "password", name=checked["name"])
    checker.done()
    entity = User(**checked, password_hash=passwords.hash_password(password))
    session.add(entity)
    flush_unique(session, "user", entity.name, _UNIQUE)
    session.refresh(entity)
    audit.record(session, actor, "user.create", "user", entity.id, checked)
    return users.record(entity)


def update(
    session: Session,
    user_id: int,
    values: Mapping[str, Any],
    *,
    actor: Actor,
    by_user: int | None,
    seen: str | None = None,
) -> UserRecord:
    """Change the fields given. `by_user` is the id of the user who asks, None for a token or the system.

    A changed role or activation ends the user's sessions. `seen` is the state (`saving.state_of` the fields) that the
    change is based on, None for any.
    """
    entity = locked(session, user_id)
    check_state(entity, FIELDS, seen, "the user")
    checker = Checker(values, FIELDS)
    checked = _check(checker, wanted=tuple(name for name in FIELDS if name in values))
    checker.done()
    before = {name: getattr(entity, name) for name in FIELDS}
    changed = audit.changes(before, checked)
    if not changed:
        return users.record(entity)
    if checked.get("role", "admin") != "admin" or not checked.get("active", True):
        _keep_an_admin(session, entity, by_user, "demote or deactivate")
    for name in changed:
        setattr(entity, name, checked[name])
    if changed.keys() & {"role", "active"}:
        entity.session_generation += 1
    flush_unique(session, "user", entity.name, _UNIQUE)
    audit.record(session, actor, "user.update", "user", entity.id, {"name": entity.name, **changed})
    return users.record(entity)


def change_password(session: Session, user_id: int, *, old: str, new: str, actor: Actor) -> UserRecord:
    """Change a user's own password, which ends all sessions of the user; the old one must be right."""
    entity = locked(session, user_id)
    if not passwords.verify(entity.password_hash, old):
        raise InvalidInputError([Problem(path="old_password", message="is not your password")])
    return _set_password(session, entity, new, "new_password", actor)


def set_password(session: Session, user_id: int, password: str, *, actor: Actor) -> UserRecord:
    """Give a user another password, which ends all sessions of the user; for administrators."""
    return _set_password(session, locked(session, user_id), password, "password", actor)


def reset(session: Session, user_id: int, password: str, *, actor: Actor) -> UserRecord:
    """Let a user in again who cannot get in: another password, an active account, no lock-out.

    All sessions and one-time links of the user end.
    """
    entity = locked(session, user_id)
    session.execute(delete_from(LoginAttempt).where(LoginAttempt.account == entity.name.lower()))
    if not entity.active:
        entity.active = True
        audit.record(
            session,
            actor,
            "user.update",
            "user",
            entity.id,
            {"name": entity.name, "active": {"from": False, "to": True}},
        )
    return _set_password(session, entity, password, "password", actor)


def end_sessions(session: Session, user_id: int, *, actor: Actor) -> UserRecord:
    """End all sessions of a user, on every browser."""
    entity = locked(session, user_id)
    entity.session_generation += 1
    session.flush()
    audit.record(session, actor, "user.end_sessions", "user", entity.id, {"name": entity.name})
    return users.record(entity)


def note_login(session: Session, entity: User, *, address: str, how: str) -> UserRecord:
    """Note that a user has logged in; `how` is the action that the audit log shows."""
    entity.last_login_at = func.now()
    session.flush()
    session.refresh(entity)
    actor = Actor(name=f"user:{entity.name}", address=address)
    audit.record(session, actor, how, "user", entity.id, {"name": entity.name})
    return users.record(entity)


def delete(session: Session, user_id: int, *, actor: Actor, by_user: int | None) -> None:
    """Delete a user with the user's tokens and links."""
    entity = locked(session, user_id)
    _keep_an_admin(session, entity, by_user, "delete")
    audit.record(session, actor, "user.delete", "user", entity.id, {"name": entity.name, "role": entity.role})
    session.delete(entity)
    session.flush()


def ensure_first_admin(session: Session, password: str | None = None) -> tuple[str, str] | None:
    """Make the first administrator when there is no user at all; returns name and password, this once.

    Without a password one is made.
    """
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADMINS_LOCK})
    if session.scalar(select(func.count()).select_from(User)):
        return None
    password = password or passwords.generate()
    create(session, {"name": FIRST_ADMIN, "email": None, "role": "admin", "password": password}, actor=SYSTEM)
    return FIRST_ADMIN, password


def first_administrator(session: Session) -> str:
    """Return the name of the active administrator who has been there longest."""
    name = session.scalar(
        select(User.name).where(User.role == "admin", User.active.is_(True)).order_by(User.id).limit(1)
    )
    if name is None:
        raise NotFoundError("there is no active administrator", mend="make one: streamswarm user create")
    return name


def locked(session: Session, user_id: int) -> User:
    """Return a user, locked until the transaction ends; raises NotFoundError."""
    entity = session.scalar(
        select(User).where(User.id == user_id).with_for_update().execution_options(populate_existing=True)
    )
    if entity is None:
        raise NotFoundError(f"there is no user {user_id}", mend="list the users")
    return entity


def _keep_an_admin(session: Session, entity: User, by_user: int | None, verb: str) -> None:
    if entity.role != "admin":
        return
    if entity.id == by_user:
        raise ConflictError(
            f"administrators cannot {verb} themselves", mend="ask another administrator to do it"
        )
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADMINS_LOCK})
    others = session.scalar(
        select(func.count())
        .select_from(User)
        .where(User.role == "admin", User.active.is_(True), User.id != entity.id)
    )
    if not others:
        raise ConflictError(
            f"`{shown(entity.name)}` is the last active administrator",
            mend="make another administrator first",
        )


def _set_password(session: Session, entity: User, new: str, path: str, actor: Actor) -> UserRecord:
    problem = passwords.problem_of(new, name=entity.name)
    if problem:
        raise InvalidInputError([Problem(path=path, message=problem)])
    entity.password_hash = passwords.hash_password(new)
    entity.session_generation += 1
    # Whoever made themselves a link while they knew the old one must not come back with it.
    session.execute(
        update_all(LoginLink)
        .where(LoginLink.user_id == entity.id, LoginLink.used_at.is_(None))
        .values(expires_at=func.now())
    )
    session.flush()
    audit.record(session, actor, "user.change_password", "user", entity.id, {"name": entity.name})
    return users.record(entity)


def _password(checker: Checker, field: str, *, name: str) -> str:
    value = checker.value(field)
    if not isinstance(value, str):
        checker.add(field, "must be text")
        return ""
    problem = passwords.problem_of(value, name=name)
    if problem:
        checker.add(field, problem)
    return value


def _check(checker: Checker, *, wanted: tuple[str, ...]) -> dict[str, Any]:
    readers: dict[str, Callable[[], Any]] = {
        "name": lambda: _name(checker),
        "email": lambda: _email(checker),
        "role": lambda: checker.choice("role", ROLES) if checker.given("role") else "viewer",
        "active": lambda: checker.flag("active") if checker.given("active") else True,
    }
    return {name: readers[name]() for name in wanted}


def _name(checker: Checker) -> str:
    name = checker.text("name", longest=64, required=True)
    if name and len(name) <= 64 and not _NAME.match(name):
        checker.add(
            "name",
            "must be letters, digits and `. _ @ + -`, beginning with a letter or digit, without spaces",
        )
    return name


def _email(checker: Checker) -> str | None:
    address = checker.text("email", longest=254)
    if not address:
        return None
    if not _EMAIL.match(address):
        checker.add("email", f"`{shown(address)}` is not an e-mail address such as `ada@example.org`")
    return address
