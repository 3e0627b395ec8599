"""Reads what a command line tells over the API of the operation that it runs, and writes it down."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError
from controller.store.commands import audit
from controller.store.commands import operation_progress as progress
from controller.store.commands.audit import Actor
from controller.store.commands.operations import claimed
from controller.store.operation_notes import (
    ENDS,
    MOST_FIGURES,
    OUTCOMES,
    TASK_STATES,
    Figure,
    HostNote,
    Standing,
    TaskNote,
)
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord

EVENT_FIELDS = ("version", "events", "hosts")
FINISH_FIELDS = ("version", "state", "error", "mend", "figures")
FIGURE_FIELDS = tuple(each.name for each in dataclasses.fields(Figure))
LARGEST_FIGURE = 1e18
#: Events, and hosts, of one call.
MOST_AT_ONCE = 500
_LONGEST = 3000
_LONGEST_NAME = 253
_MOST_CHANGED = 1_000_000


def tell(session: Session, operation_id: int, values: Mapping[str, Any], *, actor: Actor) -> Standing:
    """Write down `events` and how `hosts` came out of it, told by who began it with its `version`."""
    checker = Checker(values, EVENT_FIELDS)
    version = _version(checker)
    notes = [
        _note(entry) for entry in _entries(checker, "events", ("host", "task", "state", "message", "at"))
    ]
    outcomes = [
        _outcome(entry) for entry in _entries(checker, "hosts", ("host", "state", "changed", "message"))
    ]
    checker.done()
    claim = claimed(session, operation_id, version, actor=actor)
    return progress.record(session, claim, notes, outcomes)


def finish(
    session: Session, operation_id: int, values: Mapping[str, Any], *, actor: Actor
) -> OperationRecord:
    """Write down how it ended: `state`, `error` and `mend` in words, and the `figures` of what was judged.

    Raises ConflictError when it is over already.
    """
    checker = Checker(values, FINISH_FIELDS)
    version, state = _version(checker), checker.choice("state", ENDS)
    error = checker.text("error", longest=_LONGEST, lines=True)
    mend = checker.text("mend", longest=_LONGEST, lines=True)
    figures = [_figure(entry) for entry in _entries(checker, "figures", FIGURE_FIELDS, most=MOST_FIGURES)]
    checker.done()
    claim = claimed(session, operation_id, version, actor=actor)
    if not progress.finish(session, claim, state=state, error=error, mend=mend, figures=figures):
        raise ConflictError(f"operation {operation_id} is over, or its version is another")
    audit.record(session, actor, "operation.finish", "operation", operation_id, {"state": state})
    return operations.get(session, operation_id)


def _version(checker: Checker) -> int:
    value = checker.value("version")
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**31:
        checker.add("version", "must be the version that the answer to its beginning said")
        return 0
    return value


def _entries(
    checker: Checker, name: str, known: tuple[str, ...], *, most: int = MOST_AT_ONCE
) -> list[_Entry]:
    found = []
    for index, item in enumerate(checker.items(name, checker.value(name), most=most)):
        if isinstance(item, Mapping):
            found.append(_Entry(item, known, checker, f"{name}[{index}]"))
        else:
            checker.add(f"{name}[{index}]", "must be a mapping of fields to values")
    return found


class _Entry(Checker):
    """One entry of a list; its faults are noted with its place."""

    def __init__(self, values: Mapping[str, Any], known: tuple[str, ...], outer: Checker, path: str) -> None:
        self._outer = outer
        self._path = path
        super().__init__(values, known)

    def add(self, path: str, message: str) -> None:
        """Note a fault at its place in the whole."""
        self._outer.add(f"{self._path}.{path}", message)


def _note(entry: _Entry) -> TaskNote:
    return TaskNote(
        host=entry.text("host", longest=_LONGEST_NAME, required=True),
        task=entry.text("task", longest=_LONGEST),
        state=entry.choice("state", TASK_STATES),
        message=entry.text("message", longest=_LONGEST, lines=True),
        at=entry.instant("at") or dt.datetime.now(dt.UTC),
    )


def _figure(entry: _Entry) -> Figure:
    numbers = {
        name: entry.number(name, smallest=-LARGEST_FIGURE, largest=LARGEST_FIGURE)
        for name in ("before", "after", "others_before", "others_after")
    }
    for name in ("before", "after"):
        if numbers[name] is None and not entry.given(name):
            entry.add(name, "must be a number")
    others = entry.number("others", smallest=0, largest=_MOST_CHANGED)
    return Figure(
        kind=entry.text("kind", longest=_LONGEST_NAME, required=True),
        where=entry.text("where", longest=_LONGEST),
        quantity=entry.text("quantity", longest=_LONGEST_NAME, required=True),
        unit=entry.text("unit", longest=_LONGEST_NAME),
        before=numbers["before"] or 0.0,
        after=numbers["after"] or 0.0,
        others=round(others or 0),
        others_before=numbers["others_before"],
        others_after=numbers["others_after"],
        worse=entry.flag("worse") if entry.given("worse") else False,
    )


def _outcome(entry: _Entry) -> HostNote:
    changed = entry.number("changed", smallest=0, largest=_MOST_CHANGED)
    return HostNote(
        host=entry.text("host", longest=_LONGEST_NAME, required=True),
        state=entry.choice("state", OUTCOMES),
        changed=round(changed or 0),
        message=entry.text("message", longest=_LONGEST, lines=True),
    )
