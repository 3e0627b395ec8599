"""Sessions of browsers: begun at the login, looked up at every request, ended at the log-out.

The cookie holds a random id, the database its hash: nobody can make a session from what the database holds. All
times are the database's, so that processes whose clocks differ agree on when a session is over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from controller.store.entities import User, WebSession
from controller.store.queries import users
from controller.store.queries.users import UserRecord

#: However busy it is, a session ends so long after the login.
LIFE = dt.timedelta(hours=12)
#: Activity is written down no more often than this.
_NOTED = dt.timedelta(seconds=30)
_ID_BYTES = 32


def begin(session: Session, user_id: int) -> str:
    """Begin a session for a user and return its id, which is kept nowhere else."""
    session_id = secrets.token_urlsafe(_ID_BYTES)
    session.add(WebSession(id_hash=_hash(session_id), user_id=user_id))
    return session_id


def resume(
    session: Session, session_id: str, *, idle_minutes: ColumnElement[float], active: bool
) -> UserRecord | None:
    """Return the user of a session that goes on, None when it has ended or never was.

    `idle_minutes` is how long it may go without activity, 0 for any time; `active` notes that this is activity.
    """
    found = select(User, WebSession.seen_at < func.now() - _NOTED).join(
        WebSession, WebSession.user_id == User.id
    )
    found = found.where(
        WebSession.id_hash == _hash(session_id),
        WebSession.ended_at.is_(None),
        WebSession.created_at > func.now() - LIFE,
        User.active,
    )
    idle = func.make_interval(0, 0, 0, 0, 0, 0, idle_minutes * 60.0)
    found = found.where(or_(idle_minutes == 0, WebSession.seen_at > func.now() - idle))
    row = session.execute(found).one_or_none()
    if row is None:
        return None
    if active and row[1]:
        session.execute(
            update(WebSession)
            .where(WebSession.id_hash == _hash(session_id), WebSession.ended_at.is_(None))
            .values(seen_at=func.now())
        )
    return users.record(row[0])


def end(session: Session, session_id: str) -> None:
    """End a session: from now on its cookie, and every copy of it, lets nobody in."""
    session.execute(
        update(WebSession)
        .where(WebSession.id_hash == _hash(session_id), WebSession.ended_at.is_(None))
        .values(ended_at=func.now())
    )


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()
