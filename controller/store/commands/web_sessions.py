"""Sessions of browsers: begun at the login, looked up at every request, ended at the log-out.

The cookie holds a random id, the database its hash: nobody can make a session from what the database holds. All
times are the database's, so that processes whose clocks differ agree on when a session is over.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Collection

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
    session: Session, session_id: str, *, idle: ColumnElement[float], active: bool
) -> UserRecord | None:
    """Return the user of a session that goes on, None when it has ended or never was.

    `idle` is how many minutes it may go without activity, 0 for any time; `active` notes that this is activity.
    """
    row = session.execute(
        select(User, WebSession.seen_at < func.now() - _NOTED)
        .join(WebSession, WebSession.user_id == User.id)
        .where(WebSession.id_hash == _hash(session_id), *_goes_on(idle))
    ).one_or_none()
    if row is None:
        return None
    if active and row[1]:
        session.execute(
            update(WebSession)
            .where(WebSession.id_hash == _hash(session_id), WebSession.ended_at.is_(None))
            .values(seen_at=func.now())
        )
    return users.record(row[0])


def generations(
    session: Session, session_ids: Collection[str], *, idle: ColumnElement[float]
) -> dict[str, int]:
    """Return the session generation of the user of each of these sessions that goes on; is no activity."""
    by_hash = {_hash(session_id): session_id for session_id in session_ids}
    rows = session.execute(
        select(WebSession.id_hash, User.session_generation)
        .join(User, User.id == WebSession.user_id)
        .where(WebSession.id_hash.in_(by_hash), *_goes_on(idle))
    )
    return {by_hash[bytes(row.id_hash)]: row.session_generation for row in rows}


def end(session: Session, session_id: str) -> None:
    """End a session: from now on its cookie, and every copy of it, lets nobody in."""
    session.execute(
        update(WebSession)
        .where(WebSession.id_hash == _hash(session_id), WebSession.ended_at.is_(None))
        .values(ended_at=func.now())
    )


def _goes_on(idle: ColumnElement[float]) -> list[ColumnElement[bool]]:
    """What holds of a session that has not ended, and of its user."""
    length = func.make_interval(0, 0, 0, 0, 0, 0, idle * 60.0)
    return [
        WebSession.ended_at.is_(None),
        WebSession.created_at > func.now() - LIFE,
        User.active.is_(True),
        or_(idle == 0, WebSession.seen_at > func.now() - length),
    ]


def _hash(session_id: str) -> bytes:
    return hashlib.sha256(session_id.encode()).digest()
