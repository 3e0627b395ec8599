"""Checks what a user asks of a test: kind, parameters, destinations, workers, schedule."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.checking import Checker, read_selection
from controller.planning.asking import FIELDS as SCHEDULE_FIELDS
from controller.planning.asking import check_end, read_schedule
from controller.store.entities import Destination, Worker
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, UnknownKindError

FIELDS = (
    "name",
    "description",
    "kind",
    "spec",
    "destinations",
    "selection",
    "tags",
    *SCHEDULE_FIELDS,
    "paused",
)
MAX_DESTINATIONS = 100
#: Workers that are chosen one by one: so many fit into one call of the API.
MAX_WORKERS = 5000


def check_definition(
    session: Session, values: Mapping[str, Any], *, before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return every field of a test, checked: from `values`, else from `before`, else its default.

    `before` may have `created_at` too. Every fault is collected into one InvalidInputError.
    """
    checker = Checker(values, FIELDS)
    old: Mapping[str, Any] = before or {}
    kind = _kind(checker, old)
    result: dict[str, Any] = {
        "name": checker.name() if checker.given("name") or not old else old["name"],
        "description": checker.text("description", longest=2000, lines=True)
        if checker.given("description")
        else old.get("description", ""),
        "kind": kind.name if kind else "",
        "tags": checker.words("tags") if checker.given("tags") else old.get("tags", []),
        "paused": checker.flag("paused") if checker.given("paused") else old.get("paused", False),
        "spec": _spec(checker, kind, old),
        "destinations": _destinations(checker, session, kind, old),
        "selection": _selection(checker, session)
        if checker.given("selection")
        else old.get("selection", {"all": True}),
    }
    now: dt.datetime = session.execute(select(func.now())).scalar_one()
    result |= read_schedule(checker, result["spec"], before=before, now=now)
    check_end(checker, result, before=old.get("ends_at"), now=now)
    checker.done()
    return result


def existing_destinations(session: Session, ids: list[int]) -> list[Destination]:
    """Return the live destinations among `ids`, locked so that nobody deletes them meanwhile."""
    return list(
        session.scalars(
            select(Destination)
            .where(Destination.id.in_(ids), Destination.deleted_at.is_(None))
            .order_by(Destination.id)
            .with_for_update(read=True)
        )
    )


def _kind(checker: Checker, old: Mapping[str, Any]) -> Kind | None:
    name = checker.value("kind") if checker.given("kind") else old.get("kind")
    if name is None:
        checker.add("kind", f"is missing; there are {', '.join(contract.kinds())}")
        return None
    if old and name != old["kind"]:
        checker.add("kind", f"is `{old['kind']}` for good, for results hang on it; make a new test")
        return contract.kind(old["kind"])
    if not isinstance(name, str):
        checker.add("kind", "must be text")
        return None
    try:
        return contract.kind(name)
    except UnknownKindError as error:
        checker.add("kind", str(error))
        return None


def _spec(checker: Checker, kind: Kind | None, old: Mapping[str, Any]) -> dict[str, Any]:
    if kind is None:
        return {}
    if not checker.given("spec") and old:
        return dict(old["spec"])
    value = checker.value("spec")
    try:
        return contract.spec_values(contract.make_spec(kind.name, {} if value is None else value))
    except InvalidInputError as error:
        checker.problems.extend(error.problems)
        return {}


def _destinations(checker: Checker, session: Session, kind: Kind | None, old: Mapping[str, Any]) -> list[int]:
    if not checker.given("destinations") and old:
        return list(old["destinations"])
    faults = len(checker.problems)
    ids = checker.ids("destinations", most=MAX_DESTINATIONS)
    if kind is None or len(checker.problems) > faults:
        return ids
    if kind.target == "none":
        if ids:
            checker.add(
                "destinations",
                f"must be empty: tests of kind `{kind.name}` look at the worker's own host",
            )
        return []
    if not ids:
        checker.add("destinations", f"must name at least one destination for a test of kind `{kind.name}`")
    found = {entity.id: entity for entity in existing_destinations(session, ids)}
    for index, wanted in enumerate(ids):
        if wanted not in found:
            checker.add(f"destinations[{index}]", f"there is no destination {wanted}")
            continue
        try:
            contract.parse_target(kind, found[wanted].address)
        except InvalidInputError as error:
            checker.add(f"destinations[{index}]", error.problems[0].message)
    return sorted(ids)


def _selection(checker: Checker, session: Session) -> dict[str, Any]:
    def workers(value: Any) -> list[str]:
        ids = checker.uuids_of("selection.workers", value, most=MAX_WORKERS)
        _check_workers(checker, session, ids)
        return sorted(str(worker) for worker in ids)

    return read_selection(checker, workers)


def _check_workers(checker: Checker, session: Session, ids: list[uuid.UUID]) -> None:
    live = set(session.scalars(select(Worker.id).where(Worker.id.in_(ids), Worker.deleted_at.is_(None))))
    for index, wanted in enumerate(ids):
        if wanted not in live:
            checker.add(f"selection.workers[{index}]", f"there is no worker {wanted}")
