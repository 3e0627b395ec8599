"""The keepers' tasks: each calls the module that does the work.

Bodies are idempotent: a task whose keeper was killed runs again elsewhere. Those that failed for a passing reason
are tried again here, and not by the queue, whose retry would collide with a twin that waits already.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg2
from procrastinate import App, JobContext
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from controller.keeper import freshness, plan, prune, renew, upkeep
from controller.keeper.given_up import give_up
from controller.logs import reason
from controller.reports.make import make_report
from controller.settings import Settings
from controller.store import partitions
from streamswarm.zones import from_microseconds

_log = logging.getLogger(__name__)
_TRIES = 4
_FIRST_PAUSE_S = 0.2
#: What passes. The driver's own error comes where a connection breaks while it is given back.
_PASSING = (OperationalError, psycopg2.OperationalError, plan.PlanConflictError)

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What tasks work with; the application hands it to every one of them."""

    engine: Engine
    settings: Settings
    #: Set when the keeper is told to stop: what takes long ends.
    stopping: threading.Event = field(default_factory=threading.Event)
    #: Operations on the fleet under way here: their own word is awaited, as none leaves hosts half-way.
    operating: set[int] = field(default_factory=set)


def add_tasks(app: App) -> None:
    """Register all tasks under the names by which `controller.store.queue` and the schedule know them.

    Periodic tasks are deferred once a period, however many keepers run.
    """
    app.task(name="plan", pass_context=True)(plan_task)
    app.task(name="run_now", pass_context=True)(run_now_task)
    app.task(name="report", pass_context=True)(report_task)
    app.task(name="operation", pass_context=True)(operation_task)
    app.periodic(cron="* * * * *")(
        # Without the lock of planning: it looks at everything, which takes seconds where there are thousands of workers,
        # and a change that somebody has just made must not wait for that. What it writes, it writes under row locks.
        # Its own lock keeps it from itself, where a look takes longer than a minute.
        app.task(name="reconcile", pass_context=True, lock="reconcile", queueing_lock="reconcile")(
            reconcile_task
        )
    )
    app.periodic(cron="* * * * * */10")(
        app.task(name="retire_one_shots", pass_context=True, queueing_lock="retire_one_shots")(
            retire_one_shots_task
        )
    )
    app.periodic(cron="* * * * * */10")(
        app.task(name="renew", pass_context=True, queueing_lock="renew")(renew_task)
    )
    app.periodic(cron="* * * * * */30")(
        app.task(name="freshness", pass_context=True, lock="freshness", queueing_lock="freshness")(
            freshness_task
        )
    )
    app.periodic(cron="*/10 * * * *")(
        app.task(name="prune", pass_context=True, queueing_lock="prune")(prune_task)
    )
    app.periodic(cron="* * * * * */5")(
        app.task(name="diagnose", pass_context=True, lock="diagnose", queueing_lock="diagnose")(diagnose_task)
    )
    app.periodic(cron="7 * * * *")(
        app.task(name="partitions", pass_context=True, queueing_lock="partitions")(partitions_task)
    )
    app.periodic(cron="* * * * * 30")(
        app.task(name="roll_up", pass_context=True, lock="roll_up", queueing_lock="roll_up")(roll_up_task)
    )
    app.periodic(cron="*/5 * * * *")(
        app.task(name="purge", pass_context=True, lock="rewrite", queueing_lock="purge")(purge_task)
    )
    app.periodic(cron="23 * * * *")(
        app.task(name="expire", pass_context=True, lock="rewrite", queueing_lock="expire")(expire_task)
    )
    app.periodic(cron="*/10 * * * *")(
        app.task(name="rewrite", pass_context=True, lock="rewrite", queueing_lock="rewrite")(rewrite_task)
    )


def plan_task(
    context: JobContext,
    *,
    test_id: int | None = None,
    destination_id: int | None = None,
    worker_id: str | None = None,
) -> None:
    """Plan one test, the tests of one destination, the jobs of one worker, or everything."""
    engine = _tools(context).engine
    if test_id is not None:
        _persistently(lambda: plan.plan_tests(engine, [test_id]))
    elif destination_id is not None:
        _persistently(lambda: plan.plan_destination(engine, destination_id))
    elif worker_id is not None:
        _persistently(lambda: plan.plan_worker(engine, uuid.UUID(worker_id)))
    else:
        _persistently(lambda: plan.plan_everything(engine))


def run_now_task(context: JobContext, *, test_id: int, requested_at_us: int) -> None:
    """Run a test once, beside its schedule."""
    engine = _tools(context).engine
    args = {"test_id": test_id, "requested_at_us": requested_at_us}
    with _told(engine, "run_now", args):
        _persistently(lambda: plan.run_now(engine, test_id, from_microseconds(requested_at_us)))


def report_task(context: JobContext, *, report_id: int) -> None:
    """Make a report."""
    engine = _tools(context).engine
    with _told(engine, "report", {"report_id": report_id}):
        _persistently(lambda: make_report(engine, report_id))


def operation_task(context: JobContext, *, operation_id: int) -> None:
    """Run an operation on the fleet. It runs once: where its keeper dies, it is interrupted and not begun anew."""
    # Here, and not above: few keepers ever run Ansible.
    from controller.keeper.operating import operate

    tools = _tools(context)
    tools.operating.add(operation_id)
    try:
        operate(tools.engine, tools.settings, operation_id, tools.stopping)
    finally:
        tools.operating.discard(operation_id)


def reconcile_task(context: JobContext, timestamp: int) -> None:
    """Plan what no single task has planned: a hint that got lost, a one-shot instant that came near."""
    engine = _tools(context).engine
    changed = _persistently(lambda: plan.plan_everything(engine))
    if changed:
        _log.info("the minute's look over all tests changed %s jobs (due at %s)", changed, timestamp)


def partitions_task(context: JobContext, timestamp: int) -> None:
    """Make the partitions of the days to come."""
    tools = _tools(context)
    made = _persistently(lambda: make_partitions(tools))
    if made:
        _log.info("made %s partitions (due at %s)", made, timestamp)


def roll_up_task(context: JobContext, timestamp: int) -> None:
    """Roll up the results that have come since the last round, and again what came late."""
    engine = _tools(context).engine
    done = _persistently(lambda: upkeep.roll_up(engine))
    _log.debug("rolled up %s steps and %s late buckets (due at %s)", done.steps, done.marks, timestamp)


def purge_task(context: JobContext, timestamp: int) -> None:
    """Remove the results of tests that were deleted with their data."""
    tools = _tools(context)
    removed = _persistently(lambda: upkeep.purge(tools.settings, tools.stopping))
    if removed:
        _log.info("removed %s rows of tests deleted with their data (due at %s)", removed, timestamp)


def expire_task(context: JobContext, timestamp: int) -> None:
    """Remove results and roll-ups that are too old."""
    tools = _tools(context)
    now = _persistently(lambda: upkeep.believe(tools.engine))
    if now is None:
        return
    removed = _persistently(lambda: upkeep.expire(tools.settings, tools.stopping, now=now))
    if removed.dropped:
        _log.info("removed %s partitions for their age (due at %s)", len(removed.dropped), timestamp)
    if removed.left:
        _log.warning("%s partitions are too old, but in use: %s", len(removed.left), ", ".join(removed.left))


def rewrite_task(context: JobContext, timestamp: int) -> None:
    """Rewrite days that are over in the order of their key."""
    tools = _tools(context)
    rewritten = _persistently(lambda: upkeep.rewrite_days(tools.settings, tools.stopping))
    _log.debug("rewrote %s days (due at %s)", rewritten, timestamp)


def prune_task(context: JobContext, timestamp: int) -> None:
    """Remove what nobody needs any more."""
    engine = _tools(context).engine
    pruned = _persistently(lambda: prune.prune(engine))
    _log.debug("pruned %s (due at %s)", pruned, timestamp)


def retire_one_shots_task(context: JobContext, timestamp: int) -> None:
    """Retire one-shot jobs that have delivered or expired."""
    engine = _tools(context).engine
    retired = _persistently(lambda: prune.retire_one_shots(engine))
    _log.debug("retired %s one-shot jobs (due at %s)", retired, timestamp)


def freshness_task(context: JobContext, timestamp: int) -> None:
    """Look for jobs that are scheduled and do not deliver."""
    engine = _tools(context).engine
    found = _persistently(lambda: freshness.look(engine))
    _log.debug(
        "%s jobs were due, %s overdue, %s again well (due at %s)",
        found.due,
        found.noticed,
        found.cleared,
        timestamp,
    )


def renew_task(context: JobContext, timestamp: int) -> None:
    """Make the tests of runs that are due soon."""
    engine = _tools(context).engine
    made = _persistently(lambda: renew.make_tests(engine))
    _log.debug("made %s tests for runs (due at %s)", made, timestamp)


def diagnose_task(context: JobContext, timestamp: int) -> None:
    """Score the results that have come since the last round."""
    # Here, and not above: what it needs costs memory, and a keeper that is just starting has better things to do.
    from controller.keeper.diagnose import diagnose

    engine = _tools(context).engine
    scored = _persistently(lambda: diagnose(engine))
    if scored.suspected:
        _log.info("%s jobs behave oddly, %s of them are called anomalies", scored.suspected, scored.called)
    _log.debug("scored %s runs of %s jobs (due at %s)", scored.runs, scored.jobs, timestamp)


def make_partitions(tools: Tools) -> int:
    """Make the partitions around today that are missing; return how many."""
    days = partitions.days_around(dt.datetime.now(dt.UTC), ahead=tools.settings.partitions_ahead_days)
    return len(partitions.ensure_all(tools.engine, days))


def _tools(context: JobContext) -> Tools:
    tools = context.additional_context["tools"]
    if not isinstance(tools, Tools):
        raise TypeError("the application must hand Tools to its tasks")
    return tools


@contextlib.contextmanager
def _told(engine: Engine, task: str, args: Mapping[str, Any]) -> Iterator[None]:
    """Tell whoever waits for a task when it fails for good, and why."""
    try:
        yield
    except Exception as error:
        why = (
            reason(error) if isinstance(error, _PASSING) else "a fault in the program kept it from being done"
        )
        _persistently(lambda: _give_up(engine, task, args, why))
        raise


def _give_up(engine: Engine, task: str, args: Mapping[str, Any], why: str) -> None:
    with Session(engine) as session, session.begin():
        give_up(session, task, args, why)


def _persistently(work: Callable[[], T]) -> T:
    """Do the work; try again when a lock was not had, a connection broke or a plan was overtaken."""
    for attempt in range(_TRIES):
        try:
            return work()
        except _PASSING as error:
            if attempt == _TRIES - 1:
                raise
            _log.warning("trying again: %s", reason(error))
            time.sleep(_FIRST_PAUSE_S * 2**attempt)
    raise AssertionError("unreachable")
