"""Changes workers: their names and places, and the end of their right to speak."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError, NotFoundError
from controller.store import queue
from controller.store.commands import audit, enrolment
from controller.store.commands.audit import Actor
from controller.store.commands.saving import check_state
from controller.store.entities import Drain, Worker
from controller.store.queries import workers
from controller.store.queries.workers import WorkerRecord
from streamswarm.targets import shown

FIELDS = ("name", "site", "labels", "groups", "intended_policy")
#: By these no test chooses its workers.
_OF_NO_PLAN = {"name", "intended_policy"}
#: Keys of a policy, entries of one, characters of an entry.
_MOST_KEYS, _MOST_ENTRIES, _LONGEST_ENTRY = 50, 1000, 300


def update(
    session: Session,
    worker_id: uuid.UUID,
    values: Mapping[str, Any],
    *,
    actor: Actor,
    seen: str | None = None,
) -> WorkerRecord:
    """Change the name, site, labels, groups or intended policy of a worker; tests that select by them are planned anew.

    `seen` is the state (`saving.state_of` the fields) that the change is based on, None for any.
    """
    entity = _locked(session, worker_id)
    check_state(entity, FIELDS, seen, "the worker")
    checker = Checker(values, FIELDS)
    readers: dict[str, Callable[[], Any]] = {
        "name": checker.name,
        "site": lambda: _site(checker),
        "labels": lambda: checker.labels("labels"),
        "groups": lambda: checker.words("groups"),
        "intended_policy": lambda: _policy(checker),
    }
    checked = {name: readers[name]() for name in FIELDS if name in values}
    checker.done()
    changed = audit.changes({name: getattr(entity, name) for name in FIELDS}, checked)
    if changed:
        for name in changed:
            setattr(entity, name, checked[name])
        audit.record(
            session, actor, "worker.update", "worker", entity.id, {"host_name": entity.host_name, **changed}
        )
        session.flush()
        if changed.keys() - _OF_NO_PLAN:
            queue.plan_worker(session.connection(), entity.id)
    return workers.get(session, worker_id)


def revoke(session: Session, worker_id: uuid.UUID, *, actor: Actor) -> WorkerRecord:
    """End a worker's right to speak: its session is closed within 10 s and its certificates are refused.

    Its jobs end; enrolling its host anew, with a new token, brings it back. Revoking twice changes nothing.
    """
    entity = _locked(session, worker_id)
    if entity.revoked_at is None:
        enrolment.revoke_worker(session, str(worker_id), actor=actor)
        session.flush()
        queue.plan_worker(session.connection(), entity.id)
        session.refresh(entity)
    return workers.get(session, worker_id)


def note_drained(session: Session, worker_id: uuid.UUID, *, actor: Actor) -> WorkerRecord:
    """Note that a worker is out of service by somebody's order, until a session of it begins that can measure.

    What its host does is another matter: `streamswarm fleet drain` stops it there. Noting it again changes nothing.
    """
    entity = _locked(session, worker_id)
    if entity.revoked_at is not None:
        raise ConflictError(f"the worker {shown(entity.name)} is revoked, so nobody waits for it")
    if _open_drain(session, worker_id) is None:
        session.add(Drain(worker_id=worker_id, made_by=actor.name))
        audit.record(session, actor, "worker.drained", "worker", worker_id, {"host_name": entity.host_name})
        session.flush()
    return workers.get(session, worker_id)


def note_resumed(session: Session, worker_id: uuid.UUID, *, actor: Actor) -> WorkerRecord:
    """Note that a worker is to be in service again, whether or not it has come back yet."""
    entity = _locked(session, worker_id)
    drain = _open_drain(session, worker_id)
    if drain is not None:
        drain.until = func.now()
        audit.record(session, actor, "worker.resumed", "worker", worker_id, {"host_name": entity.host_name})
        session.flush()
    return workers.get(session, worker_id)


def delete(session: Session, worker_id: uuid.UUID, *, actor: Actor, with_data: bool = False) -> None:
    """Delete a worker and revoke it. Its row stays as a tombstone, for its results refer to it.

    `with_data` has keepers remove its results too; those that still come are acknowledged and not stored.
    """
    entity = _locked(session, worker_id)
    if entity.revoked_at is None:
        enrolment.revoke_worker(session, str(worker_id), actor=actor)
    else:
        enrolment.expire_tokens(session, entity.host_name)  # those that were made since
    entity.deleted_at = func.now()
    if with_data:
        entity.data_deleted_at = func.now()
    told = {"name": entity.name, "host_name": entity.host_name, **({"with_data": True} if with_data else {})}
    audit.record(session, actor, "worker.delete", "worker", entity.id, told)
    session.flush()
    queue.plan_worker(session.connection(), entity.id)


def _open_drain(session: Session, worker_id: uuid.UUID) -> Drain | None:
    return session.scalar(select(Drain).where(Drain.worker_id == worker_id, Drain.until.is_(None)))


def _locked(session: Session, worker_id: uuid.UUID) -> Worker:
    entity = session.scalar(
        select(Worker)
        .where(Worker.id == worker_id, Worker.deleted_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if entity is None:
        raise NotFoundError(f"there is no worker {worker_id}", mend="list the workers")
    return entity


def _site(checker: Checker) -> str:
    if checker.value("site") in ("", None):
        return ""
    return "".join(checker.words_of("site", [checker.value("site")], most=1)[:1])


def _policy(checker: Checker) -> dict[str, Any] | None:
    """Return the policy that is intended, as the worker's own host takes it: keys with plain values or lists of them."""
    value = checker.value("intended_policy")
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) > _MOST_KEYS:
        checker.add("intended_policy", f"must be null, or a mapping of at most {_MOST_KEYS} keys to values")
        return None
    for key, inner in value.items():
        items = (
            checker.items(f"intended_policy.{shown(str(key))}", inner, most=_MOST_ENTRIES)
            if isinstance(inner, list)
            else [inner]
        )
        if not all(_is_plain(item) for item in (key, *items)):
            checker.add(
                f"intended_policy.{shown(str(key))}",
                "must be a text, number or truth value, or a list of such",
            )
    return dict(value)


def _is_plain(item: Any) -> bool:
    if isinstance(item, str):
        return len(item) <= _LONGEST_ENTRY and item.isprintable()
    return item is None or isinstance(item, bool) or (isinstance(item, int) and abs(item) < 2**63)
