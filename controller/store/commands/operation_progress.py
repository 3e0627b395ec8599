"""Writes down what an operation on the fleet does while it runs, and how it ended.

Each call is a sign of life too. What is kept of an operation is bounded: texts are cut, and beyond a number of events
they are only counted.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import func, insert, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from controller.store.commands.operations import Claim, tell_listeners
from controller.store.entities import Operation, OperationEvent, OperationHost

#: Events that are kept of one operation, and those among them that say that all went well.
MOST_EVENTS = 10_000
MOST_QUIET_EVENTS = 5_000
LONGEST_MESSAGE = 2000
_LONGEST_NAME = 253
_CUT = " […] "

#: How a task ended, or that it has begun.
TASK_STATES = ("started", "ok", "changed", "skipped", "failed", "unreachable")
#: How a host came out of an operation.
HOST_STATES = ("ok", "failed", "unreachable")
#: How an operation ends when who runs it lives.
ENDS = ("succeeded", "failed", "cancelled", "interrupted")


class Standing(enum.Enum):
    """What whoever runs an operation is told when it tells of it."""

    #: All is well.
    GOES_ON = "goes_on"
    #: Somebody asked for its end.
    CANCELLED = "cancelled"
    #: It is no more the caller's: it was taken for dead, or it is over or gone.
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class TaskNote:
    """One task on one host that has begun or ended."""

    host: str
    task: str
    #: One of `TASK_STATES`.
    state: str
    message: str = ""
    at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class HostNote:
    """How a host came out of an operation."""

    host: str
    #: One of `HOST_STATES`.
    state: str
    #: Tasks that changed something.
    changed: int
    message: str = ""


@dataclass
class _HostNow:
    task: str = ""
    state: str = "working"
    changed: int = 0
    message: str = ""
    at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


def record(session: Session, claim: Claim, notes: Sequence[TaskNote] = ()) -> Standing:
    """Write down what happened since the last call, in its order; without notes it is only a sign of life."""
    told = [note for note in notes if note.state not in ("started", "skipped")]
    found = session.execute(
        update(Operation)
        .where(
            Operation.id == claim.operation_id,
            Operation.version == claim.version,
            Operation.state == "running",
        )
        .values(event_count=Operation.event_count + len(told), beat_at=func.now())
        .returning(Operation.event_count, Operation.cancelled_by)
    ).one_or_none()
    if found is None:
        return Standing.LOST
    events = list(_events(claim, told, found.event_count - len(told)))
    if events:
        session.execute(insert(OperationEvent), events)
    _note_hosts(session, claim, notes)
    if notes:
        tell_listeners(session, claim.operation_id)
    return Standing.CANCELLED if found.cancelled_by else Standing.GOES_ON


def finish(
    session: Session,
    claim: Claim,
    *,
    state: str,
    hosts: Iterable[HostNote] = (),
    error: str = "",
    mend: str = "",
) -> bool:
    """End an operation with one of `ENDS` and how its hosts came out of it; False when it is no more the caller's."""
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
            error=_text(error, LONGEST_MESSAGE),
            mend=_text(mend, LONGEST_MESSAGE),
            finished_at=func.now(),
        )
        .returning(Operation.id)
    ).scalar_one_or_none()
    if changed is None:
        return False
    rows = {
        note.host: {
            "operation_id": claim.operation_id,
            "host": _text(note.host, _LONGEST_NAME),
            "state": note.state,
            "changed": note.changed,
            "message": _text(note.message, LONGEST_MESSAGE),
        }
        for note in hosts
    }
    if rows:
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
    tell_listeners(session, claim.operation_id)
    return True


def _events(claim: Claim, told: Sequence[TaskNote], before: int) -> Iterable[dict[str, object]]:
    """Yield the rows of what is kept; the numbers of what is not are left out."""
    for sequence, note in enumerate(told, before + 1):
        if sequence > (MOST_QUIET_EVENTS if note.state == "ok" else MOST_EVENTS):
            continue
        yield {
            "operation_id": claim.operation_id,
            "sequence": sequence,
            "at": note.at,
            "host": _text(note.host, _LONGEST_NAME),
            "task": _text(note.task, _LONGEST_NAME),
            "state": note.state,
            "message": _text(note.message, LONGEST_MESSAGE),
        }


def _note_hosts(session: Session, claim: Claim, notes: Sequence[TaskNote]) -> None:
    hosts: dict[str, _HostNow] = {}
    for note in notes:
        now = hosts.setdefault(_text(note.host, _LONGEST_NAME), _HostNow())
        now.task, now.at = _text(note.task, _LONGEST_NAME), note.at
        now.state = note.state if note.state in ("failed", "unreachable") else "working"
        now.message = _text(note.message, LONGEST_MESSAGE)
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


def _text(text: str, longest: int) -> str:
    """Return text that the database can keep, with its middle left out when it is too long."""
    plain = "".join(sign if sign == "\n" or sign.isprintable() else "�" for sign in text)
    if len(plain) <= longest:
        return plain
    begin = (longest - len(_CUT)) // 3
    return plain[:begin] + _CUT + plain[begin + len(_CUT) - longest :]
