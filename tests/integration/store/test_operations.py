"""Operations as rows: asked for, run by one at a time, told of, cancelled, found when nobody runs them any more."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.orm import Session

from controller.errors import ConflictError, NotFoundError
from controller.keeper.given_up import give_up
from controller.keeper.prune import prune
from controller.store.commands import operation_progress as progress
from controller.store.commands import operations as commands
from controller.store.commands.audit import Actor
from controller.store.commands.operations import Claim
from controller.store.entities import AuditEntry, Operation, OperationEvent
from controller.store.operation_notes import LONGEST_MESSAGE, HostNote, Standing, TaskNote
from controller.store.queries import operations
from controller.store.queries.operations import HostCounts, OperationRecord
from streamswarm.contract import InvalidInputError

SHE = Actor(name="user:ada")
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    """A session that commits at the end of each `with session.begin()`."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


def ask(session: Session, **values: Any) -> int:
    """Ask for an operation by a keeper."""
    with session.begin():
        return commands.ask(session, {"kind": "provision", **values}, actor=SHE).id


def begin(session: Session, *hosts: str) -> Claim:
    """Begin one from the command line."""
    with session.begin():
        made = commands.begin(session, {"kind": "provision", "hosts": hosts}, actor=SHE)
        return commands.claimed(session, made.id, made.version, actor=SHE)


def take_up(session: Session, operation_id: int, *hosts: str) -> Claim:
    """Take up one that waits, as a keeper does."""
    with session.begin():
        claim = commands.take_up(session, operation_id)
        assert claim is not None
        commands.claim_hosts(session, claim, hosts)
        return claim


def tell(session: Session, claim: Claim, *notes: TaskNote) -> Standing:
    """Tell what happened."""
    with session.begin():
        return progress.record(session, claim, notes)


def read(session: Session, operation_id: int) -> OperationRecord:
    """Return an operation as it is."""
    with session.begin():
        return operations.get(session, operation_id)


def note(host: str, task: str, state: str, message: str = "") -> TaskNote:
    """Make a note of a task."""
    return TaskNote(host=host, task=task, state=state, message=message, at=NOW)


def test_what_is_asked_for_waits_for_a_keeper(session: Session) -> None:
    """The row and its task are committed together, with who asked for it in the audit log."""
    number = ask(session, limit="sites:!lab", check=True, forks=3)
    found = read(session, number)
    assert (
        found.kind,
        found.state,
        found.limit,
        found.check,
        found.forks,
        found.made_by,
        found.by_keeper,
    ) == (
        "provision",
        "queued",
        "sites:!lab",
        True,
        3,
        "user:ada",
        True,
    )
    with session.begin():
        task = session.execute(
            text("SELECT lock, args FROM procrastinate_jobs WHERE task_name = 'operation'")
        ).one()
        entry = session.scalars(select(AuditEntry)).one()
    assert (task.lock, task.args) == ("operation", {"operation_id": number})
    assert (entry.actor, entry.action, entry.object_id) == ("user:ada", "operation.start", str(number))


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"kind": "format"}, "kind"),
        ({"kind": "rollback"}, "kind"),
        ({"kind": "rotate", "check": True}, "check"),
        ({"kind": "upgrade", "options": {"keep_data": True}}, "options.keep_data"),
        ({"kind": "upgrade", "options": {"release": "/tmp/own.whl"}}, "options.release"),
        ({"kind": "upgrade", "options": {"release": "1.0; touch x"}}, "options.release"),
        ({"kind": "upgrade", "options": {"batch": 0}}, "options.batch"),
        ({"kind": "upgrade", "options": {"canary": -1}}, "options.canary"),
        ({"kind": "upgrade", "options": {"patience": "long"}}, "options.patience"),
        ({"options": {"canary": 1}}, "options.canary"),
        ({"limit": "@/etc/passwd"}, "limit"),
        ({"limit": "-e x=y"}, "limit"),
        ({"limit": "~.*"}, "limit"),
        ({"forks": 0}, "forks"),
        ({"kind": "verify", "check": True}, "check"),
        ({"options": {"keep_data": True}}, "options.keep_data"),
        ({"kind": "remove", "options": {"wait": -1}}, "options.wait"),
        ({"kind": "remove", "options": {"on_controller": "burn"}}, "options.on_controller"),
        ({"options": []}, "options"),
        ({"variables": {"ansible_connection": "local"}}, "variables"),
    ],
)
def test_what_a_keeper_is_asked_for_is_checked(session: Session, values: dict[str, Any], path: str) -> None:
    """Nothing that Ansible would read as a file, an option or a variable of somebody's choice gets through."""
    with pytest.raises(InvalidInputError) as refused:
        ask(session, **values)
    assert [problem.path for problem in refused.value.problems] == [path]


def test_one_run_from_its_beginning_to_its_end(session: Session) -> None:
    """Hosts and events follow what is told; what was skipped or began is no event, and counts are of hosts."""
    number = ask(session)
    claim = take_up(session, number, "a", "b", "c")
    assert read(session, number).hosts == HostCounts(total=3, waiting=3)
    standing = tell(
        session,
        claim,
        note("a", "Unpack", "started"),
        note("a", "Unpack", "changed"),
        note("a", "Start", "started"),
        note("b", "Unpack", "skipped"),
        note("c", "Gather", "unreachable", "no route to host"),
    )
    assert standing is Standing.GOES_ON
    with session.begin():
        hosts = {found.host: found for found in operations.hosts_of(session, number)}
        events = operations.events_of(session, number).items
    assert (hosts["a"].state, hosts["a"].task, hosts["a"].changed) == ("working", "Start", 1)
    assert (hosts["c"].state, hosts["c"].message) == ("unreachable", "no route to host")
    assert [(event.sequence, event.host, event.state) for event in events] == [
        (1, "a", "changed"),
        (2, "c", "unreachable"),
    ]
    with session.begin():
        outcomes = [
            HostNote(host="a", state="ok", changed=2),
            HostNote(host="b", state="ok", changed=0),
            HostNote(host="c", state="unreachable", changed=0, message="no route to host"),
        ]
        progress.record(session, claim, outcomes=outcomes)
        assert progress.finish(session, claim, state="failed")
    over = read(session, number)
    assert over.hosts == HostCounts(total=3, ok=2, unreachable=1, changed=1)
    assert over.state == "failed"
    assert over.finished_at is not None
    assert tell(session, claim) is Standing.LOST, "what is over stays as it is"


def test_events_come_in_pages(session: Session) -> None:
    """A cursor goes on where the page before ended."""
    claim = begin(session, "a")
    tell(session, claim, *(note("a", f"task {number}", "changed") for number in range(5)))
    with session.begin():
        first = operations.events_of(session, claim.operation_id, limit=3)
        rest = operations.events_of(session, claim.operation_id, limit=3, cursor=first.next_cursor)
        last = operations.last_events(session, claim.operation_id, most=2)
    assert [event.task for event in (*first.items, *rest.items)] == [f"task {number}" for number in range(5)]
    assert rest.next_cursor is None
    assert [event.task for event in last] == ["task 3", "task 4"]


def test_what_is_kept_is_bounded(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bounds events are counted only, those that say that all is well first; texts lose their middle."""
    monkeypatch.setattr(progress, "MOST_QUIET_EVENTS", 2)
    monkeypatch.setattr(progress, "MOST_EVENTS", 4)
    claim = begin(session, "a")
    tell(session, claim, *(note("a", f"quiet {number}", "ok") for number in range(3)))
    tell(
        session,
        claim,
        note("a", "loud", "failed", "begin\0" + "x" * 5000 + "end"),
        note("a", "late", "failed"),
    )
    with session.begin():
        events = operations.events_of(session, claim.operation_id).items
    assert [event.task for event in events] == ["quiet 0", "quiet 1", "loud"]
    assert len(events[-1].message) == LONGEST_MESSAGE
    assert events[-1].message.startswith("begin�x")
    assert events[-1].message.endswith("xend")
    assert read(session, claim.operation_id).event_count == 5


def test_only_one_operation_at_a_time_works_on_a_host(session: Session) -> None:
    """The second is refused with the number of the first, and may come when that is over."""
    first = begin(session, "a", "b")
    with pytest.raises(ConflictError, match=rf"operation {first.operation_id} \(provision\) works on b now"):
        begin(session, "b", "c")
    begin(session, "c")
    with session.begin():
        progress.finish(session, first, state="succeeded")
    begin(session, "b")


def test_only_who_began_it_tells_of_it(session: Session) -> None:
    """Neither another user nor whoever asked a keeper for it can write into the history."""
    claim, asked = begin(session, "a"), ask(session)
    for number, actor in ((claim.operation_id, Actor(name="user:eve")), (asked, SHE)):
        with pytest.raises(ConflictError, match="is not run by"), session.begin():
            commands.claimed(session, number, 2, actor=actor)
    with pytest.raises(NotFoundError), session.begin():
        commands.claimed(session, 4711, 2, actor=SHE)


def test_one_that_waits_is_cancelled_at_once(session: Session) -> None:
    """No keeper takes it up afterwards, and it cannot be cancelled twice."""
    number = ask(session)
    with session.begin():
        cancelled = commands.cancel(session, number, actor=SHE)
    assert (cancelled.state, cancelled.cancelled_by) == ("cancelled", "user:ada")
    with session.begin():
        assert commands.take_up(session, number) is None
    with pytest.raises(ConflictError, match="is over: it is cancelled"), session.begin():
        commands.cancel(session, number, actor=SHE)


def test_one_that_runs_hears_that_it_is_cancelled(session: Session) -> None:
    """Who runs it is told at its next sign of life, and ends it in order."""
    claim = begin(session, "a")
    with session.begin():
        assert commands.cancel(session, claim.operation_id, actor=SHE).state == "running"
    assert tell(session, claim) is Standing.CANCELLED
    with session.begin():
        assert progress.finish(session, claim, state="cancelled")
    assert read(session, claim.operation_id).state == "cancelled"


def test_a_keepers_rollback_is_brought_to_its_end(session: Session) -> None:
    """It undoes what went wrong, so nobody ends it half-way."""
    number = ask(session, kind="upgrade")
    claim = take_up(session, number, "a")
    with session.begin():
        made = commands.begin(session, {"kind": "rollback", "hosts": ["a"]}, actor=SHE, part_of=claim)
    with pytest.raises(ConflictError, match="brought to its end"), session.begin():
        commands.cancel(session, made.id, actor=SHE)
    assert not made.cancellable


@pytest.mark.parametrize("kind", ["rollback", "provision"])
def test_one_that_is_run_elsewhere_is_given_up(session: Session, kind: str) -> None:
    """Whatever it is said to be: who tells of it and goes on, once cancelled, holds the hosts for half a minute more."""
    with session.begin():
        made = commands.begin(session, {"kind": kind, "hosts": ["a"]}, actor=SHE)
        claim = commands.claimed(session, made.id, made.version, actor=SHE)
        # Heard of last so long ago that it would be silent soon: it is given its time from the cancellation on.
        session.execute(update(Operation).values(beat_at=func.now() - dt.timedelta(seconds=25)))
    assert made.cancellable
    with session.begin():
        assert commands.cancel(session, made.id, actor=SHE).state == "running"
    _pass(session, 20)
    assert tell(session, claim) is Standing.CANCELLED
    with session.begin():
        commands.cancel(session, made.id, actor=SHE)
        assert commands.interrupt_silent(session) == 0
    _pass(session, 20)
    begin(session, "a")
    found = read(session, made.id)
    assert (found.state, found.cancelled_by) == ("interrupted", "user:ada")
    assert found.error == "it was cancelled, and who ran it did not end it"
    assert tell(session, claim, note("a", "late", "changed")) is Standing.LOST


def test_one_of_a_keepers_that_is_cancelled_ends_in_its_own_time(session: Session) -> None:
    """Keepers are trusted: each of their signs of life counts."""
    claim = take_up(session, ask(session), "a")
    with session.begin():
        commands.cancel(session, claim.operation_id, actor=SHE)
    for _ in range(2):
        _pass(session, 20)
        assert tell(session, claim) is Standing.CANCELLED
    with session.begin():
        assert commands.interrupt_silent(session) == 0


def _pass(session: Session, seconds: float) -> None:
    """Let time pass: what was, was so much earlier."""
    with session.begin():
        session.execute(update(Operation).values(beat_at=Operation.beat_at - dt.timedelta(seconds=seconds)))


def test_one_whose_runner_died_is_found(session: Session) -> None:
    """It is interrupted, its hosts are free again, and whoever comes back too late changes nothing."""
    claim = begin(session, "a")
    with session.begin():
        assert commands.interrupt_silent(session) == 0
        session.execute(update(Operation).values(beat_at=func.now() - dt.timedelta(minutes=1)))
    later = begin(session, "a")
    found = read(session, claim.operation_id)
    assert (found.state, found.error) == ("interrupted", "who ran it was not heard of any more")
    assert found.mend
    assert tell(session, claim, note("a", "late", "changed")) is Standing.LOST
    with session.begin():
        assert not progress.finish(session, claim, state="succeeded")
        assert not commands.interrupt(session, claim.operation_id, error="again")
        assert operations.events_of(session, claim.operation_id).items == ()
    assert tell(session, later) is Standing.GOES_ON


def test_one_that_the_keepers_give_up_is_told(session: Session, engine: Engine) -> None:
    """A task that is given up, or that is no more, ends its operation with the reason."""
    number, forgotten = ask(session), ask(session)
    with session.begin():
        give_up(session, "operation", {"operation_id": number}, "its keepers died")
        session.execute(text("DELETE FROM procrastinate_jobs WHERE task_name = 'operation'"))
        session.execute(
            update(Operation)
            .where(Operation.id == forgotten)
            .values(created_at=func.now() - dt.timedelta(hours=1))
        )
    assert prune(engine)["abandoned"] == 1
    assert (read(session, number).state, read(session, number).error) == ("interrupted", "its keepers died")
    assert read(session, forgotten).state == "interrupted"


def test_old_ones_go_and_their_details_before_them(session: Session, engine: Engine) -> None:
    """Events go after a month, the operation after more than a year; what is not over stays."""
    claim, running = begin(session, "a"), begin(session, "b")
    tell(session, claim, note("a", "Unpack", "changed"))
    with session.begin():
        progress.finish(session, claim, state="succeeded")

    def age(days: int) -> None:
        with session.begin():
            session.execute(
                update(Operation)
                .where(Operation.id == claim.operation_id)
                .values(finished_at=func.now() - dt.timedelta(days=days))
            )
        prune(engine)

    age(29)
    with session.begin():
        assert session.scalar(select(func.count()).select_from(OperationEvent)) == 1
    age(31)
    with session.begin():
        assert session.scalar(select(func.count()).select_from(OperationEvent)) == 0
    age(401)
    with session.begin():
        assert [found.id for found in operations.find(session).items] == [running.operation_id]
