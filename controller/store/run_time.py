"""Settings that administrators change while everything runs: kept in the database, unless the environment has them.

What the environment or the settings file of a process says holds for that process, whatever the database says.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.settings import Settings
from controller.store.commands import audit
from controller.store.commands.audit import Actor
from controller.store.entities import RunTimeSetting


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One setting that can be changed at run time; a number of some unit."""

    label: str
    help: str
    unit: str
    smallest: float
    largest: float
    #: What 0 means beside the range; empty where 0 is refused.
    zero: str = ""


@dataclass(frozen=True, kw_only=True)
class RunTimeRecord:
    """A setting with the value that holds in this process."""

    name: str
    value: float
    #: `environment` (or settings file), `database` or `default`.
    source: Literal["environment", "database", "default"]
    #: Who changed it in the database last, and when; None where nobody has.
    changed_by: str | None
    changed_at: dt.datetime | None


CHOICES: Mapping[str, Choice] = {
    "web_session_minutes": Choice(
        label="Session timeout",
        help="Minutes without activity after which somebody is logged out. Pages that refresh themselves are no activity.",
        unit="min",
        smallest=10,
        largest=60,
        zero="only the 12 hours after which every session ends",
    ),
    "enrolment_token_minutes": Choice(
        label="Life of enrolment tokens",
        help="Minutes within which a host that is being provisioned must have enrolled.",
        unit="min",
        smallest=1,
        largest=1440,
    ),
}


def read(session: Session, settings: Settings) -> tuple[RunTimeRecord, ...]:
    """Return every choice with its value as this process has it."""
    rows = {row.name: row for row in session.scalars(select(RunTimeSetting))}
    return tuple(_record(name, rows.get(name), settings) for name in CHOICES)


def value_of(session: Session, settings: Settings, name: str) -> float:
    """Return the value that holds in this process now."""
    return _record(name, session.get(RunTimeSetting, name), settings).value


def column(settings: Settings, name: str) -> ColumnElement[float]:
    """Return the value that holds in this process, for a query."""
    own = literal(float(getattr(settings, name)))
    if name in settings.given:
        return own
    stored = select(RunTimeSetting.value).where(RunTimeSetting.name == name).scalar_subquery()
    return func.coalesce(stored, own)


def change(
    session: Session, settings: Settings, values: Mapping[str, Any], *, actor: Actor
) -> tuple[RunTimeRecord, ...]:
    """Change the settings given; None goes back to the default. What the environment has cannot be changed."""
    checker = Checker(values, tuple(CHOICES))
    before = {record.name: record for record in read(session, settings)}
    changed: dict[str, float | None] = {}
    for name in values.keys() & CHOICES.keys():
        if before[name].source == "environment":
            checker.add(
                name, "is set by the environment or the settings file of this process; change it there"
            )
            continue
        found = _checked(checker, name)
        stored = before[name].value if before[name].source == "database" else None
        if found != stored:
            changed[name] = found
    checker.done()
    for name, value in changed.items():
        if value is None:
            session.delete(session.get_one(RunTimeSetting, name))
        else:
            made = {"name": name, "value": value, "changed_by": actor.name, "changed_at": func.now()}
            statement = insert(RunTimeSetting).values(made)
            session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=made))
        detail = {"from": before[name].value, "to": value if value is not None else getattr(settings, name)}
        audit.record(session, actor, "settings.update", "settings", name, {name: detail})
    session.flush()
    session.expire_all()
    return read(session, settings)


def _checked(checker: Checker, name: str) -> float | None:
    choice, value = CHOICES[name], checker.value(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        checker.add(name, f"must be a number of {choice.unit}")
        return None
    allowed = choice.smallest <= value <= choice.largest or (value == 0 and choice.zero)
    if not allowed:
        instead = f", or 0: {choice.zero}" if choice.zero else ""
        checker.add(name, f"must be {choice.smallest:g} to {choice.largest:g} {choice.unit}{instead}")
        return None
    return float(value)


def _record(name: str, row: RunTimeSetting | None, settings: Settings) -> RunTimeRecord:
    value, source = float(getattr(settings, name)), "default"
    if name in settings.given:
        source = "environment"
    elif row is not None:
        value, source = row.value, "database"
    return RunTimeRecord(
        name=name,
        value=value,
        source=source,  # type: ignore[arg-type]
        changed_by=row.changed_by if row else None,
        changed_at=row.changed_at if row else None,
    )
