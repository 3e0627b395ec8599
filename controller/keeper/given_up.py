"""Tasks that somebody waits for and that are given up: why is told where people look, so that they can ask again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from controller.store.commands import operations, reports, tests
from streamswarm.zones import from_microseconds

#: A report without a task is one whose end nobody could write down; one that is just being made has one.
_ABANDONED = text(
    """
    SELECT id FROM reports r
    WHERE state IN ('waiting', 'working') AND created_at < now() - interval '1 hour' AND NOT EXISTS (
        SELECT FROM procrastinate_jobs j
        WHERE j.task_name = 'report' AND j.status IN ('todo', 'doing') AND j.args->>'report_id' = r.id::text
    )
    """
)
#: The same of operations that wait.
_UNKNOWN = text(
    """
    SELECT id FROM operations o
    WHERE state = 'queued' AND created_at < now() - interval '10 minutes' AND NOT EXISTS (
        SELECT FROM procrastinate_jobs j
        WHERE j.task_name = 'operation' AND j.status IN ('todo', 'doing') AND j.args->>'operation_id' = o.id::text
    )
    """
)
_LOST_SIGHT = "the keepers lost sight of it"


def give_up(session: Session, task: str, args: Mapping[str, Any], reason: str) -> None:
    """Tell that a task is not tried any more; of planning nothing, for the minute's look does it."""
    if task == "run_now":
        requested_at = from_microseconds(args["requested_at_us"])
        tests.run_failed(session, args["test_id"], requested_at, reason=reason)
    elif task == "report":
        reports.give_up(session, args["report_id"], error=reason)
    elif task == "operation":
        operations.interrupt(session, args["operation_id"], error=reason)


def give_up_abandoned(engine: Engine) -> int:
    """Tell of reports and operations that wait for a task that is no more; return how many."""
    with Session(engine) as session, session.begin():
        given_up = sum(
            reports.give_up(session, report_id, error=_LOST_SIGHT)
            for report_id in session.scalars(_ABANDONED).all()
        )
        return given_up + sum(
            operations.interrupt(session, operation_id, error=_LOST_SIGHT)
            for operation_id in session.scalars(_UNKNOWN).all()
        )
