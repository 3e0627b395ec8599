"""Changes how a user likes to read instants and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.store.commands import audit
from controller.store.commands.audit import Actor
from controller.store.commands.users import locked
from controller.store.queries import users
from controller.store.queries.users import NUMBER_FORMS, UserRecord
from streamswarm import zones
from streamswarm.zones import ScheduleError

FIELDS = ("zone", "number_form")


def update(session: Session, user_id: int, values: Mapping[str, Any], *, actor: Actor) -> UserRecord:
    """Change the fields given: `zone`, an IANA name or empty for the browser's, and `number_form`."""
    entity = locked(session, user_id)
    checker = Checker(values, FIELDS)
    checked: dict[str, str] = {}
    if checker.given("zone"):
        checked["zone"] = _zone(checker)
    if checker.given("number_form"):
        checked["number_form"] = checker.choice("number_form", tuple(NUMBER_FORMS))
    checker.done()
    changed = audit.changes({name: getattr(entity, name) for name in FIELDS}, checked)
    if changed:
        for name in changed:
            setattr(entity, name, checked[name])
        session.flush()
        audit.record(session, actor, "user.prefer", "user", entity.id, {"name": entity.name, **changed})
    return users.record(entity)


def _zone(checker: Checker) -> str:
    name = checker.text("zone", longest=64)
    if name:
        try:
            zones.load(name)
        except ScheduleError as error:
            checker.add("zone", str(error))
    return name
