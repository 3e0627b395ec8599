"""Changes destinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError, NotFoundError
from controller.store import queue
from controller.store.commands import audit
from controller.store.commands.audit import Actor
from controller.store.commands.saving import check_version, flush_unique
from controller.store.entities import Destination
from controller.store.queries import destinations
from controller.store.queries.destinations import DestinationRecord
from controller.store.queries.tests import using_destination
from streamswarm import contract
from streamswarm.contract import InvalidInputError
from streamswarm.targets import TargetError, parse_address, shown

FIELDS = ("name", "address", "description", "tags")
_UNIQUE = "uq_destinations_name_live"


def create(session: Session, values: Mapping[str, Any], *, actor: Actor) -> DestinationRecord:
    """Make a destination of `name`, `address` and optionally `description` and `tags`."""
    checked = _check(values, wanted=FIELDS)
    entity = Destination(**checked)
    session.add(entity)
    flush_unique(session, "destination", entity.name, _UNIQUE)
    audit.record(session, actor, "destination.create", "destination", entity.id, checked)
    return destinations.get(session, entity.id)


def update(
    session: Session, destination_id: int, values: Mapping[str, Any], *, seen: int | None, actor: Actor
) -> DestinationRecord:
    """Change the fields given; `seen` is the version that the change is based on, None for any."""
    entity = _locked(session, destination_id)
    check_version(entity, seen, "the destination")
    checked = _check(values, wanted=tuple(name for name in FIELDS if name in values))
    changed = audit.changes({name: getattr(entity, name) for name in FIELDS}, checked)
    if not changed:
        return destinations.get(session, destination_id)
    if "address" in changed:
        _check_tests(session, entity, checked["address"])
    for name in changed:
        setattr(entity, name, checked[name])
    entity.version += 1
    entity.updated_at = func.now()
    flush_unique(session, "destination", entity.name, _UNIQUE)
    session.refresh(entity)
    audit.record(
        session, actor, "destination.update", "destination", entity.id, {"name": entity.name, **changed}
    )
    if "address" in changed:
        queue.plan_destination(session.connection(), entity.id)
    return destinations.get(session, destination_id)


def delete(session: Session, destination_id: int, *, actor: Actor) -> None:
    """Delete a destination that no test aims at; ConflictError names the tests that do."""
    entity = _locked(session, destination_id)
    tests = using_destination(session, destination_id)
    if tests:
        names = ", ".join(f"`{shown(name)}`" for _, name, _ in tests[:5])
        more = f" and {len(tests) - 5} more" if len(tests) > 5 else ""
        raise ConflictError(
            f"the destination `{shown(entity.name)}` is aimed at by {names}{more}",
            mend="take it out of these tests first, or delete them",
        )
    entity.deleted_at = func.now()
    session.flush()
    audit.record(
        session,
        actor,
        "destination.delete",
        "destination",
        entity.id,
        {"name": entity.name, "address": entity.address},
    )


def _locked(session: Session, destination_id: int) -> Destination:
    entity = session.scalar(
        select(Destination)
        .where(Destination.id == destination_id, Destination.deleted_at.is_(None))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if entity is None:
        raise NotFoundError(f"there is no destination {destination_id}", mend="list the destinations")
    return entity


def _check(values: Mapping[str, Any], *, wanted: tuple[str, ...]) -> dict[str, Any]:
    checker = Checker(values, FIELDS)
    readers: dict[str, Callable[[], Any]] = {
        "name": checker.name,
        "address": lambda: _address(checker),
        "description": lambda: checker.text("description", longest=2000, lines=True),
        "tags": lambda: checker.words("tags"),
    }
    checked = {name: readers[name]() for name in wanted}
    checker.done()
    return checked


def _address(checker: Checker) -> str:
    """Return the address in its canonical form."""
    text = checker.text("address", longest=2048, required=True)
    if checker.problems and checker.problems[-1].path == "address":
        return ""
    try:
        return str(parse_address(text))
    except TargetError as error:
        checker.add("address", str(error))
        return ""


def _check_tests(session: Session, entity: Destination, address: str) -> None:
    """Refuse an address that a test which aims at the destination could not use."""
    for _, name, kind in using_destination(session, entity.id):
        try:
            contract.parse_target(contract.kind(kind), address)
        except InvalidInputError as error:
            raise ConflictError(
                f"the test `{shown(name)}` of kind `{kind}` cannot use this address: {error.problems[0].message}",
                mend="take the destination out of that test first, or keep a form of address that suits it",
            ) from error
