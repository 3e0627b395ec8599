"""Writes down what an operation on the fleet does while it runs, and how it ended.

Each call is a sign of life too. What is kept of an operation is bounded: texts are cut, and beyond a number of events
they are only counted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from controller.store.commands.operations import Claim, beat, tell_listeners
from controller.store.entities import Operation, OperationEvent, OperationHost
from controller.store.operation_notes import MOST_FIGURES, Figure, HostNote, Standing, TaskNote, shortened

#: Events that are kept of one operation, and those among them that say that all went well.
MOST_EVENTS = 10_000
MOST_QUIET_EVENTS = 5_000
_LONGEST_NAME = 253


@dataclass
class _HostNow:
    task: str = ""
    state: str = "working"
    changed: int = 0
    message: str = ""
    at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


def record(
    session: Session, claim: Claim, notes: Sequence[TaskNote] = (), outcomes: Sequence[HostNote] = ()
) -> Standing:
    """Write down what happened since the last call, in its order; without anything it is only a sign of life.

    `outcomes` are of hosts on which nothing more happens.
    """
    told = [note for note in notes if note.state not in ("started", "skipped")]
    found = session.execute(
        update(Operation)
        .where(
            Operation.id == claim.operation_id,
            Operation.version == claim.version,
            Operation.state == "running",
        )
        .values(event_count=Operation.event_count + len(told), beat_at=beat())
        .returning(Operation.event_count, Operation.cancelled_by)
    ).one_or_none()
    if found is None:
        return Standing.LOST
    events = list(_events(claim, told, found.event_count - len(told)))
    if events:
        session.execute(insert(OperationEvent), events)
    _note_hosts(session, claim, notes)
    _note_outcomes(session, claim, outcomes)
    if notes or outcomes:
        tell_listeners(session, claim.operation_id)
    return Standing.CANCELLED if found.cancelled_by else Standing.GOES_ON


def finish(
    session: Session,
    claim: Claim,
    *,
    state: str,
    error: str = "",
    mend: str = "",
    figures: Sequence[Figure] = (),
) -> bool:
    """End an operation with one of `ENDS`; False when it is no more the caller's."""
    changed = session.execute(
        update(Operation)
        .where(
            Operation.id == claim.operation_id,
            Operation.version == claim.version,
            Operation.state == "running",
        )
        .values(
            state=state,
            version=Operation.version + 1,
            error=shortened(error),
            mend=shortened(mend),
            finished_at=func.now(),
            figures=[_row(figure) for figure in figures[:MOST_FIGURES]],
        )
        .returning(Operation.id)
    ).scalar_one_or_none()
    if changed is not None:
        tell_listeners(session, claim.operation_id)
    return changed is not None


def _row(figure: Figure) -> dict[str, Any]:
    row = asdict(figure)
    return {name: shortened(value) if isinstance(value, str) else value for name, value in row.items()}


def _events(claim: Claim, told: Sequence[TaskNote], before: int) -> Iterable[dict[str, object]]:
    """Yield the rows of what is kept; the numbers of what is not are left out."""
    for sequence, note in enumerate(told, before + 1):
        if sequence > (MOST_QUIET_EVENTS if note.state == "ok" else MOST_EVENTS):
            continue
        yield {
            "operation_id": claim.operation_id,
            "sequence": sequence,
            "at": note.at,
            "host": shortened(note.host, _LONGEST_NAME),
            "task": shortened(note.task, _LONGEST_NAME),
            "state": note.state,
            "message": shortened(note.message),
        }


def _note_hosts(session: Session, claim: Claim, notes: Sequence[TaskNote]) -> None:
    hosts: dict[str, _HostNow] = {}
    for note in filter(lambda note: note.host, notes):
        now = hosts.setdefault(shortened(note.host, _LONGEST_NAME), _HostNow())
        now.task, now.at = shortened(note.task, _LONGEST_NAME), note.at
        now.state = note.state if note.state in ("failed", "unreachable") else "working"
        now.message = shortened(note.message)
        now.changed += note.state == "changed"
    if not hosts:
        return
    statement = upsert(OperationHost).values(
        [
            {
                "operation_id": claim.operation_id,
                "host": host,
                "state": now.state,
                "task": now.task,
                "changed": now.changed,
                "message": now.message,
                "updated_at": now.at,
            }
            # In one order, whoever writes.
            for host, now in sorted(hosts.items())
        ]
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["operation_id", "host"],
            set_={
                **{name: statement.excluded[name] for name in ("state", "task", "message", "updated_at")},
                "changed": OperationHost.changed + statement.excluded.changed,
            },
        )
    )


def _note_outcomes(session: Session, claim: Claim, outcomes: Sequence[HostNote]) -> None:
    rows = {
        note.host: {
            "operation_id": claim.operation_id,
            "host": shortened(note.host, _LONGEST_NAME),
            "state": note.state,
            "changed": note.changed,
            "message": shortened(note.message),
        }
        for note in sorted(outcomes, key=lambda note: note.host)
    }
    if not rows:
        return
    statement = upsert(OperationHost).values(list(rows.values()))
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["operation_id", "host"],
            set_={
                **{name: statement.excluded[name] for name in ("state", "changed", "message")},
                "updated_at": func.now(),
            },
        )
    )
