"""Enrolment tokens and the end of a worker's right to speak."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import func, or_, select, text, update
from sqlalchemy.orm import Session

from controller.errors import NotFoundError, StreamSwarmError
from controller.store.commands.audit import SYSTEM, Actor, record
from controller.store.entities import Certificate, EnrolmentToken, Worker
from streamswarm.contract import InvalidInputError, Problem
from streamswarm.targets import shown

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\Z")


class RevokedError(StreamSwarmError):
    """The worker was revoked, and who asks may not undo that."""


def hash_token(token: str) -> bytes:
    """Return what the store keeps of a token."""
    return hashlib.sha256(token.encode()).digest()


def make_enrolment_token(
    session: Session,
    host_name: str,
    *,
    minutes: float,
    actor: Actor = SYSTEM,
    site: str = "",
    labels: Mapping[str, Any] | None = None,
    groups: Sequence[str] = (),
    may_revoke: bool = True,
) -> str:
    """Make a token with which the inventory host `host_name` can enrol once within `minutes`.

    The token is returned this once; the store keeps its hash. Raises InvalidInputError for an odd name or life, and
    RevokedError where the host's worker was revoked and who asks may not revoke: it would take that back.
    """
    problems = []
    if not _HOST_NAME.match(host_name):
        problems.append(
            Problem(
                path="host_name",
                message=f"`{shown(host_name)}` is not a host name of letters, digits, dots, dashes and underscores",
            )
        )
    if not 0 < minutes <= 7 * 24 * 60:
        problems.append(Problem(path="minutes", message="must be above 0 and at most a week (10080)"))
    if problems:
        raise InvalidInputError(problems)
    if not may_revoke and _is_revoked(session, host_name):
        raise RevokedError(
            f"the worker of the host {host_name} was revoked, and only who may revoke can let it enrol again",
            mend="have an administrator provision the host, or delete the worker",
        )
    token = secrets.token_urlsafe(32)
    row = EnrolmentToken(
        token_hash=hash_token(token),
        host_name=host_name,
        site=site,
        labels=dict(labels or {}),
        groups=list(groups),
        created_by=actor.name,
        expires_at=func.now() + dt.timedelta(minutes=minutes),
    )
    session.add(row)
    session.flush()
    record(session, actor, "enrolment_token.create", "enrolment_token", row.id, {"host_name": host_name})
    return token


def _is_revoked(session: Session, host_name: str) -> bool:
    """Whether the host's worker is revoked. One who revokes it now waits, and ends the token that is being made."""
    revoked_at = session.scalar(
        select(Worker.revoked_at)
        .where(Worker.host_name == host_name, Worker.deleted_at.is_(None))
        .with_for_update(read=True)
    )
    return revoked_at is not None


def revoke_worker(session: Session, name: str, *, actor: Actor = SYSTEM) -> uuid.UUID:
    """Revoke a worker, named by id, host name or name: its sessions end and no certificate of it is heard again.

    Enrolling its host anew brings it back, with a token that is made after this: those that are open end here.
    Raises NotFoundError.
    """
    found = session.scalars(
        select(Worker)
        .where(
            Worker.deleted_at.is_(None),
            or_(Worker.host_name == name, Worker.name == name, text("workers.id::text = lower(:name)")),
        )
        .params(name=name)
        .with_for_update()
    ).all()
    if len(found) != 1:
        raise NotFoundError(
            f"there is no worker `{shown(name)}`"
            if not found
            else f"`{shown(name)}` names {len(found)} workers",
            mend="name one worker by its id or the name of its host in the inventory",
        )
    worker = found[0]
    session.execute(
        update(Worker)
        .where(Worker.id == worker.id)
        .values(revoked_at=func.coalesce(Worker.revoked_at, func.now()))
    )
    session.execute(
        update(Certificate)
        .where(Certificate.worker_id == worker.id, Certificate.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )
    expire_tokens(session, worker.host_name)
    record(session, actor, "worker.revoke", "worker", worker.id, {"host_name": worker.host_name})
    return worker.id


def expire_tokens(session: Session, host_name: str) -> None:
    """End all open enrolment tokens of a host; its worker's row is locked first, as enrolment does."""
    session.execute(
        update(EnrolmentToken)
        .where(
            EnrolmentToken.host_name == host_name,
            EnrolmentToken.used_at.is_(None),
            EnrolmentToken.expires_at > func.now(),
        )
        .values(expires_at=func.now())
    )
