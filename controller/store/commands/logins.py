"""Logs users in by name and password, and locks out who guesses.

An attempt is written down and committed before the password is looked at, and taken back when it was right: so
attempts made at the same time count each other.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Callable
from contextlib import AbstractContextManager

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from controller.errors import StreamSwarmError
from controller.store.commands import audit, passwords
from controller.store.commands.audit import Actor
from controller.store.commands.users import note_login
from controller.store.entities import LoginAttempt, User
from controller.store.queries.users import UserRecord

WINDOW = dt.timedelta(minutes=15)
#: Failures within the window after which an account is locked for the address they came from.
ACCOUNT_FAILURES = 5
#: Failures within the window after which an address is locked for every account.
ADDRESS_FAILURES = 30
_LOCKED = "too many failed logins"
_LOCKED_MEND = f"wait {WINDOW.seconds // 60} minutes, or have it lifted on the controller's machine: streamswarm user reset"


class LockedError(StreamSwarmError):
    """Too many failures: nobody is let in for this account from this address for a while."""


def log_in(
    transaction: Callable[[], AbstractContextManager[Session]], name: str, password: str, address: str
) -> UserRecord | None:
    """Return the user when name and password are right and the account is active; None in every other case.

    `transaction` gives sessions whose transaction ends with the block. The password is looked at between two of
    them, so that slow work holds no connection. Raises LockedError.
    """
    with transaction() as session:
        stored = _begin(session, name, address)
    right = passwords.verify(stored, password)
    with transaction() as session:
        return _finish(session, name, password, address, right=right)


def _begin(session: Session, name: str, address: str) -> str | None:
    """Write down the attempt and return the hash of the account, None when there is no such account."""
    account, network = _account(name), _network(address)
    if _is_locked(session, account, network, spare=0):
        raise LockedError(_LOCKED, mend=_LOCKED_MEND)
    session.add(LoginAttempt(account=account, address=network))
    entity = _user(session, name)
    return entity.password_hash if entity else None


def _finish(session: Session, name: str, password: str, address: str, *, right: bool) -> UserRecord | None:
    account, network = _account(name), _network(address)
    entity = _user(session, name)
    locked = _is_locked(session, account, network, spare=1)
    if entity is None or not right or locked or not entity.active:
        if locked:
            reason = "locked"
        elif entity is None:
            reason = "no such account"
        else:
            reason = "wrong password" if entity.active else "account is not active"
        audit.record(
            session,
            Actor(name=f"user:{entity.name}" if entity else "unknown", address=address),
            "login.failed",
            "user",
            entity.id if entity else "",
            {"name": account, "reason": reason},
        )
        return None
    session.execute(
        delete(LoginAttempt)
        .where(LoginAttempt.account == account, LoginAttempt.address == network)
        .execution_options(synchronize_session=False)
    )
    if passwords.is_outdated(entity.password_hash):
        entity.password_hash = passwords.hash_password(password)
    return note_login(session, entity, address=address, how="login")


def _user(session: Session, name: str) -> User | None:
    if "\0" in name:
        return None
    return session.scalar(select(User).where(func.lower(User.name) == func.lower(name)))


def _is_locked(session: Session, account: str, network: str, *, spare: int) -> bool:
    """Whether more failures than allowed are on record; `spare` leaves out the attempt under way."""
    recent = LoginAttempt.at > func.now() - WINDOW
    by_address, by_account = session.execute(
        select(func.count(), func.count().filter(LoginAttempt.account == account)).where(
            LoginAttempt.address == network, recent
        )
    ).one()
    return by_account - spare >= ACCOUNT_FAILURES or by_address - spare >= ADDRESS_FAILURES


def _account(name: str) -> str:
    return "".join(character for character in name.lower() if character.isprintable())[:200]


def _network(address: str) -> str:
    """Return what an address is counted as: an IPv6 client has its whole /64 to guess from."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
