"""What somebody waits for and does not get is told with its reason, once, and can be asked for again."""

from __future__ import annotations

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, func, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from support.keepers import World

from controller.keeper import plan, tasks
from controller.keeper.prune import prune, retire_one_shots
from controller.keeper.rescue import rescue
from controller.keeper.tasks import Tools
from controller.planning.schedule import RUN_NOW_GRACE
from controller.settings import Settings
from controller.store.commands import reports as report_commands
from controller.store.commands import tests as commands
from controller.store.commands.audit import SYSTEM
from controller.store.entities import AuditEntry, Job, Report
from controller.store.queries import reports
from controller.store.queries.run_requests import FailedRequest, failed_request
from streamswarm.zones import to_microseconds


@pytest.fixture
def test(world: World) -> int:
    """A test with one worker."""
    world.worker("a")
    return world.test("p", "ping", [world.destination("x", "192.0.2.1")])


@pytest.fixture
def context(engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What tasks are handed; they do not wait between two tries."""
    monkeypatch.setattr(tasks.time, "sleep", lambda seconds: None)
    return SimpleNamespace(additional_context={"tools": Tools(engine=engine, settings=settings)})


def told(engine: Engine, test: int) -> FailedRequest | None:
    """Return what is told of the latest "run now"."""
    with Session(engine) as session:
        return failed_request(session, test)


def notes(engine: Engine) -> int:
    """Return how often a failure was noted."""
    with Session(engine) as session:
        return session.scalars(
            select(func.count()).select_from(AuditEntry).where(AuditEntry.action == "test.run_failed")
        ).one()


def ask(engine: Engine, test: int) -> dt.datetime:
    """Ask for a run now."""
    with Session(engine) as session, session.begin():
        return commands.run_now(session, test, actor=SYSTEM)


def test_what_no_keeper_took_up_in_time_is_told(engine: Engine, test: int) -> None:
    """Until it is asked for again; what was made, and is over, is no failure when its task comes again."""
    late = dt.datetime.now(dt.UTC) - RUN_NOW_GRACE - dt.timedelta(seconds=1)
    for _ in range(2):
        assert plan.run_now(engine, test, late) == 0
    assert told(engine, test) == FailedRequest(requested_at=late, reason="no keeper took it up within 60 s")
    assert notes(engine) == 1
    requested = ask(engine, test)
    assert told(engine, test) is None
    assert plan.run_now(engine, test, requested) == 1
    ago = dt.timedelta(minutes=5)
    with engine.begin() as connection:
        earlier = {
            "anchor_us": to_microseconds(requested - ago),
            "expires_at": requested - ago + RUN_NOW_GRACE,
        }
        connection.execute(update(Job).where(Job.one_shot).values(earlier))
    assert retire_one_shots(engine) == 1
    assert plan.run_now(engine, test, requested - ago) == 0
    assert (told(engine, test), notes(engine)) == (None, 1)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE audit SET at = at - interval '61 minutes' WHERE action = 'test.run_failed'")
        )
        connection.execute(text("DELETE FROM audit WHERE action = 'test.run'"))
    assert told(engine, test) is None


def test_who_cannot_run_it_is_told(engine: Engine, world: World) -> None:
    """The first of the reasons that planning has, or that there is nobody."""
    place = world.destination("x", "192.0.2.1")
    test = world.test("p", "ping", [place])
    asked = dt.datetime.now(dt.UTC)
    assert plan.run_now(engine, test, asked) == 0
    assert told(engine, test) == FailedRequest(requested_at=asked, reason="there is no worker")
    for name in ("a", "b"):
        world.worker(name, kinds={"ping": {"available": False, "reason": "no sockets"}})
    later = asked + dt.timedelta(seconds=1)
    assert plan.run_now(engine, test, later) == 0
    reason = "a: the worker cannot run `ping`: no sockets; and 1 more like it"
    assert told(engine, test) == FailedRequest(requested_at=later, reason=reason)


def test_a_run_that_the_keepers_give_up_is_told(
    engine: Engine, test: int, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After four tries, with what the database said; the task fails all the same."""
    tries = []

    def refused(*args: Any) -> int:
        tries.append(args)
        raise OperationalError("statement", {}, Exception("canceling statement due to lock timeout"))

    requested = ask(engine, test)
    monkeypatch.setattr(plan, "run_now", refused)
    with pytest.raises(OperationalError):
        tasks.run_now_task(context, test_id=test, requested_at_us=to_microseconds(requested))
    assert len(tries) == 4
    assert told(engine, test) == FailedRequest(
        requested_at=requested, reason="canceling statement due to lock timeout"
    )


def make_report(engine: Engine, test: int) -> int:
    """Ask for a report."""
    with Session(engine) as session, session.begin():
        return report_commands.create(session, {"tests": [test], "last": "1h"}, actor=SYSTEM).id


def outcome(engine: Engine, report: int) -> tuple[str, str]:
    """Return a report's state, and why it failed."""
    with Session(engine) as session:
        found = reports.get(session, report)
    assert ("ask for it again" in found.mend) == (found.state == "failed")
    return found.state, found.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OperationalError("statement", {}, Exception("no space left")), "no space left"),
        (KeyError("unforeseen"), "a fault in the program kept it from being done"),
    ],
    ids=["passing", "fault"],
)
def test_a_report_that_the_keepers_give_up_has_failed(
    engine: Engine, test: int, context: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    """It waits no longer, and room is made for others; one that is ready stays so."""

    def refused(*args: Any) -> bool:
        raise error

    report, ready = make_report(engine, test), make_report(engine, test)
    with engine.begin() as connection:
        connection.execute(update(Report).where(Report.id == ready).values(state="ready"))
    monkeypatch.setattr(tasks, "make_report", refused)
    for number in (report, ready):
        with pytest.raises(type(error)):
            tasks.report_task(context, report_id=number)
    assert outcome(engine, report) == ("failed", reason)
    assert outcome(engine, ready) == ("ready", "")
    with Session(engine) as session:
        assert reports.count_pending(session) == 0


def test_tasks_that_end_their_keepers_are_told(engine: Engine, test: int) -> None:
    """What was cut short five times is not rescued again."""
    requested = ask(engine, test)
    report = make_report(engine, test)
    with engine.begin() as connection:
        connection.execute(text("UPDATE procrastinate_jobs SET status = 'doing', attempts = 5"))
    assert rescue(engine) == 2
    reason = "it was cut short 5 times, with the keeper that worked on it"
    assert told(engine, test) == FailedRequest(requested_at=requested, reason=reason)
    assert outcome(engine, report) == ("failed", reason)


def test_a_report_without_a_task_does_not_wait_for_ever(engine: Engine, test: int) -> None:
    """An hour after it was asked for, when nobody has it before them; one that has a task still waits."""
    lost, waiting, young = (make_report(engine, test) for _ in range(3))
    with engine.begin() as connection:
        connection.execute(
            text("DELETE FROM procrastinate_jobs WHERE args->>'report_id' <> :id"), {"id": str(waiting)}
        )
        old = update(Report).where(Report.id != young)
        connection.execute(old.values(created_at=func.now() - dt.timedelta(minutes=61), state="working"))
    prune(engine)
    assert outcome(engine, lost) == ("failed", "the keepers lost sight of it")
    assert outcome(engine, waiting)[0] == "working"
    assert outcome(engine, young)[0] == "waiting"
