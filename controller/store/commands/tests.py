"""Changes tests."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.errors import ConflictError, NotFoundError
from controller.store import queue
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.commands.definitions import FIELDS, check_definition, existing_destinations
from controller.store.commands.saving import check_version, flush_unique
from controller.store.entities import AuditEntry, Test
from controller.store.queries import tests
from controller.store.queries.run_requests import RUN, RUN_FAILED
from controller.store.queries.tests import TestRecord
from streamswarm.targets import shown
from streamswarm.zones import to_microseconds

_UNIQUE = "uq_tests_name_live"


def create(session: Session, values: Mapping[str, Any], *, actor: Actor) -> TestRecord:
    """Make a test of `FIELDS`; `name` and `kind` are required, the rest has defaults.

    Raises InvalidInputError with paths such as `spec.count` or `destinations[0]`.
    """
    checked = check_definition(session, values)
    aimed = checked.pop("destinations")
    entity = Test(**checked, created_by=actor.name)
    entity.destinations = existing_destinations(session, aimed)
    session.add(entity)
    flush_unique(session, "test", entity.name, _UNIQUE)
    audit.record(session, actor, "test.create", "test", entity.id, {**checked, "destinations": aimed})
    session.flush()
    queue.plan_test(session.connection(), entity.id)
    return _read(session, entity)


def update(
    session: Session, test_id: int, values: Mapping[str, Any], *, seen: int | None, actor: Actor
) -> TestRecord:
    """Change the fields given, each as a whole; `seen` is the version that the change is based on, None for any.

    The kind of a test is what its results are of, so it cannot change.
    """
    entity = _locked(session, test_id)
    check_version(entity, seen, "the test")
    before = _definition(entity)
    checked = check_definition(session, values, before={**before, "created_at": entity.created_at})
    changed = audit.changes(before, checked)
    if not changed:
        return _read(session, entity)
    aimed = checked.pop("destinations")
    for name, value in checked.items():
        if name in changed:
            setattr(entity, name, value)
    if "destinations" in changed:
        entity.destinations = existing_destinations(session, aimed)
    return _changed(session, entity, actor, "test.update", {"name": before["name"], **changed})


def pause(session: Session, test_id: int, *, actor: Actor) -> TestRecord:
    """Stop the runs of a test until it is resumed; pausing twice changes nothing."""
    return _set_paused(session, test_id, True, actor)


def resume(session: Session, test_id: int, *, actor: Actor) -> TestRecord:
    """Let a paused test run again on the same grid of instants."""
    return _set_paused(session, test_id, False, actor)


def stop(session: Session, test_id: int, *, actor: Actor) -> TestRecord:
    """End a test now; stopping one that is over changes nothing. Raises ConflictError before its start."""
    entity = _locked(session, test_id)
    now: dt.datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    if entity.ends_at is not None and entity.ends_at <= now:
        return _read(session, entity)
    if entity.starts_at is not None and entity.starts_at >= now:
        raise ConflictError(
            f"the test `{shown(entity.name)}` has not begun", mend="pause it, or give it an earlier start"
        )
    entity.ends_at = now
    return _changed(session, entity, actor, "test.stop", {"name": entity.name})


def restart(session: Session, test_id: int, *, actor: Actor) -> TestRecord:
    """Have a test run again from now on: without its end and not paused; its runs are counted anew."""
    entity = _locked(session, test_id)
    now: dt.datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    entity.ends_at, entity.paused = None, False
    # A test that repeats for ever keeps its grid of instants; where a start was given, or counts, it is now.
    repeats_for_ever = (entity.interval_s is not None or entity.cron) and entity.max_runs is None
    if entity.starts_at is not None or not repeats_for_ever:
        entity.starts_at = now
    return _changed(session, entity, actor, "test.restart", {"name": entity.name})


def run_now(session: Session, test_id: int, *, actor: Actor) -> dt.datetime:
    """Have a test run once, beside its schedule; returns the instant for which the runs are due."""
    entity = _locked(session, test_id)
    now: dt.datetime = session.execute(select(func.clock_timestamp())).scalar_one()
    if entity.ends_at is not None and entity.ends_at <= now:
        raise ConflictError(
            f"the test `{shown(entity.name)}` ended at {entity.ends_at.isoformat()}",
            mend="give it a later end first",
        )
    audit.record(session, actor, RUN, "test", entity.id, {"name": entity.name})
    session.flush()
    queue.run_test_now(session.connection(), entity.id, requested_at_us=to_microseconds(now))
    return now


def run_failed(session: Session, test_id: int, requested_at: dt.datetime, *, reason: str) -> None:
    """Note that a "run now" came to nothing, and why, for whoever asked; once, however often it is tried."""
    instant = requested_at.isoformat()
    known = select(AuditEntry.id).where(
        AuditEntry.at >= requested_at,
        AuditEntry.action == RUN_FAILED,
        AuditEntry.object_id == str(test_id),
        AuditEntry.detail["requested_at"].astext == instant,
    )
    if session.scalars(known.limit(1)).first() is None:
        audit.record(
            session, SYSTEM, RUN_FAILED, "test", test_id, {"requested_at": instant, "reason": reason}
        )
        session.flush()


def delete(session: Session, test_id: int, *, actor: Actor, with_data: bool = False) -> None:
    """Delete a test. Its row stays as a tombstone, so that results still under way are stored and counted.

    `with_data` has keepers remove its results too; those that still come are acknowledged and not stored.
    """
    entity = _locked(session, test_id)
    entity.deleted_at = func.now()
    if with_data:
        entity.data_deleted_at = func.now()
    entity.version += 1
    session.flush()
    told = {**_definition(entity), **({"with_data": True} if with_data else {})}
    audit.record(session, actor, "test.delete", "test", entity.id, told)
    session.flush()
    queue.plan_test(session.connection(), entity.id)


def _set_paused(session: Session, test_id: int, paused: bool, actor: Actor) -> TestRecord:
    entity = _locked(session, test_id)
    if entity.paused == paused:
        return _read(session, entity)
    entity.paused = paused
    return _changed(session, entity, actor, "test.pause" if paused else "test.resume", {"name": entity.name})


def _changed(
    session: Session, entity: Test, actor: Actor, action: str, detail: Mapping[str, Any]
) -> TestRecord:
    entity.version += 1
    entity.updated_at = func.now()
    flush_unique(session, "test", entity.name, _UNIQUE)
    audit.record(session, actor, action, "test", entity.id, detail)
    session.flush()
    queue.plan_test(session.connection(), entity.id)
    return _read(session, entity)


def _read(session: Session, entity: Test) -> TestRecord:
    session.flush()
    session.refresh(entity)
    return tests.get(session, entity.id)


def _locked(session: Session, test_id: int) -> Test:
    entity = session.scalar(
        select(Test)
        .where(Test.id == test_id, Test.deleted_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if entity is None:
        raise NotFoundError(f"there is no test {test_id}", mend="list the tests")
    return entity


def _definition(entity: Test) -> dict[str, Any]:
    values = {name: getattr(entity, name) for name in FIELDS}
    values["destinations"] = [destination.id for destination in entity.destinations]
    return values
