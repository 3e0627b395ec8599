"""Changes operations on the fleet: people ask for them and cancel them, keepers and command lines run them.

Whoever runs one holds a claim on it: the operation and the version of its state. Every change says which version it
was based on, so that one who was paused, and whose operation was given up meanwhile, changes nothing any more.
`operation_progress` writes down what happens while it runs.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, insert, select, update
from sqlalchemy.orm import Session

from controller.checking import Checker
from controller.errors import ConflictError
from controller.store import queue
from controller.store.channels import OPERATIONS
from controller.store.commands import audit
from controller.store.commands.audit import SYSTEM, Actor
from controller.store.entities import Operation, OperationHost
from controller.store.operation_words import FIELDS, KINDS, read_asked, read_told
from controller.store.queries import operations
from controller.store.queries.operations import OperationRecord

#: What is said of an operation that begins.
BEGUN_FIELDS = ("kind", "limit", "check", "forks", "hosts", "part_of")
#: Operations that may wait for a keeper at the same time; they run one after another.
MOST_QUEUED = 20
#: Hosts of one operation.
MOST_HOSTS = 10_000
#: Whoever runs one and was not heard of for so long is taken for dead.
SILENT_S = 30.0
#: Key of the advisory lock under which hosts are claimed and the waiting ones counted.
_LOCK = 7_377_230_145_220_654
_LONGEST_TEXT = 3000


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to run an operation and to tell of it."""

    operation_id: int
    version: int


def ask(session: Session, values: Mapping[str, Any], *, actor: Actor) -> OperationRecord:
    """Have a keeper run an operation: `kind`, and `limit`, `check`, `forks` and `options`."""
    checker = Checker(values, FIELDS)
    parameters = read_asked(checker)
    checker.done()
    _lock(session)
    if operations.count_queued(session) >= MOST_QUEUED:
        raise ConflictError(
            f"{MOST_QUEUED} operations are waiting already; they run one after another",
            mend="ask again when some of them are over, or cancel some",
        )
    entity = _add(session, values["kind"], parameters, actor, by_keeper=True)
    queue.run_operation(session.connection(), entity.id)
    return operations.get(session, entity.id)


def begin(
    session: Session, values: Mapping[str, Any], *, actor: Actor, part_of: Claim | None = None
) -> OperationRecord:
    """Write down an operation that begins now and is run by the caller: `BEGUN_FIELDS`.

    With the claim on a keeper's operation it is `part_of` that: a keeper's too, and may work on hosts of that. A command
    line gives the number of the first step of its upgrade instead. Raises ConflictError when another operation works on
    one of the hosts.
    """
    checker = Checker(values, BEGUN_FIELDS)
    parameters = read_told(checker)
    hosts = [
        host if isinstance(host, str) and 0 < len(host) <= 253 and host.isprintable() else ""
        for host in checker.items("hosts", checker.value("hosts"), most=MOST_HOSTS)
    ]
    if "" in hosts:
        checker.add(f"hosts[{hosts.index('')}]", "must be the name of a host")
    whole = part_of.operation_id if part_of else _first_step(session, checker, actor)
    checker.done()
    entity = _add(session, values["kind"], parameters, actor, by_keeper=part_of is not None, part_of=whole)
    claim = take_up(session, entity.id)
    if claim is None:
        raise AssertionError("an operation that was just added waits")
    claim_hosts(session, claim, hosts, part_of=part_of)
    return operations.get(session, entity.id)


def claimed(session: Session, operation_id: int, version: int, *, actor: Actor) -> Claim:
    """Return the claim of one who began an operation; raises ConflictError for anybody else."""
    made_by, by_keeper = session.execute(
        select(Operation.made_by, Operation.by_keeper).where(Operation.id == operation_id)
    ).one_or_none() or ("", True)
    if by_keeper or made_by != actor.name:
        operations.get(session, operation_id)
        raise ConflictError(f"operation {operation_id} is not run by {actor.name}")
    return Claim(operation_id=operation_id, version=version)


def take_up(session: Session, operation_id: int) -> Claim | None:
    """Take up an operation that waits; None when it does not: it runs, is over, or is gone."""
    return _change(
        session, operation_id, ("queued",), state="running", started_at=func.now(), beat_at=func.now()
    )


def claim_hosts(
    session: Session, claim: Claim, hosts: Collection[str], *, part_of: Claim | None = None
) -> None:
    """Note on which hosts an operation works; raises ConflictError when another works on one of them.

    The one that it is part of may.
    """
    interrupt_silent(session)
    _lock(session)
    taken = session.execute(
        select(OperationHost.host, Operation.id, Operation.kind)
        .join(Operation, Operation.id == OperationHost.operation_id)
        .where(
            Operation.state == "running",
            Operation.id.not_in([each.operation_id for each in (claim, part_of) if each]),
            OperationHost.host.in_(tuple(hosts)),
        )
        .order_by(OperationHost.host)
        .limit(1)
    ).one_or_none()
    if taken is not None:
        raise ConflictError(
            f"operation {taken.id} ({taken.kind}) works on {taken.host} now",
            mend="wait until it is over, or cancel it",
        )
    rows = [{"operation_id": claim.operation_id, "host": host} for host in dict.fromkeys(hosts)]
    if rows:
        session.execute(insert(OperationHost), rows)
    tell_listeners(session, claim.operation_id)


def cancel(session: Session, operation_id: int, *, actor: Actor) -> OperationRecord:
    """End an operation: one that waits at once, one that runs as soon as who runs it hears of it.

    One that is run elsewhere is given up when that has not ended it within `SILENT_S`, whatever is told of it. Raises
    ConflictError when it is over, or a keeper's that is brought to its end.
    """
    found = operations.get(session, operation_id)
    if not found.over and not found.cancellable:
        raise ConflictError(
            f"operation {operation_id} is a {found.kind}, which is brought to its end once it has begun"
        )
    ended = _change(
        session, operation_id, ("queued",), state="cancelled", cancelled_by=actor.name, finished_at=func.now()
    )
    if ended is None:
        asked = session.execute(
            update(Operation)
            .where(Operation.id == operation_id, Operation.state == "running")
            .values(
                cancelled_by=actor.name,
                beat_at=beat(),
            )
            .returning(Operation.id)
        ).scalar_one_or_none()
        if asked is None:
            raise ConflictError(
                f"operation {operation_id} is over: it is {operations.get(session, operation_id).state}"
            )
    audit.record(session, actor, "operation.cancel", "operation", operation_id, {"kind": found.kind})
    session.flush()
    tell_listeners(session, operation_id)
    return operations.get(session, operation_id)


def interrupt(session: Session, operation_id: int, *, error: str) -> bool:
    """Note that nobody runs an operation any more; False when it is over."""
    changed = _change(
        session,
        operation_id,
        ("queued", "running"),
        state="interrupted",
        error=error[:_LONGEST_TEXT],
        mend="start it again: what is done on a host is not done twice",
        finished_at=func.now(),
    )
    if changed is None:
        return False
    audit.record(session, SYSTEM, "operation.interrupt", "operation", operation_id, {"error": error})
    tell_listeners(session, operation_id)
    return True


def interrupt_silent(session: Session, *, silent_s: float = SILENT_S) -> int:
    """Note which operations are run by nobody: who ran them was not heard of any more; return how many."""
    silent = session.execute(
        select(Operation.id, _ignores_signs())
        .where(
            Operation.state == "running",
            Operation.beat_at < func.now() - dt.timedelta(seconds=silent_s),
        )
        .with_for_update(skip_locked=True)
    ).all()
    return sum(
        interrupt(
            session,
            operation_id,
            error="it was cancelled, and who ran it did not end it"
            if cancelled
            else "who ran it was not heard of any more",
        )
        for operation_id, cancelled in silent
    )


def beat() -> ColumnElement[dt.datetime]:
    """Return when who runs an operation counts as heard of, at a sign of life: now, unless such signs count no more."""
    return case((_ignores_signs(), Operation.beat_at), else_=func.now())


def tell_listeners(session: Session, operation_id: int) -> None:
    """Hint at the commit to pages that show operations that there is something new."""
    session.execute(select(func.pg_notify(OPERATIONS, str(operation_id))))


def _ignores_signs() -> ColumnElement[bool]:
    """Whether it is run elsewhere, and cancelled: whoever goes on with it could tell of it without end."""
    return and_(Operation.cancelled_by != "", ~Operation.by_keeper)


def _add(
    session: Session,
    kind: str,
    parameters: Mapping[str, Any],
    actor: Actor,
    *,
    by_keeper: bool,
    part_of: int | None = None,
) -> Operation:
    if kind not in KINDS:
        raise AssertionError("checked before")
    entity = Operation(
        kind=kind,
        part_of=part_of,
        parameters=dict(parameters),
        check_only=parameters["check"],
        by_keeper=by_keeper,
        made_by=actor.name,
    )
    session.add(entity)
    session.flush()
    audit.record(session, actor, "operation.start", "operation", entity.id, {"kind": kind, **parameters})
    session.flush()
    tell_listeners(session, entity.id)
    if part_of is not None:
        tell_listeners(session, part_of)
    return entity


def _first_step(session: Session, checker: Checker, actor: Actor) -> int | None:
    """Return the operation that one of a command line's belongs to, if any; it stays until the transaction ends."""
    number = checker.id("part_of")
    if number is None:
        return None
    found = session.scalar(
        select(Operation.id)
        .where(
            Operation.id == number,
            Operation.made_by == actor.name,
            ~Operation.by_keeper,
            Operation.part_of.is_(None),
        )
        .with_for_update(read=True, key_share=True)
    )
    if found is None:
        checker.add("part_of", "must be an operation that you began yourself, and that is no part of another")
    return found


def _change(session: Session, operation_id: int, states: Collection[str], **values: Any) -> Claim | None:
    """Change the state of an operation that is in one of some; None when it is not."""
    version = session.execute(
        update(Operation)
        .where(Operation.id == operation_id, Operation.state.in_(states))
        .values(version=Operation.version + 1, **values)
        .returning(Operation.version)
    ).scalar_one_or_none()
    return None if version is None else Claim(operation_id=operation_id, version=version)


def _lock(session: Session) -> None:
    """Let two that come at the same time not both find room, or the same host free."""
    session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
